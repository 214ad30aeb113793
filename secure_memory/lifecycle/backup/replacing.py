"""The place where a store is restored: that nobody uses it, what may be replaced there, and the moment when it is.

A directory is replaced in one step, and what was there stays beside it. Where a volume is mounted nothing can take the place
of the directory: there its files are moved aside inside it, store.json first, and the restored ones moved in, store.json
last. Until then there is no store that could be opened.

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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from secure_memory import clock, directory, registry
from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, NotAStoreError, StoreBusyError
from secure_memory.lifecycle.backup.assembling import Sets
from secure_memory.lifecycle.backup.backup_set import sweep, told

_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_REPLACED = "replaced-"


def workshop(place: Path) -> tuple[Path, str]:
    """Where the store is put together that will be at `place`, and under which name: on the same file system."""
    return (place, "restored") if os.path.ismount(place) else (place.parent, place.name)


@contextmanager
def alone(place: Path, sets: Sets) -> Iterator[bool]:
    """Whether something is at `place` that a restored store of these sets may replace; nobody opens it inside the block.

    Raises ConfigurationError where something else is there, StoreBusyError where the store is in use.
    """
    if registry.is_open(place):
        raise _in_use(place)
    if os.path.ismount(place):
        sweep(place)  # what a killed restore was putting together there
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
        if _was_this_store(place, sets):
            return True
        raise
    raise ConfigurationError(
        f"another store is at {place} than the one in {sets.vaults.path.name}", hint="name another path with --store"
    )


def _was_this_store(place: Path, sets: Sets) -> bool:
    """Whether a place without a store.json is this store's: that it lost it is a reason to restore it.

    Its vaults have the names that this store's have; or a restore was killed here, in the midst of moving them aside.
    """
    if {file.stem for file in (place / directory.VAULTS).glob("*.db")} & set(sets.vaults.vaults):
        return True
    with suppress(NotAStoreError):
        return any(directory.read(aside).uid.hex() == sets.keys.store for aside in place.glob(f"{_REPLACED}*"))
    return False


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
        for folder in (*(path for path in restored.iterdir() if path.is_dir()), restored):
            sync(folder)
        stamp = clock.rfc3339(clock.now()).replace(":", "")
        if restored.parent == place:
            return _swap_inside(restored, place, place / f"{_REPLACED}{stamp}", occupied)
        if occupied:
            aside = place.with_name(f"{place.name}.{_REPLACED}{stamp}")
            place.rename(aside)
        try:
            restored.rename(place)
        except OSError:
            if aside is not None:
                aside.rename(place)
            raise
        sync(place.parent)
    return aside


def _swap_inside(restored: Path, place: Path, aside: Path, occupied: bool) -> Path | None:
    """`swap`, file by file. Where it is killed, the place has no store.json, and the next restore goes on from there."""
    if occupied:
        aside.mkdir(mode=0o700, exist_ok=True)
        for name in sorted(os.listdir(place), key=lambda name: name != directory.MANIFEST):
            if name not in (restored.name, directory.LOST_AND_FOUND) and not name.startswith(_REPLACED):
                (place / name).rename(aside / name)
        sync(aside)
    for name in sorted(os.listdir(restored), key=lambda name: name == directory.MANIFEST):
        (restored / name).rename(place / name)
    sync(place)
    return aside if occupied else None


def discard(replaced: Path) -> None:
    """Delete the store that was replaced."""
    with told(f"delete {replaced}"):
        shutil.rmtree(replaced)
