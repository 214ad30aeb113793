"""One session's part of a purge, inside its transaction: rows deleted or blanked in every branch, one entry a branch.

The entry is the tombstone: which rules of which policy, how many items, and no content. Usage stays as it is: what was
spent was spent, and no turn's number is used again. Called by `lifecycle.purge.purging`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from secure_memory import items as sdk_items
from secure_memory.errors import TamperedError
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.lifecycle.purge.fates import Fate, Known, Unit
from secure_memory.redaction.blanking import blank
from secure_memory.tenancy import Tenant
from secure_memory.vault import branches, history, pruning, seal
from secure_memory.vault.branches import BranchRow
from secure_memory.vault.history import ItemRow
from secure_memory.vault.seal import Place
from secure_memory.vault.transaction import Transaction


class Disposed(NamedTuple):
    """How many items were deleted, redacted and archived; one that stands in several branches is one."""

    deleted: int = 0
    redacted: int = 0
    archived: int = 0

    def __add__(self, other: Disposed) -> Disposed:  # type: ignore[override]
        return Disposed(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def dispose(tx: Transaction, tenant: Tenant, unit: Unit, said: Mapping[str, Any]) -> Disposed:
    """Do to the session what its fates say; `said` is what its entries say besides. Raises TamperedError."""
    gone = {fate.found.uid for fate in unit.fates if fate.done in ("delete", "archive") and not fate.paired}
    blanked = {fate.found.uid: fate for fate in unit.fates if fate.done == "redact" or (fate.done and fate.paired)}
    rules = sorted({rule.id for fate in unit.fates if fate.done for rule in fate.outcome.rules})
    anew: dict[bytes, tuple[bytes, bytes]] = {}
    for branch in branches.of_session(tx.execute, unit.known.row.id):
        branches.check(tenant.keys.ledger, unit.known.row.uid, branch)
        known = tx.head(branch.id)
        if known.session != unit.known.row.uid.hex() or known.branch != branch.uid.hex():
            raise TamperedError("a branch belongs to another session", hint=VERIFY_HINT)
        if known.head.position == known.head.base_position:
            continue
        if unit.whole:
            pruned = pruning.clear(tx, branch.id, known.head)
        else:
            _blank_those(tx, tenant, unit.known, branch, blanked, anew)
            pruned = pruning.prune(tx, branch.id, known.head, gone, anew)
        if pruned.removed or pruned.rewritten:
            detail = {**said, "rules": rules, "removed": pruned.removed, "redacted": pruned.rewritten}
            tx.record_write(
                {"items": pruned.removed + pruned.rewritten, "subject": unit.known.row.subject.hex(), "detail": detail},
                branch=branch.id,
                branch_uid=known.branch,
                head=pruned.head,
                session=unit.known.row.id,
                uid=known.session,
            )
    counts = {
        what: sum(fate.found.size for fate in unit.fates if fate.done == what) for what in ("delete", "redact", "archive")
    }
    return Disposed(counts["delete"], counts["redact"], counts["archive"])


def _blank_those(
    tx: Transaction,
    tenant: Tenant,
    known: Known,
    branch: BranchRow,
    blanked: Mapping[bytes, Fate],
    anew: dict[bytes, tuple[bytes, bytes]],
) -> None:
    """Give each item of the branch that is to be redacted its new uid and seal; the same one in every branch."""
    if blanked:
        for row in history.rows(tx.execute, branch.id):
            fate = blanked.get(row.uid)
            if fate is not None and row.uid not in anew:
                anew[row.uid] = _blanked(tenant, known, row, fate)


def _blanked(tenant: Tenant, known: Known, row: ItemRow, fate: Fate) -> tuple[bytes, bytes]:
    keys = known.keys
    (text,) = history.unsealed([row], keys.key.aead, tenant.keys.uid, keys.uid)
    rule = fate.outcome.rules[0].id if fate.outcome.rules else "erasure"
    place = Place(tenant.keys.uid, keys.uid, os.urandom(16), row.kind, row.role, row.tool, row.created)
    left = sdk_items.dump(blank(sdk_items.load(text), rule))
    return place.uid, seal.seal(keys.key.aead, keys.version, os.urandom(12), place, left, seal.REDACTED)
