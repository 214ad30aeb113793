"""`agents_sdk/blocking.py`: a session for scripts and notebooks, with and without a running event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from secure_memory import SecureSession, acting_as
from secure_memory.agents_sdk.blocking import BlockingSession
from secure_memory.service import run_blocking
from secure_memory.store import SecureStore


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def walk(session: SecureSession) -> None:
    """Use every kind of operation once."""
    talk = session.blocking
    talk.add_items([said("one"), {"role": "assistant", "content": "yes"}, said("two")])
    assert [said("two")] == talk.get_items(1) == talk.get_items(limit=1)
    assert said("two") == talk.pop_item()
    talk.add_items([said("three")])
    assert "try" == talk.create_branch_from_turn(2, "try")
    assert 2 == len(talk.get_items())
    talk.switch_to_branch("main")
    assert 3 == len(talk.get_items())
    assert ["main", "try"] == [branch["branch_id"] for branch in talk.list_branches()]
    talk.clear_session()
    assert [] == talk.get_items()


def test_without_a_loop(store: SecureStore) -> None:
    """A script needs no event loop."""
    walk(store.session("s"))


def test_in_memory() -> None:
    """In memory it is the same."""
    walk(SecureSession("s"))


def test_inside_a_running_loop(store: SecureStore) -> None:
    """A notebook's cell runs inside a loop: the calls work there, and coroutines of the same session beside them."""
    session = store.session("s")

    async def cell() -> None:
        walk(session)
        await session.add_items([said("awaited")])
        assert [said("awaited")] == session.blocking.get_items() == await session.get_items()

    asyncio.run(cell())


def test_from_many_threads(store: SecureStore) -> None:
    """Several threads may use one session, each waiting for its own outcome."""
    session = store.session("s")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: session.blocking.add_items([said(str(n))]), range(40)))
    assert {str(n) for n in range(40)} == {item["content"] for item in session.blocking.get_items()}  # type: ignore[typeddict-item]


def test_it_starts_no_thread_of_its_own_for_a_read(store: SecureStore) -> None:
    """A short read of an idle vault runs where it is asked."""
    session = store.session("s")
    session.blocking.add_items([said("one")])
    before = set(threading.enumerate())
    session.blocking.get_items()
    assert before >= set(threading.enumerate())


def test_a_large_read(store: SecureStore) -> None:
    """What is too large to be read where it is asked waits for the worker, in a thread or on a loop."""
    session = store.session("s", cache=False)
    session.blocking.add_items([said(str(n)) for n in range(300)])
    assert 300 == len(session.blocking.get_items())

    async def cell() -> int:
        return len(session.blocking.get_items())

    assert 300 == asyncio.run(cell())


def test_errors_come_through(store: SecureStore) -> None:
    """What a coroutine raises, the call raises; and afterwards everything goes on."""
    session = store.session("s")
    with pytest.raises(ValueError, match="does not exist"):
        session.blocking.switch_to_branch("none")
    session.blocking.add_items([said("one")])
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.blocking.get_items()


def test_who_asks(store: SecureStore) -> None:
    """The actor comes from where it does for coroutines."""
    session = store.session("s")
    with acting_as("user:maria"):
        session.blocking.add_items([said("one")])
    session.blocking.get_items(actor="user:eve")
    found = [(one.entry.action, one.entry.actor) for one in store.audit_log(tenant="default", session="s")]
    assert ("session.append", "user:maria") in found
    assert ("session.read", "user:eve") in found


def test_every_coroutine_has_its_call() -> None:
    """No public coroutine of a session is without a blocking face, and none has one that is not there."""
    public = {
        name for name, method in inspect.getmembers(SecureSession, inspect.iscoroutinefunction) if not name.startswith("_")
    }
    assert public == {name for name in dir(BlockingSession) if not name.startswith("_")}
    assert SecureSession.get_items.__doc__ == SecureSession("s").blocking.get_items.__doc__


def test_only_our_operations_can_wait_here() -> None:
    """A coroutine that needs an event loop is refused, and does not leave this thread blocking."""

    async def other() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="event loop"):
        run_blocking(other())
    asyncio.run(SecureSession("s").add_items([said("one")]))
