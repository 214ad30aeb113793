"""What happens to locks and connections when the process forks.

- Before a fork every guarded lock is taken, so that no transaction is open and no structure half changed in the child.
- The child never uses, closes or finalises an inherited connection: closing one can checkpoint and delete the WAL under
  the parent (sqlite.org/howtocorrupt.html 2.6). It leaks it and opens its own.

Used by whatever holds a lock and a connection: vaults, keyrings, the registry of open stores, the workers.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Any, Protocol


class Guarded(Protocol):
    """Something with a lock, that has to know when it woke up in a child."""

    lock: threading.Lock

    def forked(self) -> None:
        """Called in the child, by its only thread, after the lock was replaced by a new one."""
        ...


_guarded: weakref.WeakSet[Any] = weakref.WeakSet()
_adding = threading.Lock()
_taken: list[Any] = []


def guard(thing: Guarded) -> None:
    """Keep `thing` whole across forks, for as long as it lives."""
    with _adding:
        _guarded.add(thing)


def leak(connection: object) -> None:
    """Keep an inherited object alive past the end of the interpreter, so that its finaliser never runs."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before() -> None:
    _adding.acquire()
    # Whoever holds one of these locks waits for none of the others, so that the order does not matter.
    for thing in list(_guarded):
        thing.lock.acquire()
        _taken.append((thing, thing.lock))


def _after_in_parent() -> None:
    for _, lock in _taken:
        lock.release()
    _taken.clear()
    _adding.release()


def _after_in_child() -> None:
    global _adding
    _adding = threading.Lock()
    things = [thing for thing, _ in _taken]
    _taken.clear()
    for thing in things:
        thing.lock = threading.Lock()
    for thing in things:
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
