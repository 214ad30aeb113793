"""What a conversation's runs have spent, charged to the turns that they spent it in.

- A run is one object that counts: its figures only grow, and whoever sees them sees all that it has spent so far. So its
  record is overwritten while it goes on, and never added to: recording it twice changes nothing.
- There is one record for each run, turn and model. Where a run reaches another turn, or another session, that is charged
  with what the run has spent since: the shares of a run always add up to what it spent.
- Recorded with the items that a run appends, in the same transaction; or by itself, when it is over.
- A turn that is popped keeps what was spent in it, flagged, and a turn made anew in its place begins with nothing.

A run that is resumed from its written state comes back as another object. It goes on in the record of that turn whose
figures are how its own began (`Charge.began_as`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory.branching import Branching
from secure_memory.items import Item
from secure_memory.service import Spot
from secure_memory.tenancy import Asker, Opened, Tenant
from secure_memory.vault import branches, usage
from secure_memory.vault.branches import BranchRow
from secure_memory.vault.commits import Operation
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.usage import Owner, Spent, UsageRow


class Run:
    """One run, as this process follows it: its key, and its share in each row that it was recorded in."""

    __slots__ = ("key", "shares")

    def __init__(self) -> None:
        self.key = os.urandom(16)
        self.shares: dict[tuple[bytes, int], Spent] = {}  # by vault uid and row id

    def elsewhere(self, vault: bytes) -> Spent:
        """What it has spent that other vaults have in their books."""
        return _sum(spent for (other, _), spent in list(self.shares.items()) if other != vault)


class Charge(NamedTuple):
    """What a run has spent in all; `requests` are its single ones, in order, where it knows them. A model that is not known
    is an empty text."""

    run: Run
    spent: Spent
    requests: Sequence[Spent]
    model: str

    def began_as(self, total: Spent) -> bool:
        """Whether the run had spent exactly this after one of its requests."""
        so_far = Spent()
        for request in self.requests:
            so_far += request
            if so_far.figures[1:] == total.figures[1:]:
                return True
        return total.figures == self.spent.figures


class TurnSpent(NamedTuple):
    """What was spent in a turn of a branch (its row id)."""

    branch: int
    turn: int
    spent: Spent


class Accounting(Branching):
    """One session of one tenant, with what was spent in it."""

    async def append_charged(self, new: Sequence[Item], charge: Charge | None, asker: Asker) -> Sequence[Mapping[str, Any]]:
        """As `append`, and in the same transaction record what the run that the items come from has spent so far."""
        if charge is None:
            return await self.append(new, asker)

        def also(tx: Transaction, tenant: Tenant, row: SessionRow, spot: Spot) -> None:
            self._charge(tx, tenant, row, spot, self._shares(tx, tenant, charge.run), charge)

        return await self.append(new, asker, also)

    async def charge(self, charge: Charge, asker: Asker) -> None:
        """Record what a run has spent: in the newest turn that it was recorded in, or, of a run that was in none, in the
        current turn of the current branch. Where there is no turn, nothing is recorded."""
        await self._perform(lambda opened: self._settle(opened, charge, asker), create=False)

    async def spent(self, name: str | None, asker: Asker) -> list[TurnSpent]:
        """What was spent in each turn of a branch, the current one where none is named; without what was popped.

        Raises ValueError where there is no such branch, IntegrityError.
        """
        return await self._perform(lambda opened: self._spent(opened, name, False, asker), create=False, here=True)

    async def spent_in_all(self, asker: Asker) -> list[TurnSpent]:
        """As `spent`, of all branches."""
        return await self._perform(lambda opened: self._spent(opened, None, True, asker), create=False, here=True)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _settle(self, opened: Opened, charge: Charge, asker: Asker) -> Operation[Any, None]:
        current = self._current

        def run(tx: Transaction) -> None:
            row = self._enter(tx, opened, asker, "session.usage")
            if row is None:
                self._record_unknown(tx, opened)
                return
            tenant = opened.tenant
            shares = self._shares(tx, tenant, charge.run)
            target = next((one for one in reversed(shares) if one.session == row.id), None)
            if target is not None:  # wherever the branch has gone since
                done = self._write(tx, tenant, _owner(tx, target), shares, target, charge)
            else:
                done = self._charge(tx, tenant, row, self._spot(tx, row, current), shares, charge)
            if not done:
                tx.record({"items": 0}, session=row.id)

        return Operation(run, lambda _: None, True, self._door.fields("session.usage", opened, asker))

    def _shares(self, tx: Transaction, tenant: Tenant, run: Run) -> list[UsageRow]:
        """The rows that this vault has of the run, in order, checked. One that was rolled back is forgotten."""
        vault = tenant.vault.identity.vault
        found = []
        for place in sorted(list(run.shares)):
            if place[0] == vault:
                row = usage.by_id(tx.execute, place[1])
                if row is None or row.run != run.key:
                    del run.shares[place]
                else:
                    found.append(usage.check(tenant.keys.ledger, _owner(tx, row), row))
        return found

    def _charge(
        self, tx: Transaction, tenant: Tenant, row: SessionRow, spot: Spot, shares: list[UsageRow], charge: Charge
    ) -> bool:
        """Charge the branch's newest turn; returns whether there was anything to record."""
        if spot.head.position == spot.head.base_position:
            return False
        owner = Owner(row.id, row.uid, spot.id, bytes.fromhex(spot.uid))
        turn = spot.head.turn
        if not charge.run.shares:
            shares = self._resumed(tx, tenant, owner, turn, charge)
        target = None
        for one in reversed(shares):
            here = one.branch == spot.id and one.turn == turn and not one.popped
            if here and (charge.model in ("", one.model) or not one.model):
                target = one
                break
        if target is None:
            new = usage.next_id(tx.execute, spot.id)
            target = UsageRow(new, row.id, turn, charge.run.key, charge.model, 0, 0, 0, 0, "", clock.now(), 0, b"")
        return self._write(tx, tenant, owner, shares, target, charge)

    def _write(
        self, tx: Transaction, tenant: Tenant, owner: Owner, shares: list[UsageRow], target: UsageRow, charge: Charge
    ) -> bool:
        """Give `target` what the run has spent and no other row has; returns whether that changed anything."""
        vault = tenant.vault.identity.vault
        others = _sum(one.spent for one in shares if one.id != target.id) + charge.run.elsewhere(vault)
        spent = charge.spent - others
        new = target.with_spent(spent)._replace(model=target.model or charge.model)
        if new == target._replace(mac=b"") or (not target.mac and not any(spent.figures)):
            return False
        usage.put(tx.execute, tenant.keys.ledger, owner, new)
        charge.run.shares[vault, new.id] = spent
        tx.record(
            {"action": "session.usage", "branch": owner.branch_uid.hex(), "detail": {"usage": new.to_detail()}},
            session=owner.session,
        )
        return True

    def _resumed(self, tx: Transaction, tenant: Tenant, owner: Owner, turn: int, charge: Charge) -> list[UsageRow]:
        """The rows of the run in the turn that this one goes on with, which then is that run; none where there is none."""
        by_run: dict[bytes, list[UsageRow]] = {}
        for row in usage.newest(tx.execute, tenant.keys.ledger, owner):
            if row.turn == turn:
                by_run.setdefault(row.run, []).insert(0, row)
        for key, rows in by_run.items():
            if charge.began_as(_sum(row.spent for row in rows)):
                charge.run.key = key
                charge.run.shares.update({(tenant.vault.identity.vault, row.id): row.spent for row in rows})
                return rows
        return []

    def _spent(self, opened: Opened, name: str | None, every: bool, asker: Asker) -> Operation[Any, list[TurnSpent]]:
        tenant, current = opened.tenant, self._current

        def run(tx: Transaction) -> list[TurnSpent]:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None:
                self._record_unknown(tx, opened)
                return []
            found: dict[tuple[int, int], Spent] = {}
            for branch in self._wanted(tx, tenant, row, name, current, every):
                owner = Owner(row.id, row.uid, branch.id, branch.uid)
                for one in usage.of_branch(tx.execute, tenant.keys.ledger, owner):
                    if not one.popped:
                        place = branch.id, one.turn
                        found[place] = found[place] + one.spent if place in found else one.spent
            tx.record({"items": 0, "detail": {"list": "usage"}}, session=row.id)
            return [TurnSpent(branch_, turn, spent) for (branch_, turn), spent in sorted(found.items(), key=lambda e: e[0])]

        return Operation(
            run, lambda found: found, opened.policy.durable_reads, self._door.fields("session.read", opened, asker)
        )

    def _wanted(
        self, tx: Transaction, tenant: Tenant, row: SessionRow, name: str | None, current: int | None, every: bool
    ) -> Iterable[BranchRow]:
        if name is not None:
            return [self._named(tx, tenant, row, name)]
        rows = branches.of_session(tx.execute, row.id)
        for one in rows:
            branches.check(tenant.keys.ledger, row.uid, one)
        here = self._spot(tx, row, current).id
        return rows if every else [one for one in rows if one.id == here]


def _owner(tx: Transaction, row: UsageRow) -> Owner:
    """Whose a row is, by what the ledger says of its branch."""
    head = tx.head(row.branch)
    return Owner(row.session, bytes.fromhex(head.session), row.branch, bytes.fromhex(head.branch))


def _sum(spent: Iterable[Spent]) -> Spent:
    found = Spent()
    for one in spent:
        found += one
    return found
