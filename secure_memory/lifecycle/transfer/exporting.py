"""Conversations as JSON Lines, one item a line: session, subject, branch, position, turn, created, item.

- Every branch of a session is read in one transaction, with one `session.read` entry that is on disk before a line is
  written, and is proven whole.
- A file is written beside its place, with mode 0600, and moved there when it is whole: what is at the place is never half of
  an export.

Called by `transfer`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from secure_memory import audit, clock
from secure_memory import items as sdk_items
from secure_memory.actor import Actor
from secure_memory.conversation import Conversation, Fetched
from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, DiskFullError, StorageError
from secure_memory.service import run_blocking
from secure_memory.shared import SharedStore, record
from secure_memory.tenancy import Asker, Opened, Tenant
from secure_memory.vault import branches, history, sessions
from secure_memory.vault.commits import Operation
from secure_memory.vault.sessions import Names
from secure_memory.vault.transaction import Transaction

Progress = Callable[[int, int], None]
"""Called now and then with the sessions that were written, and how many there are."""
HIDDEN = "(paused run)", "(withheld)"
"""What the branches are called that are no part of the conversation: what is withheld of it, and a run that is paused."""
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote. `erased` sessions have no key any more, and were not written."""

    tenant: str
    sessions: int
    items: int
    erased: int
    path: str | None


class Line(NamedTuple):
    """An item where it stands. `created` is in microseconds."""

    branch: str
    position: int
    turn: int
    created: int
    text: bytes


class Exporting(Conversation):
    """One session on its way out."""

    def lines(self, asker: Asker, action: str = "session.read", *, hidden: bool = False, exact: bool = False) -> list[Line]:
        """Every item of every branch, proven, as the policy's `view` surface shows it, or `exact`; with `hidden` those that
        the agent does not see too. It is an entry of that action.

        Raises IntegrityError, AccessDeniedError, RedactionError.
        """
        found = run_blocking(self._perform(lambda opened: self._export(opened, asker, action, hidden), create=False))
        return found if exact else run_blocking(self._viewed(found))

    async def _viewed(self, lines: list[Line]) -> list[Line]:
        items = sdk_items.load_all([line.text for line in lines])
        seen = (await self._redacted(await self._opened(False), items, "view")).items
        changed = zip(lines, items, seen, strict=True)
        return [line if now is was else line._replace(text=sdk_items.dump(now)) for line, was, now in changed]

    def _export(self, opened: Opened, asker: Asker, action: str, hidden: bool) -> Operation[Any, list[Line]]:
        tenant, keys = opened.tenant, opened.keys

        def run(tx: Transaction) -> list[tuple[str, Fetched]]:
            row = self._enter(tx, opened, asker, action)
            if row is None or keys is None:
                self._record_unknown(tx, opened)
                return []
            found = []
            labels = dict(zip(branches.hidden(tenant.keys, row.uid), HIDDEN, strict=True))
            for one in branches.of_session(tx.execute, row.id):
                branches.check(tenant.keys.ledger, row.uid, one)
                spot = self._spot(tx, row, one.id)
                if spot.id == one.id and (hidden or one.name not in labels):  # else it was deleted, or is not to be seen
                    label = labels.get(one.name) or branches.open_name(keys.subject_key, one)
                    found.append((label, self._fetch(tx, spot, None, None)))
            count = sum(items for _, (_, items) in found)
            tx.record({"items": count, "detail": {"export": True, "branches": len(found)}}, session=row.id)
            return [(name, fetched) for name, (fetched, _) in found]

        def finish(found: list[tuple[str, Fetched]]) -> list[Line]:
            lines: list[Line] = []
            for name, fetched in found:
                assert keys is not None  # noqa: S101 - else nothing was found
                history.prove(fetched.rows, fetched.branch, fetched.after, fetched.link, fetched.head)
                texts = history.unsealed(fetched.rows, keys.key.aead, tenant.keys.uid, keys.uid)
                lines += [
                    Line(name, row.position, row.turn, row.created, text)
                    for row, text in zip(fetched.rows, texts, strict=True)
                ]
            return lines

        # Durable: what leaves the store is in the ledger whatever happens to the machine.
        return Operation(run, finish, True, self._door.fields(action, opened, asker))


def export(
    shared: SharedStore,
    out: str | os.PathLike[str] | BinaryIO,
    tenant: str,
    session_id: str | None,
    *,
    actor: Actor | None,
    require_actor: bool,
    exact: bool,
    progress: Progress | None,
) -> ExportReport:
    """Write one session, or all of a tenant: see `Transfers.export_sessions`."""
    one = shared.existing_tenant(tenant)
    wanted, erased = _wanted(shared, one, session_id, actor)
    asker, items = Asker(actor), 0
    path = None if hasattr(out, "write") else Path(os.fspath(out)).expanduser()
    with opened(out if path is None else path) as file:  # type: ignore[arg-type]
        for number, names in enumerate(wanted, 1):
            exporting = Exporting(
                shared,
                names.session,
                tenant=tenant,
                subject=None,
                actor=actor,
                require_actor=require_actor,
                cache=False,
            )
            for line in exporting.lines(asker, exact=exact):
                file.write(_json(names, line))
                items += 1
            if progress is not None:
                progress(number, len(wanted))
    return ExportReport(tenant, len(wanted), items, erased, None if path is None else str(path))


def _wanted(shared: SharedStore, one: Tenant, session_id: str | None, actor: Actor | None) -> tuple[list[Names], int]:
    """The sessions to write, the oldest first, and how many have no key any more."""
    if session_id is None:
        record(one, {"action": "audit.read", "detail": {"list": "sessions"}}, actor)
    found: list[Names] = []
    erased = 0
    with one.vault.database.snapshot() as execute:
        if session_id is None:
            rows = list(sessions.rows(execute))
        else:
            row = sessions.find(execute, one.keys.name_mac("session", session_id))
            if row is None:
                raise ConfigurationError(
                    f"tenant {one.keys.name!r} has no such session", hint="`secmem session list` shows the sessions"
                )
            rows = [row]
        for row in rows:
            names = audit.names_of(shared, one, row)
            if names is None:
                erased += 1
            else:
                found.append(names)
    return found, erased


def session_names(shared: SharedStore, one: Tenant, session_id: str | None, actor: Actor | None) -> list[str]:
    """The sessions of a tenant that have a key, or the one that is named. Raises ConfigurationError where there is none."""
    return [names.session for names in _wanted(shared, one, session_id, actor)[0]]


def _json(names: Names, line: Line) -> bytes:
    """One line. It is ASCII, and exact: what JSON has no word for (NaN) is written as the SDK writes it."""
    fields = {
        "session": names.session,
        "subject": names.subject,
        "branch": line.branch,
        "position": line.position,
        "turn": line.turn,
        "created": clock.rfc3339(line.created),
        "item": sdk_items.load(line.text),
    }
    return json.dumps(fields).encode() + b"\n"


@contextmanager
def opened(out: Path | BinaryIO) -> Iterator[BinaryIO]:
    """What is written to: a stream as it is, or a file that takes its place when it is whole."""
    if not isinstance(out, Path):
        yield out
        out.flush()
        return
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as file:  # of mode 0600
            temporary = file.name
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, out)
        temporary = None
        sync(out.parent)
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        kind = DiskFullError if error.errno in _NO_SPACE else StorageError
        raise kind(f"could not write {out}: {why}", hint="check the directory; nothing was left there") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
