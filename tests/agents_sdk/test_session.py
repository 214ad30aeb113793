"""`agents_sdk/session.py`: what SQLiteSession does, SecureSession does; and what it does besides.

Where the SDK says what is right, the same scenario runs on both. Tampering, the cache and crowds come behind that.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import math
import sqlite3
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, RunContextWrapper, Runner, SQLiteSession, Usage, set_trace_processors
from agents.memory import Session, SessionSettings
from agents.memory.session import _session_accepts_wrapper, is_openai_responses_compaction_aware_session
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from secure_memory import (
    AccessDeniedError,
    Actor,
    ConfigurationError,
    NotAStoreError,
    RollbackError,
    SecureSession,
    SecureStore,
    SerializationError,
    TamperedError,
    acting_as,
)
from secure_memory.conversation import FEW_ROWS
from secure_memory.vault import history

CANARY = "the canary sings"

Scenario = Callable[[Any], Awaitable[Any]]


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def said(items: list[Any]) -> list[Any]:
    return [item["content"] for item in items]


def do(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


# ---- as the SDK's


async def limits(session: Any) -> Any:
    await session.add_items([user(n) for n in range(5)])
    return [said(await session.get_items(limit)) for limit in (None, 0, 1, 3, 5, 9, -1, -7)]


async def reading_nothing(session: Any) -> Any:
    return [await session.get_items(), await session.get_items(3), await session.pop_item(), await session.clear_session()]


async def empty_batches(session: Any) -> Any:
    return [await session.add_items([]), await session.get_items(), await session.pop_item()]


async def popping(session: Any) -> Any:
    await session.add_items([user(1), user(2)])
    popped = [await session.pop_item(), await session.get_items(), await session.pop_item(), await session.pop_item()]
    await session.add_items([user(3)])
    return [*popped, await session.get_items()]


async def clearing(session: Any) -> Any:
    await session.add_items([user(1), user(2)])
    await session.clear_session()
    before = [await session.get_items(), await session.pop_item()]
    await session.add_items([user(3)])
    return [*before, await session.get_items(), await session.get_items(1)]


async def exactness(session: Any) -> Any:
    values: list[Any] = [
        *(2**70, -(2**64), 10**18, 2**53 + 1, 1e308, -0.0, 0.1 + 0.2, math.inf, True, None, [], {}),
        *("\ud800", "\ud83d\ude00", "\x00", "\u2028", "é😀", "\\ud800", "NaN", ", ", ' {"', "x" * 100_000),
    ]
    items = [{"role": "user", "content": value, "nested": {"list": [value, {"k": value}]}} for value in values]
    await session.add_items(items)
    await session.add_items(
        [{"type": "function_call", "name": "\ud800", "call_id": "1"}, {"type": []}, {}, {"role": "a\x00b"}]
    )
    await session.add_items([{7: "seven", None: "none", True: "true"}, {"role": "user", "content": (1, (2,))}])
    return repr(await session.get_items())


async def what_was_given_is_kept(session: Any) -> Any:
    """Changing an item afterwards, the one given or the one got, changes nothing."""
    item = user(["before"])
    await session.add_items([item])
    item["content"].append("after")
    (await session.get_items())[0]["content"].append("after")
    return await session.get_items()


async def settings_count(session: Any) -> Any:
    await session.add_items([user(n) for n in range(5)])
    session.session_settings = SessionSettings(limit=2)
    by_settings = [said(await session.get_items()), said(await session.get_items(4)), said(await session.get_items(0))]
    session.session_settings = {"limit": 3}
    return [*by_settings, said(await session.get_items())]


async def many_items(session: Any) -> Any:
    await session.add_items([user(n) for n in range(300)])
    return [said(await session.get_items()), said(await session.get_items(200)), said(await session.get_items(2))]


SCENARIOS: list[Scenario] = [
    limits,
    reading_nothing,
    empty_batches,
    popping,
    clearing,
    exactness,
    what_was_given_is_kept,
    settings_count,
    many_items,
]


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_does_what_the_sdk_s_does(place: Path, scenario: Scenario, in_memory: bool, cache: bool) -> None:
    """A scenario has the same answers from both, in memory and on disk, with the cache and without."""
    path = ":memory:" if in_memory else str(place)
    with SecureSession("u", path, cache=cache) as ours, closing(SQLiteSession("u")) as theirs:
        assert do(scenario(theirs)) == do(scenario(ours))


@pytest.mark.parametrize("given", [SessionSettings(limit=2), {"limit": 2}])
def test_settings_may_be_given(given: Any) -> None:
    """`session_settings` is taken as the SDK takes it, typed or as a dict."""
    for kind in (SQLiteSession, SecureSession):
        with closing(kind("u", session_settings=given)) as session:
            do(session.add_items([user(n) for n in range(5)]))
            assert [3, 4] == said(do(session.get_items()))
            assert SessionSettings(limit=2) == session.session_settings


def test_a_closed_session() -> None:
    """All four raise RuntimeError, an empty batch too, and closing again is harmless."""
    for kind in (SQLiteSession, SecureSession):
        session = kind("u")
        session.close()
        session.close()
        for ask in (session.get_items, lambda s=session: s.add_items([]), session.pop_item, session.clear_session):
            with pytest.raises(RuntimeError, match="is closed"):
                do(ask())


def test_it_is_a_session() -> None:
    """The SDK's own checks take it for a session that wants the run's context, and for no other kind."""
    with SecureSession("u") as session:
        assert isinstance(session, Session)
        assert _session_accepts_wrapper(session)
        assert not is_openai_responses_compaction_aware_session(session)


def test_its_operations_take_what_the_protocol_s_take() -> None:
    """Each operation begins with the protocol's parameters, in their order."""
    for name in ("get_items", "add_items", "pop_item", "clear_session"):
        theirs = list(inspect.signature(getattr(Session, name)).parameters)
        ours = list(inspect.signature(getattr(SecureSession, name)).parameters)
        assert theirs == ours[: len(theirs)]


@pytest.fixture
def _untold() -> Iterator[None]:
    """Traces go nowhere, whatever key the environment has."""
    set_trace_processors([])
    return


class Parrot(Model):
    """A model that repeats how much it was told."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        text = ResponseOutputText(type="output_text", text=f"{len(input)} items", annotations=[])
        message = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@pytest.mark.usefixtures("_untold")
def test_a_runner_runs_with_it(store: SecureStore) -> None:
    """The SDK's Runner remembers by it, asks in the name of the run's context, and says which run it was."""

    async def run(session: Any) -> list[str]:
        agent = Agent(name="parrot", model=Parrot())
        context = SimpleNamespace(actor=Actor("user:maria", purpose="support"))
        answers = [await Runner.run(agent, text, session=session, context=context) for text in ("one", "two", "three")]
        return [answer.final_output for answer in answers]

    with store.session("u") as ours, closing(SQLiteSession("u")) as theirs:
        assert ["1 items", "3 items", "5 items"] == do(run(ours)) == do(run(theirs))
        assert do(theirs.get_items()) == do(ours.get_items(actor="auditor"))
    entries = [r.entry for r in store.audit_log(tenant="default", actor="user:maria")]
    assert {"session.append", "session.read"} <= {entry.action for entry in entries}
    assert {"support"} == {entry.purpose for entry in entries}
    runs = {entry.run for entry in entries if entry.action == "session.append"}  # the SDK reads before a trace begins
    assert 3 == len(runs)
    assert all(str(run).startswith("trace_") for run in runs)


# ---- arguments


@pytest.mark.parametrize("name", ["sessions_table", "messages_table", "logger", "encryption_key", "ttl", "engine", "url"])
def test_arguments_of_other_sessions_are_refused_by_name(name: str) -> None:
    """What another of the SDK's sessions takes and this one can't is named, with what to do instead."""
    with pytest.raises(ConfigurationError, match=f"does not take {name}=") as raised:
        SecureSession("u", **{name: "x"})
    assert raised.value.hint


def test_the_arguments_of_the_sdk_s_sessions_are_known() -> None:
    """Each argument that SQLiteSession, AdvancedSQLiteSession, EncryptedSession and SQLAlchemySession take is taken or
    refused by name."""
    from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession, SQLAlchemySession

    ours = set(inspect.signature(SecureSession).parameters)
    for kind in (SQLiteSession, AdvancedSQLiteSession, EncryptedSession, SQLAlchemySession):
        for name in set(inspect.signature(kind).parameters) - ours - {"kwargs"}:
            with pytest.raises(ConfigurationError):
                SecureSession("u", **{name: "x"})


def test_an_unknown_argument() -> None:
    """A misspelt argument is a TypeError, as everywhere."""
    with pytest.raises(TypeError, match="'sesion_settings'"):
        SecureSession("u", sesion_settings={})


def test_db_path_and_create_tables(place: Path) -> None:
    """The SDK's names for the path and the tables are taken."""
    with SecureSession("u", db_path=place, create_tables=True) as session:
        do(session.add_items([user(1)]))
    with SecureSession("u", place) as session:
        assert [1] == said(do(session.get_items()))
    with pytest.raises(ValueError, match="the same argument"):
        SecureSession("u", place, db_path=place)


@pytest.mark.parametrize(
    "arguments",
    [
        {"session_id": ""},
        {"session_id": 7},
        {"session_id": None},
        {"session_id": "\ud800"},
        {"subject": ""},
        {"subject": "\ud800"},
        {"subject": 7},
        {"tenant": ""},
        {"tenant": 7},
        {"tenant": "(system)"},
        {"tenant": " acme"},
        {"tenant": "a\nb"},
        {"tenant": "x" * 201},
        {"actor": 7},
        {"actor": ""},
        {"session_settings": 7},
    ],
    ids=str,
)
def test_bad_arguments(store: SecureStore, place: Path, arguments: dict[str, Any]) -> None:
    """A bad name or actor is a ValueError (settings are the SDK's to judge) at once, and not at the first use."""
    error = (ValueError, TypeError) if "session_settings" in arguments else ValueError
    with pytest.raises(error):
        SecureSession(**{"session_id": "u", "path": place, **arguments})
    with pytest.raises(error):
        store.session(**{"session_id": "u", **arguments})
    assert [] == store.tenant_list()


def test_a_plaintext_database(place: Path) -> None:
    """The path of an SDK session database is refused, and the hint says how to bring it in."""
    with closing(SQLiteSession("u", place)) as plain:
        do(plain.add_items([user(1)]))
    with pytest.raises(NotAStoreError, match="plaintext SQLite database") as raised:
        SecureSession("u", place)
    assert "secmem import" in str(raised.value.hint)
    with closing(sqlite3.connect(place)) as untouched:
        assert [(1,)] == untouched.execute("SELECT count(*) FROM agent_messages").fetchall()


def test_a_key_that_is_made_is_announced(tmp_path: Path) -> None:
    """Where no key is named one is made with the store, said once, with its place and that it must be backed up."""
    with pytest.warns(UserWarning, match="Back it up") as warned:
        SecureSession("u", tmp_path / "store").close()
    assert __file__ == warned[0].filename
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SecureSession("u", tmp_path / "store").close()


def test_it_shows_nothing(place: Path) -> None:
    """Neither `repr` nor a traceback of a failed operation shows what was said or whose session it is."""
    with SecureSession(CANARY, place, subject=CANARY) as session:
        assert "<SecureSession of tenant 'default'>" == repr(session)
        with pytest.raises(SerializationError) as raised:
            do(session.add_items([{"role": "user", "content": {CANARY}}]))
        assert CANARY not in repr(raised.value)
    assert "<SecureSession of tenant 'default', closed>" == repr(session)


# ---- batches


def test_a_batch_is_kept_whole_or_not_at_all(store: SecureStore) -> None:
    """Where one item of a batch is no JSON, none of it is kept, and what came before is as it was."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
        entries = len(store.audit_log(tenant="default"))
        for bad in ({"x": {1}}, "text", None, 7):
            with pytest.raises(SerializationError):
                do(session.add_items([user(2), user(3), bad, user(4)]))
        assert [1] == said(do(session.get_items()))
        assert entries + 2 == len(store.audit_log(tenant="default"))  # the get_items, and this reading of the log


def test_a_generator_of_items(store: SecureStore) -> None:
    """Any iterable of items is taken, once."""
    with store.session("u") as session:
        do(session.add_items(user(n) for n in range(3)))  # type: ignore[arg-type]
        assert [0, 1, 2] == said(do(session.get_items()))


# ---- actors: each of the four


FOUR: dict[str, Callable[..., Any]] = {
    "session.append": lambda session, **asker: session.add_items([user(1)], **asker),
    "session.read": lambda session, **asker: session.get_items(**asker),
    "session.pop": lambda session, **asker: session.pop_item(**asker),
    "session.clear": lambda session, **asker: session.clear_session(**asker),
}
"""The four, and the action that each of them is in the ledger."""


@pytest.mark.parametrize(
    ("expected", "asker", "block", "default"),
    [
        ("call", {"actor": "call", "wrapper": "context"}, "block", "default"),
        ("context", {"wrapper": "context"}, "block", "default"),
        ("block", {}, "block", "default"),
        ("default", {}, None, "default"),
    ],
)
def test_who_asked_is_in_every_entry(
    store: SecureStore, expected: str, asker: dict[str, Any], block: str | None, default: str
) -> None:
    """Each of the four records the nearest actor: the call's, the run context's, the block's, the session's."""
    if "wrapper" in asker:
        asker["wrapper"] = RunContextWrapper({"actor": asker["wrapper"]})

    async def work(session: SecureSession) -> None:
        for operation in FOUR.values():
            await operation(session, **asker)

    with store.session("u", actor=default) as session:
        if block is None:
            do(work(session))
        else:
            with acting_as(block):
                do(work(session))
    assert list(FOUR) == [
        r.entry.action for r in store.audit_log(tenant="default", actor=expected) if r.entry.action in FOUR
    ]


def test_nobody_is_the_program(store: SecureStore) -> None:
    """Where nobody is named, the program is."""
    with store.session("u") as session:
        do(session.get_items())
    newest = store.audit_log(tenant="default", action="session.read")[-1].entry
    assert newest.actor.startswith("service:")


def test_all_of_an_actor_is_recorded(store: SecureStore) -> None:
    """Roles, purpose, reason and for whom stand in the entry as they were given."""
    who = Actor("user:maria", ("agent", "lead"), "support", "ticket 7", "user:otto")
    with store.session("u") as session:
        do(session.add_items([user(1)], actor=who))
    newest = store.audit_log(tenant="default", action="session.append")[-1].entry
    assert (who.id, who.roles, who.purpose, who.reason) == (newest.actor, newest.roles, newest.purpose, newest.reason)
    assert "user:otto" == newest.detail["on_behalf_of"]


def test_the_subject_is_recorded_by_uid(store: SecureStore) -> None:
    """Whoever asks as the person that the session is about stands in the ledger by uid, and never by name."""
    with store.session("u", subject=CANARY) as session:
        do(session.add_items([user(1)], actor=CANARY))
        do(session.get_items(actor="someone else"))
        do(session.get_items(actor=CANARY))
    mine = [r.entry for r in store.audit_log(tenant="default") if r.entry.session is not None]
    assert CANARY not in repr(mine)
    by = [entry.actor for entry in mine if entry.action in ("session.append", "session.read")]
    assert [f"subject:{mine[0].subject}", "someone else", f"subject:{mine[0].subject}"] == by


@pytest.mark.parametrize("action", FOUR)
def test_an_actor_may_be_required(place: Path, action: str) -> None:
    """With `require_actor` each of the four refuses nobody, records that it did, and takes anyone who says who they are."""
    with SecureStore.create(place, require_actor=True) as store, store.session("u") as session:
        with pytest.raises(AccessDeniedError, match="nobody said who asks") as raised:
            do(FOUR[action](session))
        assert (action, "an actor") == (raised.value.action, raised.value.needed)
        with acting_as("auditor"):
            newest = store.audit_log(tenant="default", action="access.denied")[-1].entry
        assert ("denied", action) == (newest.outcome, newest.detail["during"])
        assert newest.actor.startswith("service:")
        do(FOUR[action](session, actor="user:maria"))


def test_a_session_may_require_an_actor_by_itself(place: Path) -> None:
    """`require_actor=` of the drop-in does what the store's does."""
    with SecureSession("u", place, require_actor=True) as session:
        with pytest.raises(AccessDeniedError):
            do(session.get_items())
        assert [] == do(session.get_items(actor="user:maria"))


# ---- tampering, by one who has the vault's key

TAMPERED = {
    "an edited item": "UPDATE items SET sealed = zeroblob(99) WHERE id % 2147483648 = 3",
    "a dropped item": "DELETE FROM items WHERE id % 2147483648 = 3",
    "a dropped end": "DELETE FROM items WHERE id % 2147483648 = 5",
    "no items": "DELETE FROM items",
    "another turn": "UPDATE items SET turn = 1 WHERE id % 2147483648 = 3",
    "another role": "UPDATE items SET role = 'system' WHERE id % 2147483648 = 3",
    "another kind": "UPDATE items SET kind = 'reasoning' WHERE id % 2147483648 = 3",
    "a label that is no text": "UPDATE items SET tool = CAST(x'ff' AS TEXT) WHERE id % 2147483648 = 3",
    "another link": "UPDATE items SET link = zeroblob(32) WHERE id % 2147483648 = 3",
    "an item too many": (
        "INSERT INTO items SELECT id + 1, turn, uid, link, kind, role, tool, created, sealed FROM items"
        " WHERE id % 2147483648 = 5"
    ),
    "a session's row that is gone": "DELETE FROM sessions",
    "a session's row of another name": "UPDATE sessions SET name = zeroblob(32)",
    "a session's row of another branch": "UPDATE sessions SET branch = 7",
    "a session's row of another subject": "UPDATE sessions SET subject = zeroblob(16)",
    "a session's row with a number that none has": "UPDATE sessions SET key_version = -1",
    "a head that is gone": "UPDATE ledger SET branch = NULL",
    "an older head": "UPDATE ledger SET branch = NULL WHERE seq = (SELECT max(seq) FROM ledger WHERE branch IS NOT NULL)",
    "a head that was edited": "UPDATE ledger SET entry = x'7b7d' WHERE branch IS NOT NULL",
}


@pytest.fixture
def five(store: SecureStore, insider: Callable[..., Any]) -> Callable[[str], None]:
    """A session of five items in a vault that nobody has open; what is returned edits its rows."""
    with store.session("u") as session:
        for n in range(1, 6):
            do(session.add_items([user(n)]))
        do(session.get_items())  # so that no head is in the ledger's last row, which opening checks
    attacker = insider()
    store.close()
    return lambda statement: attacker.sql(statement)


@pytest.mark.parametrize("attack", TAMPERED)
def test_tampering_is_found_by_a_read(place: Path, five: Callable[[str], None], attack: str) -> None:
    """Every edit is found by a process that never saw the vault before, is raised, and is an entry."""
    five(TAMPERED[attack])
    with SecureStore.open(place) as store, store.session("u") as session:
        for _ in range(2):
            with pytest.raises(TamperedError) as raised:
                do(session.get_items(actor="user:maria"))
            assert raised.value.hint
        found = [r.entry for r in store.audit_log(tenant="default", action="session.tampered", limit=2)]
    assert ["session.read"] * 2 == [entry.detail["during"] for entry in found]
    assert {("failed", "user:maria")} == {(entry.outcome, entry.actor) for entry in found}


@pytest.mark.parametrize("attack", ["a dropped end", "an item too many", "a session's row that is gone", "an older head"])
@pytest.mark.parametrize("action", ["session.append", "session.pop", "session.clear"])
def test_tampering_is_found_by_a_write(place: Path, five: Callable[[str], None], attack: str, action: str) -> None:
    """A write that meets what was not written raises, and it is an entry; what it doesn't meet the whole check finds."""
    five(TAMPERED[attack])
    with SecureStore.open(place) as store, store.session("u") as session:
        try:
            do(FOUR[action](session))
        except TamperedError:
            assert store.audit_log(tenant="default", action="session.tampered", limit=1)
        else:
            assert "session.append" == action
        with pytest.raises(TamperedError):
            store.audit_verify(tenant="default")


def test_two_sessions_can_t_be_swapped(store: SecureStore, insider: Callable[..., Any]) -> None:
    """One person's session is not given out for another's, though all rows of both be exchanged."""
    for name in ("maria", "otto"):
        with store.session(name) as session:
            do(session.add_items([user(name)]))
    attacker = insider()
    store.close()
    for column in ("name", "branch"):
        a, b = (row[0] for row in attacker.sql(f"SELECT {column} FROM sessions ORDER BY id"))
        for value, row in ((b"x" if column == "name" else 99, 1), (a, 2), (b, 1)):
            attacker.sql(f"UPDATE sessions SET {column} = ? WHERE id = ?", value, row)
        with SecureStore.open(store.path or "") as again, again.session("maria") as session, pytest.raises(TamperedError):
            do(session.get_items())


def test_an_item_of_another_session_does_not_open(store: SecureStore, insider: Callable[..., Any]) -> None:
    """A whole row of another session, put in the place of one, is found."""
    for name in ("maria", "otto"):
        with store.session(name) as session:
            do(session.add_items([user(name)]))
    attacker = insider()
    store.close()
    columns = "turn, uid, link, kind, role, tool, created, sealed"
    attacker.sql(
        f"UPDATE items SET ({columns}) = (SELECT {columns} FROM items WHERE id = 2 * 2147483648 + 1)"
        " WHERE id = 2147483648 + 1"
    )
    with SecureStore.open(store.path or "") as again, again.session("maria") as session, pytest.raises(TamperedError):
        do(session.get_items())


def test_a_live_session_finds_a_rollback(store: SecureStore, insider: Callable[..., Any]) -> None:
    """A ledger that went back under a session that is in use is found by its next operation, with or without the cache."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
        insider().sql("DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)")
        for operation in FOUR.values():
            with pytest.raises(RollbackError):
                do(operation(session))


# ---- the cache


OTHER_PROCESS = """
import asyncio, json, sys
from secure_memory import SecureStore
async def main():
    with SecureStore.open(sys.argv[1]) as store, store.session("u") as session:
        for step in json.loads(sys.argv[2]):
            if step == "pop":
                await session.pop_item()
            elif step == "clear":
                await session.clear_session()
            else:
                await session.add_items([{"role": "user", "content": step}])
asyncio.run(main())
"""

STEPS = [
    [6],
    ["pop"],
    ["clear"],
    ["pop", 6],
    ["pop", "pop", 6],
    ["clear", 6, 7],
    [6, "clear"],
    ["pop"] * 5,
    ["pop"] * 5 + [6],
]


def after(steps: list[Any]) -> list[Any]:
    """What five items are after some steps."""
    items: list[Any] = [1, 2, 3, 4, 5]
    for step in steps:
        items = items[:-1] if step == "pop" else [] if step == "clear" else [*items, step]
    return items


@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_what_another_session_object_does_is_seen(store: SecureStore, steps: list[Any]) -> None:
    """A session that remembers its items sees what another of the same name did, whole and in part."""
    with store.session("u") as mine, store.session("u") as other:
        do(mine.add_items([user(n) for n in range(1, 6)]))
        assert [1, 2, 3, 4, 5] == said(do(mine.get_items()))

        async def work() -> None:
            for step in steps:
                if step == "pop":
                    await other.pop_item()
                elif step == "clear":
                    await other.clear_session()
                else:
                    await other.add_items([user(step)])

        do(work())
        for limit in (2, None, 0, 4):
            expected = after(steps) if limit is None else after(steps)[len(after(steps)) - limit :] if limit else []
            assert (expected if limit is None or limit <= len(after(steps)) else after(steps)) == said(
                do(mine.get_items(limit))
            )


@pytest.mark.parametrize("steps", [[6], ["pop", 6], ["clear", 6]], ids=str)
def test_what_another_process_does_is_seen(store: SecureStore, place: Path, elsewhere: Any, steps: list[Any]) -> None:
    """So it does where the other is another process."""
    with store.session("u") as session:
        do(session.add_items([user(n) for n in range(1, 6)]))
        assert [1, 2, 3, 4, 5] == said(do(session.get_items()))
        elsewhere(OTHER_PROCESS, place, json.dumps(steps))
        assert after(steps) == said(do(session.get_items()))
        do(session.add_items([user(9)]))
        assert [*after(steps), 9] == said(do(session.get_items()))


def test_remembered_items_are_not_read_again(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proven once is not opened again while it is the history; without the cache it is."""
    opened: list[int] = []
    real = history.unsealed
    monkeypatch.setattr(history, "unsealed", lambda items, *rest: opened.append(len(items)) or real(items, *rest))
    with store.session("u") as cached, store.session("u", cache=False) as plain:
        do(cached.add_items([user(n) for n in range(10)]))
        for session in (cached, plain):
            do(session.get_items())
            do(session.get_items(3))
    assert [0, 0, 10, 3] == opened


def test_a_long_history_is_opened_by_the_worker(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a few rows are not opened where it is asked, whether all are new or many follow what is remembered."""
    where: list[int] = []
    real = history.unsealed
    monkeypatch.setattr(history, "unsealed", lambda items, *rest: where.append(threading.get_ident()) or real(items, *rest))
    with store.session("u") as mine, store.session("u") as other:
        do(mine.add_items([user(0)]))
        do(other.add_items([user(n) for n in range(FEW_ROWS + 1)]))
        assert FEW_ROWS + 2 == len(do(mine.get_items()))
        assert 1 == len(do(mine.get_items(1)))
        with store.session("u", cache=False) as third:
            do(third.get_items())
            do(third.get_items(3))
    here = threading.get_ident()
    assert [False, True, False, True] == [ident == here for ident in where]


# ---- crowds


def test_tasks_that_begin_a_session_together(place: Path) -> None:
    """Many tasks on one new session, in memory and on disk: nothing is lost, nothing doubled, and the ledger is whole."""

    async def work(session: SecureSession) -> list[Any]:
        await asyncio.gather(*(session.add_items([user(n), user(-n)]) for n in range(1, 41)))
        return said(await session.get_items())

    for path in (":memory:", place):
        with SecureSession("u", path) as session:
            items = do(work(session))
        pairs = [tuple(items[at : at + 2]) for at in range(0, len(items), 2)]
        assert sorted(pairs) == [(n, -n) for n in range(1, 41)]
    with SecureStore.open(place) as store:
        (_, default) = store.audit_verify()
        assert (80, 1) == (default.items, default.sessions)


def test_threads_with_event_loops_of_their_own(store: SecureStore) -> None:
    """One session object works from several threads and event loops at once."""
    session = store.session("u")
    errors: list[BaseException] = []

    def work(first: int) -> None:
        async def one() -> None:
            for n in range(10):
                await session.add_items([user(first + n)])
                assert first + n in said(await session.get_items())

        try:
            asyncio.run(one())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    items = said(do(session.get_items()))
    assert sorted(100 * t + n for t in range(4) for n in range(10)) == sorted(items)
    for t in range(4):
        assert sorted(own := [n for n in items if n // 100 == t]) == own
    session.close()
    store.audit_verify()


def test_one_loop_after_another(store: SecureStore) -> None:
    """A session outlives the event loop that it was used in."""
    with store.session("u") as session:
        for n in range(5):
            asyncio.run(session.add_items([user(n)]))
        assert [0, 1, 2, 3, 4] == said(asyncio.run(session.get_items()))


def test_readers_and_writers_together(store: SecureStore) -> None:
    """What a read returns while others write is a history that was, from its beginning to some moment."""

    async def work() -> None:
        mine, other = store.session("u"), store.session("u")
        seen: list[list[int]] = []

        async def write(session: SecureSession) -> None:
            for n in range(20):
                await session.add_items([user(n)])

        async def read(session: SecureSession) -> None:
            for _ in range(30):
                seen.append(said(await session.get_items()))
                await asyncio.sleep(0)

        await asyncio.gather(write(mine), read(mine), read(other))
        final = said(await mine.get_items())
        assert all(final[: len(one)] == one for one in seen)
        mine.close()
        other.close()

    do(work())


def test_an_actor_is_its_task_s_alone(store: SecureStore) -> None:
    """Tasks and threads that ask at the same time are recorded each under its own name, the subject by uid."""
    with store.session("u", subject="maria") as session:
        do(session.add_items([user(1)], actor="setup"))

        def work(name: str) -> None:
            async def ask() -> None:
                with acting_as(name, reason=name):
                    for _ in range(25):
                        await session.get_items()

            asyncio.run(ask())

        threads = [threading.Thread(target=work, args=(name,)) for name in ("maria", "otto", "eve")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    reads = [r.entry for r in store.audit_log(tenant="default", action="session.read")]
    subject = f"subject:{reads[0].subject}"
    assert 75 == len(reads)
    assert {("maria", subject), ("otto", "otto"), ("eve", "eve")} == {(entry.reason, entry.actor) for entry in reads}


# ---- against a model


class Conversing(RuleBasedStateMachine):
    """Two SecureSession objects of one conversation, one that remembers and one that does not, beside SQLiteSession and a
    plain list: whatever is done through either, all agree."""

    number = itertools.count()

    @initialize()
    def begin(self) -> None:
        if not hasattr(Conversing, "store"):
            Conversing.store = SecureStore.in_memory()
        name = f"session {next(self.number)}"
        self.ours = [Conversing.store.session(name), Conversing.store.session(name, cache=False)]
        self.theirs = SQLiteSession(name)
        self.model: list[Any] = []
        self.base = 0

    @rule(which=st.integers(0, 1), contents=st.lists(st.integers() | st.text(max_size=5), max_size=4))
    def add(self, which: int, contents: list[Any]) -> None:
        items = [
            {"role": role, "content": c} for c, role in zip(contents, itertools.cycle(["user", "assistant"]), strict=False)
        ]
        do(self.ours[which].add_items(items))
        do(self.theirs.add_items(items))
        self.model += items

    @rule(which=st.integers(0, 1))
    def pop(self, which: int) -> None:
        expected = self.model.pop() if self.model else None
        assert expected == do(self.ours[which].pop_item()) == do(self.theirs.pop_item())

    @rule(which=st.integers(0, 1))
    def clear(self, which: int) -> None:
        do(self.ours[which].clear_session())
        do(self.theirs.clear_session())
        self.model = []

    @rule(which=st.integers(0, 1), limit=st.none() | st.integers(-1, 9))
    def read(self, which: int, limit: int | None) -> None:
        expected = self.model if limit is None or limit < 0 else self.model[max(0, len(self.model) - limit) :]
        assert expected == do(self.ours[which].get_items(limit)) == do(self.theirs.get_items(limit))

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "model"):
            assert self.model == do(self.ours[0].get_items())

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.theirs.close()
            for session in self.ours:
                session.close()


TestConversing = Conversing.TestCase
TestConversing.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def _close_the_model_s_store() -> Iterator[None]:
    yield
    if hasattr(Conversing, "store"):
        (_, default) = Conversing.store.audit_verify()
        assert default.sessions > 0
        Conversing.store.close()
