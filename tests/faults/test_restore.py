"""Restoring where a volume is mounted, and onto a disk that is full."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import DiskFullError
from secure_memory.store import SecureStore


def on_a_small_disk(start: Callable[..., Any], program: Callable[..., None], place: Any, tmp_path: Path) -> None:
    child = start(program, str(place.path.parent), str(tmp_path / "backups"))
    if child.rest() == ["no mounts"]:
        pytest.skip("needs root or user namespaces")
    child.ends()


def mounted(talk: Any, volume: str, size: int) -> None:
    try:
        talk.own_mounts()
    except PermissionError:
        talk.say("no mounts")
        raise SystemExit(0) from None
    talk.small_disk(volume, size)


def texts(path: str) -> list[str]:
    with SecureStore.open(path) as store, store.session("s") as session:
        read: Any = asyncio.run(session.get_items())
        store.audit_verify()
    return [item["content"] for item in read]


def replaces(talk: Any, volume: str, backups: str) -> None:
    mounted(talk, volume, 64 << 20)
    with SecureStore.create(volume) as store, store.session("s") as session:
        asyncio.run(session.add_items([{"role": "user", "content": "before"}]))
        store.backup(backups)
        asyncio.run(session.add_items([{"role": "user", "content": "after"}]))
    for _ in range(2):
        SecureStore.restore(backups, volume, accept_rollback=True, reason="test")
        assert ["before"] == texts(volume)


def test_a_volume(start: Callable[..., Any], place: Any, tmp_path: Path) -> None:
    """A store that is where a volume is mounted, as in a container, is restored there, time and again."""
    on_a_small_disk(start, replaces, place, tmp_path)


def fills(talk: Any, volume: str, backups: str) -> None:
    mounted(talk, volume, 1 << 20)
    path = Path(volume, "store")
    with SecureStore.create(path) as store, store.session("s") as session:
        asyncio.run(session.add_items([{"role": "user", "content": "before"}] * 200))
        store.backup(backups)
    before = sorted(os.listdir(volume))
    with Path(volume, "ballast").open("wb") as ballast:
        free = os.statvfs(volume).f_bavail * os.statvfs(volume).f_frsize
        os.posix_fallocate(ballast.fileno(), 0, free - 50_000)
    with pytest.raises(DiskFullError):
        SecureStore.restore(backups, path, accept_rollback=True, reason="test")
    Path(volume, "ballast").unlink()
    assert before == sorted(os.listdir(volume))
    assert ["before"] * 200 == texts(str(path))


def test_a_full_disk(start: Callable[..., Any], place: Any, tmp_path: Path) -> None:
    """A restore that does not fit says that the disk is full, leaves nothing of itself, and the store as it was."""
    on_a_small_disk(start, fills, place, tmp_path)
