"""The databases of this process that have an open connection: bounded, so that many tenants don't run out of files.

Where there are too many, those that were opened first and are not in use are shut; the next operation opens them again. The
bound leaves most of the files that the process may open to the rest of it: where that is 256, as on macOS, it is 16 vaults.
"""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from typing import Protocol

MAX_OPEN = 64
"""Vaults that may have an open connection, at the most (190 kB each)."""
FILES = 4
"""Files that an open vault has: the database, its WAL, its shared memory, its anchor."""


class Shuttable(Protocol):
    """A database that can close its connection and open it again."""

    def shut(self) -> bool:
        """Close the connection; False where it is in use. Never waits."""
        ...


_open: OrderedDict[int, Shuttable] = OrderedDict()
_mutex = threading.Lock()  # taken only by who holds a database's own lock, which a fork waits for


def bound() -> int:
    """Vaults that may have an open connection: a quarter of the files that this process may open is theirs."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_OPEN if limit == resource.RLIM_INFINITY else max(1, min(MAX_OPEN, limit // 4 // FILES))


def add(database: Shuttable) -> None:
    """Say that `database` was opened; shuts others where there are too many."""
    with _mutex:
        _open[id(database)] = database
        most = bound()
        for other in [other for other in _open.values() if other is not database]:
            if len(_open) <= most:
                return
            if other.shut():
                del _open[id(other)]


def forget(database: Shuttable) -> None:
    """Say that `database` was closed for good."""
    with _mutex:
        _open.pop(id(database), None)
