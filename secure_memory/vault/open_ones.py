"""The databases of this process that have an open connection: bounded, so that many tenants don't run out of files.

Where there are too many, those that were opened first and are not in use are shut; the next operation opens them again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

MAX_OPEN = 64
"""Vaults that may have an open connection (3 files and 190 kB each)."""


class Shuttable(Protocol):
    """A database that can close its connection and open it again."""

    def shut(self) -> bool:
        """Close the connection; False where it is in use. Never waits."""
        ...


_open: OrderedDict[int, Shuttable] = OrderedDict()
_mutex = threading.Lock()  # taken only by who holds a database's own lock, which a fork waits for


def add(database: Shuttable) -> None:
    """Say that `database` was opened; shuts others where there are too many."""
    with _mutex:
        _open[id(database)] = database
        for other in [other for other in _open.values() if other is not database]:
            if len(_open) <= MAX_OPEN:
                return
            if other.shut():
                del _open[id(other)]


def forget(database: Shuttable) -> None:
    """Say that `database` was closed for good."""
    with _mutex:
        _open.pop(id(database), None)
