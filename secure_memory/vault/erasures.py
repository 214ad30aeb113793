"""Erasures: how far each is, and what is left of a session afterwards.

- An erasure has a row from its intent on, so that whoever runs it again goes on where it stopped. The row says uids, counts
  and the certificate, never a name: it is found by an HMAC of what was named.
- An erased session leaves a stub: its row and those of its branches, without names, found by nobody, so that the ledger's
  heads have what they are about, usage stays billed, and a process that still holds its keys is told (`is_stub`).

Called inside a transaction by `lifecycle.erasure.erase`; `service` asks for stubs.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from secure_memory.errors import StoreBusyError, TamperedError
from secure_memory.keys.key import Key, context
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.vault import branches, history, sessions, usage
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction

STAGES = ("begun", "keys", "rows", "files", "done")
"""How far an erasure is: what is named is done, and what follows is not."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure of a subject, a session or a tenant. Uids are in hex, times in microseconds.

    `sessions` are those it is about, `kept` those of them that live on under other keys; `items` counts what is erased by
    kind; `keys` are the ids of the destroyed keys, and `listed` is how long the list of tombstones was then; `withheld` says
    what is kept, by which law or matter, until when; `archives` are the files that purges wrote of it before; `traces` are
    bytes to search the files for, until they were. Of a tenant, `subject` and `sessions` are its uid and its vault's, and
    `figures` say how much there was.
    """

    id: int
    kind: str
    subject: str
    sessions: Sequence[str]
    begun: int
    actor: str
    stage: str = "begun"
    reason: str | None = None
    items: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0
    kept: Sequence[str] = ()
    keys: Sequence[Mapping[str, Any]] = ()
    listed: int = 0
    withheld: Sequence[Mapping[str, Any]] = ()
    archives: Sequence[str] = ()
    traces: Sequence[str] = ()
    searched: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    certificate: str | None = None

    def is_past(self, stage: str) -> bool:
        """Whether that stage is done."""
        return STAGES.index(self.stage) >= STAGES.index(stage)


def newest(execute: Callable[..., Any], ledger_key: Key, tenant: bytes, name: bytes) -> Erasure | None:
    """The newest erasure of what has this HMAC, or None. Raises TamperedError where its row was edited."""
    query = "SELECT id, name, said, mac FROM erasures WHERE name = ? ORDER BY id DESC LIMIT 1"
    found = execute(query, (name,)).fetchone()
    return None if found is None else _checked(ledger_key, tenant, *found)


def every(execute: Callable[..., Any], ledger_key: Key, tenant: bytes) -> list[Erasure]:
    """All of them, in order. Raises TamperedError where a row was edited."""
    rows = execute("SELECT id, name, said, mac FROM erasures ORDER BY id").fetchall()
    return [_checked(ledger_key, tenant, *row) for row in rows]


def asked_for(execute: Callable[..., Any], ledger_key: Key, tenant: bytes) -> dict[str, int]:
    """When the erasure was asked for of sessions that are kept nevertheless: microseconds by uid, for the purge to know."""
    return {uid: erasure.begun for erasure in every(execute, ledger_key, tenant) for uid in erasure.kept}


def left(execute: Callable[..., Any], erasure: Erasure) -> int:
    """How many items are there still of those that an erasure withheld."""
    rows = (by_uid(execute, bytes.fromhex(uid)) for uid in erasure.kept)
    count = 0
    for branch in (branch for row in rows if row is not None for branch in branches.of_session(execute, row.id)):
        span = branch.id * history.SPAN, (branch.id + 1) * history.SPAN
        count += execute("SELECT count(*) FROM items WHERE id >= ? AND id < ?", span).fetchone()[0]
    return count


def unfinished(execute: Callable[..., Any], ledger_key: Key, tenant: bytes) -> set[str]:
    """The uids of sessions and subjects whose erasure goes on, or was interrupted."""
    going = [one for one in every(execute, ledger_key, tenant) if not one.is_past("done")]
    return {uid for one in going for uid in (*one.sessions, *([one.subject] if one.kind == "subject" else []))}


def refuse_other(execute: Callable[..., Any], ledger_key: Key, tenant: bytes, name: bytes, known: Erasure | None) -> None:
    """Raise StoreBusyError where the newest erasure of that name is not as we know it: somebody else goes on with it."""
    if newest(execute, ledger_key, tenant, name) != known:
        raise StoreBusyError("somebody else is erasing the same", hint="wait until they have, then run it again")


def put(execute: Callable[..., Any], ledger_key: Key, tenant: bytes, name: bytes, erasure: Erasure) -> Erasure:
    """Write it, over the row of its number; a new one, whose number is 0, gets the next. Returns it with its number."""
    number = erasure.id or execute("SELECT coalesce(max(id), 0) + 1 FROM erasures").fetchone()[0]
    fields = {key: value for key, value in asdict(erasure).items() if key != "id" and value not in (None, {}, ())}
    said = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()
    row = number, name, said, _mac(ledger_key, tenant, number, name, said)
    execute("INSERT OR REPLACE INTO erasures VALUES (?, ?, ?, ?)", row)
    return _checked(ledger_key, tenant, *row)


def _checked(ledger_key: Key, tenant: bytes, number: int, name: bytes, said: str, mac: bytes) -> Erasure:
    if not hmac.compare_digest(_mac(ledger_key, tenant, number, name, said), mac):
        raise TamperedError(f"the row of erasure {number} was edited", hint=VERIFY_HINT)
    return Erasure(id=number, **orjson.loads(said))


def _mac(ledger_key: Key, tenant: bytes, number: int, name: bytes, said: str) -> bytes:
    return hmac.digest(ledger_key.bytes, context("secmem/erasure/v1", tenant, number, name, said), "sha256")


# ---- what is left of a session --------------------------------------------------------------------------------------


def is_stub(row: SessionRow) -> bool:
    """Whether the session was erased: its row names no key."""
    return row.key_version == 0


def by_uid(execute: Callable[..., Any], uid: bytes) -> SessionRow | None:
    """The row of the session, not yet checked. Reads the table: for the rare case only."""
    found = execute("SELECT * FROM sessions WHERE uid = ?", (uid,)).fetchone()
    return None if found is None else SessionRow(*found)


def of_subject(execute: Callable[..., Any], subject: bytes) -> list[SessionRow]:
    """The rows of the subject's sessions that are not stubs, not yet checked."""
    query = "SELECT * FROM sessions WHERE subject = ? AND key_version > 0 ORDER BY id"
    return [SessionRow(*found) for found in execute(query, (subject,))]


def empty(tx: Transaction, ledger_key: Key, tenant: bytes, row: SessionRow, **fields: Any) -> SessionRow:
    """Delete every item of the session's branches, let the names go, and leave the stub; one entry for each branch.

    `fields` are those of the entries besides. No key is needed. Raises TamperedError where a branch has more or fewer items
    than its head says.
    """
    stub = row._replace(name=os.urandom(32), key_version=0, sealed=b"")
    stub = hide(tx, ledger_key, tenant, stub, lambda _: b"")
    clear(tx, ledger_key, stub, detail={"session_row": sessions.digest(stub)}, **fields)
    return stub


def hide(
    tx: Transaction, ledger_key: Key, tenant: bytes, row: SessionRow, branch_name: Callable[[bytes], bytes]
) -> SessionRow:
    """Write the session's row with another name, key and sealed names; returns it under its MAC. Its branches are found by
    nobody any more; `branch_name` gives what is sealed of one's name, by its uid. An entry has to follow."""
    new = row._replace(mac=sessions.row_mac(ledger_key, tenant, row))
    values = new.name, new.key_version, new.sealed, new.mac, new.id
    tx.execute("UPDATE sessions SET name = ?, key_version = ?, sealed = ?, mac = ? WHERE id = ?", values)
    for branch in branches.of_session(tx.execute, row.id):
        branches.check(ledger_key, row.uid, branch)
        hidden = branch._replace(name=os.urandom(32), sealed=branch_name(branch.uid))
        mac = branches.row_mac(ledger_key, row.uid, hidden)
        said = hidden.name, hidden.sealed, mac, hidden.id
        tx.execute("UPDATE branches SET name = ?, sealed = ?, mac = ? WHERE id = ?", said)
    return new


def clear(tx: Transaction, ledger_key: Key, row: SessionRow, **fields: Any) -> None:
    """Delete every item of each of the session's branches, with an entry of `fields` for each; what was spent is flagged."""
    for branch in branches.of_session(tx.execute, row.id):
        branches.check(ledger_key, row.uid, branch)
        known = tx.head(branch.id)
        if known.session != row.uid.hex() or known.branch != branch.uid.hex():
            raise TamperedError("a branch belongs to another session", hint=VERIFY_HINT)
        head, count = history.clear(tx, branch.id, known.head)
        tx.record_write(
            {**fields, "items": count},
            branch=branch.id,
            branch_uid=known.branch,
            head=head,
            session=row.id,
            uid=known.session,
        )
        usage.pop(tx.execute, ledger_key, usage.Owner(row.id, row.uid, branch.id, branch.uid), head)
