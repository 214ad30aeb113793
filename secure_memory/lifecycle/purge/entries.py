"""The ledger's entries, whose time passes too: rules about `audit_entry`, planned and applied.

Where anything of the tenant is held, no entry goes: who saw what may be what the matter is about. Times are those of the
entries; a trigger that is a session's means the entry's own. Called by `lifecycle.purge.purging`.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import Any

from secure_memory import clock
from secure_memory.ledger import pruning
from secure_memory.ledger.entry import Entry
from secure_memory.lifecycle.purge.purge_plan import PlanLine
from secure_memory.policy import matching, retention
from secure_memory.policy.matching import Facts
from secure_memory.policy.model import Policy, Retention
from secure_memory.policy.retention import Outcome
from secure_memory.tenancy import Tenant
from secure_memory.vault.transaction import Transaction


class EntryPruning:
    """What of one vault's ledger is pruned, as of `now`."""

    def __init__(self, tenant: Tenant, policy: Policy, now: int) -> None:
        self._tenant = tenant
        self._policy = policy
        self._now = now

    @cached_property
    def rules(self) -> Retention | None:
        """The rules that are about this vault's entries; None where there is none."""
        name, rules = self._tenant.keys.name, self._policy.retention.rules
        ours = tuple(r for r in rules if "audit_entry" in r.select.kind and matching.of_tenant(r, name) and not r.select.tag)
        return self._policy.retention.model_copy(update={"rules": ours}) if ours else None

    def planned(self, execute: Any) -> PlanLine | None:
        """How many entries would lose their body, and by which rules; None where none would."""
        if self.rules is None:
            return None
        size = execute("SELECT coalesce(max(seq), 0) FROM ledger").fetchone()[0]  # the newest one always stays
        count, first = 0, None
        for seq in pruning.droppable(execute, self._tenant.vault.ledger, size, self._is_due):
            first = seq if first is None else first
            count += 1
        if first is None:
            return None
        outcome = self._outcome(next(self._tenant.vault.ledger.entries(execute, first, first + 1)))
        laws = [rule.law for rule in outcome.rules if rule.law]
        return PlanLine("prune", ", ".join(rule.id for rule in outcome.rules), "; ".join(laws) or None, count, 0)

    def prune(self, tx: Transaction, most: int, policy: str) -> int:
        """Drop the bodies of the oldest entries that are due, so many at most, with the entry that covers them; returns how
        many. `policy` is the digest of the policy."""
        if self.rules is None:
            return 0
        due = pruning.droppable(tx.execute, self._tenant.vault.ledger, tx.tail.size - 1, self._is_due)
        seqs = list(islice(due, min(most, pruning.AT_ONCE)))
        if not seqs:
            return 0
        dropped = pruning.drop(tx.execute, self._tenant.vault.ledger, seqs)
        detail = {"policy": policy, "as_of": clock.rfc3339(self._now), "entries": dropped.now, "pruned": dropped.detail()}
        tx.record({"detail": detail})
        return dropped.now

    def _is_due(self, entry: Entry) -> bool:
        return self._outcome(entry).state == "due"

    def _outcome(self, entry: Entry) -> Outcome:
        facts = Facts("audit_entry", self._tenant.keys.name, entry.time, entry.time, entry.time, ended=entry.time)
        return retention.resolve(self.rules or Retention(), facts, self._now, self._policy.metadata.jurisdiction)
