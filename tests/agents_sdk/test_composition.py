"""A SecureSession in the SDK's real runs: everything that the Runner does with a session, beside the SDK's SQLiteSession.

What is run is run on both, by one scripted model each, and both hold the same afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    SessionSettings,
    SQLiteSession,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from agents.run_internal.session_persistence import rewind_session_items

from secure_memory import Actor, SecureStore, TamperedError

QUIET = RunConfig(tracing_disabled=True)
EARLIER: list[Any] = [
    item for n in range(3) for item in ({"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"})
]
Work = Callable[[Any, Any], Coroutine[Any, Any, Any]]


class Both:
    """Runs something with our session and with the SDK's."""

    def __init__(self, store: SecureStore, new: Callable[[], Any]) -> None:
        self.store = store
        self.new = new

    def run(self, work: Work, **options: Any) -> tuple[list[Any], Any, Any]:
        """The items afterwards, what the work returned, and the model, which are the same with both sessions."""

        async def one(session: Any) -> tuple[list[Any], Any, Any]:
            model = self.new()
            await session.add_items(EARLIER)
            returned = await work(session, model)
            return await session.get_items(limit=-1), returned, model

        async def run() -> tuple[Any, Any]:
            with self.store.session("s", **options) as ours:
                found = await one(ours)
            theirs = SQLiteSession("s", **options)
            expected = await one(theirs)
            theirs.close()
            return found, expected

        found, expected = asyncio.run(run())
        assert expected[:2] == found[:2]
        assert expected[2].seen == found[2].seen
        self.store.audit_verify()
        return found


@pytest.fixture
def both(store: SecureStore, script: Any) -> Both:
    return Both(store, type(script))


def asked(model: Any, call: int = -1) -> list[Any]:
    """What the model was asked in a call, by users."""
    return [item["content"] for item in model.seen[call] if item.get("role") == "user"]


@function_tool
def look(where: str) -> str:
    """Look."""
    return f"seen {where}"


@function_tool(needs_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def test_a_tool(both: Both) -> None:
    """A call and its output are kept between the question and the answer."""

    async def work(session: Any, model: Any) -> Any:
        agent = Agent("desk", model=model.will(("look", {"where": "here"}), "there"), tools=[look])
        return (await Runner.run(agent, "q3", session=session, run_config=QUIET)).final_output

    items, answer, _ = both.run(work)
    assert "there" == answer
    assert ["function_call", "function_call_output", "message"] == [item.get("type") for item in items[-3:]]


def test_streaming(both: Both) -> None:
    """A streamed run reads and keeps what one in one piece does."""

    async def work(session: Any, model: Any) -> Any:
        agent = Agent("desk", model=model.will(("look", {"where": "here"}), "there"), tools=[look])
        result = Runner.run_streamed(agent, "q3", session=session, run_config=QUIET)
        async for _ in result.stream_events():
            pass
        return result.final_output

    items, answer, model = both.run(work)
    assert "there" == answer
    assert 10 == len(items)
    assert ["q0", "q1", "q2", "q3"] == asked(model)


def test_an_input_callback(both: Both) -> None:
    """`session_input_callback` says what of the history the model sees; all that is new is kept."""

    def newest(past: list[Any], new: list[Any]) -> list[Any]:
        return [*past[-2:], *new]

    async def work(session: Any, model: Any) -> Any:
        config = RunConfig(tracing_disabled=True, session_input_callback=newest)
        new: list[Any] = [{"role": "user", "content": "q3"}]
        await Runner.run(Agent("desk", model=model.will("a3")), new, session=session, run_config=config)

    items, _, model = both.run(work)
    assert ["q2", "q3"] == asked(model)
    assert 8 == len(items)


@pytest.mark.parametrize(
    ("own", "overlay", "seen"), [(2, None, ["q2", "q3"]), (2, 4, ["q1", "q2", "q3"]), (None, 0, ["q3"])]
)
def test_settings(both: Both, own: int | None, overlay: int | None, seen: list[str]) -> None:
    """The session's limit holds, and the one of a run's config goes before it."""

    async def work(session: Any, model: Any) -> Any:
        settings = None if overlay is None else SessionSettings(limit=overlay)
        config = RunConfig(tracing_disabled=True, session_settings=settings)
        await Runner.run(Agent("desk", model=model.will("a3")), "q3", session=session, run_config=config)

    _, _, model = both.run(work, session_settings=SessionSettings(limit=own))
    assert seen == asked(model)


def test_a_handoff(both: Both) -> None:
    """A run that is handed to another agent goes on in the same conversation."""

    async def work(session: Any, model: Any) -> Any:
        billing = Agent("billing", model=model)
        first = Agent("first", model=model.will(("transfer_to_billing", {}), "billed"), handoffs=[billing])
        result = await Runner.run(first, "q3", session=session, run_config=QUIET)
        return result.last_agent.name, result.final_output

    items, returned, _ = both.run(work)
    assert ("billing", "billed") == returned
    assert 10 == len(items)


def test_an_input_guardrail(both: Both) -> None:
    """Where an input guardrail trips, the same is kept as the SDK keeps, and the next run goes on."""

    @input_guardrail
    async def trips(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    async def work(session: Any, model: Any) -> Any:
        guarded = Agent("desk", model=model.will("a3", "a4", "a5"), input_guardrails=[trips])
        with pytest.raises(InputGuardrailTripwireTriggered):
            await Runner.run(guarded, "bad", session=session, run_config=QUIET)
        model.lines[:] = ["a4"]
        model.seen.clear()
        await Runner.run(Agent("desk", model=model), "q4", session=session, run_config=QUIET)

    both.run(work)


def test_an_output_guardrail(both: Both) -> None:
    """And so where an output guardrail trips."""

    @output_guardrail
    async def trips(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    async def work(session: Any, model: Any) -> Any:
        guarded = Agent("desk", model=model.will("bad"), output_guardrails=[trips])
        with pytest.raises(OutputGuardrailTripwireTriggered):
            await Runner.run(guarded, "q3", session=session, run_config=QUIET)

    both.run(work)


@pytest.mark.parametrize("approved", [True, False])
def test_somebody_has_to_approve(both: Both, approved: bool) -> None:
    """A run pauses, is approved or not, and goes on: the conversation has the call once, and one output."""

    async def work(session: Any, model: Any) -> Any:
        agent = Agent("desk", model=model.will(("pay", {"amount": 5}), "done"), tools=[pay])
        state = (await Runner.run(agent, "q3", session=session, run_config=QUIET)).to_state()
        for waiting in state.get_interruptions():
            (state.approve if approved else state.reject)(waiting)
        return (await Runner.run(agent, state, session=session, run_config=QUIET)).final_output

    items, answer, _ = both.run(work)
    assert "done" == answer
    kinds = [item.get("type", "message") for item in items]
    assert (1, 1) == (kinds.count("function_call"), kinds.count("function_call_output"))


def test_a_model_that_fails(both: Both) -> None:
    """Where the model fails, the same is kept as the SDK keeps, and asking again goes on from there."""

    async def work(session: Any, model: Any) -> Any:
        agent = Agent("desk", model=model.will(ValueError("no answer")))
        with pytest.raises(ValueError, match="no answer"):
            await Runner.run(agent, "q3", session=session, run_config=QUIET)
        return (
            await Runner.run(Agent("desk", model=model.will("a3")), "q3", session=session, run_config=QUIET)
        ).final_output

    both.run(work)


def test_a_retry_rewinds(both: Both) -> None:
    """What a run has kept is taken back before it is retried, and nothing else."""
    new: list[Any] = [{"role": "user", "content": "q3"}, {"role": "assistant", "content": "half"}]

    async def work(session: Any, model: Any) -> Any:
        await session.add_items(new)
        await rewind_session_items(session, new)

    items, _, _ = both.run(work)
    assert EARLIER == items


def test_many_turns_at_once(both: Both) -> None:
    """Runs of several sessions at once don't meet."""

    async def work(session: Any, model: Any) -> Any:
        others = [self_of(session, f"other {n}") for n in range(5)]
        agents = [Agent("desk", model=both.new().will(f"a{n}")) for n in range(5)]
        await asyncio.gather(
            *(
                Runner.run(agent, f"q{n}", session=other, run_config=QUIET)
                for n, (agent, other) in enumerate(zip(agents, others, strict=True))
            )
        )
        return [len(await other.get_items()) for other in others]

    def self_of(session: Any, name: str) -> Any:
        return SQLiteSession(name) if isinstance(session, SQLiteSession) else both.store.session(name)

    assert [2] * 5 == both.run(work)[1]


def test_who_asks_in_a_run(store: SecureStore, script: Any) -> None:
    """Every operation of a run, streamed or resumed, is asked by whom the run's context names."""
    agent = Agent("desk", model=script.will(("pay", {"amount": 5}), "done", "again"), tools=[pay])
    session = store.session("s")

    async def run() -> None:
        context = SimpleNamespace(actor=Actor("user:maria", purpose="support"))
        state = (await Runner.run(agent, "q0", session=session, context=context, run_config=QUIET)).to_state()
        state.approve(state.get_interruptions()[0])
        await Runner.run(agent, state, session=session, run_config=QUIET)
        result = Runner.run_streamed(agent, "q1", session=session, context=context, run_config=QUIET)
        async for _ in result.stream_events():
            pass

    asyncio.run(run())
    entries = [one.entry for one in store.audit_log(tenant="default", action="session.*")]
    assert {"session.create", "session.read", "session.append"} <= {entry.action for entry in entries}
    assert {("user:maria", "support")} == {(entry.actor, entry.purpose) for entry in entries}


def test_tampering_stops_a_run(store: SecureStore, script: Any, insider: Callable[..., Any]) -> None:
    """The model never sees a history that does not prove: the run raises before it is asked."""
    session = store.session("s", cache=False)
    session.blocking.add_items(EARLIER)
    insider().sql("UPDATE items SET role = 'system' WHERE id = (SELECT min(id) FROM items)")
    agent = Agent("desk", model=script.will("a"))
    with pytest.raises(TamperedError):
        asyncio.run(Runner.run(agent, "q", session=session, run_config=QUIET))
    assert [] == script.seen
