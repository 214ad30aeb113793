"""What happens to locks and connections when the process forks.

- Before a fork every guarded lock is taken, so that no transaction is open and no structure half changed in the child.
- Then every connection is closed, and each side opens its own when it needs one. It is not enough that the child leaves
  an inherited one alone (sqlite.org/howtocorrupt.html 2.6): SQLite notes by process which locks it holds on a file, so the
  child would take for its own what the system gave to the parent alone, and a parent that closes would delete the WAL
  under it.

Used by whatever holds a lock or a connection: vaults, keyrings, the workers, what sessions remember.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol


class Guarded(Protocol):
    """Something with a lock, that has to know when it woke up in a child. Whoever holds it and may wait for the lock of
    another such thing meanwhile has `fork_last` in that one: a vault's operation asks the keyring."""

    lock: threading.Lock

    def before_fork(self) -> None:
        """Called in the parent, with every guarded lock held: close what no child may inherit."""
        ...

    def forked(self) -> None:
        """Called in the child, by its only thread, after the lock was replaced by a new one."""
        ...


class Renewed(Protocol):
    """Something that begins anew in a child, since another thread may have been in the middle of changing it."""

    def forked(self) -> None:
        """Called in the child, by its only thread."""
        ...


_guarded: weakref.WeakSet[Any] = weakref.WeakSet()
_renewed: weakref.WeakSet[Any] = weakref.WeakSet()
_adding = threading.Lock()
_taken: list[Any] = []


def guard(thing: Guarded) -> None:
    """Keep `thing` whole across forks, for as long as it lives."""
    with _adding:
        _guarded.add(thing)


def renew(thing: Renewed) -> None:
    """Have `thing` begin anew in every child. Nothing of it is locked before the fork: others may hold its lock."""
    with _adding:
        _renewed.add(thing)


def _before() -> None:
    _adding.acquire()
    # Whoever holds one of these locks waits for none of the others, but for those that are taken last.
    for thing in sorted(_guarded, key=lambda thing: getattr(thing, "fork_last", False)):
        thing.lock.acquire()
        _taken.append((thing, thing.lock))
    for thing, _ in _taken:
        thing.before_fork()


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
    for thing in (*things, *_renewed):
        thing.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
