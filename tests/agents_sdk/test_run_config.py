"""Redaction around a run of the SDK's real Runner: what the model saw, what is stored, what traces and reviewers get."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    function_tool,
    set_trace_processors,
)
from agents.run_config import CallModelData, ModelInputData
from agents.tracing import Span, Trace, TracingProcessor

from secure_memory import (
    BlockedContentError,
    ConfigurationError,
    RedactingProcessor,
    SecureCompactionSession,
    SecureStore,
    secure_run_config,
)
from secure_memory.policy.model import Policy

from .conftest import Script

CARD, MAIL, KEY = "4111 1111 1111 1111", "jane.doe@example.com", "sk-proj-" + "a1B2c3D4e5" * 5
ASK = f"My card is {CARD}, my address {MAIL}."


def policy(*rules: dict[str, str]) -> Policy:
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    named = [{"id": rule["entity"].lower().replace("_", "-"), **rule} for rule in rules]
    return Policy.model_validate({"metadata": {"name": "test"}, "redaction": {"rules": named}, "access": everyone})


EVERYTHING = policy(
    {"entity": "CARD_NUMBER", "store": "tokenise", "model": "tokenise", "view": "mask"},
    {"entity": "EMAIL", "store": "keep", "model": "pseudonymise", "view": "mask"},
    {"entity": "SECRET", "store": "block", "model": "block", "view": "redact"},
)


@pytest.fixture
def store(store: SecureStore) -> SecureStore:
    """The store, governed by EVERYTHING."""
    store.policy_apply(EVERYTHING)
    return store


def run(session: Any, script: Script, text: Any, **options: Any) -> Any:
    config = options.pop("config", None) or secure_run_config(session, model=script, **options)
    agent = Agent(name="desk", tools=[look_up])
    return asyncio.run(Runner.run(agent, text, session=session, run_config=config))


@function_tool
def look_up(customer: str) -> str:
    """What is known of a customer."""
    return json.dumps({"customer": customer, "mail": MAIL, "card": "5555555555554444"})


class Recorder(TracingProcessor):
    """Keeps what it is told, as an exporter would send it."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_trace_start(self, trace: Trace) -> None: ...
    def on_span_start(self, span: Span[Any]) -> None: ...
    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...

    def on_trace_end(self, trace: Trace) -> None:
        self.told.append(trace.export())

    def on_span_end(self, span: Span[Any]) -> None:
        self.told += [span.export(), str(vars(span.span_data)), str(span.error)]


def test_a_run_from_outside(store: SecureStore, script: Script) -> None:
    """Of a card and an address, the model, the vault, the traces and a reviewer each have what the policy lets them have."""
    recorder = Recorder()
    set_trace_processors([recorder])
    session = store.session("talk", subject="jane")
    run(session, script.will(("look_up", {"customer": "Jane"}), "Found it."), ASK)

    seen = json.dumps(script.seen)
    assert CARD not in seen
    assert MAIL not in seen
    assert "5555555555554444" not in seen
    assert "CARD_NUMBER_" in seen
    assert "EMAIL_" in seen
    stored = json.dumps(asyncio.run(session.get_items()))
    assert CARD not in stored
    assert "5555555555554444" not in stored
    assert MAIL in stored
    assert json.loads(script.seen[1][-1]["output"])["customer"] == "Jane"  # a tool's JSON is JSON still
    traced = json.dumps(recorder.told)
    assert not any(text in traced for text in (CARD, MAIL, "5555555555554444", "CARD_NUMBER_"))
    shown = json.dumps(store.review("talk", purpose="quality"))
    assert not any(text in shown for text in (CARD, MAIL, "5555555555554444"))
    assert "j***@***.com" in shown
    session.close()


def test_a_token_is_revealed_to_who_may_with_a_reason(store: SecureStore, script: Script) -> None:
    """What a run's token stands for is kept with the item, told with a reason, and each time an entry."""
    session = store.session("talk", subject="jane")
    run(session, script.will("Thank you."), ASK)
    first: Any = asyncio.run(session.get_items())[0]
    token = next(word.strip(",.") for word in first["content"].split() if word.startswith("CARD_NUMBER_"))
    from secure_memory import AccessDeniedError, Actor

    with pytest.raises(AccessDeniedError, match="reason"):
        asyncio.run(session.reveal(token, actor="user:maria"))
    assert CARD == asyncio.run(session.reveal(token, actor=Actor("user:maria", reason="refund")))
    found = [record.entry for record in store.audit_log(tenant="default", action="session.reveal")]
    assert [("user:maria", "refund", {"token": token})] == [(e.actor, e.reason, e.detail) for e in found]
    forged = "CARD_NUMBER_" + "a" * 16
    with pytest.raises(ValueError, match="no token"):
        asyncio.run(session.reveal(forged, actor=Actor("user:maria", reason="refund")))
    other = store.session("other", subject="ben")
    asyncio.run(other.add_items([{"role": "user", "content": token}]))
    with pytest.raises(ValueError, match="no token"):
        asyncio.run(other.reveal(token, actor=Actor("user:maria", reason="refund")))


def test_what_is_blocked_trips_a_guardrail_and_is_not_sent(store: SecureStore, script: Script) -> None:
    """A blocked input stops the run before the model is asked; the history says that it was there, and not what."""
    session = store.session("talk")
    with pytest.raises(InputGuardrailTripwireTriggered) as tripped:
        run(session, script.will("never said"), f"my key is {KEY}")
    said = tripped.value.guardrail_result.output.output_info
    assert ("SECRET", "secret", "store") == (said["blocked"], said["rule"], said["surface"])
    assert KEY not in str(said)
    assert [] == script.seen
    assert ["my key is [SECRET]"] == [item["content"] for item in asyncio.run(session.get_items())]  # type: ignore[typeddict-item]


def test_blocked_output_trips_a_guardrail(store: SecureStore, script: Script) -> None:
    """A final output that the policy blocks is not given to the caller, and not stored."""
    session = store.session("talk")
    with pytest.raises(OutputGuardrailTripwireTriggered):
        run(session, script.will(f"the key is {KEY}"), "hello")
    assert KEY not in json.dumps(asyncio.run(session.get_items()))


def test_without_a_run_config_what_is_blocked_is_refused(store: SecureStore) -> None:
    """`add_items` is the backstop: nothing of the batch is stored, and the error tells no content."""
    session = store.session("talk")
    with pytest.raises(BlockedContentError) as refused:
        asyncio.run(session.add_items([{"role": "user", "content": "hello"}, {"role": "user", "content": KEY}]))
    assert KEY not in str(refused.value)
    assert ("SECRET", 1) == (refused.value.entity, refused.value.item)
    assert [] == asyncio.run(session.get_items())


def test_callbacks_of_ones_own_come_first(store: SecureStore, script: Script) -> None:
    """What a caller's own callback and filter add is redacted like the rest, and what they leave out is left out."""

    def newest(history: list[Any], new: list[Any]) -> list[Any]:
        return [*history[-1:], *new, {"role": "user", "content": f"call {MAIL}"}]

    async def advised(data: CallModelData[Any]) -> ModelInputData:
        more: list[Any] = [{"role": "developer", "content": f"he pays with {CARD}"}]
        return ModelInputData(input=[*data.model_data.input, *more], instructions=data.model_data.instructions)

    session = store.session("talk")
    asyncio.run(session.add_items([{"role": "user", "content": f"old {number}"} for number in range(3)]))
    script.will("yes")
    run(session, script, "hello", session_input_callback=newest, call_model_input_filter=advised)
    contents = [item["content"] for item in script.seen[0]]
    assert ["old 2", "hello"] == contents[:2]
    assert contents[2].startswith("call EMAIL_")
    assert contents[3].startswith("he pays with CARD_NUMBER_")
    assert 6 == len(asyncio.run(session.get_items()))


def test_sensitive_traces_are_refused(store: SecureStore) -> None:
    """Nobody gets inputs and outputs into traces by a secure run config; what is no session of ours is refused too."""
    session = store.session("talk")
    with pytest.raises(ConfigurationError):
        secure_run_config(session, trace_include_sensitive_data=True)
    with pytest.raises(ValueError, match="SecureSession"):
        secure_run_config(object())  # type: ignore[arg-type]
    assert not secure_run_config(session).trace_include_sensitive_data
    assert not secure_run_config(SecureCompactionSession(session)).trace_include_sensitive_data


def test_traces_that_have_inputs_are_redacted(store: SecureStore, script: Script) -> None:
    """With a RedactingProcessor, a run that traces everything traces no personal data, by export or by field."""
    recorder = Recorder()
    session = store.session("talk")
    set_trace_processors([RedactingProcessor(recorder, session)])
    config = RunConfig(model=script, trace_include_sensitive_data=True, workflow_name="desk")
    run(session, script.will(("look_up", {"customer": MAIL}), f"write to {MAIL}"), ASK, config=config)
    traced = json.dumps(recorder.told)
    assert "[CARD_NUMBER]" in traced
    assert "[EMAIL]" in traced
    assert "desk" in traced
    assert not any(text in traced for text in (CARD, MAIL, "5555555555554444"))


def test_a_closed_stores_traces_are_withheld(store: SecureStore) -> None:
    """Where nobody can tell what is in a span, it is not handed on."""
    recorder = Recorder()
    session = SecureStore.in_memory().session("talk")
    processor = RedactingProcessor(recorder, session)
    session._handle.shared.abandon()
    session._handle.shared._policy = None
    from agents import custom_span, trace

    set_trace_processors([processor])
    with trace("flow"), custom_span("step", {"mail": MAIL}):
        pass
    assert MAIL not in json.dumps(recorder.told)
    assert "[withheld]" in json.dumps(recorder.told)


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("what", ["input", "tool output", "model output"])
def test_a_run_that_is_tried_again_leaves_no_duplicates(
    store: SecureStore, script: Script, configured: bool, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose items redaction changed takes its own turn back when the SDK rewinds it."""
    from agents import RunContextWrapper
    from agents.run_internal.session_persistence import rewind_session_items

    given: Callable[[], list[Any]] = {
        "input": lambda: [{"role": "user", "content": ASK}],
        "tool output": lambda: [{"type": "function_call_output", "call_id": "c1", "output": ASK}],
        "model output": lambda: [{"role": "assistant", "content": f"your card is {CARD}"}],
    }[what]
    session = store.session("talk")
    asyncio.run(session.add_items([{"role": "user", "content": "before"}]))
    wrapper: Any = RunContextWrapper(None)

    async def write_and_rewind() -> None:
        items = given()
        if configured:
            combine: Any = secure_run_config(session).session_input_callback
            items = await combine([], items)
        await session.add_items(items, wrapper=wrapper)
        assert CARD not in json.dumps(await session.get_items())
        await rewind_session_items(session, items, wrapper=wrapper)

    asyncio.run(write_and_rewind())
    assert ["before"] == [item["content"] for item in asyncio.run(session.get_items())]  # type: ignore[typeddict-item]


def test_only_the_run_that_gave_it_gets_it_back(store: SecureStore) -> None:
    """Another run, or nobody in particular, reads what is stored; and so does the same run after its next batch."""
    from agents import RunContextWrapper

    session = store.session("talk")
    ours, theirs = RunContextWrapper(None), RunContextWrapper(None)

    async def talk() -> list[bool]:
        await session.add_items([{"role": "user", "content": ASK}], wrapper=ours)
        reads = [await session.get_items(wrapper=wrapper) for wrapper in (ours, theirs, None)]
        await session.add_items([{"role": "user", "content": "next"}], wrapper=ours)
        reads.append(await session.get_items(wrapper=ours))
        return [CARD in json.dumps(read) for read in reads]

    assert [True, False, False, False] == asyncio.run(talk())
