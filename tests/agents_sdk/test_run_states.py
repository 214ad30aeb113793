"""`agents_sdk/run_states.py`: a paused run, kept with its conversation and proven when it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, RunState, function_tool

from secure_memory import SecureStore, SerializationError, TamperedError, acting_as

QUIET = RunConfig(tracing_disabled=True)
PAID: list[int] = []


@function_tool(needs_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    PAID.append(amount)
    return f"paid {amount}"


@pytest.fixture
def agent(script: Any) -> Agent[Any]:
    PAID.clear()
    return Agent("desk", model=script.will(("pay", {"amount": 4711}), "done"), tools=[pay])


def test_a_run_pauses_and_goes_on_elsewhere(place: Path, store: SecureStore, agent: Agent[Any], script: Any) -> None:
    """Paused, kept, loaded by another handle, approved, resumed: the tool runs once, and the conversation is whole."""

    async def pause() -> None:
        session = store.session("s")
        result = await Runner.run(agent, "pay 4711", session=session, run_config=QUIET)
        assert 1 == len(result.interruptions)
        await session.save_run_state(result.to_state())

    async def resume() -> Any:
        session = store.session("s")
        state = await session.load_run_state(agent)
        assert isinstance(state, RunState)
        for interruption in state.get_interruptions():
            state.approve(interruption)
        result = await Runner.run(agent, state, session=session, run_config=QUIET)
        await session.save_run_state(None)
        assert await session.load_run_state(agent) is None
        return result.final_output

    asyncio.run(pause())
    assert [] == PAID
    assert "done" == asyncio.run(resume())
    assert [4711] == PAID
    kinds = [item.get("type", "message") for item in store.session_show("s")]
    assert ["message", "function_call", "function_call_output", "message"] == kinds
    store.audit_verify()


def test_nothing_of_it_is_in_plaintext(place: Path, store: SecureStore) -> None:
    """What is kept can't be read from the files."""
    store.session("s").blocking.save_run_state({"original_input": "my secret word is barbecue"})
    store.close()
    assert not [file for file in place.rglob("*") if file.is_file() and b"barbecue" in file.read_bytes()]


def test_one_a_session(store: SecureStore) -> None:
    """The newest takes the place of the one before; None forgets it; another session has its own."""
    session, other = store.session("s").blocking, store.session("other").blocking
    assert session.load_run_state() is None
    session.save_run_state(None)
    for number in range(3):
        session.save_run_state({"n": number})
        assert {"n": number} == session.load_run_state() == store.session("s").blocking.load_run_state()
    assert other.load_run_state() is None
    session.save_run_state(None)
    assert session.load_run_state() is None
    store.audit_verify()


def test_it_is_no_part_of_the_conversation(store: SecureStore) -> None:
    """It is no item, no turn and no branch; a clear forgets it, and afterwards another can be kept."""
    session = store.session("s").blocking
    session.add_items([{"role": "user", "content": "hello"}])
    session.save_run_state({"n": 1})
    assert 1 == len(session.get_items())
    assert ["main"] == [branch["branch_id"] for branch in session.list_branches()]
    with pytest.raises(ValueError, match="does not exist"):
        session.switch_to_branch("")
    assert [1] == [info.items for info in store.sessions()]
    session.create_branch_from_turn(1, "other")
    session.delete_branch("other", force=True)
    assert {"n": 1} == session.load_run_state()
    session.clear_session()
    assert session.load_run_state() is None
    session.save_run_state({"n": 2})
    assert {"n": 2} == session.load_run_state()
    store.audit_verify()


def test_it_moves_with_the_session(store: SecureStore) -> None:
    """Under another subject it is sealed anew with everything else."""
    session = store.session("s", subject="ana").blocking
    session.save_run_state({"n": 1})
    session.assign_subject("ben")
    assert {"n": 1} == session.load_run_state()
    store.audit_verify()


def test_what_is_no_state(store: SecureStore) -> None:
    """A text or a list is refused, and nothing is kept."""
    session = store.session("s").blocking
    for bad in ("{}", [1], 7):
        with pytest.raises(SerializationError):
            session.save_run_state(bad)  # type: ignore[arg-type]
    with pytest.raises(SerializationError):
        session.save_run_state({"n": object()})
    assert [] == store.tenant_list()


def test_an_older_one_is_not_served(store: SecureStore, insider: Callable[..., Any]) -> None:
    """One who holds the vault's key puts the older state back, row for row: it raises."""
    session = store.session("s").blocking
    session.save_run_state({"approved": True})
    (older,) = insider().sql("SELECT * FROM items")
    session.save_run_state({"approved": False})
    insider().sql("DELETE FROM items")
    insider().sql("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *older)
    with pytest.raises(TamperedError):
        session.load_run_state()
    insider().sql("UPDATE items SET id = id + 1")
    with pytest.raises(TamperedError):
        session.load_run_state()
    with pytest.raises(TamperedError):
        store.audit_verify()


def test_what_the_ledger_says(store: SecureStore) -> None:
    """Keeping and loading are entries with who asked, marked as what they are."""
    session = store.session("s").blocking
    with acting_as("user:maria"):
        session.save_run_state({"n": 1})
    session.load_run_state(actor="user:eve")
    found = [
        (one.entry.action, one.entry.actor, one.entry.items)
        for one in store.audit_log(tenant="default")
        if one.entry.detail.get("run_state")
    ]
    assert [("session.append", "user:maria", 1), ("session.read", "user:eve", 1)] == found
