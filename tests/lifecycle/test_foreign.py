"""`lifecycle/transfer/foreign.py`: databases of the SDK, read and left as they are; and what is said of other files."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secure_memory import clock
from secure_memory.errors import ConfigurationError, StorageError
from secure_memory.lifecycle.transfer.foreign import Foreign, ForeignSession
from secure_memory.store import SecureStore
from secure_memory.vault import sqlcipher

if TYPE_CHECKING:
    from conftest import Chat  # type: ignore[import-not-found]


def files(chat: Chat) -> dict[str, bytes]:
    """The database's files with their bytes, without the -shm, in which readers note that they read."""
    return {path.name: path.read_bytes() for path in chat.path.parent.iterdir() if not path.name.endswith("-shm")}


def everything(path: Path, **tables: str) -> dict[tuple[str, str], list[Any]]:
    """The texts of all messages, by session and branch."""
    with Foreign(path, **tables) as database:
        return {
            (session.id, branch): [message.data for message in database.messages(session, branch)]
            for session in database.sessions()
            for branch in database.branches(session)
        }


def test_a_closed_database_is_left_as_it_is(chat: Chat) -> None:
    """Reading changes no byte of a database that nobody uses, and leaves no file beside it."""
    chat.plain("a", chat.talk(3))
    before = files(chat)
    assert ["chat.db"] == list(before)
    assert 12 == len(everything(chat.path)["a", "main"])
    assert before == files(chat)
    assert ["chat.db"] == os.listdir(chat.path.parent)


def test_a_database_in_use_is_read_and_left_as_it_is(chat: Chat) -> None:
    """What is in the WAL only is read too, and neither the database nor its WAL changes."""
    session = chat.open("a")
    asyncio.run(session.add_items(chat.talk(2)))
    before = files(chat)
    assert before["chat.db-wal"]
    assert 8 == len(everything(chat.path)["a", "main"])
    assert before == files(chat)


def test_what_is_written_meanwhile_is_not_seen(chat: Chat) -> None:
    """All is read as it was at one moment."""
    session = chat.open("a")
    asyncio.run(session.add_items(chat.talk(1)))
    with Foreign(chat.path) as database:
        (found,) = database.sessions()
        asyncio.run(session.add_items(chat.talk(1)))
        assert 4 == len(list(database.messages(found, "main")))
        database.check()
    assert 8 == len(everything(chat.path)["a", "main"])


def test_a_closed_database_that_comes_into_use(chat: Chat) -> None:
    """Whoever begins to write to a database that is read as one that nobody uses is noticed."""
    chat.plain("a", chat.talk(1))
    with Foreign(chat.path) as database:
        database.check()
        asyncio.run(chat.open("a").add_items(chat.talk(1)))
        with pytest.raises(StorageError, match="began to be written to"):
            database.check()


def test_the_kinds(chat: Chat) -> None:
    """A database with branches is AdvancedSQLiteSession's; sessions of SQLiteSession in it have main alone."""
    chat.plain("plain", chat.talk(1))
    with Foreign(chat.path) as database:
        assert "SQLiteSession" == database.kind
    chat.advanced("advanced", chat.forked)
    with Foreign(chat.path) as database:
        plain, advanced = database.sessions()
        assert "AdvancedSQLiteSession" == database.kind
        assert (["main"], ["main", "other way", "third"]) == (
            list(database.branches(plain)),
            list(database.branches(advanced)),
        )
        assert (4, 10 + 6 + 3) == (plain.rows, advanced.rows)
        assert 4 == len(database.shared(advanced))
        assert [] == database.oddities()


def test_times(chat: Chat) -> None:
    """Times are those that SQLite wrote, in UTC; what is no time is none."""
    chat.plain("a", [{"role": "user", "content": str(n)} for n in range(4)])
    for number, when in enumerate(["2026-01-02 03:04:05", "soon", "1905-01-01 00:00:00", None], 1):
        chat.sql(f"UPDATE agent_messages SET created_at = ? WHERE id = {number}", values=[when])
    with Foreign(chat.path) as database:
        (session,) = database.sessions()
        times = [message.created for message in database.messages(session, "main")]
    assert [clock.parse("2026-01-02T03:04:05Z"), None, None, None] == times


def test_tables_of_other_names(chat: Chat) -> None:
    """Tables have the names that the SDK was told, in any case; and a file may have several pairs of them."""
    tables = {"sessions_table": "my_sessions", "messages_table": "my_messages"}
    chat.plain("a", chat.talk(1), **tables)
    chat.plain("b", chat.talk(2))
    assert [("a", "main")] == list(everything(chat.path, sessions_table="MY_sessions", messages_table="My_Messages"))
    assert [("b", "main")] == list(everything(chat.path))
    chat.sql("DROP TABLE agent_messages")
    with pytest.raises(ConfigurationError, match="no table 'agent_messages'") as raised:
        everything(chat.path)
    assert "--messages-table my_messages" in str(raised.value.hint)


def test_a_table_that_is_no_name(chat: Chat) -> None:
    """A name of a table is a name, whatever is in it."""
    chat.plain("a", chat.talk(1))
    with pytest.raises(ConfigurationError, match="has no table"):
        everything(chat.path, messages_table='agent_messages"; DROP TABLE agent_messages; --')
    assert [("a", "main")] == list(everything(chat.path))


def test_structure_of_other_messages(chat: Chat) -> None:
    """Branches are of one messages table; those of another one have none."""
    chat.advanced("a", chat.forked)
    tables = {"sessions_table": "s2", "messages_table": "m2"}
    chat.plain("b", chat.talk(1), **tables)
    assert [("b", "main")] == list(everything(chat.path, **tables))
    with Foreign(chat.path, **tables) as database:
        assert [
            "the table message_structure is of other messages or not whole: branches are left out"
        ] == database.oddities()


def test_half_written(chat: Chat) -> None:
    """Missing tables and rows are told, each with how often; what is there is read."""
    chat.advanced("a", chat.forked)
    chat.advanced("b", chat.forked)
    chat.sql("DELETE FROM agent_messages WHERE id = 1", "DELETE FROM agent_sessions WHERE session_id = 'b'")
    chat.sql("DELETE FROM message_structure WHERE message_id = 4")
    chat.sql("UPDATE agent_messages SET session_id = CAST(x'ff00' AS TEXT) WHERE id = 20")
    with Foreign(chat.path) as database:
        assert [
            "2 times: session without a row in agent_sessions",
            "1 times: session whose id is no text, left out",
            "3 times: row of message_structure whose message is gone",
        ] == database.oddities()
        assert [4] == database.stray(ForeignSession("a", 0, True, None))
    chat.sql("DROP TABLE agent_sessions")
    with Foreign(chat.path) as database:
        assert "the table agent_sessions is missing: nothing says when the sessions began" == database.oddities()[0]
        assert ["a", "b"] == [session.id for session in database.sessions()]


def test_it_takes_no_longer_than_it_has_to(chat: Chat) -> None:
    """The work grows with the messages, in databases of one long session and of many short ones."""

    async def long(session: Any) -> None:
        await session.add_items(chat.talk(500))
        await session.create_branch_from_turn(400, "b")

    chat.advanced("long", long)
    for n in range(50):
        chat.advanced(f"short {n}", chat.forked)
    with Foreign(chat.path) as database:
        steps: list[None] = []
        database._database.set_progress_handler(lambda: steps.append(None), 1000)
        for session in database.sessions():
            database.shared(session)
            database.stray(session)
            for branch in database.branches(session):
                list(database.messages(session, branch))
    rows = 2000 + 1596 + 50 * (13 + 19)
    assert 0 < len(steps) * 1000 / rows < 300


def test_damaged(chat: Chat) -> None:
    """A damaged database is said to be, as it is found."""
    chat.plain("a", chat.talk(500))
    data = bytearray(chat.path.read_bytes())
    data[4096 * 6 :] = os.urandom(len(data) - 4096 * 6)
    chat.path.write_bytes(data)
    with pytest.raises(StorageError, match="is damaged") as raised:
        everything(chat.path)
    assert ".recover" in str(raised.value.hint)


def _text(path: Path) -> None:
    path.write_text("session,item\n" * 100)


def _empty(path: Path) -> None:
    path.touch()


def _picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))


def _sqlcipher(path: Path) -> None:
    connection = sqlcipher.connect(path, bytes(48), create=True)
    connection.execute("CREATE TABLE t (x)")
    connection.close()


def _of_something_else(path: Path) -> None:
    database = sqlite3.connect(path)
    for n in range(20):
        database.execute(f"CREATE TABLE bookmarks_{n} (url)")
    database.close()


def _without_tables(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 1")
    database.close()


def _of_other_columns(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, body TEXT)")
    database.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no file"),
        (Path.mkdir, "is a directory"),
        (os.mkfifo, "is not a file"),
        (_empty, "is empty"),
        (_text, "is not a SQLite database: it looks like text"),
        (_picture, "is not a SQLite database: its first bytes are none of SQLite's"),
        (_sqlcipher, "it looks encrypted as a whole, as SQLCipher does it"),
        (_without_tables, "is a SQLite database without tables"),
        (_of_something_else, "is a SQLite database of something else; its tables are bookmarks_0, bookmarks_1, "),
        (_of_other_columns, "has a table 'agent_messages', and it is not the SDK's"),
    ],
)
def test_what_it_looks_like(tmp_path: Path, make: Any, said: str) -> None:
    """Of a file that is no database of the SDK it is said what it looks like, with a next step."""
    path = tmp_path / "it"
    make(path)
    with pytest.raises(ConfigurationError) as raised:
        everything(path)
    assert said in str(raised.value)
    assert raised.value.hint


def test_a_store_of_ours(store: SecureStore) -> None:
    """A store and its files are said to be that, and are not opened."""
    store.tenant_create("acme")
    assert store.path is not None
    (vault,) = (store.path / "vaults").glob("*.db")
    for path in (store.path, store.path / "keys.db", store.path / "store.json", vault):
        with pytest.raises(ConfigurationError, match="store of secure-memory") as raised:
            everything(path)
        assert "secmem export" in str(raised.value.hint)
