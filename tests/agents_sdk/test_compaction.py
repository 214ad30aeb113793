"""`agents_sdk/compaction.py` and `replacing.py`: a long history made short, in one step, under our wrapper and the SDK's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, OpenAIResponsesCompactionSession, RunConfig, RunContextWrapper, Runner, Usage, function_tool
from agents.memory import is_openai_responses_compaction_aware_session
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails, ResponseUsage

from secure_memory import Actor, SecureSession, SecureStore, StorageError
from secure_memory.agents_sdk.compaction import SecureCompactionSession
from secure_memory.policy.model import Policy
from secure_memory.vault import history

SHORT: list[Any] = [{"role": "user", "content": "hello"}, {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}]
LONG: list[Any] = [
    item for n in range(6) for item in ({"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"})
]
QUIET = RunConfig(tracing_disabled=True)
SDK = tuple(map(int, version("openai-agents").split(".")[:2]))


class Client:
    """An OpenAI client that has `responses.compact` alone. `asked` is what it was asked; it costs 5 tokens."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], Any] | None = None
        self.said = SHORT
        self.responses = self

    async def compact(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if self.meanwhile is not None:
            await self.meanwhile()
        usage = ResponseUsage(
            input_tokens=4,
            output_tokens=1,
            total_tokens=5,
            input_tokens_details=InputTokensDetails.model_construct(cached_tokens=0),
            output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        )
        return SimpleNamespace(output=list(self.said), usage=usage)


@pytest.fixture
def client() -> Client:
    return Client()


def theirs(session: SecureSession, client: Any, **options: Any) -> Any:
    """The SDK's wrapper around our session."""
    return OpenAIResponsesCompactionSession(session.session_id, session, client=client, **options)


def ours(session: SecureSession, client: Any, **options: Any) -> Any:
    """Our wrapper."""
    return SecureCompactionSession(session, client=client, **options)


@pytest.fixture(params=[ours, theirs])
def wrap(request: pytest.FixtureRequest) -> Any:
    return request.param


def actions(store: SecureStore, **wanted: Any) -> list[str]:
    return [one.entry.action for one in store.audit_log(tenant="default", **wanted)]


def context(**fields: Any) -> Any:
    return RunContextWrapper(SimpleNamespace(actor=Actor("user:maria", purpose="support"), **fields))


def test_compacted_by_hand(store: SecureStore, client: Client, wrap: Any) -> None:
    """`run_compaction` sends the history and keeps what comes back, under either wrapper."""
    session = store.session("s")
    wrapped = wrap(session, client)
    session.blocking.add_items(LONG)
    asyncio.run(wrapped.run_compaction({"force": True, "compaction_mode": "input"}))
    assert SHORT == session.blocking.get_items() == asyncio.run(wrapped.get_items())
    assert 12 == len(client.asked[0]["input"])
    session.blocking.add_items(LONG[:1])
    assert [*SHORT, *LONG[:1]] == session.blocking.get_items() == store.session("s").blocking.get_items()
    store.audit_verify()


def test_it_is_one_step(store: SecureStore, client: Client, wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ever reads an empty history, and where writing the short one fails, the long one is there, untouched."""
    if wrap is theirs and SDK < (0, 24):
        pytest.skip("the wrapper of that SDK clears before it adds")
    session = store.session("s")
    session.blocking.add_items(LONG)

    def full(*_: Any) -> Any:
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(history, "append", full)
        with pytest.raises(StorageError):
            asyncio.run(wrap(session, client).run_compaction({"force": True, "compaction_mode": "input"}))
    assert LONG == session.blocking.get_items()
    before = len(actions(store))
    asyncio.run(wrap(session, client).run_compaction({"force": True, "compaction_mode": "input"}))
    written = [one.entry for one in store.audit_log(tenant="default") if one.entry.detail.get("replaces")]
    assert [("session.pop", 12), ("session.append", 2)] == [(entry.action, entry.items) for entry in written]
    assert written[0].seq + 1 == written[1].seq
    assert before < len(actions(store))
    assert "session.clear" not in actions(store)


def test_the_runner_compacts(store: SecureStore, client: Client, script: Any, wrap: Any) -> None:
    """In real runs the wrapper compacts by itself when the history is long, and the agent goes on with the short one."""

    def due(found: dict[str, Any]) -> bool:
        return len(found["session_items"]) >= 6

    session = store.session("s")
    wrapped = wrap(session, client, should_trigger_compaction=due, compaction_mode="input")
    agent = Agent("desk", model=script.will("a0", "a1", "a2", "a3"))

    async def run() -> None:
        for number in range(4):
            await Runner.run(agent, f"q{number}", session=wrapped, run_config=QUIET)

    asyncio.run(run())
    assert 1 == len(client.asked)
    assert SHORT == session.blocking.get_items()[:2]
    assert 4 == len(session.blocking.get_items())
    assert ["hello", "q3"] == [item["content"] for item in script.seen[-1] if item.get("role") == "user"]
    store.audit_verify()


def test_the_actor_comes_along(store: SecureStore, client: Client, script: Any) -> None:
    """Under our wrapper everything that a run does, compacting too, is asked by whom the run's context names."""
    session = store.session("s")
    wrapped = ours(session, client, should_trigger_compaction=lambda _: True, compaction_mode="input")
    agent = Agent("desk", model=script.will("a0", "a1"))

    async def run() -> None:
        for question in ("q0", "q1"):
            who = SimpleNamespace(actor=Actor("user:maria", purpose="support"))
            await Runner.run(agent, question, session=wrapped, context=who, run_config=QUIET)

    asyncio.run(run())
    assert client.asked
    found = [one.entry for one in store.audit_log(tenant="default") if one.entry.session or one.entry.detail]
    assert {"user:maria"} == {entry.actor for entry in found if entry.action.startswith("session.")}
    assert "session.pop" in {entry.action for entry in found}


def test_what_it_costs_is_recorded(store: SecureStore, client: Client, script: Any) -> None:
    """The run's usage is recorded under our wrapper, with what the compaction cost."""
    session = store.session("s")
    wrapped = ours(session, client, should_trigger_compaction=lambda _: True, compaction_mode="input")
    agent = Agent("desk", model=script.will("a0"))

    async def run() -> Any:
        return await Runner.run(agent, "q0", session=wrapped, run_config=QUIET)

    usage: Usage = asyncio.run(run()).context_wrapper.usage
    assert (1, 15) == (len(client.asked), usage.total_tokens)
    assert 15 == sum(total.total_tokens for total in store.usage())
    store.audit_verify()


def test_by_hand_with_a_context(store: SecureStore, client: Client) -> None:
    """Compacted by hand, the call's context says who asks."""
    session = store.session("s")
    wrapped = ours(session, client)
    asyncio.run(wrapped.add_items(LONG, wrapper=context()))
    assert LONG[-1] == asyncio.run(wrapped.pop_item(wrapper=context()))
    asyncio.run(wrapped.run_compaction({"force": True, "compaction_mode": "input"}, wrapper=context()))
    assert SHORT == asyncio.run(wrapped.get_items(wrapper=context()))
    asyncio.run(wrapped.clear_session(wrapper=context()))
    assert [] == asyncio.run(wrapped.get_items(wrapper=context()))
    asked = store.audit_log(tenant="default", action="session.*")
    assert {("user:maria", "support")} == {(one.entry.actor, one.entry.purpose) for one in asked}


@pytest.mark.skipif(SDK < (0, 23), reason="that SDK replaces whatever is there")
def test_what_came_meanwhile_is_kept(store: SecureStore, client: Client, script: Any, wrap: Any) -> None:
    """Where another handle writes while the compaction is under way, the history is left as it is."""
    session = store.session("s")
    wrapped = wrap(session, client, should_trigger_compaction=lambda _: True, compaction_mode="input")
    client.meanwhile = lambda: store.session("s").add_items([{"role": "user", "content": "me too"}])
    agent = Agent("desk", model=script.will("a0"))

    async def run() -> None:
        await Runner.run(agent, "q0", session=wrapped, run_config=QUIET)

    asyncio.run(run())
    assert 1 == len(client.asked)
    assert ["q0", "me too"] == [
        item["content"]
        for item in session.blocking.get_items()
        if item.get("role") == "user"  # type: ignore[typeddict-item]
    ]


@pytest.mark.skipif(SDK < (0, 23), reason="that SDK has no snapshots")
def test_an_end_of_it(store: SecureStore) -> None:
    """The end of a branch is replaced and what is before it stays, with its turns."""
    session = store.session("s")
    session.blocking.add_items(LONG)

    async def replace() -> bool:
        snapshot = await session._get_compaction_snapshot(6)
        assert snapshot is not None
        assert not snapshot.complete
        assert LONG[6:] == snapshot.items
        assert not await snapshot.replace_suffix(6, SHORT)
        done = await snapshot.replace_suffix(2, SHORT)
        assert not await snapshot.replace_suffix(2, SHORT)  # it is no longer what it was
        return done

    assert asyncio.run(replace())
    assert [*LONG[:8], *SHORT] == session.blocking.get_items() == store.session("s").blocking.get_items()
    assert [1, 2, 3, 4, 5] == [turn["turn"] for turn in session.blocking.get_conversation_turns()]
    store.audit_verify()


def test_a_branch_is_compacted_alone(store: SecureStore, client: Client, wrap: Any) -> None:
    """Compacting one branch leaves the others whole."""
    if wrap is theirs and SDK < (0, 24):
        pytest.skip("the wrapper of that SDK clears the session")
    session = store.session("s")
    session.blocking.add_items(LONG)
    session.blocking.create_branch_from_turn(4, "try")
    asyncio.run(wrap(session, client).run_compaction({"force": True, "compaction_mode": "input"}))
    assert SHORT == session.blocking.get_items()
    assert LONG == session.blocking.get_items(branch_id="main")
    store.audit_verify()


def test_nothing_there(store: SecureStore, client: Client, wrap: Any) -> None:
    """A session that has not begun has no snapshot, and begins with what comes back."""
    session = store.session("s")
    if SDK >= (0, 23):
        assert asyncio.run(session._get_compaction_snapshot(3)) is None
    asyncio.run(wrap(session, client).run_compaction({"force": True, "compaction_mode": "input"}))
    assert SHORT == session.blocking.get_items()


def test_what_a_session_is_taken_for(store: SecureStore, client: Client) -> None:
    """A SecureSession is not mistaken for one that compacts itself; our wrapper is one."""
    session = store.session("s")
    assert not hasattr(session, "run_compaction")
    assert not is_openai_responses_compaction_aware_session(session)
    assert is_openai_responses_compaction_aware_session(ours(session, client))
    with pytest.raises(ValueError, match="SecureSession"):
        SecureCompactionSession(ours(session, client))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unsupported model"):
        ours(session, client, model="other")


@function_tool
def look() -> str:
    """Look."""
    return "seen"


def test_a_compaction_that_has_to_wait(store: SecureStore, client: Client, script: Any, wrap: Any) -> None:
    """After a tool's output the SDK defers the compaction to the answer, and then does it."""
    session = store.session("s")
    wrapped = wrap(session, client, should_trigger_compaction=lambda _: True, compaction_mode="input")
    agent = Agent("desk", model=script.will(("look", {}), "done"), tools=[look])

    async def run() -> None:
        await Runner.run(agent, "q0", session=wrapped, run_config=QUIET)

    asyncio.run(run())
    assert 1 == len(client.asked)
    assert SHORT == session.blocking.get_items()


def test_what_is_sent_and_what_comes_back_is_redacted(store: SecureStore, client: Client) -> None:
    """The request holds what the model may see, and the short history what may be stored."""
    card, mail = "4111 1111 1111 1111", "jane.doe@example.com"
    rules = [
        {"id": "card", "entity": "CARD_NUMBER", "store": "tokenise"},
        {"id": "email", "entity": "EMAIL", "model": "redact"},
    ]
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    store.policy_apply(Policy.model_validate({"metadata": {"name": "t"}, "redaction": {"rules": rules}, "access": everyone}))
    session = store.session("s")
    asyncio.run(session.add_items([{"role": "user", "content": f"I am {mail}"}]))
    client.said = [{"role": "user", "content": f"{mail} pays with {card}"}]
    asyncio.run(ours(session, client, compaction_mode="input").run_compaction({"force": True}))
    assert [{"role": "user", "content": "I am [EMAIL]"}] == client.asked[0]["input"]
    (left,) = asyncio.run(session.get_items())
    assert mail in str(left)
    assert card not in str(left)
