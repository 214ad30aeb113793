"""`run_config.py`, `guardrails.py`, `tracing.py` around the runs that are less simple: streamed, handed over, resumed,
compacted, limited, and with tools that give what the policy blocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    RunState,
    SessionSettings,
    custom_span,
    function_tool,
    handoff,
    set_trace_processors,
    trace,
)
from agents.tracing import Span, Trace, TracingProcessor

from secure_memory import (
    BlockedContentError,
    RedactingProcessor,
    RedactionError,
    SecureCompactionSession,
    SecureSession,
    SecureStore,
    secure_run_config,
)
from secure_memory.agents_sdk.guardrails import block_input
from secure_memory.policy.model import Policy
from secure_memory.redaction import pipeline

from .conftest import Script

CARD, MAIL, KEY = "4111 1111 1111 1111", "jane.doe@example.com", "sk-proj-" + "a1B2c3D4e5" * 5
ASK = f"My card is {CARD}, my address {MAIL}."
EVERYONE = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
RULES = [
    {"id": "card", "entity": "CARD_NUMBER", "store": "tokenise", "model": "tokenise", "view": "mask"},
    {"id": "email", "entity": "EMAIL", "model": "pseudonymise", "view": "mask"},
    {"id": "secret", "entity": "SECRET", "store": "block", "model": "block", "view": "redact"},
]
HELD = ("4111 1111", MAIL, "5555555555554444", KEY)


@pytest.fixture
def store(store: SecureStore) -> SecureStore:
    """The store, governed by RULES."""
    store.policy_apply(Policy.model_validate({"metadata": {"name": "t"}, "redaction": {"rules": RULES}, "access": EVERYONE}))
    return store


@pytest.fixture
def session(store: SecureStore) -> Iterator[SecureSession]:
    with store.session("talk", subject="jane") as session:
        yield session


@function_tool
def look_up(customer: str) -> str:
    """What is known of a customer."""
    return json.dumps({"customer": customer, "mail": MAIL, "card": "5555555555554444"})


@function_tool
def leak() -> str:
    """Gives what nobody may have."""
    return f"the key is {KEY}"


@function_tool(needs_approval=True)
def refund(card: str) -> str:
    """Pay back to a card."""
    return f"paid to {card}"


def agent(*tools: Any, **more: Any) -> Agent[Any]:
    return Agent(name="desk", tools=list(tools), **more)


def stored(session: Any) -> list[Any]:
    return asyncio.run(session.get_items())


def kinds(items: list[Any]) -> list[str]:
    return [item.get("type") or item["role"] for item in items]


def holds(value: Any) -> list[str]:
    """What of the personal data is in it."""
    text = json.dumps(value)
    return [word for word in HELD if word in text]


# ---- streamed --------------------------------------------------------------------------------------------------------


async def streamed(session: Any, script: Script, text: Any, desk: Agent[Any], **options: Any) -> Any:
    result = Runner.run_streamed(desk, text, session=session, run_config=secure_run_config(session, model=script, **options))
    async for _ in result.stream_events():
        pass
    return result


def test_a_streamed_run(session: SecureSession, script: Script) -> None:
    """Streamed, a run sends, keeps and shows the same as one that is not."""
    script.will(("look_up", {"customer": "Jane"}), "Found it.")
    asyncio.run(streamed(session, script, ASK, agent(look_up)))
    assert [] == holds(script.seen)
    assert [MAIL] == holds(stored(session))
    assert ["user", "function_call", "function_call_output", "message"] == kinds(stored(session))


def test_a_streamed_run_is_stopped_by_a_guardrail(session: SecureSession, script: Script) -> None:
    """What is blocked stops a streamed run before the model is asked; so does an output, and neither is kept."""
    with pytest.raises(InputGuardrailTripwireTriggered):
        asyncio.run(streamed(session, script, f"my key is {KEY}", agent()))
    assert [] == script.seen
    with pytest.raises(OutputGuardrailTripwireTriggered):
        asyncio.run(streamed(session, script.will(f"the key is {KEY}"), "hello", agent()))
    assert KEY not in json.dumps(stored(session))


# ---- handed over, resumed, compacted, limited ------------------------------------------------------------------------


def test_a_handoff(session: SecureSession, script: Script) -> None:
    """The agent that a conversation is handed to sees no more than the first one, and stores no more."""
    second = Agent(name="billing", tools=[look_up])
    first = Agent(name="desk", handoffs=[handoff(second)])
    script.will(("transfer_to_billing", {}), ("look_up", {"customer": "Jane"}), f"I wrote to {MAIL}.")
    config = secure_run_config(session, model=script)
    result = asyncio.run(Runner.run(first, ASK, session=session, run_config=config))
    assert "billing" == result.last_agent.name
    assert 3 == len(script.seen)
    assert [] == holds(script.seen)
    assert [MAIL] == holds(stored(session))


@pytest.mark.parametrize("kept", ["in memory", "by the session", "as JSON"])
def test_a_paused_run_is_resumed(session: SecureSession, script: Script, kept: str) -> None:
    """A run that waited for an approval goes on with redacted items, once each; what it stores and sends is redacted."""
    desk = agent(refund)
    script.will(("refund", {"card": CARD}), "Paid.")

    async def test() -> None:
        config = secure_run_config(session, model=script)
        paused = await Runner.run(desk, ASK, session=session, run_config=config)
        state = paused.to_state()
        if kept == "as JSON":
            state = await RunState.from_json(desk, state.to_json())
        if kept == "by the session":
            await session.save_run_state(state)
            saved: Any = await session.load_run_state()
            state = await RunState.from_json(desk, saved)
        state.approve(state.get_interruptions()[0])
        done = await Runner.run(desk, state, session=session, run_config=secure_run_config(session, model=script))
        assert "Paid." == done.final_output

    asyncio.run(test())
    assert [] == holds(script.seen)
    assert [MAIL] == holds(stored(session))
    assert ["user", "function_call", "function_call_output", "message"] == kinds(stored(session))


class Client:
    """An OpenAI client that has `responses.compact` alone."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.responses = self

    async def compact(self, **asked: Any) -> Any:
        self.asked.append(asked["input"])
        return SimpleNamespace(output=[{"role": "user", "content": f"he pays with {CARD}"}], usage=None)


def test_a_run_that_is_compacted(session: SecureSession, script: Script) -> None:
    """What is sent to be compacted is redacted for the model, and what comes back as it is stored."""
    client = Client()
    compacted: Any = SecureCompactionSession(
        session, client=client, compaction_mode="input", should_trigger_compaction=lambda _: True
    )
    config = secure_run_config(compacted, model=script.will("Noted.", "Sure."))
    asyncio.run(Runner.run(agent(), ASK, session=compacted, run_config=config))
    assert [] == holds(client.asked)
    assert "EMAIL_" in json.dumps(client.asked)
    assert ["he pays with CARD_NUMBER_"] == [item["content"][:25] for item in stored(session)]
    asyncio.run(Runner.run(agent(), "and?", session=compacted, run_config=secure_run_config(compacted, model=script)))
    assert [] == holds(script.seen)


@pytest.mark.parametrize("how", ["settings", "callback"])
def test_a_message_that_is_said_again_is_stored_again(session: SecureSession, script: Script, how: str) -> None:
    """Where the history is cut, a message whose redacted form an older one has is new nevertheless."""
    options: dict[str, Any] = {"session_input_callback": lambda history, new: [*history[-1:], *new]}
    if how == "settings":
        options = {"session_settings": SessionSettings(limit=1)}
    for number in range(3):
        script.will(f"answer {number}")
        asyncio.run(
            Runner.run(agent(), ASK, session=session, run_config=secure_run_config(session, model=script, **options))
        )
    assert ["user", "message"] * 3 == kinds(stored(session))
    assert [1, 2, 2] == [len(seen) for seen in script.seen]
    assert [] == holds(script.seen)


def test_the_callers_input_stays_as_it_was(session: SecureSession, script: Script) -> None:
    """The items that a program passes to a run are never changed."""
    given: list[Any] = [{"role": "user", "content": ASK}, {"role": "user", "content": [{"type": "input_text", "text": ASK}]}]
    before = json.dumps(given)
    config = secure_run_config(session, model=script.will("yes"), session_input_callback=lambda history, new: history + new)
    asyncio.run(Runner.run(agent(), given, session=session, run_config=config))
    assert before == json.dumps(given)
    assert ["4111 1111"] == [word for word in holds(given) if word not in holds(stored(session))]


def test_a_callback_that_is_wrong_is_told_by_the_sdk(session: SecureSession, script: Script) -> None:
    """A callback of one's own that gives no list is what it is without us."""
    from agents.exceptions import UserError

    config = secure_run_config(session, model=script, session_input_callback=lambda history, new: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match="list"):
        asyncio.run(Runner.run(agent(), "hello", session=session, run_config=config))


# ---- blocked, and failing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", [True, False])
def test_a_tool_that_gives_what_is_blocked(session: SecureSession, script: Script, configured: bool) -> None:
    """A blocked tool output ends the run: it is not sent, nothing of the turn is stored, and no call stands without its
    output; the conversation can go on."""
    script.will(("leak", {}))
    config = secure_run_config(session, model=script) if configured else RunConfig(model=script)
    with pytest.raises(BlockedContentError) as refused:
        asyncio.run(Runner.run(agent(leak), "hello", session=session, run_config=config))
    assert KEY not in str(refused.value)
    assert 1 == len(script.seen)
    assert ["user"] == kinds(stored(session))
    asyncio.run(Runner.run(agent(leak), "and now?", session=session, run_config=config_of(session, script.will("Fine."))))
    assert ["user", "user", "message"] == kinds(stored(session))


def config_of(session: SecureSession, script: Script) -> RunConfig:
    return secure_run_config(session, model=script)


def test_where_redaction_fails_nothing_is_sent(
    session: SecureSession, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector that breaks ends the run before the model is asked, and nothing is stored."""

    def broken(*_: Any) -> Any:
        raise RedactionError("a detector failed")

    monkeypatch.setattr(pipeline.Redactor, "redact", broken)
    with pytest.raises(RedactionError):
        asyncio.run(Runner.run(agent(), "hello", session=session, run_config=config_of(session, script.will("never"))))
    assert [] == script.seen
    monkeypatch.undo()
    assert [] == stored(session)


def test_guardrails_of_ones_own_go_on(session: SecureSession, script: Script) -> None:
    """`block_input` on an agent by itself trips where the store has no say: what is blocked for the model alone."""
    desk = agent(input_guardrails=[block_input(session)])
    with pytest.raises(BlockedContentError):  # the session refuses the input before the guardrail is asked
        asyncio.run(Runner.run(desk, KEY, session=session, run_config=RunConfig(model=script)))
    with pytest.raises(InputGuardrailTripwireTriggered):
        asyncio.run(Runner.run(desk, KEY, run_config=RunConfig(model=script)))
    asyncio.run(Runner.run(desk, "hello", run_config=RunConfig(model=script.will("hi"))))
    assert 1 == len(script.seen)


def test_runs_side_by_side_trip_their_own(store: SecureStore, script: Script) -> None:
    """Of two runs at once only the one whose input is blocked is stopped."""

    async def one(name: str, text: str) -> Any:
        mine = store.session(name)
        return await Runner.run(agent(), text, session=mine, run_config=secure_run_config(mine, model=Script().will("ok")))

    async def both() -> list[Any]:
        return list(await asyncio.gather(one("a", f"my key is {KEY}"), one("b", "hello"), return_exceptions=True))

    first, second = asyncio.run(both())
    assert isinstance(first, InputGuardrailTripwireTriggered)
    assert "ok" == second.final_output


# ---- traces ----------------------------------------------------------------------------------------------------------


class Recorder(TracingProcessor):
    """Keeps what it is told, as an exporter would send it, and as one that reads fields would."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...

    def on_trace_start(self, trace: Trace) -> None:
        self.told += [trace.export(), trace.name, trace.trace_id]

    def on_trace_end(self, trace: Trace) -> None:
        self.told.append(trace.export())

    def on_span_start(self, span: Span[Any]) -> None:
        self.told.append(span.export())

    def on_span_end(self, span: Span[Any]) -> None:
        self.told += [span.export(), str(vars(span.span_data)), str(span.error), str(span.trace_metadata), span.span_id]


def test_all_that_a_trace_can_hold(session: SecureSession, script: Script) -> None:
    """Names, groups, metadata, data, errors, numbers and objects: nothing personal is handed on, ids and kinds are."""
    recorder = Recorder()
    set_trace_processors([RedactingProcessor(recorder, session)])

    class Customer:
        def __repr__(self) -> str:
            return f"<Customer {MAIL}>"

    with (
        trace(f"flow of {MAIL}", group_id=MAIL, metadata={"card": CARD, MAIL: 1}),
        custom_span("step", {"who": Customer(), "card": 5555555555554444, "deep": [{"mail": MAIL}]}) as span,
    ):
        span.set_error({"message": f"no {MAIL}", "data": {"card": CARD}})
    assert [] == holds(json.dumps(recorder.told, default=repr))
    text = json.dumps(recorder.told, default=repr)
    assert all(word in text for word in ("flow of [EMAIL]", "trace_", "span_", "custom", "step", "<Customer [EMAIL]>"))


def test_a_failed_runs_trace(session: SecureSession, script: Script) -> None:
    """The words of an exception that a tool or a model raised are somebody's, too."""
    recorder = Recorder()
    set_trace_processors([RedactingProcessor(recorder, session)])
    config = RunConfig(model=script.will(RuntimeError(f"could not write to {MAIL}")), trace_include_sensitive_data=True)
    with pytest.raises(RuntimeError):
        asyncio.run(Runner.run(agent(), ASK, session=session, run_config=config))
    assert recorder.told
    assert [] == holds(json.dumps(recorder.told, default=repr))
