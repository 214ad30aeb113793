"""The four operations of the SDK's `Session`, on one conversation's current branch: read, append, pop, clear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from secure_memory import items as sdk_items
from secure_memory.actor import Actor
from secure_memory.cleaning import Clean, Cleaning
from secure_memory.items import Item
from secure_memory.ledger.entry import BranchHead
from secure_memory.service import Spot
from secure_memory.tenancy import Asker, Opened, Tenant, Tenants
from secure_memory.vault import branches, history, usage
from secure_memory.vault.commits import NotNow, Operation
from secure_memory.vault.history import ItemRow
from secure_memory.vault.prefix import Prefix
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction

Also = Callable[[Transaction, Tenant, SessionRow, Spot], None]
"""What is done in the transaction of an append, after it; the spot has the new head."""

FEW_ROWS = 128
"""Rows that a read may fetch where it is asked; more are fetched and opened by the worker."""


class Fetched(NamedTuple):
    """What a read found, not yet proven: `texts` are remembered and end at `after`, where `link` is; `rows` follow."""

    branch: int
    head: BranchHead
    texts: list[bytes]
    after: int
    link: bytes
    rows: list[ItemRow]


class Conversation(Cleaning):
    """One session of one tenant, as a conversation."""

    def __init__(
        self,
        store: Tenants,
        name: str,
        *,
        tenant: str,
        subject: str | None,
        actor: Actor | None,
        require_actor: bool,
        cache: bool,
    ) -> None:
        super().__init__(store, name, tenant=tenant, subject=subject, actor=actor, require_actor=require_actor)
        # Of the current branch. Links begin at a branch's uid, so what one branch left here never passes for another's.
        self._prefix = Prefix() if cache else None
        self._waiting = {}

    def _forget(self) -> None:
        super()._forget()
        if self._prefix is not None:
            self._prefix.drop()

    async def read(self, limit: int | None, asker: Asker, action: str = "session.read") -> list[Item]:
        """The newest `limit` items in order, all where it is None or negative; proven. Raises IntegrityError."""
        texts = await self._perform(lambda opened: self._read(opened, limit, asker, action), create=False, here=True)
        return await self._seen(sdk_items.load_all(texts), asker, action)

    async def append(
        self, new: Sequence[Mapping[str, Any]], asker: Asker, also: Also | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Append the items, all or none, and with them what `also` does; returns them as they are stored, those that nothing
        was taken out of as the same objects.

        Raises SerializationError, BlockedContentError, RedactionError before anything is written.
        """
        texts = [sdk_items.dump(item) for item in new]

        async def build(opened: Opened) -> Operation[Any, Sequence[Mapping[str, Any]]]:
            return self._append(opened, await self._cleaned(opened, new, texts), asker, also)

        return await self._perform(build, create=True)

    async def pop(self, asker: Asker) -> Item | None:
        """Remove and return the newest item; None where there is none."""
        text = await self._perform(lambda opened: self._pop(opened, asker), create=False)
        return None if text is None else (await self._seen([sdk_items.load(text)], asker, "session.pop"))[0]

    async def clear(self, asker: Asker) -> None:
        """Delete every item."""
        await self._perform(lambda opened: self._clear(opened, asker), create=False)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _read(self, opened: Opened, limit: int | None, asker: Asker, action: str) -> Operation[Any, list[bytes]]:
        tenant, keys, current = opened.tenant, opened.keys, self._current

        def run(tx: Transaction) -> Fetched | None:
            row = self._enter(tx, opened, asker, action)
            if row is None:
                self._record_unknown(tx, opened)
                return None
            found, count = self._fetch(tx, self._spot(tx, row, current), limit, self._prefix)
            tx.record({"items": count}, session=row.id)
            return found

        def finish(found: Fetched | None) -> list[bytes]:
            if found is None or keys is None:
                return []
            history.prove(found.rows, found.branch, found.after, found.link, found.head)
            texts = history.unsealed(found.rows, keys.key.aead, tenant.keys.uid, keys.uid)
            if self._prefix is not None:
                self._prefix.extend(found.after, found.link, texts, [row.link for row in found.rows])
            return found.texts + texts

        return Operation(run, finish, opened.policy.durable_reads, self._door.fields(action, opened, asker))

    def _fetch(self, tx: Transaction, spot: Spot, limit: int | None, prefix: Prefix | None) -> tuple[Fetched, int]:
        """The newest `limit` items of a branch, as far as they are not remembered; and how many they are."""
        head = spot.head
        count = head.position - head.base_position
        if limit is not None and limit >= 0:
            count = min(limit, count)
        after = head.position - count
        if prefix is not None and (known := prefix.take(after, head.position)):
            position, link, texts = known
            if tx.small and head.position - position > FEW_ROWS:
                raise NotNow
            stored, rows = history.fetch(tx, spot.id, head, position)
            if stored == link:  # else popped and written anew by someone else: what we remember is not the history
                return Fetched(spot.id, head, texts, position, link, rows), count
        if tx.small and count > FEW_ROWS:
            raise NotNow
        link, rows = history.fetch(tx, spot.id, head, after)
        return Fetched(spot.id, head, [], after, link, rows), count

    def _append(
        self, opened: Opened, new: Clean, asker: Asker, also: Also | None
    ) -> Operation[Any, Sequence[Mapping[str, Any]]]:
        tenant, keys, current = opened.tenant, opened.keys, self._current
        assert keys is not None  # noqa: S101 - resolved with create=True
        sealed = [self._sealed(tenant, keys, item, text) for item, text in zip(new.items, new.texts, strict=True)]

        def run(tx: Transaction) -> tuple[SessionRow, BranchHead, list[bytes], list[bytes]]:
            row = self._enter(tx, opened, asker, "session.append") or self._begin(tx, tenant, keys)
            spot = self._spot(tx, row, current)
            stored, texts = self._at_once(tx, opened, row, sealed, new)
            head, links = history.append(tx, spot.id, spot.head, stored)
            moved = spot._replace(head=head)
            self._record_write(tx, row, moved, len(stored))
            self._keep_originals(tx, tenant, keys, new.originals)
            if also is not None:
                also(tx, tenant, row, moved)
            return row, spot.head, links, texts

        def finish(done: tuple[SessionRow, BranchHead, list[bytes], list[bytes]]) -> Sequence[Mapping[str, Any]]:
            self._row, head, links, texts = done
            self._kept_originals(new.originals)
            if self._prefix is not None:
                self._prefix.extend(head.position, head.link, texts, links)
            return new.items

        return Operation(run, finish, True, self._door.fields("session.append", opened, asker))

    def _pop(self, opened: Opened, asker: Asker) -> Operation[Any, bytes | None]:
        tenant, keys, current = opened.tenant, opened.keys, self._current

        def run(tx: Transaction) -> bytes | None:
            row = self._enter(tx, opened, asker, "session.pop")
            if row is None or keys is None:
                self._record_unknown(tx, opened)
                return None
            spot = self._spot(tx, row, current)
            if spot.head.position == spot.head.base_position:
                tx.record({"items": 0}, session=row.id)
                return None
            self._withhold(tx, opened, row, spot, after=spot.head.position - 1, doomed=every)
            head, item = history.pop(tx, spot.id, spot.head)
            # Opened before it is gone: what does not open is not popped.
            (text,) = history.unsealed([item], keys.key.aead, tenant.keys.uid, keys.uid)
            moved = spot._replace(head=head)
            self._record_write(tx, row, moved, 1)
            self._pop_usage(tx, tenant, row, moved)
            return text

        return Operation(run, lambda text: text, True, self._door.fields("session.pop", opened, asker))

    def _clear(self, opened: Opened, asker: Asker) -> Operation[Any, None]:
        def run(tx: Transaction) -> None:
            row = self._enter(tx, opened, asker, "session.clear")
            if row is None:
                self._record_unknown(tx, opened)
                return
            withheld = branches.withheld_mac(opened.tenant.keys, row.uid)
            for other in branches.of_session(tx.execute, row.id):
                spot = self._spot(tx, row, other.id)
                if spot.id == other.id != row.branch and other.name != withheld:
                    self._delete_branch(tx, opened, row, spot)
            spot = self._spot(tx, row, None)
            self._withhold(tx, opened, row, spot, doomed=every)
            head, count = history.clear(tx, spot.id, spot.head)
            moved = spot._replace(head=head)
            self._record_write(tx, row, moved, count)
            self._pop_usage(tx, opened.tenant, row, moved)

        def finish(_: None) -> None:
            self._current = None

        return Operation(run, finish, True, self._door.fields("session.clear", opened, asker))

    def _delete_branch(self, tx: Transaction, opened: Opened, row: SessionRow, spot: Spot) -> int:
        """Delete a branch and its items; returns how many there were. Its row stays, so that its name is not used again."""
        self._withhold(tx, opened, row, spot, doomed=every)
        head, count = history.clear(tx, spot.id, spot.head)
        moved = spot._replace(head=head)
        self._record_write(tx, row, moved, count, detail={"deleted": True})
        self._pop_usage(tx, opened.tenant, row, moved)
        return count

    def _pop_usage(self, tx: Transaction, tenant: Tenant, row: SessionRow, spot: Spot) -> None:
        """Flag what was spent in the turns that the branch has no longer: it stays spent, and no later turn's."""
        owner = usage.Owner(row.id, row.uid, spot.id, bytes.fromhex(spot.uid))
        usage.pop(tx.execute, tenant.keys.ledger, owner, spot.head)


def every(_: ItemRow) -> bool:
    """That all of them are doomed."""
    return True
