"""SecureSession in the place of the SDK's sessions, for the SDK's own suites: ``pytest -p swap``, in an SDK source tree.

Importing this module does it, so that the processes that a suite starts can do it too (`multiprocessing` preloads it). The
names are replaced where suites import them from; no file of the SDK is edited:

- `SQLiteSession` is `SecureSession`;
- `AdvancedSQLiteSession` is a `SecureSession` that can say, as suites ask it, on which branch it is;
- `SimpleListSession`, which the runner's suites use, is a `SecureSession` in a store on disk, with the list's constructor.
  The classes beside it, which count and strip, are made again upon it.

What `excluded.toml` names is expected to fail, and fails the run where it passes; with ``run = false`` it isn't run.
"""

from __future__ import annotations

import ast
import asyncio
import itertools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import agents
import agents.extensions.memory
import agents.extensions.memory.advanced_sqlite_session
import agents.extensions.memory.encrypt_session  # subclasses and checks of the SDK's classes: before these are replaced
import agents.memory
import agents.memory.sqlite_session
import exclusions
import pytest

from secure_memory import SecureSession

LISTS = Path("tests/utils/simple_session.py")
"""Where the SDK's tree has the session that its runner suites use."""

_numbers = itertools.count()
_made = 0


def _elsewhere(work: Coroutine[Any, Any, Any]) -> Any:
    """What the coroutine returns, run in a thread with a loop of its own: constructors and properties can't await."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


class AdvancedSession(SecureSession):
    """A SecureSession with the one private name that many tests only look at."""

    @property
    def _current_branch_id(self) -> str:
        branches = _elsewhere(self.list_branches())
        return next((branch["branch_id"] for branch in branches if branch["is_current"]), "main")


class ListSession(SecureSession):
    """A SecureSession with the constructor of SimpleListSession, and the lists that tests look into.

    It does without what SimpleListSession has not either, the private hooks of compaction: suites use the one where they
    test what becomes of sessions without hooks, and SQLiteSession where they test the hooks.
    """

    _get_compaction_snapshot = None
    _atomic_replace_items = None

    def __init__(self, session_id: str = "test", history: list[Any] | None = None) -> None:
        # One store on disk a process; two lists of one name are two conversations, as they were two lists.
        store = Path(tempfile.gettempdir(), f"lists-{os.getpid()}.secmem")
        super().__init__(f"{session_id} {next(_numbers)}", store)
        self.session_id = session_id
        self._ignore_ids_for_matching = False
        if history:
            _elsewhere(SecureSession.add_items(self, history))

    @property
    def saved_items(self) -> list[Any]:
        """What is stored, read anew."""
        return _elsewhere(SecureSession.get_items(self, -1))

    _items = saved_items


def _put_in_place() -> None:
    for module in (agents, agents.memory, agents.memory.sqlite_session):
        module.SQLiteSession = SecureSession
    for module in (agents.extensions.memory, agents.extensions.memory.advanced_sqlite_session):
        module.AdvancedSQLiteSession = AdvancedSession
    # The module is run with its list session left out, and ours under that name.
    tree = ast.parse(LISTS.read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", None) != "SimpleListSession"]
    lists = ModuleType("tests.utils.simple_session")
    lists.SimpleListSession = ListSession
    exec(compile(tree, LISTS, "exec"), vars(lists))
    import tests.utils  # the SDK's tests, since the SDK's tree is the working directory

    sys.modules[lists.__name__] = tests.utils.simple_session = lists


def _count_sessions() -> None:
    set_up = SecureSession._set_up

    def counted(self: SecureSession, *arguments: Any, **named: Any) -> None:
        global _made
        _made += 1
        set_up(self, *arguments, **named)

    SecureSession._set_up = counted


_put_in_place()
_count_sessions()
multiprocessing.set_forkserver_preload([__name__])


# ---- the plugin -----------------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what is excluded to fail, for the reason that is given."""
    excluded = exclusions.load()
    for item in items:
        found = excluded.get(item.nodeid) or excluded.get(item.nodeid.partition("[")[0])
        if found is not None:
            item.add_marker(pytest.mark.xfail(reason=found.reason, run=found.run, strict=True))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember how many sessions there were before a test, its fixtures included."""
    item.stash[_before] = _made
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Say in a test's report how many sessions of ours it made."""
    try:
        return (yield)
    finally:
        item.user_properties.append(("sessions", _made - item.stash[_before]))


_before = pytest.StashKey[int]()
