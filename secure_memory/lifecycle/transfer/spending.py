"""What the SDK recorded of tokens (`turn_usage`), as rows of `vault.usage`: one for each turn of a branch.

A row's run is an HMAC of its place in the database, so that a row that is imported again is found again: its figures are
written over, and nothing is counted twice. Called by `intake`, in the transaction that ends a branch.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory.keys.key import context
from secure_memory.ledger.entry import BranchHead
from secure_memory.tenancy import Tenant
from secure_memory.vault import usage
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.usage import MAX_TOKENS, Details, Owner, Spent, UsageRow


class TurnUsage(NamedTuple):
    """A row of `turn_usage`, as it is: details are JSON, or None. `created` is in microseconds."""

    turn: Any
    requests: Any
    input: Any
    output: Any
    total: Any
    input_details: Any
    output_details: Any
    created: int | None


def digest(key: bytes, rows: Sequence[TurnUsage]) -> str:
    """What an entry says of a branch's rows, under a key of the tenant; nothing where there are none."""
    return hmac.digest(key, b"secmem/import-usage/v1" + repr(rows).encode(errors="replace"), "sha256").hex() if rows else ""


def keep(
    tx: Transaction, tenant: Tenant, owner: Owner, head: BranchHead, key: bytes, branch: str, rows: Sequence[TurnUsage]
) -> tuple[int, int]:
    """Write the rows of turns that the branch has; returns how many were written, and how many are of no such turn."""
    known = {row.run: row for row in usage.of_branch(tx.execute, tenant.keys.ledger, owner)}
    written = left_out = 0
    for row in rows:
        spent = _spent(row)
        if spent is None or not isinstance(row.turn, int) or not 0 <= row.turn <= head.turn:
            left_out += 1
            continue
        run = hmac.digest(key, context("secmem/import-run/v1", branch, row.turn), "sha256")[:16]
        before = known.get(run)
        if before is None:
            place = usage.next_id(tx.execute, owner.branch)
            created = clock.now() if row.created is None else row.created
            before = UsageRow(place, owner.session, row.turn, run, "", 0, 0, 0, 0, "", created, 0, b"")
        new = before.with_spent(spent)
        if new != before._replace(mac=b""):
            usage.put(tx.execute, tenant.keys.ledger, owner, new)
            fields = {"action": "session.usage", "branch": owner.branch_uid.hex(), "detail": {"usage": new.to_detail()}}
            tx.record(fields, session=owner.session)
            written += 1
    return written, left_out


def _spent(row: TurnUsage) -> Spent | None:
    """The figures of a row; None where one of them is no number of tokens."""
    requests, input_, output, total = figures = [0 if value is None else value for value in row[1:5]]
    if not all(isinstance(value, int) and 0 <= value <= MAX_TOKENS for value in figures):
        return None
    return Spent(requests, input_, output, total, _details(row.input_details), _details(row.output_details))


def _details(text: Any) -> Details:
    try:
        found = None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    # Only what has a whole number: it is added up.
    return {name: value for name, value in found.items() if isinstance(value, int)} if isinstance(found, dict) else None
