"""Conversations in and out: `import_sessions` reads an SDK database into a vault, `export_sessions` writes JSON Lines.

What an import brought is said session by session; what it could not bring is counted, and named by row id and reason, never
by content. What an export wrote is proven before it is written, and the file is there whole or not at all.

`SecureStore` has its methods from `Transfers`: ``secmem import`` is `import_sessions`, since `import` is Python's own word.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from secure_memory import clock
from secure_memory.actor import Actor
from secure_memory.errors import ConfigurationError
from secure_memory.facet import Facet
from secure_memory.lifecycle.transfer.envelope import cipher, reader
from secure_memory.lifecycle.transfer.exporting import ExportReport, export
from secure_memory.lifecycle.transfer.foreign import MESSAGES_TABLE, SESSIONS_TABLE, Foreign, ForeignSession
from secure_memory.lifecycle.transfer.importing import Brought, Importing
from secure_memory.shared import SharedStore

LISTED = 1000
"""Rows without an item that a report names; it counts them all."""
NO_BRANCH = "in no branch"

Progress = Callable[[int, int], None]
"""Called now and then with the rows gone through, and how many there are."""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of the messages table that holds no item that could be imported."""

    session: str
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionImport:
    """What became of one session: `state` is imported, continued, already, unreadable or refused, and `why` says why it
    was refused. `items` were imported now, `unreadable` rows were left out, in imports before too."""

    session: str
    subject: str
    state: str
    items: int
    unreadable: int
    why: str | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `kind` is the class of the SDK whose tables the database has; `usage` counts turns whose tokens
    were recorded now, and `notes` are what is odd about the database."""

    tenant: str
    kind: str
    items: int
    usage: int
    unreadable: int
    sessions: tuple[SessionImport, ...]
    unreadable_rows: tuple[UnreadableRow, ...]
    notes: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether everything that is in the database is in the vault."""
        return not (self.unreadable or self.notes) and all(one.state != "refused" for one in self.sessions)


class Transfers(Facet):
    """The methods of a store that bring conversations in and write them out. `SecureStore` has the rest."""

    def import_sessions(
        self,
        path: str | os.PathLike[str],
        *,
        tenant: str = "default",
        subject_from: str | Mapping[str, str] = "session",
        encryption_key: str | None = None,
        ttl: int | None = None,
        sessions_table: str = SESSIONS_TABLE,
        messages_table: str = MESSAGES_TABLE,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import every session of an SDK database (SQLiteSession, AdvancedSQLiteSession, EncryptedSession over either).

        Items keep their order and times, branches their names; what was spent comes too. The database may be in use; it is
        only read.

        Stopped and called again it goes on where it was, and what is imported already is not imported twice. `subject_from`
        says whose a session is: "session" (its id), "prefix:SEPARATOR" (its id up to that), the path of a CSV file with
        session_id,subject, or a mapping. `encryption_key` is EncryptedSession's; with `ttl` (seconds) envelopes older than
        that have expired, without it none has. `progress(rows so far, rows)` is called now and then.

        It is a `store.import` entry for each session and branch. Raises ConfigurationError, which says what the file looks
        like where it is no such database; ValueError, StorageError, IntegrityError, AccessDeniedError.
        """
        return _import(
            self._open(),
            Path(path).expanduser(),
            tenant,
            subject_from=subject_from,
            encryption_key=encryption_key,
            ttl=ttl,
            sessions_table=sessions_table,
            messages_table=messages_table,
            actor=self._who(),
            require_actor=self._require_actor,
            progress=progress,
        )

    def export_sessions(
        self,
        out: str | os.PathLike[str] | BinaryIO,
        *,
        tenant: str = "default",
        session_id: str | None = None,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write a session, or all of a tenant, as JSON Lines: session, subject, branch, position, turn, created, item. `out`
        is the path of a file, which takes its place whole and with mode 0600, or a binary stream. Items are written as the
        policy's `view` surface shows them, or, with `exact`, as they are stored.

        Each session is proven, and is a `session.read` entry that is on disk before its items are written.
        `progress(sessions so far, sessions)` is called now and then. Raises ConfigurationError where there is no such tenant
        or session, IntegrityError, StorageError, AccessDeniedError.
        """
        return export(
            self._open(),
            out,
            tenant,
            session_id,
            actor=self._who(),
            require_actor=self._require_actor,
            exact=exact,
            progress=progress,
        )


def _import(
    shared: SharedStore,
    path: Path,
    tenant: str,
    *,
    subject_from: str | Mapping[str, str],
    encryption_key: str | None,
    ttl: int | None,
    sessions_table: str,
    messages_table: str,
    actor: Actor | None,
    require_actor: bool,
    progress: Progress | None,
) -> ImportReport:
    if ttl is not None and ttl < 0:
        raise ValueError("ttl is a number of seconds, from 0 on")
    if encryption_key == "":
        raise ValueError("the encryption key is empty")
    with Foreign(path, sessions_table=sessions_table, messages_table=messages_table) as db:
        found = db.sessions()
        subject_of = _subjects(subject_from, found)
        notes = db.oddities()
        into = shared.tenant(tenant, actor)
        oldest = None if ttl is None else clock.now() // 1_000_000 - ttl
        total, before = sum(session.rows for session in found), 0
        spent = lost = 0
        outcomes: list[SessionImport] = []
        unreadable: list[UnreadableRow] = []
        for session in found:

            def tell(rows: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + rows, total)

            fernet = None if encryption_key is None else cipher(encryption_key, session.id)
            importing = Importing(
                shared,
                db,
                session,
                into,
                subject_of(session.id),
                actor=actor,
                require_actor=require_actor,
                read=reader(fernet, oldest),
                progress=tell,
            )
            brought = importing.bring()
            brought.unreadable += [(row, NO_BRANCH) for row in db.stray(session)]
            spent, lost = spent + brought.usage, lost + brought.usage_left_out
            outcomes.append(_outcome(session, subject_of(session.id), brought))
            room = LISTED - len(unreadable)
            unreadable += [UnreadableRow(session.id, row, reason) for row, reason in brought.unreadable[: max(0, room)]]
            before += session.rows
            tell(0, before)
    items, left_out = (sum(getattr(one, name) for one in outcomes) for name in ("items", "unreadable"))
    if lost:
        notes.append(f"{lost:,} times: row of turn_usage of no turn that there is")
    return ImportReport(tenant, db.kind, items, spent, left_out, tuple(outcomes), tuple(unreadable), tuple(notes))


def _outcome(session: ForeignSession, subject: str, brought: Brought) -> SessionImport:
    if brought.refused is not None:
        state = "refused"
    elif brought.items:
        state = "continued" if brought.earlier else "imported"
    else:
        state = "already" if brought.earlier else "unreadable"
    left_out = len(brought.unreadable) + brought.skipped
    return SessionImport(session.id, subject, state, brought.items, left_out, brought.refused)


# ---- whose a session is ---------------------------------------------------------------------------------------------


def _subjects(subject_from: str | Mapping[str, str], found: Iterable[ForeignSession]) -> Callable[[str], str]:
    """What gives the subject of a session: its id, the part before a separator, or what a table says.

    Raises ValueError for a rule that is none, ConfigurationError where a table can't be read or lacks a session: whose data
    it is must not be guessed.
    """
    if isinstance(subject_from, str):
        if subject_from == "session":
            return lambda session: session
        if subject_from.startswith("prefix:"):
            separator = subject_from.removeprefix("prefix:")
            if not separator:
                raise ValueError("subject_from 'prefix:' needs the separator behind it, as in 'prefix:-'")
            return lambda session: session.partition(separator)[0] or session
        subject_from = _table(Path(subject_from.removeprefix("file:")).expanduser())
    table = subject_from
    if missing := [session.id for session in found if not table.get(session.id)]:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise ConfigurationError(
            f"the table of subjects has none for the session {missing[0]!r}{more}: nothing was imported",
            hint="add a line for each: session_id,subject",
        )
    return lambda session: table[session]


def _table(path: Path) -> dict[str, str]:
    """The subjects of a CSV file with the columns session_id and subject."""
    table: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["session_id", "subject"]):
                    continue
                if len(row) != 2 or not all(row):
                    raise ConfigurationError(
                        f"{path.name}, line {number}: not a session and its subject",
                        hint="each line is session_id,subject",
                    )
                if table.setdefault(row[0], row[1]) != row[1]:
                    raise ConfigurationError(f"{path.name}, line {number}: the session had another subject above")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "not text in CSV"
        raise ConfigurationError(
            f"could not read the table of subjects {path}: {why}",
            hint="--subject-from is `session`, `prefix:SEPARATOR`, or the path of a CSV file session_id,subject",
        ) from None
    return table
