"""The place where a store is restored: that nobody uses it, what may be replaced there, and the moment when it is.

A process that has a database open in WAL mode holds a lock on it for as long as that, idle or not: a shared one on 510 bytes
(SQLite's os_unix.c). Whoever gets that lock for itself is alone, and keeps others out while it has it.

Files are opened by hand here. So a store that this process has open is refused first: closing them would take its own locks
away (sqlite.org/howtocorrupt.html 2.2).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from secure_memory import clock, directory, registry
from secure_memory.errors import ConfigurationError, NotAStoreError, StoreBusyError
from secure_memory.lifecycle.assembling import Sets
from secure_memory.lifecycle.backup_set import sync, told

_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510


@contextmanager
def alone(place: Path, sets: Sets) -> Iterator[bool]:
    """Whether something is at `place` that a restored store of these sets may replace; nobody opens it inside the block.

    Raises ConfigurationError where something else is there, StoreBusyError where the store is in use.
    """
    if os.path.ismount(place):
        raise ConfigurationError(
            f"{place} is where a volume is mounted, so that nothing can take its place",
            hint="restore into a directory on that volume, and name that as the store",
        )
    if registry.is_open(place):
        raise _in_use(place)
    with ExitStack() as locks:
        yield _check_replaceable(place, sets) and _lock(place, locks)


def _check_replaceable(place: Path, sets: Sets) -> bool:
    """Whether the store of these sets is at `place`; False where nothing is. Raises ConfigurationError."""
    try:
        if not directory.exists(place):
            return False
        if directory.read(place).uid.hex() == sets.keys.store:
            return True
    except NotAStoreError:
        # It may have lost its store.json, which is a reason to restore it: its vaults have the names that this store's have.
        if {file.stem for file in (place / directory.VAULTS).glob("*.db")} & set(sets.vaults.vaults):
            return True
        raise
    raise ConfigurationError(
        f"another store is at {place} than the one in {sets.vaults.path.name}", hint="name another path with --store"
    )


def _lock(place: Path, locks: ExitStack) -> bool:
    """Lock the databases against every other process, until `locks` is closed. Raises StoreBusyError."""
    with told(f"look into {place}"):
        names = [place / directory.KEYS, place / directory.SYSTEM, *(place / directory.VAULTS).glob("*.db")]
        for file in names:
            if not file.exists():
                continue
            fd = os.open(file, os.O_RDWR)
            locks.callback(os.close, fd)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
            except BlockingIOError:
                raise _in_use(place) from None
    return True


def _in_use(place: Path) -> StoreBusyError:
    return StoreBusyError(f"a process has the store {place} open", hint="stop everything that uses it, then restore it")


def swap(restored: Path, place: Path, occupied: bool) -> Path | None:
    """Let `restored` be what is at `place`, durably; returns where that is which was there. Raises StorageError."""
    aside = None
    with told(f"put the restored store to {place}"):
        for folder in (restored / directory.VAULTS, restored):
            sync(folder)
        if occupied:
            stamp = clock.rfc3339(clock.now()).replace(":", "")
            aside = place.with_name(f"{place.name}.replaced-{stamp}")
            place.rename(aside)
        try:
            restored.rename(place)
        except OSError:
            if aside is not None:
                aside.rename(place)
            raise
        sync(place.parent)
    return aside


def discard(replaced: Path) -> None:
    """Delete the store that was replaced."""
    with told(f"delete {replaced}"):
        shutil.rmtree(replaced)
