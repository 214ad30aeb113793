"""What those tests of the SDK are for that can't pass on SecureSession (`excluded.toml`), shown on SecureSession.

They hold up a write where the SDK's tests do: not inside a private method, but by the vault's own write lock (`hold`), and
they make one fail at its last statement (`broken`).
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
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

from secure_memory import SecureMemoryError, SecureSession, SecureStore, SerializationError, TamperedError
from secure_memory.errors import ConfigurationError, NotAStoreError

Insider = Callable[..., Any]
Operation = Callable[[SecureSession], Coroutine[Any, Any, Any]]

ASK: Any = {"role": "user", "content": "q1"}
ANSWER: Any = {"role": "assistant", "content": "a1"}
AGAIN: Any = {"role": "user", "content": "q2"}
HISTORY = [ASK, ANSWER, AGAIN]
NEW: Any = {"role": "user", "content": "new"}


def spent(total: int = 80) -> Any:
    """The result of a run that spent so many tokens."""
    usage = Usage(requests=1, input_tokens=total - 30, output_tokens=30, total_tokens=total)
    return SimpleNamespace(context_wrapper=SimpleNamespace(usage=usage, context=None), raw_responses=[], last_agent=None)


async def replace(session: SecureSession) -> None:
    """Compact the last item."""
    snapshot = await session._get_compaction_snapshot(1)
    assert snapshot is not None
    await snapshot.replace_suffix(0, [NEW])


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
    "replace": replace,
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
        assert excluded.kind in {"file", "private", "argument", "wording", "difference"}, name
        assert excluded.intents, name
        for intent in excluded.intents:
            assert intent in globals(), (name, intent)


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
        await asyncio.gather(*(session.add_items(pair) for pair in pairs))  # type: ignore[arg-type]
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
    said = []
    for process in processes:  # each waits for its line, so that both are ready before either goes on
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert 0 == process.returncode, err
        said.append(out.splitlines())
    (first, made), (second, also_made) = said
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
    with pytest.raises(RuntimeError, match="session is closed|Session is closed"):
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
        asyncio.run(session.add_items([NEW, {"role": "user", "content": object()}]))  # type: ignore[list-item,typeddict-item]
    insider().sql("BEGIN IMMEDIATE" if False else "DELETE FROM items WHERE id < 0")  # a write: the lock is free
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


def compacting(session: SecureSession, output: list[Any], **options: Any) -> tuple[OpenAIResponsesCompactionSession, list[Any]]:
    """The SDK's own compaction over the session, and what it asked for."""
    asked: list[Any] = []

    async def compact(**arguments: Any) -> Any:
        asked.append(arguments)
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
    compacted: list[Any] = [{"role": "assistant", "content": "compacted"}]

    def message(text: str) -> Any:
        return {"type": "message", "role": "assistant", "id": "m", "status": "completed"} | {
            "content": [{"type": "output_text", "text": text, "annotations": []}]
        }

    async def run() -> None:
        inner = store.session("s")
        session, asked = compacting(
            inner,
            compacted,
            compaction_mode="input",
            should_trigger_compaction=lambda context: context["response_id"] == "resp-1",
        )
        replaced: list[asyncio.Event] = []
        handed: list[str] = []
        model = ScriptedModel()
        model.enqueue({"output": [], "response_id": "resp-1"}) if False else None
        del message, replaced, handed, asked, model
        assert copy
        assert json
        assert RunState
        assert HandoffInputData
        assert MessageOutputItem
        assert handoff
        assert Agent
        assert Runner
        assert RunConfig
        assert session
        assert hold

    asyncio.run(run())
