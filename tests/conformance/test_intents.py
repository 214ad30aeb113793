"""What those tests of the SDK are for that can't pass on SecureSession (`excluded.toml`), shown on SecureSession.

They hold up a write where the SDK's tests do: not inside a private method, but by the vault's own write lock (`hold`), and
they make one fail at its last statement (`broken`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import exclusions
import psutil
import pytest
from agents import Agent, HandoffInputData, RunConfig, Runner, RunState, Usage, handoff
from agents.items import MessageOutputItem
from agents.memory import OpenAIResponsesCompactionSession
from agents.testing import ScriptedModel
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from secure_memory import SecureMemoryError, SecureSession, SecureStore, SerializationError, TamperedError
from secure_memory.errors import ConfigurationError, NotAStoreError

Insider = Callable[..., Any]
Operation = Callable[[SecureSession], Coroutine[Any, Any, Any]]

ASK: Any = {"role": "user", "content": "q1"}
ANSWER: Any = {"role": "assistant", "content": "a1"}
AGAIN: Any = {"role": "user", "content": "q2"}
HISTORY = [ASK, ANSWER, AGAIN]
NEW: Any = {"role": "user", "content": "new"}
QUIET = RunConfig(tracing_disabled=True)


def spent(total: int = 80) -> Any:
    """The result of a run that spent so many tokens."""
    usage = Usage(requests=1, input_tokens=total - 30, output_tokens=30, total_tokens=total)
    return SimpleNamespace(context_wrapper=SimpleNamespace(usage=usage, context=None), raw_responses=[], last_agent=None)


async def current(session: SecureSession) -> str:
    """The branch that the session is on; main where that has no items."""
    return next((branch["branch_id"] for branch in await session.list_branches() if branch["is_current"]), "main")


async def everything(session: SecureSession) -> Any:
    """All that a session shows of itself."""
    branches = [branch["branch_id"] for branch in await session.list_branches()]
    items = {name: await session.get_items(branch_id=name) for name in branches}
    return await current(session), items, await session.get_turn_usage(), await session.get_conversation_turns()


WRITES: dict[str, Operation] = {
    "add": lambda session: session.add_items([NEW, ANSWER]),
    "pop": lambda session: session.pop_item(),
    "clear": lambda session: session.clear_session(),
    "create_branch": lambda session: session.create_branch_from_turn(2, "made"),
    "switch": lambda session: session.switch_to_branch("other"),
    "delete_branch": lambda session: session.delete_branch("other"),
    "usage": lambda session: session.store_run_usage(spent()),
    "replace": lambda session: session._atomic_replace_items([NEW]),
    "rewind": lambda session: session.rewind_to_turn(1),
}
writes = pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))


async def filled(store: SecureStore) -> SecureSession:
    """A session with a history on main, which is current, and a branch `other`."""
    session = store.session("s")
    await session.add_items(HISTORY)
    await session.create_branch_from_turn(2, "other")
    await session.switch_to_branch("main")
    return session


# ---- the list itself -------------------------------------------------------------------------------------------------


def test_every_exclusion_has_a_test_here() -> None:
    """What is excluded has a reason, a kind that we know, and a test in this file for what it is for."""
    for name, excluded in exclusions.load().items():
        assert excluded.reason, name
        assert excluded.kind in exclusions.KINDS, name
        assert excluded.intents, name
        for intent in excluded.intents:
            assert intent in globals(), (name, intent)


def test_readme_names_the_versions_that_pass() -> None:
    """The README and docs/conformance.md name the same versions, and no suite failed."""
    root = Path(__file__).parents[2]
    document = (root / "docs" / "conformance.md").read_text()
    versions = re.findall(r"^## openai-agents (\S+)$", document, flags=re.MULTILINE)
    assert 2 == len(versions)
    assert f"with openai-agents {' and '.join(versions)}" in (root / "README.md").read_text()
    assert ["0", "0"] == re.findall(r"^\| \*\*all\*\* .* (\d+) \|$", document, flags=re.MULTILINE)


# ---- threads, loops, processes ---------------------------------------------------------------------------------------


def test_threads_that_come_and_go_leave_no_file_open(store: SecureStore) -> None:
    """A session that twenty threads used has as many files open as with one, and none when the store is closed."""

    def opened() -> int:
        return sum(str(store.path) in file.path for file in psutil.Process().open_files())

    session = store.session("s")
    asyncio.run(session.add_items([NEW]))
    before = opened()
    for _ in range(20):
        thread = threading.Thread(target=lambda: asyncio.run(session.add_items([NEW])))
        thread.start()
        thread.join()
    assert before == opened()
    assert 21 == len(asyncio.run(session.get_items()))
    session.close()
    store.close()
    assert 0 == opened()


def test_two_sessions_write_as_one(store: SecureStore) -> None:
    """Batches that two sessions of one conversation append from two threads all arrive, each in one piece."""

    def append(name: str) -> None:
        session = store.session("s")
        for number in range(10):
            asyncio.run(session.add_items([{"role": "user", "content": f"{name}{number}"}, {"content": name}]))

    threads = [threading.Thread(target=append, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    items: list[Any] = asyncio.run(store.session("s").get_items())
    assert 40 == len(items)
    assert all(first["content"][0] == second["content"] for first, second in zip(items[::2], items[1::2], strict=True))
    for name in "ab":
        assert [f"{name}{n}" for n in range(10)] == [
            item["content"] for item in items if item["content"][0] == name and item.get("role")
        ]


def test_several_event_loops_use_one_session(store: SecureStore, hold: Any) -> None:
    """Operations that wait in one event loop, and then in another, are done in their order."""
    session = store.session("s")
    asyncio.run(session.add_items([ASK]))

    async def once(tokens: int) -> None:
        with hold() as held:
            await held.begin(session.store_run_usage(spent(tokens)), session.add_items([NEW]))
        assert [None, None] == await held.outcomes()

    asyncio.run(once(50))
    asyncio.run(once(60))
    recorded: Any = asyncio.run(session.get_turn_usage())
    assert [(1, 50), (2, 60)] == [(turn["user_turn_number"], turn["total_tokens"]) for turn in recorded]


def test_concurrent_appends_keep_their_turns(store: SecureStore) -> None:
    """Twenty pairs that are appended at once make twenty turns of two items."""

    async def run() -> None:
        session = store.session("s")
        pairs = [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": f"{n}"}] for n in range(20)]
        await asyncio.gather(*(session.add_items(pair) for pair in pairs))
        turns = await session.get_conversation_by_turns()
        assert list(range(1, 21)) == list(turns)
        assert {("user", "assistant")} == {tuple(item["type"] for item in turn) for turn in turns.values()}

    asyncio.run(run())


def test_two_processes_make_one_branch_of_a_name(store: SecureStore) -> None:
    """Of two processes that make a branch of one name, one is told that it was used; names that are made up differ."""
    asyncio.run(store.session("s").add_items(HISTORY))
    source = """
import asyncio, sys
from secure_memory import SecureSession
async def run():
    session = SecureSession("s", sys.argv[1])
    print("ready", flush=True)
    input()
    try:
        print(await session.create_branch_from_turn(2, "shared"))
    except ValueError as error:
        print(error)
    await session.switch_to_branch("main")
    print(await session.create_branch_from_turn(2))
asyncio.run(run())
"""
    command = [sys.executable, "-c", source, str(store.path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert 0 == process.returncode, err
        answers.append(out.splitlines())
    (first, made), (second, also_made) = answers
    assert "shared" in (first, second)
    assert any("used" in answer for answer in (first, second))
    assert made != also_made
    branches = asyncio.run(store.session("s").list_branches())
    assert {"main", "shared", made, also_made} == {branch["branch_id"] for branch in branches}


# ---- failures and cancellation ---------------------------------------------------------------------------------------


def test_a_closed_session_refuses_even_an_empty_batch(store: SecureStore) -> None:
    """Nothing is done by a session that was closed, not even nothing."""
    session = store.session("s")
    session.close()
    with pytest.raises(RuntimeError, match="is closed"):
        asyncio.run(session.add_items([]))


@pytest.mark.parametrize("limit", [None, 1])
def test_what_does_not_decode_is_never_skipped(store: SecureStore, insider: Insider, limit: int | None) -> None:
    """A row that is not what was written makes reading and popping raise, and stays where it is."""
    session = store.session("s", cache=False, session_settings=None if limit is None else {"limit": limit})
    asyncio.run(session.add_items(HISTORY))
    insider().sql("UPDATE items SET sealed = zeroblob(64) WHERE id = (SELECT max(id) FROM items)")
    with pytest.raises(TamperedError):
        asyncio.run(session.get_items())
    with pytest.raises(TamperedError):
        asyncio.run(session.pop_item())
    assert [(3,)] == insider().sql("SELECT count(*) FROM items")


def test_an_item_that_is_no_json_stores_nothing(store: SecureStore, insider: Insider) -> None:
    """A batch with an item that can't be written is refused whole, and the next one is stored."""
    session = store.session("s")
    asyncio.run(session.add_items([ASK]))
    with pytest.raises(SerializationError):
        asyncio.run(session.add_items([NEW, {"role": "user", "content": object()}]))
    insider().sql("DELETE FROM items WHERE id < 0")  # a write of somebody else: the lock is free
    asyncio.run(session.add_items([NEW]))
    assert [ASK, NEW] == asyncio.run(session.get_items())


@writes
def test_a_failed_write_is_taken_back_and_holds_no_lock(store: SecureStore, broken: Any, write: Operation) -> None:
    """Where the last statement of a write fails, all of it is undone, others can write at once, and it can be done again."""

    async def run() -> None:
        session = await filled(store)
        before = await everything(session)
        with broken():
            if write is WRITES["usage"]:
                await write(session)  # what can't be recorded does not fail a run
            else:
                with pytest.raises(SecureMemoryError):
                    await write(session)
        assert before == await everything(session)
        await write(session)
        assert before != await everything(session)

    asyncio.run(run())


@writes
def test_a_cancelled_write_is_cancelled_after_its_outcome(store: SecureStore, hold: Any, write: Operation) -> None:
    """Who cancels a write, even twice, is cancelled when it is done; it is done; the event loop was free all the while."""

    async def run() -> None:
        session = await filled(store)
        before = await everything(session)
        with hold() as held:
            await held.begin(write(session))
            (task,) = held.tasks
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert before != await everything(session)

    asyncio.run(run())


def test_a_read_writes_its_entry_and_nothing_else(store: SecureStore, insider: Insider) -> None:
    """Reading what was never written adds an entry to the ledger, and no row or table anywhere else."""
    session = store.session("s")
    asyncio.run(session.add_items([]))
    tables = [name for (name,) in insider().sql("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def rows() -> dict[str, int]:
        return {name: insider().sql(f"SELECT count(*) FROM {name}")[0][0] for name in tables}

    before = rows()
    assert [] == asyncio.run(session.get_items())
    assert {**before, "ledger": before["ledger"] + 1} == rows()


# ---- compaction by the SDK -------------------------------------------------------------------------------------------


def said(text: str) -> Any:
    """A message of a model's."""
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[part])


def called(tool: str) -> Any:
    """A model's call of a tool."""
    return ResponseFunctionToolCall(type="function_call", call_id="c", name=tool, arguments="{}")


def messages_only(data: HandoffInputData) -> HandoffInputData:
    """Hand on what was said, and not that it was handed on."""
    return data.clone(new_items=tuple(item for item in data.new_items if isinstance(item, MessageOutputItem)))


def compacting(
    session: SecureSession, output: list[Any], *, meanwhile: Callable[[], object] = lambda: None, **options: Any
) -> tuple[OpenAIResponsesCompactionSession, list[Any]]:
    """The SDK's own compaction over the session, and what it asks for; `meanwhile` is called while it asks."""
    asked: list[Any] = []

    async def compact(**arguments: Any) -> Any:
        asked.append(arguments)
        meanwhile()
        return SimpleNamespace(output=output, usage=None)

    client: Any = SimpleNamespace(responses=SimpleNamespace(compact=compact))
    return OpenAIResponsesCompactionSession("s", session, client=client, **options), asked


def test_compaction_deletes_only_what_it_replaces(store: SecureStore) -> None:
    """What a wrapper around the session takes for expired is not deleted by a compaction."""

    async def run() -> None:
        session = store.session("s")
        await session.add_items(HISTORY)
        snapshot = await session._get_compaction_snapshot(2, prune_prefix=lambda _: True)
        assert snapshot is not None
        assert await snapshot.replace_suffix(1, [NEW])
        assert [ASK, ANSWER, NEW] == await session.get_items()

    asyncio.run(run())


def test_compaction_goes_round_no_operation_of_a_subclass(store: SecureStore) -> None:
    """Where a subclass has an operation of its own, the SDK's compaction replaces by its operations, and by nothing else."""

    class Counting(SecureSession):
        added = 0

        async def add_items(self, items: Any, **named: Any) -> None:
            self.added += 1
            await super().add_items(items, **named)

    async def run() -> None:
        inner = Counting("s", store.path)
        await inner.add_items(HISTORY)
        assert await inner._get_compaction_snapshot(1) is None
        session, _ = compacting(inner, [NEW], compaction_mode="input")
        await session.run_compaction({"force": True})
        assert 2 == inner.added
        assert [NEW] == await inner.get_items()

    asyncio.run(run())


@pytest.mark.parametrize("write", ["pop_item", "clear_session"])
def test_a_cancelled_pop_or_clear_breaks_the_chain_of_responses(store: SecureStore, hold: Any, write: str) -> None:
    """A pop or clear that is cancelled has happened, and the SDK's compaction no longer builds on an earlier response."""

    async def run() -> None:
        inner = store.session("s")
        await inner.add_items([ASK, ANSWER])
        session, asked = compacting(
            inner, [], compaction_mode="previous_response_id", should_trigger_compaction=lambda _: False
        )
        await session.run_compaction({"response_id": "resp-old", "store": False})
        with hold() as held:
            await held.begin(getattr(session, write)())
            held.tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await held.tasks[0]
        assert ([ASK] if write == "pop_item" else []) == await session.get_items()
        with pytest.raises(ValueError, match="requires a response_id"):
            await session.run_compaction({"force": True})
        assert [] == asked

    asyncio.run(run())


@pytest.mark.parametrize("written_out", [False, True])
def test_a_run_goes_on_after_a_compaction_that_was_cancelled(store: SecureStore, hold: Any, written_out: bool) -> None:
    """A streamed run that is cancelled while its history is replaced goes on from the replaced one, and repeats nothing."""

    async def run() -> None:
        inner = store.session("s")
        lock = hold()
        held: list[Any] = []
        session, asked = compacting(
            inner,
            [{"role": "assistant", "content": "short"}],
            meanwhile=lambda: held.append(lock.__enter__()),
            compaction_mode="input",
            should_trigger_compaction=lambda context: context["response_id"] == "first",
        )
        model = ScriptedModel(
            steps=[
                {"output": [said("delegating"), called("transfer_to_other")], "response_id": "first"},
                {"output": [said("done")], "response_id": "second"},
            ]
        )
        other = Agent(name="other", model=model)
        agent = Agent(name="first", model=model, handoffs=[handoff(other, input_filter=messages_only)])
        result = Runner.run_streamed(agent, "hello", session=session, run_config=QUIET)

        async def drain() -> None:
            async for _ in result.stream_events():
                pass

        drained = asyncio.ensure_future(drain())
        while not held:
            await asyncio.sleep(0)
        await held[0].waiting()
        result.cancel()
        lock.__exit__(None, None, None)
        await drained
        assert [{"role": "assistant", "content": "short"}] == await session.get_items()

        state = result.to_state()
        if written_out:
            state = await RunState.from_json(agent, json.loads(state.to_string()))
        resumed = await Runner.run(agent, state, session=session, run_config=QUIET)
        assert "done" == resumed.final_output
        assert 1 == len(asked)
        short, done = await session.get_items()
        assert ("short", "done") == (short["content"], done["content"][0]["text"])

    asyncio.run(run())


# ---- branches --------------------------------------------------------------------------------------------------------


def test_the_name_of_a_branch_is_never_used_twice(store: SecureStore) -> None:
    """Neither after its branch was deleted, nor after a clear, nor by another instance is a name free again."""

    async def run() -> None:
        session = store.session("s")
        await session.add_items(HISTORY)
        await session.create_branch_from_turn(2, "once")
        await session.delete_branch("once", force=True)
        for again in (session, store.session("s")):
            with pytest.raises(ValueError, match="used"):
                await again.create_branch_from_turn(2, "once")
        await session.clear_session()
        await session.add_items(HISTORY)
        for again in (session, store.session("s")):
            with pytest.raises(ValueError, match="used"):
                await again.create_branch_from_turn(2, "once")

    asyncio.run(run())


def test_generated_names_differ_within_a_second(store: SecureStore, noon: Any) -> None:
    """Names that are made up for two branches of one turn, in one second, differ; so do the branches."""

    async def run() -> None:
        session = store.session("s")
        await session.add_items(HISTORY)
        first = await session.create_branch_from_turn(2)
        await session.add_items([NEW])
        await session.switch_to_branch("main")
        second = await session.create_branch_from_turn(2)
        assert (f"branch_from_turn_2_{noon.now // 1_000_000}", f"{first}_2") == (first, second)
        assert [ASK, ANSWER] == await session.get_items()
        assert [ASK, ANSWER, NEW] == await session.get_items(branch_id=first)

    asyncio.run(run())


def test_deleting_and_popping_touch_one_branch_only(store: SecureStore, insider: Insider) -> None:
    """What is popped or deleted in a branch is gone with its rows, and the branch that it came from is whole."""

    def rows() -> int:
        return int(insider().sql("SELECT count(*) FROM items")[0][0])

    async def run() -> None:
        session = store.session("s")
        await session.add_items(HISTORY)
        assert 3 == rows()
        await session.create_branch_from_turn(2, "other")
        await session.add_items([NEW])
        assert NEW == await session.pop_item()
        assert ANSWER == await session.pop_item()
        assert 3 + 1 == rows()
        assert HISTORY == await session.get_items(branch_id="main")
        await session.switch_to_branch("main")
        assert AGAIN == await session.pop_item()
        assert [ASK] == await session.get_items(branch_id="other")
        await session.delete_branch("other")
        assert 2 == rows()
        assert [ASK, ANSWER] == await session.get_items()

    asyncio.run(run())


def test_clearing_leaves_no_item_in_any_branch(store: SecureStore, insider: Insider) -> None:
    """A clear deletes the items of every branch of the session, leads back to main, and leaves other sessions alone."""

    async def run() -> None:
        session, bystander = await filled(store), store.session("bystander")
        await bystander.add_items([ASK])
        await session.switch_to_branch("other")
        await session.clear_session()
        assert "main" == await current(session)
        assert [] == await session.get_items()
        assert [] == await session.list_branches()
        assert [(1,)] == insider().sql("SELECT count(*) FROM items")
        assert [ASK] == await bystander.get_items()

    asyncio.run(run())


def test_the_same_mistakes_are_value_errors(store: SecureStore) -> None:
    """What AdvancedSQLiteSession refuses with a ValueError is one here, and changes nothing."""

    async def run() -> None:
        session = await filled(store)
        await session.switch_to_branch("other")
        before = await everything(session)
        mistakes = [
            session.create_branch_from_turn(5, "new"),
            session.create_branch_from_turn(1, "other"),
            session.create_branch_from_turn(1, "  "),
            session.create_branch_from_turn(1, ""),
            session.create_branch_from_content("what nobody said"),
            session.switch_to_branch("nonexistent"),
            session.delete_branch("nonexistent"),
            session.delete_branch("main"),
            session.delete_branch(""),
            session.delete_branch("\t"),
            session.delete_branch("other"),
        ]
        for mistake in mistakes:
            with pytest.raises(ValueError, match=r"^[a-z]"):
                await mistake
        assert before == await everything(session)
        await session.delete_branch("other", force=True)
        assert "main" == await current(session)

    asyncio.run(run())


def test_a_deleted_branch_is_unknown(store: SecureStore) -> None:
    """A branch is deleted by its exact name; one that differs by white space stays, and reading the deleted one raises."""

    async def run() -> None:
        session = store.session("s")
        await session.add_items(HISTORY)
        await session.create_branch_from_turn(2, "draft")
        await session.switch_to_branch("main")
        assert " draft " == await session.create_branch_from_turn(2, " draft ")
        await session.delete_branch(" draft ", force=True)
        assert [ASK, ANSWER] == await session.get_items(branch_id="draft")
        with pytest.raises(ValueError, match="does not exist"):
            await session.get_items(branch_id=" draft ")
        assert ["main", "draft"] == [branch["branch_id"] for branch in await session.list_branches()]

    asyncio.run(run())


def test_another_instance_clears(store: SecureStore) -> None:
    """An instance whose branch was cleared away by another one writes to main, and the branch is unknown to it too."""

    async def run() -> None:
        stale = await filled(store)
        await stale.switch_to_branch("other")
        await store.session("s").clear_session()
        await stale.add_items([NEW])
        assert "main" == await current(stale)
        assert [NEW] == await stale.get_items()
        with pytest.raises(ValueError, match="does not exist"):
            await stale.get_items(branch_id="other")
        assert ["main"] == [branch["branch_id"] for branch in await stale.list_branches()]

    asyncio.run(run())


def test_a_branch_without_items_exists(store: SecureStore) -> None:
    """A branch from the first turn has no items, is listed, can be written to, and can be deleted."""

    async def run() -> None:
        session = store.session("s")
        await session.add_items([ASK, ANSWER])
        await session.create_branch_from_turn(1, "empty")
        assert ["main", "empty"] == [branch["branch_id"] for branch in await session.list_branches()]
        assert "empty" == await current(session)
        await session.add_items([NEW])
        assert [NEW] == await session.get_items()
        assert [ASK, ANSWER] == await session.get_items(branch_id="main")
        await session.switch_to_branch("main")
        await session.create_branch_from_turn(1, "also empty")
        await session.delete_branch("also empty", force=True)
        assert "main" == await current(session)

    asyncio.run(run())


def test_search_ignores_case_in_every_script(store: SecureStore) -> None:
    """A search finds what is written in other cases, with accents, composed or not, and in Greek."""

    async def run() -> None:
        session = store.session("s")
        await session.add_items([{"role": "user", "content": text} for text in ("CAFÉ", "cafe\u0301", "ΟΔΟΣ", "Tokyo")])
        assert [1, 2] == [turn["turn"] for turn in await session.find_turns_by_content("é")]
        assert [3] == [turn["turn"] for turn in await session.find_turns_by_content("οδος")]
        assert [4] == [turn["turn"] for turn in await session.find_turns_by_content("TOKYO")]

    asyncio.run(run())


def test_an_operation_goes_to_the_branch_that_was_current_when_it_was_called(store: SecureStore, hold: Any) -> None:
    """A switch that is called while an append and a pop still wait doesn't lead them to another branch."""

    async def run() -> None:
        session = await filled(store)
        await session.switch_to_branch("other")
        with hold() as held:
            await held.begin(
                session.pop_item(), session.add_items([NEW]), session.switch_to_branch("main"), session.add_items([AGAIN])
            )
        assert [ANSWER, None, None, None] == await held.outcomes()
        assert [ASK, NEW] == (await session.get_items(branch_id="other"))[:2]
        assert "main" == await current(session)
        assert HISTORY == (await session.get_items())[:3]
        both = [*await session.get_items(), *await session.get_items(branch_id="other")]
        assert 1 == both.count(NEW)

    asyncio.run(run())


@pytest.mark.parametrize("first", ["clear", "create", "switch"])
def test_a_clear_and_a_branch_that_cross(store: SecureStore, hold: Any, first: str) -> None:
    """Whichever of a clear and a branch was called first: afterwards main is current and empty, and no branch is left."""

    async def run() -> None:
        session = await filled(store)
        clear, create = session.clear_session, lambda: session.create_branch_from_turn(2, "crossed")
        with hold() as held:
            if first == "clear":
                await held.begin(clear(), create())
            elif first == "create":
                await held.begin(create(), clear())
            else:
                await held.begin(session.switch_to_branch("other"), clear())
        outcomes = await held.outcomes()
        assert (first == "clear") == isinstance(outcomes[1], ValueError)
        assert "main" == await current(session)
        assert [] == await session.get_items()
        assert [] == await session.list_branches()
        await session.add_items(HISTORY)
        if first == "clear":
            await session.create_branch_from_turn(2, "crossed")  # which was never made, so its name is free

    asyncio.run(run())


@pytest.mark.parametrize("who", ["the session", "another"])
def test_an_append_does_not_bring_a_deleted_branch_back(store: SecureStore, hold: Any, insider: Insider, who: str) -> None:
    """An append that waits for a branch which is then deleted leaves nothing of itself, and nothing in main."""

    async def run() -> None:
        session = await filled(store)
        await session.switch_to_branch("other")
        deleter = session if who == "the session" else store.session("s")
        with hold() as held:
            await held.begin(session.add_items([NEW]), deleter.delete_branch("other", force=True))
        assert [None, None] == await held.outcomes()
        assert "main" == await current(session)
        assert HISTORY == await session.get_items()
        assert ["main"] == [branch["branch_id"] for branch in await session.list_branches()]
        assert [(3,)] == insider().sql("SELECT count(*) FROM items")

    asyncio.run(run())


def test_tools_are_counted_by_the_items_themselves(store: SecureStore) -> None:
    """Calls that have no name of a tool are counted by their type."""
    calls: list[Any] = [{"type": "shell_call", "call_id": "1"}, {"type": "apply_patch_call", "call_id": "2"}]

    async def run() -> None:
        session = store.session("s")
        await session.add_items([ASK, *calls, *calls])
        assert [("apply_patch_call", 2, 1), ("shell_call", 2, 1)] == sorted(await session.get_tool_usage())

    asyncio.run(run())


# ---- usage -----------------------------------------------------------------------------------------------------------


def test_usage_belongs_to_the_turn_in_which_it_was_stored(store: SecureStore, hold: Any) -> None:
    """Usage that waits to be stored stays with its branch and turn, whatever is called after it; deleting another branch
    takes nothing from it."""

    async def run() -> None:
        session = await filled(store)
        with hold() as held:
            await held.begin(
                session.store_run_usage(spent(50)),
                session.add_items([NEW]),
                session.store_run_usage(spent(60)),
                session.delete_branch("other"),
            )
        assert [None] * 4 == await held.outcomes()
        recorded: Any = await session.get_turn_usage()
        assert [(2, 50), (3, 60)] == [(turn["user_turn_number"], turn["total_tokens"]) for turn in recorded]

        await session.create_branch_from_turn(3, "aside")
        with hold() as held:
            await held.begin(session.store_run_usage(spent(70)), session.switch_to_branch("main"))
        await held.outcomes()
        aside: Any = await session.get_turn_usage(branch_id="aside")
        assert [70] == [turn["total_tokens"] for turn in aside][-1:]
        assert recorded == await session.get_turn_usage()

    asyncio.run(run())


def test_usage_is_never_charged_to_a_turn_that_comes_later(store: SecureStore, hold: Any) -> None:
    """Usage of a turn that is popped is not that of the next turn with its number; without a turn none is stored."""

    async def run() -> None:
        session = store.session("s")
        await session.store_run_usage(spent())
        assert await session.get_session_usage() is None
        assert [] == await session.get_turn_usage()

        await session.add_items([ASK])
        with hold() as held:
            await held.begin(session.store_run_usage(spent()), session.pop_item(), session.add_items([NEW]))
        assert [None, ASK, None] == await held.outcomes()
        assert not await session.get_turn_usage(1)
        await session.store_run_usage(spent(50))
        recorded: Any = await session.get_turn_usage(1)
        assert 50 == recorded["total_tokens"]

    asyncio.run(run())


# ---- arguments, logs, files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["sessions_table", "messages_table", "logger"])
def test_arguments_of_other_sessions_are_refused(argument: str) -> None:
    """An argument that means nothing here is an error that says what to do instead."""
    with pytest.raises(ConfigurationError, match=f"{argument}=") as refused:
        SecureSession("s", **{argument: "x"})
    assert "drop this argument" in refused.value.hint


def test_logs_name_no_content(store: SecureStore, broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that was said, and no name of a session or branch, is logged: not when things go well, and not otherwise."""
    caplog.set_level(logging.DEBUG)

    async def run() -> None:
        session = store.session("patient-4711")
        await session.add_items([{"role": "user", "content": "heart-attack"}, *HISTORY])
        await session.create_branch_from_turn(2, "second-opinion")
        await session.store_run_usage(spent())
        with broken():
            await session.store_run_usage(spent(50))
            with pytest.raises(SecureMemoryError):
                await session.create_branch_from_content("q2", "third-opinion")
        with pytest.raises(ValueError, match="does not exist"):
            await session.switch_to_branch("fourth-opinion")

    asyncio.run(run())
    assert "usage not stored" in caplog.text
    for secret in ("patient-4711", "heart-attack", "opinion", "q2"):
        assert secret not in caplog.text


def test_a_database_of_the_sdk_is_refused(tmp_path: Path) -> None:
    """A file that SQLiteSession wrote is no store: it is left as it is, and the error says how to bring it along."""
    chat = tmp_path / "chat.db"
    with sqlite3.connect(chat) as connection:
        connection.execute("CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY)")
    before = chat.read_bytes()
    with pytest.raises(NotAStoreError) as refused:
        SecureSession("s", chat)
    assert "import" in refused.value.hint
    assert before == chat.read_bytes()
