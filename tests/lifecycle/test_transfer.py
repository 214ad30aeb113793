"""Import and export: all that the SDK gives back is here afterwards, once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from agents.usage import Usage

from secure_memory import clock
from secure_memory.errors import AccessDeniedError, ConfigurationError, StorageError, TamperedError
from secure_memory.lifecycle.transfer import importing
from secure_memory.lifecycle.transfer.foreign import Foreign
from secure_memory.lifecycle.transfer.transfers import UnreadableRow
from secure_memory.store import SecureStore

if TYPE_CHECKING:
    from conftest import Chat  # type: ignore[import-not-found]

KILLED = """
import os, sys
from secure_memory import SecureStore
from secure_memory.lifecycle.transfer import importing, intake

place, database, how, after = *sys.argv[1:4], int(sys.argv[4])
importing.CHUNK = 50
kept = intake.Intake._append
calls = 0

def append(*arguments):
    global calls
    kept(*arguments)
    calls += 1
    if how == "inside" and calls == after:
        os.kill(os.getpid(), 9)

def progress(rows, total):
    if how == "between" and rows >= after * 50:
        os.kill(os.getpid(), 9)

intake.Intake._append = append
with SecureStore.open(place) as store:
    print(store.import_sessions(database, tenant="acme", progress=progress).items)
"""


def bring(store: SecureStore, chat: Chat, **options: Any) -> Any:
    return store.import_sessions(chat.path, tenant="acme", **options)


def states(report: Any) -> dict[str, str]:
    return {one.session: one.state for one in report.sessions}


def exported(store: SecureStore, **options: Any) -> list[dict[str, Any]]:
    out = io.BytesIO()
    store.export_sessions(out, tenant="acme", **options)
    return [json.loads(line) for line in out.getvalue().splitlines()]


# ---- what comes in --------------------------------------------------------------------------------------------------


def test_plain(store: SecureStore, chat: Chat) -> None:
    """Every session of a SQLiteSession database gives back what it gave back before, to the last character."""
    odd = [{"role": "user", "content": "\ud83d \x00 ✓", "n": [2**70, 1.0, -0.0, None]}, {"a": {}}]
    for name, items in (("a", chat.talk(3)), ("b@x", odd), ("c", chat.talk(1))):
        chat.plain(name, items)
    report = bring(store, chat)
    assert (True, "SQLiteSession", 12 + 2 + 4) == (report.whole, report.kind, report.items)
    for name in ("a", "b@x", "c"):
        assert chat.items(name) == chat.stored(store, name)
    store.audit_verify()


def test_branches(store: SecureStore, chat: Chat) -> None:
    """Branches keep their names and what is in them, and the items that they share stay the same items."""
    chat.advanced("a", chat.forked)
    before = chat.branches("a")
    assert 3 == len(before)
    report = bring(store, chat)
    assert (True, 10 + 2 + 1) == (report.whole, report.items)
    for name, items in before.items():
        assert items == chat.stored(store, "a", name)
    with store._shared.tenant("acme").vault.database.snapshot() as execute:
        assert (10 + 6 + 3, 10 + 2 + 1) == execute("SELECT count(*), count(DISTINCT uid) FROM items").fetchone()
    store.audit_verify()


def test_a_branch_from_the_first_turn(store: SecureStore, chat: Chat) -> None:
    """A session whose main branch was emptied has its other branches nevertheless, and is not imported twice."""

    async def script(session: Any) -> None:
        await session.add_items(chat.talk(1))
        await session.create_branch_from_turn(1, "anew")
        await session.add_items(chat.talk(2))
        await session.switch_to_branch("main")
        while await session.pop_item():
            pass

    chat.advanced("a", script)
    assert 8 == bring(store, chat).items
    assert ([], 8) == (chat.stored(store, "a", "main"), len(chat.stored(store, "a", "anew")))
    assert {"a": "already"} == states(bring(store, chat))


def test_times_are_kept(store: SecureStore, chat: Chat) -> None:
    """An item keeps the time at which the SDK wrote it; one without takes that of the item before it."""
    chat.plain("a", [{"role": "user", "content": str(n)} for n in range(3)])
    for number, when in enumerate(["2024-05-06 07:08:09", None, "2024-05-07 00:00:00"], 1):
        chat.sql(f"UPDATE agent_messages SET created_at = ? WHERE id = {number}", values=[when])
    bring(store, chat)
    times = [line["created"] for line in exported(store)]
    assert ["2024-05-06T07:08:09.000000Z"] * 2 + ["2024-05-07T00:00:00.000000Z"] == times


def test_sessions_and_branches_keep_their_age(store: SecureStore, chat: Chat) -> None:
    """An imported session was created when its row says so, a branch when its first message was put there; retention
    and lists go by that, and the row is bound like any other."""
    chat.advanced("a", chat.forked)
    session_began, branch_began = "2023-01-02 03:04:05", "2023-06-07 08:09:10"
    chat.sql("UPDATE agent_sessions SET created_at = ?", values=[session_began])
    chat.sql("UPDATE message_structure SET created_at = ? WHERE branch_id <> 'main'", values=[branch_began])
    bring(store, chat)
    assert [clock.parse(session_began)] == [info.created for info in store.sessions(tenant="acme")]
    with store.session("a", tenant="acme") as session:
        found = {branch["branch_id"]: branch["created_at"] for branch in session.blocking.list_branches()}
    assert {branch_began} == {str(when) for name, when in found.items() if name != "main"}
    store.audit_verify()


def test_a_session_without_a_row_is_as_old_as_its_first_item(store: SecureStore, chat: Chat) -> None:
    """Where the database does not say when a session began, its oldest imported item does."""
    chat.plain("a", [{"role": "user", "content": str(n)} for n in range(2)])
    chat.sql("UPDATE agent_messages SET created_at = '2024-05-06 07:08:09'", "DELETE FROM agent_sessions")
    bring(store, chat)
    assert [clock.parse("2024-05-06 07:08:09")] == [info.created for info in store.sessions(tenant="acme")]


@pytest.mark.parametrize("key", [None, "a plain passphrase"])
def test_encrypted(store: SecureStore, chat: Chat, key: str | None) -> None:
    """What EncryptedSession encrypted is decrypted with its key, one in base64 or any other text."""
    chat.encrypted("a", chat.talk(3), key)
    report = bring(store, chat, encryption_key=key or chat.KEY)
    assert (True, 12) == (report.whole, report.items)
    assert chat.talk(3) == chat.stored(store, "a")


def test_encrypted_branches(store: SecureStore, chat: Chat) -> None:
    """EncryptedSession over AdvancedSQLiteSession has branches too."""
    from agents.extensions.memory import EncryptedSession

    async def script(session: Any) -> None:
        await EncryptedSession("a", session, chat.KEY).add_items(chat.talk(2))

    chat.advanced("a", script)
    assert 8 == bring(store, chat, encryption_key=chat.KEY).items
    assert chat.talk(2) == chat.stored(store, "a")


def test_usage(store: SecureStore, chat: Chat) -> None:
    """What was spent in each turn comes along, once, and what is recorded later follows."""

    def spent(tokens: int) -> Any:
        usage = Usage(requests=1, input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1)
        return SimpleNamespace(context_wrapper=SimpleNamespace(usage=usage))

    async def script(session: Any) -> None:
        await session.add_items(chat.talk(2))
        await session.store_run_usage(spent(10))
        await session.create_branch_from_turn(2, "b")
        await session.add_items(chat.talk(1))
        await session.store_run_usage(spent(20))

    async def later(session: Any) -> None:
        await session.store_run_usage(spent(40))

    chat.advanced("a", script)
    report = bring(store, chat)
    assert (True, 2) == (report.whole, report.usage)
    assert [11 + 21] == [total.total_tokens for total in store.usage(tenant="acme")]
    assert 0 == bring(store, chat).usage
    chat.advanced("a", later)
    assert (1, 0) == (bring(store, chat).usage, bring(store, chat).usage)
    assert [41 + 21] == [total.total_tokens for total in store.usage(tenant="acme")]
    chat.sql("UPDATE turn_usage SET user_turn_number = 99")
    assert ["2 times: row of turn_usage of no turn that there is"] == list(bring(store, chat).notes)
    store.audit_verify()


def test_it_is_recorded(store: SecureStore, chat: Chat) -> None:
    """Each session's import is an entry with counts, and without a name, a path or a word of what was said."""
    chat.plain("user@example.com", chat.talk(2, "secret"))
    bring(store, chat)
    (record,) = store.audit_log(tenant="acme", action="store.import")
    assert (8, 8, 0) == (record.entry.items, record.entry.detail["rows"], record.entry.detail["skipped"])
    assert "user@example.com" == record.session_name
    for word in ("user@", "secret", "chat.db"):
        assert word not in json.dumps(record.entry.detail)


def test_it_can_be_denied(place: Path, chat: Chat) -> None:
    """Where the store wants to know who asks, an import that nobody asks for is refused, and so is an export."""
    chat.plain("a", chat.talk(1))
    with SecureStore.create(place, require_actor=True) as store:
        with pytest.raises(AccessDeniedError):
            bring(store, chat)
        with pytest.raises(AccessDeniedError):
            store.export_sessions(io.BytesIO(), tenant="nobody")


# ---- once, whatever happens -----------------------------------------------------------------------------------------


def test_ten_thousand(store: SecureStore, chat: Chat) -> None:
    """10,000 items that the SDK wrote are imported in chunks, with progress, and once."""
    chat.plain("a", chat.talk(2500))
    seen: list[tuple[int, int]] = []
    assert 10_000 == bring(store, chat, progress=lambda *rows: seen.append(rows)).items
    assert sorted(seen) == seen
    assert (5, (10_000, 10_000)) == (len(store.audit_log(tenant="acme", action="store.import")), seen[-1])
    assert chat.items("a") == chat.stored(store, "a")
    again = bring(store, chat)
    assert (0, {"a": "already"}) == (again.items, states(again))


@pytest.mark.parametrize("how", ["inside", "between"])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_killed(store: SecureStore, chat: Chat, how: str, after: int) -> None:
    """Killed in a transaction or between two, and run again, an import brings everything, in order and once."""
    chat.plain("long", chat.talk(60))
    chat.advanced("forked", chat.forked)
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.path), str(chat.path), how, str(after)], check=False)
    assert -9 == done.returncode
    report = bring(store, chat)
    assert report.whole
    assert (how == "between" or after > 1) == (report.items < 240 + 13)
    assert chat.items("long") == chat.stored(store, "long")
    for name, items in chat.branches("forked").items():
        assert items == chat.stored(store, "forked", name)
    assert {"long": "already", "forked": "already"} == states(bring(store, chat))
    store.audit_verify()


def test_stopped_between_branches(store: SecureStore, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that were imported before stay the same items in the branches that come later."""
    chat.advanced("a", chat.forked)
    monkeypatch.setattr(importing, "CHUNK", 1)

    def stop(rows: int, total: int) -> None:
        if rows >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(store, chat, progress=stop)
    assert 0 < bring(store, chat).items < 13
    with store._shared.tenant("acme").vault.database.snapshot() as execute:
        assert (10 + 6 + 3, 10 + 2 + 1) == execute("SELECT count(*), count(DISTINCT uid) FROM items").fetchone()
    for name, items in chat.branches("a").items():
        assert items == chat.stored(store, "a", name)


def test_two_at_once(store: SecureStore, chat: Chat) -> None:
    """Two imports at once bring each item once."""
    chat.plain("long", chat.talk(500))
    chat.advanced("forked", chat.forked)
    source = KILLED.replace("CHUNK = 50", "CHUNK = 20")
    command = [sys.executable, "-c", source, str(store.path), str(chat.path), "never", "0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(one.communicate(timeout=60)[0]) for one in both]
    assert [0, 0] == [one.returncode for one in both]
    assert 2000 + 13 == sum(counts)
    assert chat.items("long") == chat.stored(store, "long")
    for name, items in chat.branches("forked").items():
        assert items == chat.stored(store, "forked", name)
    with store._shared.tenant("acme").vault.database.snapshot() as execute:
        assert (2000 + 13,) == execute("SELECT count(DISTINCT uid) FROM items").fetchone()
    store.audit_verify()


def test_a_live_database(store: SecureStore, chat: Chat) -> None:
    """From a database in use comes what is in it now; run again, what was said since, on new branches too."""
    live = chat.open("a")
    asyncio.run(live.add_items(chat.talk(2)))
    assert {"a": "imported"} == states(bring(store, chat))
    asyncio.run(live.add_items(chat.talk(3)))
    report = bring(store, chat)
    assert (12, {"a": "continued"}) == (report.items, states(report))
    assert asyncio.run(live.get_items()) == chat.stored(store, "a")


def test_a_database_that_comes_into_use(store: SecureStore, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody begins to write to a database that nobody used, the import stops, and run again goes on."""
    monkeypatch.setattr(importing, "CHUNK", 8)
    chat.plain("a", chat.talk(10))

    def write(rows: int, total: int) -> None:
        if rows == 8:
            asyncio.run(chat.open("a").add_items(chat.talk(1)))

    with pytest.raises(StorageError, match="began to be written to"):
        bring(store, chat, progress=write)
    assert {"a": "continued"} == states(bring(store, chat))
    assert 44 == len(chat.stored(store, "a"))


# ---- what is left alone ---------------------------------------------------------------------------------------------


def refused(report: Any) -> list[str]:
    return [one.why for one in report.sessions if one.state == "refused"]


def append(store: SecureStore, name: str, **how: Any) -> None:
    async def script() -> None:
        session = store.session(name, tenant="acme", **how)
        await session.add_items([{"role": "user", "content": "here"}])
        session.close()

    asyncio.run(script())


def test_a_session_that_was_begun_here(store: SecureStore, chat: Chat) -> None:
    """A session of the same name that was not imported is left alone; the others are imported."""
    append(store, "a")
    chat.plain("a", chat.talk(1))
    chat.plain("b", chat.talk(1))
    report = bring(store, chat)
    assert ["there is such a session, and it was not imported"] == refused(report)
    assert (False, 4, 1) == (report.whole, report.items, len(chat.stored(store, "a")))


def test_a_session_that_is_begun_here_meanwhile(store: SecureStore, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is begun after the import looked for it, and before it writes, is not appended to either."""
    chat.plain("a", chat.talk(1))
    monkeypatch.setattr(Foreign, "check", lambda database: append(store, "a"))
    assert ["there is such a session, and it was not imported"] == refused(bring(store, chat))
    assert 1 == len(chat.stored(store, "a"))


def test_a_session_that_went_on_here(store: SecureStore, chat: Chat) -> None:
    """A session that went on here is imported already, until its database goes on too: then it is left alone."""
    chat.plain("a", chat.talk(1))
    bring(store, chat)
    append(store, "a")
    assert {"a": "already"} == states(bring(store, chat))
    chat.plain("a", chat.talk(1))
    assert ["it was written to since it was imported, and so was the database"] == refused(bring(store, chat))
    assert 5 == len(chat.stored(store, "a"))


def test_what_was_cleared_here_stays_cleared(store: SecureStore, chat: Chat) -> None:
    """An import brings nothing back that was deleted here."""

    async def clear() -> None:
        session = store.session("a", tenant="acme")
        await session.clear_session()
        session.close()

    chat.plain("a", chat.talk(1))
    bring(store, chat)
    asyncio.run(clear())
    assert {"a": "already"} == states(bring(store, chat))
    assert [] == chat.stored(store, "a")


def test_another_database(store: SecureStore, chat: Chat) -> None:
    """A session of the same name from another database, or one that was edited or cut, is not appended to."""
    chat.plain("a", chat.talk(2))
    bring(store, chat)
    chat.sql("""UPDATE agent_messages SET message_data = '{"role": "user", "content": "else"}' WHERE id = 2""")
    assert ["it was imported from other messages, or they were changed since"] == refused(bring(store, chat))
    chat.sql("DELETE FROM agent_messages WHERE id > 2")
    assert ["messages that were imported are gone from the database"] == refused(bring(store, chat))
    assert chat.talk(2) == chat.stored(store, "a")


def test_a_moved_database_is_the_same(store: SecureStore, chat: Chat, tmp_path: Path) -> None:
    """What is imported already is known by what it is, and not by where it lay."""
    chat.plain("a", chat.talk(2))
    bring(store, chat)
    chat.path = chat.path.rename(tmp_path / "moved.db")
    assert {"a": "already"} == states(bring(store, chat))


# ---- rows without an item -------------------------------------------------------------------------------------------


def test_rows_without_an_item(store: SecureStore, chat: Chat) -> None:
    """Rows that hold no item are counted, and named by id and reason; the others come."""
    chat.plain("a", chat.talk(2))
    deep = '{"a":' * 100_000
    for number, data in enumerate(["{", "[1]", b"\xff", None, deep], 1):
        chat.sql(f"INSERT INTO agent_messages VALUES ({100 + number}, 'a', 'x', NULL)")
        if data is not None:
            chat.sql(f"UPDATE agent_messages SET message_data = ? WHERE id = {100 + number}", values=[data])
    chat.sql("UPDATE agent_messages SET message_data = CAST(x'ff7b' AS TEXT) WHERE id = 104")
    report = bring(store, chat)
    assert (False, 8, 5) == (report.whole, report.items, report.unreadable)
    reasons = ("not JSON", "not a JSON object", "not JSON", "not text", "not JSON")
    assert [UnreadableRow("a", 101 + n, reason) for n, reason in enumerate(reasons)] == list(report.unreadable_rows)
    assert chat.talk(2) == chat.stored(store, "a")
    again = bring(store, chat)
    assert (0, 5, {"a": "already"}) == (again.items, again.unreadable, states(again))


def test_envelopes_that_do_not_open(store: SecureStore, chat: Chat, noon: Any) -> None:
    """Without a key, with another one, expired or not encrypted: nothing is imported of it, and then all with the key."""
    chat.encrypted("a", chat.talk(1))
    noon.now = clock.parse("2100-01-01T00:00:00Z")
    for options, reason in (
        ({}, "encrypted, and no key was given"),
        ({"encryption_key": "another"}, "encrypted with another key, or altered"),
        ({"encryption_key": chat.KEY, "ttl": 600}, "expired"),
    ):
        report = bring(store, chat, **options)
        assert ({reason: 4}, {"a": "unreadable"}) == (Counter(r.reason for r in report.unreadable_rows), states(report))
    assert [] == store.sessions(tenant="acme")
    chat.plain("a", [{"role": "user", "content": "planted"}])
    report = bring(store, chat, encryption_key=chat.KEY)
    assert ["not encrypted, though a key was given"] == [row.reason for row in report.unreadable_rows]
    assert chat.talk(1) == chat.stored(store, "a")


def test_messages_in_no_branch(store: SecureStore, chat: Chat) -> None:
    """Messages without a structure row are left out, as the SDK leaves them out, and are named."""
    chat.advanced("a", chat.forked)
    chat.sql("DELETE FROM message_structure WHERE message_id = 9")
    report = bring(store, chat)
    assert [UnreadableRow("a", 9, "in no branch")] == list(report.unreadable_rows)
    assert chat.branches("a")["main"] == chat.stored(store, "a", "main")


# ---- whose it is ----------------------------------------------------------------------------------------------------


def subjects(store: SecureStore) -> set[str]:
    return {line["subject"] for line in exported(store)}


def test_subjects(store: SecureStore, chat: Chat, tmp_path: Path) -> None:
    """A session is its own subject, or that of its id's prefix, or the one that a table names."""
    chat.plain("ana-1", chat.talk(1))
    chat.plain("ben", chat.talk(1))
    bring(store, chat, subject_from="prefix:-")
    assert {"ana", "ben"} == subjects(store)
    table = tmp_path / "subjects.csv"
    table.write_text('\ufeffsession_id,subject\nana-1,"Ana, A."\n\nben,ben\n')
    store.import_sessions(chat.path, tenant="two", subject_from=str(table))
    out = io.BytesIO()
    store.export_sessions(out, tenant="two")
    assert {"Ana, A.", "ben"} == {json.loads(line)["subject"] for line in out.getvalue().splitlines()}
    assert ["it belongs to another subject"] == refused(bring(store, chat))  # by its own id, this time


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("ana-1,ana\n", "none for the session 'ben'"),
        ("ana-1,ana\nben\n", "line 2: not a session and its subject"),
        ("ana-1,ana\nana-1,eve\nben,ben\n", "line 2: the session had another subject above"),
        ("\x00\udcff", "not text in CSV"),
        (None, "no such file or directory"),
    ],
)
def test_a_table_that_says_not_whose(store: SecureStore, chat: Chat, tmp_path: Path, table: str | None, said: str) -> None:
    """Where a table of subjects lacks a session or can't be read, nothing is imported at all."""
    chat.plain("ana-1", chat.talk(1))
    chat.plain("ben", chat.talk(1))
    if table is not None:
        (tmp_path / "subjects.csv").write_bytes(table.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=said):
        bring(store, chat, subject_from=str(tmp_path / "subjects.csv"))
    assert [] == store.tenant_list()


@pytest.mark.parametrize("options", [{"subject_from": "prefix:"}, {"ttl": -1}, {"encryption_key": ""}])
def test_bad_arguments(store: SecureStore, chat: Chat, options: dict[str, Any]) -> None:
    """What makes no sense is a ValueError, and nothing is imported."""
    chat.plain("a", chat.talk(1))
    with pytest.raises(ValueError, match=r"separator|seconds|empty"):
        bring(store, chat, **options)
    assert [] == store.tenant_list()


# ---- export ---------------------------------------------------------------------------------------------------------


def test_export(store: SecureStore, chat: Chat, tmp_path: Path) -> None:
    """Every item of every branch is a line, in a file for its owner alone; each session read is an entry."""
    chat.plain("a", chat.talk(2))
    chat.advanced("b", chat.forked)
    bring(store, chat)
    out = tmp_path / "out.jsonl"
    report = store.export_sessions(out, tenant="acme")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert (2, 8 + 19, 0, len(lines)) == (report.sessions, report.items, report.erased, 8 + 19)
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    assert ["session", "subject", "branch", "position", "turn", "created", "item"] == list(lines[0])
    assert chat.talk(2) == [line["item"] for line in lines if line["session"] == "a"]
    for name, items in chat.branches("b").items():
        assert items == [line["item"] for line in lines if (line["session"], line["branch"]) == ("b", name)]
    assert [8, 19] == [record.entry.items for record in store.audit_log(tenant="acme", action="session.read")]
    assert {"a"} == {line["session"] for line in exported(store, session_id="a")}


def test_a_branch_that_was_deleted_is_not_exported(store: SecureStore, chat: Chat) -> None:
    """An export has what is there: no branch that was deleted."""

    async def delete() -> None:
        session = store.session("a", tenant="acme")
        await session.delete_branch("third")
        session.close()

    chat.advanced("a", chat.forked)
    bring(store, chat)
    asyncio.run(delete())
    assert Counter({"main": 10, "other way": 6}) == Counter(line["branch"] for line in exported(store))


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE items SET sealed = zeroblob(60) WHERE turn = 2",
        "DELETE FROM items WHERE id = (SELECT max(id) FROM items)",
        "UPDATE items SET turn = 1",
    ],
)
def test_a_tampered_store_exports_nothing(store: SecureStore, chat: Chat, insider: Any, tmp_path: Path, edit: str) -> None:
    """What does not prove is not written, and what was at the place stays there."""
    chat.plain("a", chat.talk(2))
    bring(store, chat)
    insider("acme").sql(edit)
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    with pytest.raises(TamperedError):
        store.export_sessions(out, tenant="acme")
    assert "before" == out.read_text()
    assert not list(tmp_path.glob(".out*"))


def test_exports_that_cannot_be(store: SecureStore, chat: Chat, tmp_path: Path) -> None:
    """There is no such session, or nowhere to write."""
    chat.plain("a", chat.talk(1))
    bring(store, chat)
    with pytest.raises(ConfigurationError, match="no such session"):
        store.export_sessions(tmp_path / "out", tenant="acme", session_id="b")
    with pytest.raises(StorageError, match="could not write"):
        store.export_sessions(tmp_path / "nowhere" / "out", tenant="acme")
