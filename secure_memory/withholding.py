"""What an agent deletes and a hold or a floor keeps: it is moved out of the agent's sight, and not deleted.

- What is withheld goes, in the transaction that takes it away and with an entry of its own, to a hidden branch of the
  session, with a chain of its own. Nothing leads back: no read, no list, no switch, no compaction.
- It is proven before it is moved: a forged row does not become a true one on the way.
- The purge deletes it when it may (`lifecycle.purge.purges`), and an erasure seals it anew (`lifecycle.erasure.erase`).

A session's hidden branches are found by HMACs that no name of a branch has: this one, and that of a paused run (`pausing`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from secure_memory import clock
from secure_memory.errors import LegalHoldError, TamperedError
from secure_memory.keys.opened import SessionKeys
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.policy import retention
from secure_memory.policy.retention import Facts
from secure_memory.service import Service, Spot
from secure_memory.tenancy import Opened, Tenant
from secure_memory.vault import activity, branches, history, holds, sessions
from secure_memory.vault.branches import BranchRow
from secure_memory.vault.history import ItemRow
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.transaction import Transaction

Which = Callable[[ItemRow], bool]


class Withholding(Service):
    """One session of one tenant, with what is withheld of it."""

    def _withhold(
        self, tx: Transaction, opened: Opened, row: SessionRow, spot: Spot, *, after: int | None = None, doomed: Which
    ) -> None:
        """Before the items behind position `after` (None: all) that are `doomed` are deleted: keep those that have to be.

        Raises TamperedError.
        """
        keys = opened.keys
        keep = None if keys is None else self._keeper(tx, opened, row, keys)
        if keep is None or keys is None:
            return
        start = spot.head.base_position if after is None else after
        link, rows = history.fetch(tx, spot.id, spot.head, start)
        history.prove(rows, spot.id, start, link, spot.head)
        kept = [item for item in rows if doomed(item) and keep(item)]
        if kept:
            mac = branches.withheld_mac(opened.tenant.keys, row.uid)
            to = self._hidden(tx, opened.tenant, row, mac) or self._hide(tx, opened.tenant, row, keys, mac)
            head, count = history.adopt(tx, to.id, to.head, kept)
            if count:
                self._record_write(tx, row, to._replace(head=head), count, action="session.withhold")

    def _keeper(self, tx: Transaction, opened: Opened, row: SessionRow, keys: SessionKeys) -> Which | None:
        """What tells whether a hold or a floor keeps an item of the session; None where nothing can."""
        tenant, policy = opened.tenant.keys, opened.policy
        active = holds.active(tx.execute, tx.control, tenant.ledger, tenant.uid)
        floors = policy.has_floors(tenant.name)
        if not active and not floors:
            return None
        names = sessions.open_names(keys.subject_key, tenant.uid, row)
        about = [hold for hold in active if hold.covers_session(row.uid.hex(), row.subject.hex(), names.tags)]
        newest = activity.last_append(tx.execute, opened.tenant.vault.ledger, row.id)
        now = clock.now()

        def keep(item: ItemRow) -> bool:
            matters = tuple(hold.matter for hold in about if hold.covers_time(item.created))
            facts = Facts(
                kind=item.kind,
                role=item.role,
                tool=item.tool,
                tenant=tenant.name,
                tags=names.tags,
                created=item.created,
                session_created=row.created,
                last_activity=newest,
                ended=names.ended,
                holds=matters,
            )
            return retention.keeps(policy.policy.retention, facts, now)

        return keep if about or floors else None

    def _refuse_escape(
        self, tx: Transaction, opened: Opened, row: SessionRow, names: Names, new: SessionRow, to: Names
    ) -> None:
        """Raise LegalHoldError where a hold is about the session, and would not be about what it is to become: who may tag a
        session or give it to another subject may not take it out of a hold."""
        tenant, uid = opened.tenant.keys, row.uid.hex()
        for hold in holds.active(tx.execute, tx.control, tenant.ledger, tenant.uid):
            if hold.covers_session(uid, row.subject.hex(), names.tags) > hold.covers_session(
                uid, new.subject.hex(), to.tags
            ):
                raise LegalHoldError(
                    f"tenant {self.tenant!r}: hold {hold.id} is about the session by its subject or its tags",
                    hint="release the hold first, or place one on the session itself",
                )

    # ---- hidden branches ----------------------------------------------------------------------------------------

    def _hidden(self, tx: Transaction, tenant: Tenant, row: SessionRow, mac: bytes) -> Spot | None:
        """The session's hidden branch that is found by `mac`; None where it never had one. Raises TamperedError.

        One that was deleted, as a cleared session's paused run is, comes back empty with the next write."""
        found = branches.find(tx.execute, row.id, mac)
        if found is None:
            return None
        branches.check(tenant.keys.ledger, row.uid, found)
        known = tx.head(found.id)
        if known.session != row.uid.hex():
            raise TamperedError(f"tenant {self.tenant!r}: a branch belongs to another session", hint=VERIFY_HINT)
        return Spot(found.id, known.branch, known.head)

    def _hide(self, tx: Transaction, tenant: Tenant, row: SessionRow, keys: SessionKeys, mac: bytes) -> Spot:
        """Make the hidden branch that is found by `mac`."""
        uid, branch = os.urandom(16), branches.next_id(tx.execute)
        made = BranchRow(branch, row.id, uid, mac, branches.seal_name(keys.subject_key, uid, ""), clock.now(), b"")
        branches.insert(tx.execute, tenant.keys.ledger, row, made)
        return Spot(branch, uid.hex(), history.begin(uid))
