"""Branches of a conversation: fork, switch, delete, list, rewind; and the whole of one branch, for who asks about turns.

The rules are the SDK's (`agents/extensions/memory/advanced_sqlite_session.py`), with these differences:

- a branch is there from when it is made until it is deleted, with or without items; the SDK knows it by its items;
- finding out is audited like reading, and switching is an entry.

A branch's name is never used twice in a session, not even after it was deleted or the session cleared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory import items as sdk_items
from secure_memory.items import Item
from secure_memory.replacement import Replacement
from secure_memory.tenancy import Asker, Opened, Tenant
from secure_memory.vault import branches, history
from secure_memory.vault.branches import MAIN, BranchRow
from secure_memory.vault.commits import Operation
from secure_memory.vault.history import ItemRow
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction


class BranchInfo(NamedTuple):
    """A branch: how many items and user turns it has. `created` is in microseconds."""

    name: str
    items: int
    turns: int
    current: bool
    created: int


class Placed(NamedTuple):
    """An item where it stands. `created` is in microseconds."""

    turn: int
    created: int
    item: Item


class Branching(Replacement):
    """One session of one tenant, with its branches."""

    async def read_branch(self, name: str | None, limit: int | None, asker: Asker) -> list[Placed]:
        """The newest `limit` items of a branch, all where it is None or negative; the current branch where no name is given.

        Raises ValueError where there is no such branch, IntegrityError.
        """
        placed = await self._perform(lambda opened: self._whole(opened, name, limit, asker), create=False)
        seen = await self._seen([one.item for one in placed], asker, "session.read")
        return [one._replace(item=item) for one, item in zip(placed, seen, strict=True)]

    async def fork(self, turn: int, name: str | None, asker: Asker) -> str:
        """Make a branch of the turns before `turn` of the current one, and switch to it; returns its name.

        Raises ValueError where the turn does not begin with a user message, or the name was used before.
        """
        return await self._perform(lambda opened: self._fork(opened, turn, name, asker), create=False)

    async def switch(self, name: str, asker: Asker) -> None:
        """Go on in another branch. Raises ValueError where there is none of that name."""
        await self._perform(lambda opened: self._switch(opened, name, asker), create=False)

    async def delete(self, name: str, force: bool, asker: Asker) -> None:
        """Delete a branch with its items; with `force` also the current one, which leads back to main.

        Raises ValueError where there is none of that name, or it is main, or the current one.
        """
        if name == MAIN:
            raise ValueError("the main branch can't be deleted")
        await self._perform(lambda opened: self._delete(opened, name, force, asker), create=False)

    async def branches(self, asker: Asker) -> list[BranchInfo]:
        """The branches, the oldest first; main only where it has items."""
        return await self._perform(lambda opened: self._list(opened, asker), create=False)

    async def rewind(self, turn: int, asker: Asker) -> int:
        """Delete everything after `turn` in the current branch, in one step; returns how many items that were."""
        return await self._perform(lambda opened: self._rewind(opened, turn, asker), create=False)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _whole(self, opened: Opened, name: str | None, limit: int | None, asker: Asker) -> Operation[Any, list[Placed]]:
        tenant, keys, current = opened.tenant, opened.keys, self._current

        def run(tx: Transaction) -> Any:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None:
                self._record_unknown(tx, opened)
                return None
            branch = current if name is None else self._named(tx, tenant, row, name).id
            found, count = self._fetch(tx, self._spot(tx, row, branch), limit, None)
            tx.record({"items": count}, session=row.id)
            return found

        def finish(found: Any) -> list[Placed]:
            if found is None or keys is None:
                return []
            rows: list[ItemRow] = found.rows
            history.prove(rows, found.branch, found.after, found.link, found.head)
            texts = history.unsealed(rows, keys.key.aead, tenant.keys.uid, keys.uid)
            items = sdk_items.load_all(texts)
            return [Placed(row.turn, row.created, item) for row, item in zip(rows, items, strict=True)]

        return Operation(run, finish, opened.policy.durable_reads, self._door.fields("session.read", opened, asker))

    def _fork(self, opened: Opened, turn: int, name: str | None, asker: Asker) -> Operation[Any, str]:
        tenant, keys, current = opened.tenant, opened.keys, self._current

        def run(tx: Transaction) -> tuple[int, str]:
            row = self._enter(tx, opened, asker, "session.branch")
            if row is None or keys is None:
                raise ValueError(f"turn {turn} does not exist: the session has no items")
            source = self._spot(tx, row, current)
            new = branches.next_id(tx.execute)
            called = name
            if called is None:
                called = self._unused(tx, tenant, row, f"branch_from_turn_{turn}_{clock.now() // 1_000_000}")
            uid = self._insert_branch(tx, row, new, called, tenant, keys)
            head, count = history.fork(tx, source.id, source.head, turn, new, uid)
            spot = source._replace(id=new, uid=uid.hex(), head=head)
            self._record_write(tx, row, spot, count, detail={"from": source.uid, "turn": turn})
            return new, called

        def finish(made: tuple[int, str]) -> str:
            self._current, called = made
            return called

        return Operation(run, finish, True, self._door.fields("session.branch", opened, asker))

    def _switch(self, opened: Opened, name: str, asker: Asker) -> Operation[Any, None]:
        def run(tx: Transaction) -> int | None:
            row = self._enter(tx, opened, asker, "session.branch")
            if row is None:
                raise _no_branch(name)
            found = self._named(tx, opened.tenant, row, name)
            tx.record({"branch": found.uid.hex(), "detail": {"switch": True}}, session=row.id)
            return None if found.id == row.branch else found.id

        def finish(branch: int | None) -> None:
            self._current = branch

        return Operation(run, finish, True, self._door.fields("session.branch", opened, asker))

    def _delete(self, opened: Opened, name: str, force: bool, asker: Asker) -> Operation[Any, None]:
        def run(tx: Transaction) -> int:
            row = self._enter(tx, opened, asker, "session.branch")
            if row is None:
                raise _no_branch(name)
            found = self._named(tx, opened.tenant, row, name)
            if found.id == self._current and not force:
                raise ValueError(f"branch {name!r} is the current one: use force=True or switch to another first")
            self._delete_branch(tx, opened, row, self._spot(tx, row, found.id))
            return found.id

        def finish(branch: int) -> None:
            if self._current == branch:
                self._current = None

        return Operation(run, finish, True, self._door.fields("session.branch", opened, asker))

    def _list(self, opened: Opened, asker: Asker) -> Operation[Any, list[BranchInfo]]:
        keys, current = opened.keys, self._current

        def run(tx: Transaction) -> list[BranchInfo]:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None or keys is None:
                self._record_unknown(tx, opened)
                return []
            here = self._spot(tx, row, current).id
            found = []
            for one in branches.of_session(tx.execute, row.id):
                branches.check(opened.tenant.keys.ledger, row.uid, one)
                spot = self._spot(tx, row, one.id)
                if spot.id != one.id or one.name in branches.hidden(opened.tenant.keys, row.uid):
                    continue  # it is gone, or no part of the conversation
                items, turns = spot.head.position - spot.head.base_position, spot.head.turn - spot.head.base_turn
                if items or one.id != row.branch:
                    name = branches.open_name(keys.subject_key, one)
                    found.append(BranchInfo(name, items, turns, one.id == here, one.created))
            tx.record({"items": 0, "detail": {"list": "branches"}}, session=row.id)
            return found

        return Operation(
            run, lambda found: found, opened.policy.durable_reads, self._door.fields("session.read", opened, asker)
        )

    def _rewind(self, opened: Opened, turn: int, asker: Asker) -> Operation[Any, int]:
        current = self._current

        def run(tx: Transaction) -> int:
            row = self._enter(tx, opened, asker, "session.pop")
            if row is None:
                raise ValueError(f"turn {turn} does not exist: the session has no items")
            spot = self._spot(tx, row, current)
            self._withhold(tx, opened, row, spot, doomed=lambda item: item.turn > turn)
            head, count = history.rewind(tx, spot.id, spot.head, turn)
            moved = spot._replace(head=head)
            self._record_write(tx, row, moved, count, detail={"rewind_to_turn": turn})
            self._pop_usage(tx, opened.tenant, row, moved)
            return count

        return Operation(run, lambda count: count, True, self._door.fields("session.pop", opened, asker))

    # ---- names --------------------------------------------------------------------------------------------------

    def _named(self, tx: Transaction, tenant: Tenant, row: SessionRow, name: str) -> BranchRow:
        """The branch of that name. Raises ValueError where there is none, or none any more."""
        found = branches.find(tx.execute, row.id, branches.name_mac(tenant.keys, row.uid, name))
        if found is None or tx.head(found.id).gone:
            raise _no_branch(name)
        branches.check(tenant.keys.ledger, row.uid, found)
        return found

    def _unused(self, tx: Transaction, tenant: Tenant, row: SessionRow, name: str) -> str:
        """The name, or the first of name_2, name_3, ... that was never used in this session."""
        tried, number = name, 1
        while branches.find(tx.execute, row.id, branches.name_mac(tenant.keys, row.uid, tried)) is not None:
            number += 1
            tried = f"{name}_{number}"
        return tried


def _no_branch(name: str) -> ValueError:
    return ValueError(f"branch {name!r} does not exist")
