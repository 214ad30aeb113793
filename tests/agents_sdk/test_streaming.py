"""Runs that stream, on a real session and with a real model: what they keep, what they spent, and how they are stopped.

The model is the one that the examples ship; what is streamed by it is metered as the tutorial does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agents import Agent, MaxTurnsExceeded, RunConfig, Runner, RunResultStreaming, function_tool
from openai.types.responses import ResponseTextDeltaEvent

from secure_memory import SecureSession, SecureStore
from secure_memory.examples.tutorial import MeteredModel

QUIET = RunConfig(tracing_disabled=True)
COMPLAINT = "I was charged twice"


@function_tool
async def create_ticket(summary: str) -> str:
    """Open a ticket."""
    return "T-123456"


@pytest.fixture
def ours(store: SecureStore) -> Iterator[SecureSession]:
    session = store.session("user_123")
    yield session
    session.close()


def desk() -> Agent[Any]:
    return Agent("desk", model=MeteredModel(), tools=[create_ticket])


def begin(session: SecureSession, message: str, max_turns: int = 10) -> RunResultStreaming:
    return Runner.run_streamed(desk(), message, session=session, max_turns=max_turns, run_config=QUIET)


async def to_its_end(result: RunResultStreaming) -> list[Any]:
    """The events of the run."""
    return [event async for event in result.stream_events()]


def is_word(event: Any) -> bool:
    return event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)


def kinds(items: list[Any]) -> list[str]:
    return [item.get("type") or item["role"] for item in items]


def told(store: SecureStore) -> list[Any]:
    """What each entry about usage says, in order."""
    return [record.entry.detail["usage"] for record in store.audit_log(tenant="default", action="session.usage")]


def test_what_it_spent_is_recorded_by_itself(ours: SecureSession, store: SecureStore) -> None:
    """A streamed run's figures are recorded as they grow, are the run's own in the end, and are not counted twice."""

    async def test() -> None:
        result = begin(ours, COMPLAINT)
        events = await to_its_end(result)
        spent = result.context_wrapper.usage
        assert 2 == spent.requests
        words = "".join(event.data.delta for event in events if is_word(event))
        assert result.final_output == words
        assert ["user", "function_call", "function_call_output", "message"] == kinds(await ours.get_items())
        assert spent.total_tokens == (await ours.get_turn_usage(1))["total_tokens"]
        figures = told(store)
        assert [1, 2] == [one["requests"] for one in figures]
        assert spent.total_tokens == figures[-1]["total_tokens"] > figures[0]["total_tokens"]
        assert 1 == len({(one["row"], one["run"]) for one in figures})
        await ours.store_run_usage(result)
        assert (2, 1) == ((await ours.get_session_usage())["requests"], len(await ours.get_turn_usage()))

    asyncio.run(test())
    store.audit_verify()


def test_it_reads_what_was_said_before(ours: SecureSession) -> None:
    """The second streamed run knows the ticket of the first one, and each turn has what its own run spent."""

    async def test() -> None:
        first = begin(ours, COMPLAINT)
        await to_its_end(first)
        second = begin(ours, "any news?")
        await to_its_end(second)
        assert "T-123456" in second.final_output
        spent = [run.context_wrapper.usage.total_tokens for run in (first, second)]
        assert spent == [turn["total_tokens"] for turn in await ours.get_turn_usage()]

    asyncio.run(test())


def test_stopped_after_the_turn(ours: SecureSession, store: SecureStore) -> None:
    """`cancel(mode="after_turn")` keeps the model's turn whole, tool call and output, and all that it cost."""

    async def test() -> None:
        result = begin(ours, COMPLAINT)
        async for event in result.stream_events():
            if event.type == "raw_response_event":  # the model is answering
                result.cancel(mode="after_turn")
        assert ["user", "function_call", "function_call_output"] == kinds(await ours.get_items())
        assert 1 == result.context_wrapper.usage.requests
        assert result.context_wrapper.usage.total_tokens == (await ours.get_session_usage())["total_tokens"]

    asyncio.run(test())
    store.audit_verify()


def test_stopped_at_once(ours: SecureSession, store: SecureStore) -> None:
    """`cancel()` amid the answer's words: what the run had appended by then is kept and charged, and nothing after it; the
    conversation goes on, and the next run is charged in its own turn."""

    async def test() -> None:
        result = begin(ours, COMPLAINT)
        async for event in result.stream_events():
            if is_word(event):
                result.cancel()
        assert ["user", "function_call", "function_call_output"] == kinds(await ours.get_items())
        first = told(store)[-1]
        assert 1 == first["requests"]
        assert first["total_tokens"] == (await ours.get_turn_usage(1))["total_tokens"]
        again = begin(ours, "any news?")
        await to_its_end(again)
        expected = [first["total_tokens"], again.context_wrapper.usage.total_tokens]
        assert expected == [turn["total_tokens"] for turn in await ours.get_turn_usage()]

    asyncio.run(test())
    store.audit_verify()


def test_its_task_is_cancelled(ours: SecureSession, store: SecureStore) -> None:
    """A consumer that is cancelled at any event leaves a session that is proven, whole, and charged no more than was
    spent."""

    async def test(at: int, session: SecureSession) -> None:
        result = begin(session, COMPLAINT)
        reached = asyncio.Event()

        async def consume() -> None:
            seen = 0
            async for _ in result.stream_events():
                seen += 1
                if seen == at:
                    reached.set()
                    await asyncio.Event().wait()
            reached.set()

        consumer = asyncio.create_task(consume())
        await reached.wait()
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        result.cancel()
        await asyncio.gather(result.run_loop_task, return_exceptions=True)  # type: ignore[arg-type]
        found = kinds(await session.get_items())
        assert found == ["user", "function_call", "function_call_output", "message"][: len(found)]
        charged = await session.get_session_usage()
        assert charged is None or charged["requests"] <= result.context_wrapper.usage.requests

    for at in range(1, 24, 3):
        with store.session(f"stopped {at}") as session:
            asyncio.run(test(at, session))
    store.audit_verify()


def test_too_many_turns(ours: SecureSession, store: SecureStore) -> None:
    """A streamed run that is stopped by max_turns keeps what it did, and is charged for it; the next one answers."""

    async def test() -> None:
        result = begin(ours, COMPLAINT, max_turns=1)
        with pytest.raises(MaxTurnsExceeded):
            await to_its_end(result)
        assert ["user", "function_call", "function_call_output"] == kinds(await ours.get_items())
        assert 1 == (await ours.get_turn_usage(1))["requests"] == result.context_wrapper.usage.requests
        again = begin(ours, "any news?")
        await to_its_end(again)
        assert "T-123456" in again.final_output

    asyncio.run(test())
    store.audit_verify()


def test_it_reads_and_writes_as_its_actor(ours: SecureSession, store: SecureStore) -> None:
    """Each access of a streamed run is in the ledger under the actor that its context names."""

    async def test() -> None:
        result = Runner.run_streamed(desk(), COMPLAINT, session=ours, context={"actor": "user:maria"}, run_config=QUIET)
        await to_its_end(result)

    asyncio.run(test())
    entries = [record.entry for record in store.audit_log(tenant="default") if record.entry.action.startswith("session.")]
    assert {"session.create", "session.read", "session.append", "session.usage"} == {entry.action for entry in entries}
    assert {"user:maria"} == {entry.actor for entry in entries}
