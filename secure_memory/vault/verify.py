"""The whole check of one vault against its ledger, and the first thing that is wrong.

1. The ledger itself (`ledger.verify`).
2. The control state is this vault's, and the newest entry carries its digest; the legal holds are those that it says.
3. Every session's row has our MAC, and is the newest one that the ledger knows if it was changed; its main branch is one
   that the ledger knows as this session's; every branch of
   the ledger has its row, with our MAC and the uid that the ledger names.
4. The items of every branch, from its base to its head, form the chain that the ledger's newest write names.
5. Every item opens in its place; a session that was erased has none. (One whose erasure was interrupted may have items that
   no key opens any more: their places are proven, and whoever erases it again deletes them.)
6. There are no items of branches that the ledger does not know.
7. Every row of usage has our MAC, belongs to a known session and branch, and says what the ledger says was spent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_memory.errors import TamperedError
from secure_memory.ledger import verify as ledger_verify
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.ledger.verify import Checked, Progress
from secure_memory.vault import branches, erasures, history, holds, sessions, usage
from secure_memory.vault.branches import BranchRow
from secure_memory.vault.control import Control
from secure_memory.vault.database import Database

KeyOf = Callable[[sessions.SessionRow], "AESGCM | None"]
"""The cipher of a session's key, None where the key was destroyed. Raises KeyManagementError where it can't be had."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A vault that was found whole: how many entries, sessions and items it has, and the ledger's root (32 bytes)."""

    entries: int
    sessions: int
    items: int
    root: bytes


def verify(execute: Callable[..., Any], database: Database, key_of: KeyOf, progress: Progress | None = None) -> Whole:
    """Check the whole vault. Raises TamperedError, which names the first thing that is wrong."""
    checked = ledger_verify.verify(execute, database.ledger, database.identity.tenant, progress)  # (1)
    control = _checked_control(execute, database, checked)  # (2)
    holds.all_holds(execute, control, database.ledger_key, database.identity.tenant)
    rows = {row.id: row for row in sessions.rows(execute)}
    ciphers: dict[int, AESGCM | None] = {}
    for row in rows.values():  # (3)
        sessions.check(database.ledger_key, database.identity.tenant, row)
        known = checked.heads.get(row.branch)
        if known is None or known.session != row.uid.hex():
            raise TamperedError(f"session {row.uid.hex()} has a branch that the ledger does not know", hint=VERIFY_HINT)
        if checked.rows.get(row.uid.hex(), sessions.digest(row)) != sessions.digest(row):
            raise TamperedError(f"the row of session {row.uid.hex()} is an older one", hint=VERIFY_HINT)
        if not erasures.is_stub(row):
            ciphers[row.id] = key_of(row)
    unknown = {row[0]: BranchRow(*row) for row in execute("SELECT * FROM branches")}
    items = 0
    owners: dict[int, usage.Owner] = {}
    for branch, known in checked.heads.items():
        its = unknown.pop(branch, None)
        row_ = None if its is None else rows.get(its.session)
        if its is None or row_ is None or row_.uid.hex() != known.session or its.uid.hex() != known.branch:
            raise TamperedError(f"the rows of session {known.session} are gone or edited", hint=VERIFY_HINT)
        branches.check(database.ledger_key, row_.uid, its)
        found = history.rows(execute, branch)
        head = known.head
        try:
            history.prove(found, branch, head.base_position, head.base_link, head)  # (4)
            if found and row_.id not in ciphers:
                raise TamperedError("it was erased, and has items", hint=VERIFY_HINT)
            if found and (cipher := ciphers[row_.id]) is not None:
                history.unsealed(found, cipher, database.identity.tenant, row_.uid)  # (5)
        except TamperedError as error:
            raise TamperedError(f"session {known.session}: {error}", hint=VERIFY_HINT) from None
        items += len(found)
        owners[branch] = usage.Owner(row_.id, row_.uid, branch, its.uid)
    if unknown:
        raise TamperedError("there are branches that the ledger does not know", hint=VERIFY_HINT)
    stored = execute("SELECT count(*) FROM items").fetchone()[0]
    if stored != items:  # (6)
        raise TamperedError(f"there are {stored - items} items that the ledger does not know", hint=VERIFY_HINT)
    usage.check_rows(execute, database.ledger_key, owners)  # (7)
    return Whole(checked.tail.size, len(rows), items, checked.tail.root)


def _checked_control(execute: Callable[..., Any], database: Database, checked: Checked) -> Control:
    control = Control.read(execute)
    if (control.rows.get("vault"), control.rows.get("tenant")) != (database.identity.vault, database.identity.tenant):
        raise TamperedError("the control state is another vault's", hint=VERIFY_HINT)
    if checked.newest is None or checked.newest.control != control.digest:
        raise TamperedError("the control state is not what the newest entry says", hint=VERIFY_HINT)
    return control
