"""The room that a store keeps for a full disk: what it is for works there, and nothing else does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_memory import directory
from secure_memory.errors import DiskFullError, StorageError
from secure_memory.lifecycle import reserve
from secure_memory.store import SecureStore

DISK = 48 << 20


@contextmanager
def full(volume: str) -> Iterator[None]:
    """No room on the volume."""
    ballast = Path(volume, "ballast")
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room(volume))
    try:
        yield
    finally:
        ballast.unlink()


def room(volume: str) -> int:
    found = os.statvfs(volume)
    return found.f_bavail * found.f_frsize


def on_a_small_disk(start: Callable[..., Any], program: Callable[..., None], place: Any) -> None:
    child = start(program, str(place.path.parent))
    if child.rest() == ["no mounts"]:
        pytest.skip("needs root or user namespaces")
    child.ends()


def small_disk(talk: Any, volume: str, size: int = DISK) -> Path:
    try:
        talk.own_mounts()
    except PermissionError:
        talk.say("no mounts")
        raise SystemExit(0) from None
    talk.small_disk(volume, size)
    return Path(volume, "store")


def add(store: SecureStore, text: str, session_id: str = "s") -> None:
    with store.session(session_id) as session:
        asyncio.run(session.add_items([{"role": "user", "content": text}]))


def verifies(talk: Any, volume: str) -> None:
    path = small_disk(talk, volume)
    with SecureStore.create(path) as store:
        add(store, "before")
        with full(volume):
            with pytest.raises(DiskFullError):
                add(store, "x" * 5000)
            assert ["(system)", "default"] == [report.tenant for report in store.audit_verify()]
            assert "audit.verify" in [record.entry.action for record in store.audit_log()]
            with pytest.raises(DiskFullError):  # the room is for nothing else; a little of it may be left in the WAL
                add(store, "x" * (1 << 20))
        add(store, "after")


def test_an_open_store_verifies_on_a_full_disk(start: Callable[..., Any], place: Any) -> None:
    """A store that is open is verified and its log is read on a full disk, where nothing else can be written."""
    on_a_small_disk(start, verifies, place)


def erases_and_purges(talk: Any, volume: str) -> None:
    path = small_disk(talk, volume)
    with SecureStore.create(path) as store:
        for n in range(20):
            add(store, "x" * 2000 + str(n), f"s{n}")
    with full(volume):
        for n in range(3):
            with SecureStore.on_reserve(path), SecureStore.open(path) as store:
                assert 1 == store.subject_erase(f"s{n}").sessions
                assert [] == [one.name for one in store.sessions(subject=f"s{n}")]
        with SecureStore.on_reserve(path), SecureStore.open(path) as store:
            store.purge(apply=True)
            store.audit_verify()


def test_erasing_and_purging_on_a_full_disk(start: Callable[..., Any], place: Any) -> None:
    """People are erased and what is due is purged on a full disk, again and again, since that is what makes room."""
    on_a_small_disk(start, erases_and_purges, place)


def opens(talk: Any, volume: str) -> None:
    path = small_disk(talk, volume)
    with SecureStore.create(path) as store:
        add(store, "before")
    with full(volume):
        with pytest.raises(StorageError):
            SecureStore.open(path)
        for _ in range(3):
            with SecureStore.on_reserve(path), SecureStore.open(path) as store:
                store.audit_verify()
        assert directory.RESERVE_BYTES > (path / directory.RESERVE).stat().st_size > directory.RESERVE_BYTES // 2
    with SecureStore.open(path):
        assert directory.RESERVE_BYTES == (path / directory.RESERVE).stat().st_size


def test_a_store_is_opened_on_its_reserve(start: Callable[..., Any], place: Any) -> None:
    """A command for full disks opens the store on its reserve, time and again; an agent can't; with room it is made anew."""
    on_a_small_disk(start, opens, place)


def nothing_spare(talk: Any, volume: str) -> None:
    path = small_disk(talk, volume, 8 << 20)
    with SecureStore.create(path):
        assert not (path / directory.RESERVE).exists()
        with full(volume), reserve.at_hand(path), reserve.at_hand(None):
            assert not directory.reserve_needed(path)


def test_a_small_disk_has_no_reserve(start: Callable[..., Any], place: Any) -> None:
    """Where four times the reserve is not free none is kept: a store does not fill a disk that has hardly any room."""
    on_a_small_disk(start, nothing_spare, place)


def test_the_reserve(tmp_path: Path) -> None:
    """The reserve takes room, is for its owner alone, is made whole where it was cut short, and goes when released."""
    before = os.stat(tmp_path).st_ino
    directory.keep_reserve(tmp_path)
    file = tmp_path / directory.RESERVE
    assert (directory.RESERVE_BYTES, 0o600) == (file.stat().st_blocks * 512, file.stat().st_mode & 0o777)
    os.truncate(file, 4096)
    directory.keep_reserve(tmp_path)
    assert directory.RESERVE_BYTES == file.stat().st_size
    directory.release_reserve(tmp_path)
    assert not file.exists()
    directory.release_reserve(tmp_path)
    assert before == os.stat(tmp_path).st_ino


def test_room_enough_needs_no_reserve(tmp_path: Path) -> None:
    """With room on the disk the reserve stays where it is."""
    directory.keep_reserve(tmp_path)
    with reserve.at_hand(tmp_path):
        assert (tmp_path / directory.RESERVE).exists()
