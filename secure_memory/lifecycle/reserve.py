"""Room for what has to work on a full disk: purging, erasing, verifying, reading the log.

A store keeps a file that holds nothing but room (`directory.keep_reserve`). What makes room, or must not fail for want of
it, does its work inside `at_hand`: where the disk has less room than that, the file gives its room away for as long as the
work takes, and takes back what is left of it afterwards. It grows whole again when the store is opened on a disk with room.

    with reserve.at_hand(shared.path):   # purge and erase; around everything that writes
        ...

- It is asked before the work, not after a failure: a transaction that a full disk ended is not begun again.
- Opening a store writes too. A command opens the store inside `SecureStore.on_reserve(path)`, which is this.
- What else is written to that disk meanwhile takes of the same room. Write in small transactions, and checkpoint between
  them: a WAL that grows past the room ends in DiskFullError like any other.
- On a file system that copies on write or compresses, room that is given away may not be there; the file does no harm then.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secure_memory import directory
from secure_memory.log import get_logger

log = get_logger(__name__)


@contextmanager
def at_hand(path: Path | None) -> Iterator[None]:
    """Inside the block the store at `path` has its reserve to write to, if the disk has nothing else. `path` is None for a
    store in memory, which needs none. Nested, the outermost block counts. Raises nothing of its own."""
    if path is None or not directory.reserve_needed(path):
        yield
        return
    log.warning("disk full: writing on reserved room")
    directory.release_reserve(path)
    try:
        yield
    finally:
        directory.take_back_reserve(path)
