"""A store that may not be written, or not even read: our error with a hint, nothing changed, well again afterwards.

Two ways to make it so: modes, which bind everyone but root, and a mount that is read-only, which binds root too. A child
that is to be bound by modes gives up what makes root different.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import SecureMemoryError, StorageError
from secure_memory.store import SecureStore


def add(session: SecureSession, *texts: str) -> None:
    asyncio.run(session.add_items([{"role": "user", "content": text} for text in texts]))


def refused(path: str) -> list[str]:
    """What opening, making and using the store there say, each of them our own error with a hint."""
    said = []
    attempts: list[Callable[[], object]] = [
        lambda: SecureStore.open(path),
        lambda: SecureSession("s", path),
        lambda: add(SecureSession("s", path), "x"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError) as caught:
            attempt()
        assert caught.value.hint
        said.append(str(caught.value))
    return said


def opens_read_only(talk: Any, path: str, how: str) -> None:
    """Try a store whose directory is read-only; then make one below another that is."""
    if how == "mount":
        try:
            talk.own_mounts()
            talk.read_only(path)
        except PermissionError:
            talk.say("no mounts")
            return
    else:
        talk.drop_privileges()
        modes(path, 0o500, 0o400)
    try:
        talk.say(*refused(path))
        with pytest.raises(SecureMemoryError):
            SecureStore.create(Path(path, "below"))
    finally:
        if how == "modes":
            modes(path, 0o700, 0o600)


def modes(path: str, directory: int, file: int) -> None:
    """Set the modes of everything below `path`."""
    for place, _, files in os.walk(path):
        for name in files:
            os.chmod(Path(place, name), file)
    for place, _, _ in os.walk(path, topdown=False):
        os.chmod(place, directory)


@pytest.mark.parametrize("how", ["mount", "modes"])
def test_read_only(start: Callable[..., Any], place: Any, how: str) -> None:
    """A store in a read-only directory does not open, since reads are audited; nothing in it changes."""
    with SecureSession("s", place.path) as session:
        add(session, "before")
    before = {file: file.read_bytes() for file in place.path.rglob("*") if file.is_file()}
    said = start(opens_read_only, str(place.path), how).ends()
    if said == ["no mounts"]:
        pytest.skip("needs root or user namespaces; what modes forbid is tested all the same")
    assert before == {file: file.read_bytes() for file in place.path.rglob("*") if file.is_file()}
    assert ["before"] == place.texts()
    place.verify()


def goes_read_only(talk: Any, path: str) -> None:
    """The directory becomes read-only while the store is open: what is open goes on, what would be new is refused."""
    talk.drop_privileges()
    with SecureSession("s", path) as session:
        add(session, "before")
        os.chmod(Path(path, "vaults"), 0o500)
        add(session, "after")
        with pytest.raises(StorageError):
            SecureSession("s", path, tenant="new")
        assert 2 == len(asyncio.run(session.get_items()))
        os.chmod(Path(path, "vaults"), 0o700)
        with SecureSession("s", path, tenant="new") as new:
            add(new, "first")


def test_becomes_read_only(start: Callable[..., Any], place: Any) -> None:
    """A tenant that could not be made since its directory was read-only is made when it can be."""
    start(goes_read_only, str(place.path)).ends()
    assert ["before", "after"] == place.texts()
    assert ["first"] == place.texts(tenant="new")
    place.verify()


def is_locked_out(talk: Any, path: str, what: str) -> None:
    talk.drop_privileges()
    place = Path(path, what)
    mode = place.stat().st_mode
    os.chmod(place, 0)
    try:
        if what == "vaults":
            with SecureStore.open(path) as store, store.session("s") as session:
                for operation in (session.get_items, session.clear_session):
                    with pytest.raises(StorageError) as caught:  # and not: the vault is missing
                        asyncio.run(operation())
                    assert caught.value.hint
            with pytest.raises(StorageError):
                SecureSession("s", path)
        else:
            refused(path)
    finally:
        os.chmod(place, mode)


@pytest.mark.parametrize("what", [".", "store.json", "keys.db", "system.db", "vaults"])
def test_locked_out(start: Callable[..., Any], place: Any, what: str) -> None:
    """What this user may not read is neither missing nor rolled back, and no error of the system comes through."""
    with SecureSession("s", place.path) as session:
        add(session, "before")
    start(is_locked_out, str(place.path), what).ends()
    assert ["before"] == place.texts()
    place.verify()
