"""A fifth operation on a conversation: other items in the place of the newest ones, for who makes a long one shorter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from secure_memory import items as sdk_items
from secure_memory.cleaning import Clean
from secure_memory.conversation import Conversation, Fetched, every
from secure_memory.items import Item
from secure_memory.ledger.entry import BranchHead
from secure_memory.tenancy import Asker, Opened
from secure_memory.vault import history
from secure_memory.vault.commits import Operation
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction


class Tail(NamedTuple):
    """The newest items of a branch (its row id), proven: `complete` where they are all of it; `head` is where they end."""

    items: list[Item]
    complete: bool
    branch: int
    head: BranchHead


class Replacement(Conversation):
    """One session of one tenant, whose newest items can be replaced."""

    async def tail(self, limit: int, asker: Asker) -> Tail | None:
        """The newest `limit` items, for `replace`; None where the session has not begun. Raises IntegrityError."""
        return await self._perform(lambda opened: self._tail(opened, limit, asker), create=False)

    async def replace(self, new: Sequence[Item], asker: Asker, tail: Tail | None = None, start: int = 0) -> bool:
        """Put `new` into the place of the tail's items from number `start` on, or of all items, in one transaction.

        False where the branch is no longer as the tail was: nothing has happened then. Raises SerializationError.
        """
        texts = [sdk_items.dump(item) for item in new]

        async def build(opened: Opened) -> Operation[Any, bool]:
            return self._replace(opened, await self._cleaned(opened, new, texts), asker, tail, start)

        return await self._perform(build, create=True)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _tail(self, opened: Opened, limit: int, asker: Asker) -> Operation[Any, Tail | None]:
        tenant, keys, current = opened.tenant, opened.keys, self._current

        def run(tx: Transaction) -> Fetched | None:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None:
                self._record_unknown(tx, opened)
                return None
            found, count = self._fetch(tx, self._spot(tx, row, current), limit, None)
            tx.record({"items": count}, session=row.id)
            return found

        def finish(found: Fetched | None) -> Tail | None:
            if found is None or keys is None:
                return None
            history.prove(found.rows, found.branch, found.after, found.link, found.head)
            items = sdk_items.load_all(history.unsealed(found.rows, keys.key.aead, tenant.keys.uid, keys.uid))
            return Tail(items, found.after == found.head.base_position, found.branch, found.head)

        return Operation(run, finish, opened.policy.durable_reads, self._door.fields("session.read", opened, asker))

    def _replace(self, opened: Opened, new: Clean, asker: Asker, tail: Tail | None, start: int) -> Operation[Any, bool]:
        tenant, keys = opened.tenant, opened.keys
        current = self._current if tail is None else tail.branch
        assert keys is not None  # noqa: S101 - resolved with create=True
        sealed = [self._sealed(tenant, keys, item, text) for item, text in zip(new.items, new.texts, strict=True)]
        detail = {"replaces": True}

        def run(tx: Transaction) -> tuple[SessionRow, BranchHead, list[bytes], list[bytes]] | None:
            self._enter(tx, opened, asker, "session.pop")
            row = self._enter(tx, opened, asker, "session.append") or self._begin(tx, tenant, keys)
            spot = self._spot(tx, row, current)
            if tail is not None and (spot.id, spot.head) != (tail.branch, tail.head):
                tx.record({"items": 0, "detail": detail}, session=row.id)
                return None
            after = spot.head.base_position if tail is None else tail.head.position - len(tail.items) + start
            self._withhold(tx, opened, row, spot, after=after, doomed=every)
            cut, count = history.cut(tx, spot.id, spot.head, after)
            if count:
                moved = spot._replace(head=cut)
                self._record_write(tx, row, moved, count, action="session.pop", detail=detail)
                self._pop_usage(tx, tenant, row, moved)
            stored, texts = self._at_once(tx, opened, row, sealed, new)
            head, links = history.append(tx, spot.id, cut, stored)
            self._record_write(tx, row, spot._replace(head=head), len(stored), detail=detail)
            self._keep_originals(tx, tenant, keys, new.originals)
            return row, cut, links, texts

        def finish(done: tuple[SessionRow, BranchHead, list[bytes], list[bytes]] | None) -> bool:
            if done is None:
                return False
            self._row, cut, links, texts = done
            self._kept_originals(new.originals)
            if self._prefix is not None:
                self._prefix.extend(cut.position, cut.link, texts, links)
            return True

        return Operation(run, finish, True, self._door.fields("session.append", opened, asker))
