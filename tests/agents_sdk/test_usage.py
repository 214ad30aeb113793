"""`agents_sdk/usage.py`: what runs spent, side by side with the SDK's AdvancedSQLiteSession, and recorded without a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, RunConfig, RunContextWrapper, Runner, RunState, Usage, function_tool
from agents.extensions.memory import AdvancedSQLiteSession
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from secure_memory import SecureSession, SecureStore
from secure_memory.errors import AccessDeniedError, StorageError, TamperedError
from secure_memory.vault import usage as rows

QUIET = RunConfig(tracing_disabled=True)
ASK = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "ho"}


def say(text: str) -> Any:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(id="msg_1", type="message", role="assistant", status="completed", content=[part])


def call(tool: str, number: int = 0) -> Any:
    return ResponseFunctionToolCall(type="function_call", call_id=f"call_{number}", name=tool, arguments="{}")


def tokens(total: int, cached: int = 0) -> Usage:
    """A request that cost so much, a fifth of it output."""
    return Usage(
        requests=1,
        input_tokens=total - total // 5,
        output_tokens=total // 5,
        total_tokens=total,
        input_tokens_details=InputTokensDetails.model_validate({"cached_tokens": cached, "cache_write_tokens": 0}),
        output_tokens_details=OutputTokensDetails(reasoning_tokens=1),
    )


class Scripted(Model):
    """Says what it is told to, and what that cost; an exception is raised."""

    model = "scripted-1"

    def __init__(self, *script: tuple[Any, int] | Exception) -> None:
        self.script = list(script)

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        return ModelResponse(output=[said[0]], usage=tokens(said[1]), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@function_tool
def look() -> str:
    """Look."""
    return "seen"


@function_tool(needs_approval=True)
def pay() -> str:
    """Pay."""
    return "paid"


def agent(*script: tuple[Any, int] | Exception, tools: list[Any] | None = None) -> Agent[Any]:
    return Agent("desk", model=Scripted(*script), tools=[look, pay] if tools is None else tools)


def result_of(usage: Any) -> Any:
    """What a run returns, as far as usage goes."""
    return SimpleNamespace(context_wrapper=RunContextWrapper(None, usage=usage))


Session = Any
Test = Callable[[Session], Coroutine[Any, Any, None]]


@pytest.fixture
def ours(store: SecureStore) -> Iterator[SecureSession]:
    session = store.session("user_123")
    yield session
    session.close()


@pytest.fixture(params=["ours", "theirs"])
def either(request: pytest.FixtureRequest, ours: SecureSession) -> Iterator[Session]:
    """Our session, and the SDK's: what is tested on it is the same in both."""
    if request.param == "ours":
        yield ours
        return
    theirs = AdvancedSQLiteSession(session_id="user_123", create_tables=True)
    yield theirs
    theirs.close()


def entries(store: SecureStore, action: str = "session.usage") -> list[Any]:
    return [record.entry for record in store.audit_log(tenant="default", action=action)]


# ---- as the SDK has it ----------------------------------------------------------------------------------------------


async def in_two_turns(session: Session) -> None:
    await session.add_items([ASK, ANSWER])
    await session.store_run_usage(result_of(tokens(80, cached=10)))
    await session.add_items([ASK, ANSWER])
    await session.store_run_usage(result_of(tokens(120, cached=20)))


def test_as_in_the_sdk(either: Session) -> None:
    """Turns and sessions are told with the SDK's keys and figures, details decoded."""

    async def test() -> None:
        assert await either.get_session_usage() is None
        assert ([], {}) == (await either.get_turn_usage(), await either.get_turn_usage(1))
        await in_two_turns(either)
        of_session = await either.get_session_usage()
        assert {"requests": 2, "input_tokens": 160, "output_tokens": 40, "total_tokens": 200, "total_turns": 2} == of_session
        first = await either.get_turn_usage(1)
        assert {"requests", "input_tokens", "output_tokens", "total_tokens"} < set(first)
        assert (80, 10, 1) == (
            first["total_tokens"],
            first["input_tokens_details"]["cached_tokens"],
            first["output_tokens_details"]["reasoning_tokens"],
        )
        assert [1, 2] == [turn["user_turn_number"] for turn in await either.get_turn_usage()]
        assert {} == await either.get_turn_usage(3)

    asyncio.run(test())


def test_both_tell_the_same(ours: SecureSession) -> None:
    """What our session returns is equal to what the SDK's does, all of it."""

    async def test() -> None:
        theirs = AdvancedSQLiteSession(session_id="user_123", create_tables=True)
        for session in (ours, theirs):
            await in_two_turns(session)
            await session.create_branch_from_turn(2, "other")
            await session.add_items([ASK])
            await session.store_run_usage(result_of(tokens(7)))
        for branch in (None, "main", "other"):
            assert await theirs.get_session_usage(branch) == await ours.get_session_usage(branch)
            assert await theirs.get_turn_usage(branch_id=branch) == await ours.get_turn_usage(branch_id=branch)
            for turn in (0, 1, 2, 3):
                assert await theirs.get_turn_usage(turn, branch) == await ours.get_turn_usage(turn, branch)
        theirs.close()

    asyncio.run(test())


def test_details_may_be_missing(either: Session) -> None:
    """A provider that tells no details of one kind has null there, and the other kind is kept."""

    async def test() -> None:
        usage = tokens(15)
        object.__setattr__(usage, "input_tokens_details", None)
        await either.add_items([ASK])
        await either.store_run_usage(result_of(usage))
        turn = await either.get_turn_usage(1)
        assert (None, {"reasoning_tokens": 1}) == (turn["input_tokens_details"], turn["output_tokens_details"])

    asyncio.run(test())


def test_stored_twice(either: Session) -> None:
    """Storing the same result again changes nothing."""

    async def test() -> None:
        result = result_of(tokens(15))
        await either.add_items([ASK])
        await either.store_run_usage(result)
        await either.store_run_usage(result)
        assert 15 == (await either.get_session_usage())["total_tokens"]

    asyncio.run(test())


def test_without_a_turn(either: Session) -> None:
    """Where there is no turn, there is nothing to charge: an empty session, one that was cleared, a result without usage."""

    async def test() -> None:
        await either.store_run_usage(result_of(tokens(15)))
        await either.add_items([ASK])
        await either.store_run_usage(result_of(None))
        await either.clear_session()
        await either.store_run_usage(result_of(tokens(15)))
        assert await either.get_session_usage() is None

    asyncio.run(test())


def test_a_popped_turn(either: Session) -> None:
    """A turn keeps its usage until its last item is popped; the turn made anew in its place has none."""

    async def test() -> None:
        await in_two_turns(either)
        await either.pop_item()
        assert 200 == (await either.get_session_usage())["total_tokens"]
        await either.pop_item()
        assert {} == await either.get_turn_usage(2)
        await either.add_items([ASK])
        assert {} == await either.get_turn_usage(2)
        assert 80 == (await either.get_session_usage())["total_tokens"]

    asyncio.run(test())


def test_a_clear_and_a_deleted_branch(either: Session) -> None:
    """What a branch or a session spent is told no longer when it is gone."""

    async def test() -> None:
        await in_two_turns(either)
        await either.create_branch_from_turn(2, "other")
        await either.add_items([ASK])
        await either.store_run_usage(result_of(tokens(7)))
        assert (207, 7) == (
            (await either.get_session_usage())["total_tokens"],
            (await either.get_session_usage("other"))["total_tokens"],
        )
        await either.delete_branch("other", force=True)
        assert 200 == (await either.get_session_usage())["total_tokens"]
        await either.clear_session()
        assert await either.get_session_usage() is None

    asyncio.run(test())


def test_a_run_by_the_runner(either: Session) -> None:
    """With the call of the SDK's documentation, both sessions tell the same of a run with a tool."""

    async def test() -> None:
        desk = agent((call("look"), 100), (say("there"), 200))
        result = await Runner.run(desk, "hi", session=either, run_config=QUIET)
        await either.store_run_usage(result)
        turn = await either.get_turn_usage(1)
        assert (2, 300) == (turn["requests"], turn["total_tokens"])

    asyncio.run(test())


def test_a_closed_session(either: Session) -> None:
    """What can't be stored does not fail the program that stores it."""

    async def test() -> None:
        await either.add_items([ASK])
        either.close()
        await either.store_run_usage(result_of(tokens(15)))

    asyncio.run(test())


# ---- by itself ------------------------------------------------------------------------------------------------------


def test_recorded_by_itself(ours: SecureSession, store: SecureStore) -> None:
    """A run is recorded without a call, each time overwritten; and storing it afterwards doesn't count it twice."""

    async def test() -> None:
        desk = agent((call("look"), 100), (say("there"), 200))
        result = await Runner.run(desk, "hi", session=ours, run_config=QUIET)
        assert 300 == (await ours.get_turn_usage(1))["total_tokens"]
        told = [entry.detail["usage"] for entry in entries(store)]
        assert [100, 300] == [one["total_tokens"] for one in told]
        assert 1 == len({(one["row"], one["run"]) for one in told})
        await ours.store_run_usage(result)
        await ours.store_run_usage(result)
        assert (300, 1) == ((await ours.get_session_usage())["total_tokens"], len(await ours.get_turn_usage()))
        assert "scripted-1" == entries(store)[2].detail["usage"]["model"]
        assert {} == entries(store)[3].detail

    asyncio.run(test())
    store.audit_verify()


def test_with_the_append(ours: SecureSession, store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage and items are one transaction: where one can't be written, neither is."""

    def full(*_: Any) -> None:
        raise StorageError("the disk is full")

    async def test() -> None:
        wrapper = RunContextWrapper(None, usage=tokens(15))
        await ours.add_items([ASK])
        with monkeypatch.context() as broken:
            broken.setattr(rows, "put", full)
            with pytest.raises(StorageError):
                await ours.add_items([ANSWER], wrapper=wrapper)
        assert ([ASK], None) == (await ours.get_items(), await ours.get_session_usage())
        await ours.add_items([ANSWER], wrapper=wrapper)
        assert 15 == (await ours.get_session_usage())["total_tokens"]

    asyncio.run(test())
    store.audit_verify()


def test_nothing_to_record(ours: SecureSession, store: SecureStore) -> None:
    """Without a wrapper, or before a run has spent anything, an append writes what it did before."""

    async def test() -> None:
        await ours.add_items([ASK])
        await ours.add_items([ANSWER], wrapper=RunContextWrapper(None))
        await ours.add_items([ANSWER], wrapper=SimpleNamespace(context=None, usage=None))  # type: ignore[arg-type]

    asyncio.run(test())
    assert [] == entries(store)
    assert 3 == len(entries(store, "session.append"))


def test_a_run_that_fails(ours: SecureSession) -> None:
    """What a run spent until its last append is recorded; a failure after that takes nothing away."""

    async def test() -> None:
        with pytest.raises(RuntimeError):
            await Runner.run(agent((call("look"), 100), RuntimeError()), "hi", session=ours, run_config=QUIET)
        assert 100 == (await ours.get_turn_usage(1))["total_tokens"]
        await Runner.run(agent((say("there"), 50)), "again", session=ours, run_config=QUIET)
        assert [100, 50] == [turn["total_tokens"] for turn in await ours.get_turn_usage()]

    asyncio.run(test())


def test_a_retry_after_a_rewind(ours: SecureSession, store: SecureStore) -> None:
    """A turn that is rewound and asked again has what the new run spent; the bill has both."""

    async def test() -> None:
        first = await Runner.run(agent((say("bad"), 100)), "hi", session=ours, run_config=QUIET)
        await ours.rewind_to_turn(0)
        await Runner.run(agent((say("good"), 70)), "hi", session=ours, run_config=QUIET)
        await ours.store_run_usage(first)  # late: its turn is gone, and the new turn 1 is another
        assert 70 == (await ours.get_turn_usage(1))["total_tokens"]
        assert 70 == (await ours.get_session_usage())["total_tokens"]

    asyncio.run(test())
    (total,) = store.usage()
    assert (170, 100) == (total.total_tokens, total.popped_tokens)
    store.audit_verify()


def test_never_another_turn(ours: SecureSession) -> None:
    """A result that is stored late belongs to the turn of its run, on the branch of its run."""

    async def test() -> None:
        first = await Runner.run(agent((say("a"), 100)), "hi", session=ours, run_config=QUIET)
        second = await Runner.run(agent((say("b"), 70)), "hi", session=ours, run_config=QUIET)
        await ours.store_run_usage(first)
        assert [100, 70] == [turn["total_tokens"] for turn in await ours.get_turn_usage()]
        await ours.create_branch_from_turn(2, "other")
        await ours.add_items([ASK])
        await ours.store_run_usage(second)
        assert [] == await ours.get_turn_usage()
        assert 170 == (await ours.get_session_usage("main"))["total_tokens"]

    asyncio.run(test())


def test_one_context_for_two_runs(ours: SecureSession) -> None:
    """A context whose figures go on through several runs charges each turn with what was spent in it."""

    async def test() -> None:
        wrapper: RunContextWrapper[None] = RunContextWrapper(None)
        for spent in (100, 70):
            await ours.add_items([ASK], wrapper=wrapper)
            wrapper.usage.add(tokens(spent))
            await ours.add_items([ANSWER], wrapper=wrapper)
        await ours.store_run_usage(result_of(wrapper.usage))
        assert [100, 70] == [turn["total_tokens"] for turn in await ours.get_turn_usage()]
        assert [1, 1] == [turn["requests"] for turn in await ours.get_turn_usage()]

    asyncio.run(test())


def test_one_run_in_two_sessions(store: SecureStore) -> None:
    """Agents that are tools share their caller's figures: a token is counted in one of the sessions, not in both."""

    async def test() -> None:
        outer, inner = store.session("outer"), store.session("inner", tenant="other")
        wrapper: RunContextWrapper[None] = RunContextWrapper(None)
        await outer.add_items([ASK], wrapper=wrapper)
        wrapper.usage.add(tokens(10))
        await outer.add_items([ANSWER], wrapper=wrapper)
        nested = wrapper._fork_without_tool_input()
        await inner.add_items([ASK], wrapper=nested)
        nested.usage.add(tokens(5))
        await inner.add_items([ANSWER], wrapper=nested)
        wrapper.usage.add(tokens(20))
        await outer.add_items([ANSWER], wrapper=wrapper)
        assert [30, 5] == [(await session.get_session_usage() or {})["total_tokens"] for session in (outer, inner)]

    asyncio.run(test())
    store.audit_verify()


@pytest.mark.parametrize("written", [False, True], ids=["in memory", "from JSON"])
def test_a_run_that_pauses(ours: SecureSession, store: SecureStore, written: bool) -> None:
    """A run that waits for an approval and goes on later, from memory or from its written state, is one run."""

    async def test() -> None:
        desk = agent((call("pay"), 100), (say("done"), 50))
        paused = await Runner.run(desk, "hi", session=ours, run_config=QUIET)
        assert 1 == len(paused.interruptions)
        state = paused.to_state()
        if written:
            state = await RunState.from_json(desk, state.to_json())
        state.approve(state.get_interruptions()[0])
        result = await Runner.run(desk, state, session=ours, run_config=QUIET)
        assert "done" == result.final_output
        await ours.store_run_usage(result)
        turn = await ours.get_turn_usage(1)
        assert (2, 150) == (turn["requests"], turn["total_tokens"])

    asyncio.run(test())
    assert [150] == [total.total_tokens for total in store.usage(by="session")]
    store.audit_verify()


def test_another_run_in_the_same_turn(ours: SecureSession, store: SecureStore) -> None:
    """Two runs in one turn that began differently are two: the turn has what both spent."""

    async def test() -> None:
        await ours.add_items([ASK])
        for total in (10, 25):
            usage = Usage()
            for spent in (total, 3):
                usage.add(tokens(spent))
            await ours.store_run_usage(result_of(usage))
        assert 41 == (await ours.get_turn_usage(1))["total_tokens"]

    asyncio.run(test())
    assert 2 == len({entry.detail["usage"]["run"] for entry in entries(store)})


def test_runs_at_once(ours: SecureSession, store: SecureStore) -> None:
    """Appends of several runs that meet in one commit are charged each to its own, whatever their order."""

    async def test() -> None:
        await ours.add_items([ASK])
        runs = [RunContextWrapper(None, usage=tokens(1000 + number)) for number in range(20)]
        for _ in range(3):
            await asyncio.gather(*(ours.add_items([ANSWER], wrapper=run) for run in runs))  # type: ignore[list-item]
            for run in runs:
                run.usage.add(tokens(10))
        assert sum(1000 + number + 20 for number in range(20)) == (await ours.get_turn_usage(1))["total_tokens"]

    asyncio.run(test())
    store.audit_verify()


def test_the_model_that_items_name(ours: SecureSession, store: SecureStore) -> None:
    """Adapters that write the model into their items are believed; a run with two models has two records."""

    async def test() -> None:
        wrapper: RunContextWrapper[None] = RunContextWrapper(None)
        await ours.add_items([ASK], wrapper=wrapper)
        for model in ("large", "small", "small"):
            wrapper.usage.add(tokens(10))
            await ours.add_items([{**ANSWER, "provider_data": {"model": model}}], wrapper=wrapper)  # type: ignore[list-item]
        assert (30, 3) == ((turn := await ours.get_turn_usage(1))["total_tokens"], turn["requests"])

    asyncio.run(test())
    assert {"large": 10, "small": 20} == {total.model: total.total_tokens for total in store.usage(by="model")}
    store.audit_verify()


def test_results_have_attributes(ours: SecureSession) -> None:
    """`usage["total_tokens"]` and `usage.total_tokens` are one, in the turn's details too."""

    async def test() -> None:
        await in_two_turns(ours)
        of_session: Any = await ours.get_session_usage()
        turn: Any = await ours.get_turn_usage(1)
        listed: Any = await ours.get_turn_usage()
        assert (200, 80, 10, 2) == (
            of_session.total_tokens,
            turn.total_tokens,
            turn.input_tokens_details.cached_tokens,
            listed[1].user_turn_number,
        )

    asyncio.run(test())


def test_an_unknown_branch(ours: SecureSession) -> None:
    """A branch that isn't there is a ValueError, as it is for items and turns."""

    async def test() -> None:
        await in_two_turns(ours)
        for asked in (ours.get_session_usage("x"), ours.get_turn_usage(1, "x"), ours.get_turn_usage(branch_id="x")):
            with pytest.raises(ValueError, match="'x' does not exist"):
                await asked

    asyncio.run(test())


# ---- what must be raised --------------------------------------------------------------------------------------------


def test_denied(place: Path) -> None:
    """Where nobody says who asks and somebody must, storing usage is refused aloud."""

    async def test() -> None:
        with SecureStore.create(place, require_actor=True) as store:
            session = store.session("user_123")
            await session.add_items([ASK], actor="user:maria")
            with pytest.raises(AccessDeniedError):
                await session.store_run_usage(result_of(tokens(15)))
            session.close()

    asyncio.run(test())


def test_an_edited_row(ours: SecureSession, store: SecureStore, insider: Callable[..., Any]) -> None:
    """A figure that was edited is not served, not added to, and not billed."""

    async def test() -> None:
        wrapper = RunContextWrapper(None, usage=tokens(15))
        await ours.add_items([ASK], wrapper=wrapper)
        insider().sql("UPDATE usage SET total = 1")
        wrapper.usage.add(tokens(15))
        for asked in (
            ours.get_session_usage(),
            ours.get_turn_usage(),
            ours.add_items([ANSWER], wrapper=wrapper),  # type: ignore[list-item]
            ours.store_run_usage(result_of(wrapper.usage)),
        ):
            with pytest.raises(TamperedError):
                await asked
        assert [ASK] == await ours.get_items()

    asyncio.run(test())
    for asked in (store.usage, store.audit_verify):
        with pytest.raises(TamperedError):
            asked()


MADE = "session, turn, run, model, 1, 1, 1, 1, details, created, 0, mac FROM usage LIMIT 1"


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ("DELETE FROM usage WHERE turn = 1", "1 rows of usage are gone"),
        ("DELETE FROM usage", "3 rows of usage are gone"),
        ("INSERT OR REPLACE INTO usage SELECT * FROM old WHERE total = 15", "not what the ledger says was spent"),
        ("UPDATE usage SET turn = 1 WHERE turn = 2", "edited or moved"),
        ("UPDATE usage SET id = id + 7 WHERE turn = 1", "edited or moved"),
        (f"INSERT INTO usage SELECT id + 7, {MADE}", "edited or moved"),
        (f"INSERT INTO usage SELECT id + 2147483648 * 50, {MADE}", "usage of a branch that the ledger does not know"),
    ],
)
def test_verify_finds_it(
    ours: SecureSession, store: SecureStore, insider: Callable[..., Any], edit: str, found: str
) -> None:
    """`audit verify` finds a row that was deleted, put back as it was before, edited, moved, or made."""

    async def test() -> None:
        await in_two_turns(ours)
        wrapper = RunContextWrapper(None, usage=tokens(15))
        await ours.add_items([ANSWER], wrapper=wrapper)  # type: ignore[list-item]
        insider().sql("CREATE TABLE old AS SELECT * FROM usage")
        wrapper.usage.add(tokens(15))
        await ours.add_items([ANSWER], wrapper=wrapper)  # type: ignore[list-item]

    asyncio.run(test())
    store.audit_verify()
    insider().sql(edit)
    with pytest.raises(TamperedError, match=found):
        store.audit_verify()


def test_verify_finds_a_flag_put_back(ours: SecureSession, store: SecureStore, insider: Callable[..., Any]) -> None:
    """A popped row that is put back as it was, MAC and all, is told by the heads that the branch has had."""

    async def test() -> None:
        await in_two_turns(ours)
        insider().sql("CREATE TABLE old AS SELECT * FROM usage")
        await ours.rewind_to_turn(1)
        await ours.add_items([ASK])

    asyncio.run(test())
    store.audit_verify()
    insider().sql("INSERT OR REPLACE INTO usage SELECT * FROM old")
    with pytest.raises(TamperedError, match="flagged otherwise"):
        store.audit_verify()
