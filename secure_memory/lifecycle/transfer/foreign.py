"""Reads the databases that the SDK's own sessions write: SQLiteSession, AdvancedSQLiteSession, EncryptedSession over either.

- Strictly read-only. A database with a `-wal` file is opened as any reader opens it, locks and all, so that one in use can
  be read; it and its WAL are not changed. One without is opened `immutable`: a plain read-only connection would leave a
  `-wal` and a `-shm` behind. What an immutable connection can't see, that somebody begins to write, `check` looks for.
- The file is never opened by hand while it may be a SQLite database: closing it would drop the locks that another
  connection of this process has on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
- All is read in one transaction, so that a database in use is read as it was at one moment.
- What a branch holds, in which order, is as in the SDK (`AdvancedSQLiteSession.get_items`). A session without structure
  rows is a SQLiteSession's, all of whose messages are in `main`.

Rows are handed out as they are; what is in them is for `envelope`. Called by `transfer`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory.errors import StorageError, StoreBusyError
from secure_memory.lifecycle.transfer.looks import refuse_other_places, refuse_other_tables, what_it_looks_like
from secure_memory.lifecycle.transfer.spending import TurnUsage
from secure_memory.vault.branches import MAIN

SESSIONS_TABLE = "agent_sessions"
MESSAGES_TABLE = "agent_messages"
STRUCTURE_TABLE = "message_structure"
BUSY_SECONDS = 10.0
"""How long a reader waits for whoever recovers or checkpoints the database."""

_USAGE_COLUMNS = {
    *("session_id", "branch_id", "user_turn_number", "requests", "input_tokens", "output_tokens", "total_tokens"),
    *("input_tokens_details", "output_tokens_details", "created_at"),
}
_CHANGED_HINT = "run the same command again: what is imported already is not imported twice"


class Message(NamedTuple):
    """A row of the messages table. `created` is in microseconds, None where there is no such time."""

    id: int
    created: int | None
    data: Any


class ForeignSession(NamedTuple):
    """A session, how many places its messages have in branches, and when its row says that it began."""

    id: str
    rows: int
    branched: bool
    created: int | None


class Foreign:
    """An SDK database, open for reading: ``with Foreign(path) as database``.

    Raises ConfigurationError, which says what the file looks like, where it is no such database; StorageError.
    """

    def __init__(self, path: Path, *, sessions_table: str = SESSIONS_TABLE, messages_table: str = MESSAGES_TABLE) -> None:
        refuse_other_places(path)
        self.path = path.absolute()
        self._in_use = any(os.path.exists(f"{self.path}{end}") for end in ("-wal", "-journal"))
        self._stamp = self._looked_at()
        self._database = self._opened()
        self._names: dict[str, str] = {}
        try:
            with self._translated():
                self._database.execute("PRAGMA query_only = ON")
                self._database.execute("PRAGMA trusted_schema = OFF")
                self._database.execute("BEGIN")
                self._find_tables(sessions_table, messages_table)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Foreign:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    # ---- what is in it ------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The class of the SDK that the tables are those of."""
        return "AdvancedSQLiteSession" if self._structured else "SQLiteSession"

    def sessions(self) -> list[ForeignSession]:
        """The sessions that have messages, in the order in which they got their first."""
        places: dict[Any, int] = {}
        if self._structured:
            places = dict(self._rows("SELECT s.session_id, count(*) FROM {placed} GROUP BY s.session_id"))
        began: dict[Any, Any] = {}
        if self._with_sessions:
            began = dict(self._rows("SELECT session_id, {began} FROM {sessions}"))
        counted = self._rows("SELECT session_id, count(*) FROM {messages} GROUP BY session_id ORDER BY min(id)")
        return [
            ForeignSession(name, places.get(name, count), name in places, _moment(began.get(name)))
            for name, count in counted
            if _is_name(name)
        ]

    def branches(self, session: ForeignSession) -> dict[str, int | None]:
        """The names of a session's branches, each with when it began, where that is known (microseconds): main, whether it
        has messages or not, then the others, the oldest first."""
        query = "SELECT s.branch_id, {began_at} FROM {placed} WHERE s.session_id = ? GROUP BY s.branch_id ORDER BY min(s.id)"
        found = self._rows(query, session.id) if session.branched else iter(())
        return {MAIN: session.created, **{name: _moment(at) for name, at in found if name != MAIN and _is_name(name)}}

    def messages(self, session: ForeignSession, branch: str) -> Iterator[Message]:
        """The messages of a branch, in order."""
        columns = "SELECT m.id, {created}, m.message_data FROM "
        if session.branched:
            place = "{placed} WHERE s.session_id = ? AND s.branch_id = ? ORDER BY s.sequence_number, s.id"
            found = self._rows(columns + place, session.id, branch)
        else:
            found = self._rows(columns + "{messages} m WHERE m.session_id = ? ORDER BY m.id", session.id)
        for number, created, data in found:
            yield Message(number, _moment(created), data)

    def shared(self, session: ForeignSession) -> frozenset[int]:
        """The ids of the messages that stand in several branches."""
        if not session.branched:
            return frozenset()
        query = "SELECT m.id FROM {placed} WHERE s.session_id = ? GROUP BY m.id HAVING count(DISTINCT s.branch_id) > 1"
        return frozenset(number for (number,) in self._rows(query, session.id))

    def stray(self, session: ForeignSession) -> list[int]:
        """The ids of a session's messages that are in none of its branches, which the SDK does not return either."""
        if not session.branched:
            return []
        query = (
            "SELECT id FROM {messages} WHERE session_id = ?"
            " AND id NOT IN (SELECT message_id FROM {structure} WHERE session_id = ?) ORDER BY id"
        )
        return [number for (number,) in self._rows(query, session.id, session.id)]

    def usage(self, session: ForeignSession, branch: str) -> list[TurnUsage]:
        """What was recorded of tokens, turn by turn."""
        if not self._with_usage:
            return []
        figures = "requests, input_tokens, output_tokens, total_tokens, input_tokens_details, output_tokens_details"
        query = (
            f"SELECT user_turn_number, {figures}, created_at FROM turn_usage"  # noqa: S608 - our own words
            " WHERE session_id = ? AND branch_id = ? ORDER BY user_turn_number"
        )
        return [TurnUsage._make((*row[:-1], _moment(row[-1]))) for row in self._rows(query, session.id, branch)]

    def oddities(self) -> list[str]:
        """What is half-written about it, each with how often."""
        found = []
        if not self._with_sessions:
            found.append(f"the table {self._named_sessions} is missing: nothing says when the sessions began")
        else:
            query = (
                "SELECT count(DISTINCT session_id) FROM {messages}"
                " WHERE session_id NOT IN (SELECT session_id FROM {sessions} WHERE session_id IS NOT NULL)"
            )
            count = self._count(query)
            found += _times(count, f"session without a row in {self._named_sessions}")
        nameless = sum(not _is_name(name) for (name,) in self._rows("SELECT DISTINCT session_id FROM {messages}"))
        found += _times(nameless, "session whose id is no text, left out")
        if self._structured:
            query = "SELECT count(*) FROM {structure} WHERE message_id NOT IN (SELECT id FROM {messages})"
            count = self._count(query)
            found += _times(count, f"row of {STRUCTURE_TABLE} whose message is gone")
        elif STRUCTURE_TABLE in self._tables:
            found.append(f"the table {STRUCTURE_TABLE} is of other messages or not whole: branches are left out")
        return found

    def check(self) -> None:
        """Raise StorageError where somebody began to write to a database that nobody used when it was opened.

        Whatever was read before this returns was not written to.
        """
        if not self._in_use and self._looked_at() != self._stamp:
            raise StorageError(f"{self.path.name} began to be written to while it was read", hint=_CHANGED_HINT)

    # ---- how it is read -----------------------------------------------------------------------------------------

    def _looked_at(self) -> tuple[object, ...]:
        there = [os.path.exists(f"{self.path}{end}") for end in ("-wal", "-journal")]
        try:
            status = self.path.stat()
        except OSError as error:
            raise StorageError(f"could not look at {self.path.name}: {(error.strerror or 'error').lower()}") from None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, *there

    def _opened(self) -> sqlite3.Connection:
        uri = f"{self.path.as_uri()}?mode=ro{'' if self._in_use else '&immutable=1'}"
        with self._translated():
            database = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        # What is no UTF-8 must not end the reading: it is told from text by the lone surrogates in its place.
        database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return database

    def _find_tables(self, sessions: str, messages: str) -> None:
        """Find out which tables there are. Raises ConfigurationError where there are no messages."""
        # SQLite compares names without case (ASCII only), and the SDK leaves that to it.
        self._tables = {name.lower(): name for (name,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {name: self._columns(name) for name in self._tables}
        refuse_other_tables(self.path, messages, list(self._tables.values()), columns)
        known = columns.get(sessions.lower(), set())
        self._named_sessions = sessions
        self._with_sessions = "session_id" in known
        self._structured = self._is_structured(columns, messages)
        self._with_usage = self._structured and columns.get("turn_usage", set()) >= _USAGE_COLUMNS
        self._names = {
            "messages": _quoted(messages),
            "sessions": _quoted(sessions),
            "structure": STRUCTURE_TABLE,
            # CROSS: from the structure to the messages, which have an index for that; the other way there is none.
            "placed": f"{STRUCTURE_TABLE} s CROSS JOIN {_quoted(messages)} m"
            " ON m.id = s.message_id AND m.session_id = s.session_id",
            "created": "m.created_at" if "created_at" in columns[messages.lower()] else "NULL",
            "began": "created_at" if "created_at" in known else "NULL",
            "began_at": "min(s.created_at)" if "created_at" in columns.get(STRUCTURE_TABLE, set()) else "NULL",
        }

    def _columns(self, table: str) -> set[str]:
        return {name.lower() for (name,) in self._rows("SELECT name FROM pragma_table_info(?)", table)}

    def _is_structured(self, columns: dict[str, set[str]], messages: str) -> bool:
        """Whether there are branches, of these messages: a file may hold several messages tables, but one structure."""
        if not {"id", "session_id", "message_id", "branch_id", "sequence_number"} <= columns.get(STRUCTURE_TABLE, set()):
            return False
        keys = self._rows('SELECT "table" FROM pragma_foreign_key_list(?) WHERE "from" = ?', STRUCTURE_TABLE, "message_id")
        owners = {name.lower() for (name,) in keys}
        return not owners or messages.lower() in owners

    def _count(self, query: str) -> int:
        return int(next(self._rows(query))[0])

    def _rows(self, query: str, *values: Any) -> Iterator[Any]:
        """The rows of a query, in which `{messages}` and the like stand for this database's names."""
        with self._translated():
            yield from self._database.execute(query.format_map(self._names), values)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the engine as ours."""
        name = self.path.name
        try:
            yield
        except sqlite3.OperationalError as error:
            said = str(error)
            if "locked" in said or "busy" in said:
                why = f"{name} was held by another process for {BUSY_SECONDS:g} s"
                raise StoreBusyError(why, hint="try again in a moment") from None
            raise StorageError(
                f"could not read {name}: {said}",
                hint="check modes; one with a -wal needs a directory that can be written: copy it there, its -wal too",
            ) from None
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise what_it_looks_like(self.path) from None
            raise StorageError(
                f"{name} is damaged: {error}", hint='mend a copy of it first: sqlite3 copy.db ".recover"'
            ) from None


def is_text(value: object) -> bool:
    """Whether a value is text, and not bytes that are no UTF-8."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_name(value: object) -> bool:
    return is_text(value) and value != ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _times(count: int, what: str) -> list[str]:
    return [f"{count:,} times: {what}"] if count else []


@lru_cache(maxsize=1024)  # many messages are written in one second
def _moment(value: object) -> int | None:
    """Microseconds of what SQLite's CURRENT_TIMESTAMP wrote, in UTC; None where it is no such time."""
    try:
        found = clock.parse(value) if isinstance(value, str) else -1
    except (ValueError, OverflowError):
        return None
    return found if found >= 0 else None
