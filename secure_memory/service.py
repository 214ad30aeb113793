"""One operation, whole: authorise, transact with its entry, prove.

A `Conversation` is one session as its callers use it. Each operation

1. resolves who asks (`actor`), and the session's keys;
2. seals what it writes, before any lock is held;
3. runs in one transaction of the vault, which checks that the actor may and that the session is still the one its keys
   were opened for, and appends the entry;
4. after the commit, proves and opens what it read, and only then returns it.

What fails on integrity or access is an entry too (`vault.Vault` writes it). The operations are coroutines;
`read_blocking` is for commands, which have no event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from secure_memory import clock
from secure_memory import items as sdk_items
from secure_memory.actor import Actor, program, resolve
from secure_memory.errors import AccessDeniedError, KeyDestroyedError, TamperedError
from secure_memory.items import Item
from secure_memory.keys.opened import SessionKeys
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import VERIFY_HINT, HeadRow
from secure_memory.tenancy import Asker, Door, Opened, StaleError, Tenant, Tenants
from secure_memory.vault import history, seal, sessions
from secure_memory.vault.commits import NotNow, Operation, perform, perform_blocking
from secure_memory.vault.history import ItemRow, NewItem
from secure_memory.vault.prefix import Prefix
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.vault import Transaction

T = TypeVar("T")

FEW_ROWS = 128
"""Rows that a read may fetch where it is asked; more are fetched and opened by the worker."""


class Conversation:
    """One session of one tenant. Safe to use from several threads and event loops."""

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
        self.name = name
        self.tenant = tenant
        self.subject = subject
        self._actor = actor
        self._require_actor = require_actor
        self._prefix = Prefix() if cache else None
        self._row: SessionRow | None = None
        self._door = Door(store, tenant, name, subject)

    # ---- the operations -----------------------------------------------------------------------------------------

    def asker(self, actor: Actor | str | None, context: object, run: str | None) -> Asker:
        """Who asks, by the precedence that `actor` gives. Raises ValueError."""
        return Asker(resolve(actor, context, self._actor), run)

    async def read(self, limit: int | None, asker: Asker) -> list[Item]:
        """The newest `limit` items in order, all where it is None or negative; proven. Raises IntegrityError."""
        texts = await self._perform(lambda opened: self._read(opened, limit, asker), create=False, here=True)
        return sdk_items.load_all(texts)

    def read_blocking(self, limit: int | None, asker: Asker) -> list[Item]:
        """`read`, in this thread."""
        texts = self._perform_blocking(lambda opened: self._read(opened, limit, asker))
        return sdk_items.load_all(texts)

    async def append(self, new: Sequence[Mapping[str, Any]], asker: Asker) -> None:
        """Append the items, all or none. Raises SerializationError before anything is written."""
        texts = [sdk_items.dump(item) for item in new]
        await self._perform(lambda opened: self._append(opened, new, texts, asker), create=True)

    async def pop(self, asker: Asker) -> Item | None:
        """Remove and return the newest item; None where there is none."""
        text = await self._perform(lambda opened: self._pop(opened, asker), create=False)
        return None if text is None else sdk_items.load(text)

    async def clear(self, asker: Asker) -> None:
        """Delete every item."""
        await self._perform(lambda opened: self._clear(opened, asker), create=False)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _read(self, opened: Opened, limit: int | None, asker: Asker) -> Operation[Any, list[bytes]]:
        tenant, keys = opened.tenant, opened.keys

        def run(tx: Transaction) -> tuple[BranchHead, list[bytes], int, bytes, list[ItemRow]] | None:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None:
                self._record_unknown(tx, opened)
                return None
            head = self._head(tx, row).head
            count = head.position - head.base_position
            if limit is not None and limit >= 0:
                count = min(limit, count)
            after = head.position - count
            texts: list[bytes] = []
            link, rows = b"", None
            if self._prefix is not None and (known := self._prefix.take(after, head.position)):
                link, rows = history.fetch(tx, row.branch, head, known[0])
                after, texts = known[0], known[2]
                if link != known[1]:  # popped and written anew by someone else: what we remember is no longer the history
                    after, texts, rows = head.position - count, [], None
            if rows is None:
                if tx.small and count > FEW_ROWS:
                    raise NotNow
                link, rows = history.fetch(tx, row.branch, head, after)
            tx.record({"items": count}, session=row.id)
            return head, texts, after, link, rows

        def finish(found: tuple[BranchHead, list[bytes], int, bytes, list[ItemRow]] | None) -> list[bytes]:
            if found is None or keys is None:
                return []
            head, known, after, link, rows = found
            branch = rows[0].id // history.SPAN if rows else 0
            history.prove(rows, branch, after, link, head)
            texts = history.unsealed(rows, keys.key.aead, tenant.keys.uid, keys.uid)
            if self._prefix is not None:
                self._prefix.extend(after, link, texts, [row.link for row in rows])
            return known + texts

        return Operation(run, finish, False, self._door.fields("session.read", opened, asker))

    def _append(
        self, opened: Opened, new: Sequence[Mapping[str, Any]], texts: list[bytes], asker: Asker
    ) -> Operation[Any, None]:
        tenant, keys = opened.tenant, opened.keys
        assert keys is not None  # noqa: S101 - resolved with create=True
        sealed = [self._sealed(tenant, keys, item, text) for item, text in zip(new, texts, strict=True)]

        def run(tx: Transaction) -> tuple[SessionRow, BranchHead, list[bytes]]:
            row = self._enter(tx, opened, asker, "session.append") or self._begin(tx, tenant, keys)
            known = self._head(tx, row)
            head, links = history.append(tx, row.branch, known.head, sealed)
            self._record_write(tx, row, known.branch, head, len(sealed))
            return row, known.head, links

        def finish(done: tuple[SessionRow, BranchHead, list[bytes]]) -> None:
            self._row, head, links = done
            if self._prefix is not None:
                self._prefix.extend(head.position, head.link, texts, links)

        return Operation(run, finish, True, self._door.fields("session.append", opened, asker))

    def _pop(self, opened: Opened, asker: Asker) -> Operation[Any, bytes | None]:
        tenant, keys = opened.tenant, opened.keys

        def run(tx: Transaction) -> bytes | None:
            row = self._enter(tx, opened, asker, "session.pop")
            if row is None or keys is None:
                self._record_unknown(tx, opened)
                return None
            known = self._head(tx, row)
            if known.head.position == known.head.base_position:
                tx.record({"items": 0}, session=row.id)
                return None
            head, item = history.pop(tx, row.branch, known.head)
            text = history.unsealed([item], keys.key.aead, tenant.keys.uid, keys.uid)[
                0
            ]  # before it is gone: what does not open is not popped
            self._record_write(tx, row, known.branch, head, 1)
            return text

        return Operation(run, lambda text: text, True, self._door.fields("session.pop", opened, asker))

    def _clear(self, opened: Opened, asker: Asker) -> Operation[Any, None]:
        def run(tx: Transaction) -> None:
            row = self._enter(tx, opened, asker, "session.clear")
            if row is None:
                self._record_unknown(tx, opened)
                return
            known = self._head(tx, row)
            head, count = history.clear(tx, row.branch, known.head)
            self._record_write(tx, row, known.branch, head, count)

        return Operation(run, lambda _: None, True, self._door.fields("session.clear", opened, asker))

    # ---- pieces of an operation ---------------------------------------------------------------------------------

    def _enter(self, tx: Transaction, opened: Opened, asker: Asker, action: str) -> SessionRow | None:
        """Authorise, and the session's row; None where there is no such session."""
        if asker.actor is None and self._require_actor:
            raise AccessDeniedError(
                f"tenant {self.tenant!r}: nobody said who asks, and this store wants to know",
                actor=program().id,
                action=action,
                needed="an actor",
                hint="pass actor=..., give the run context an `actor`, or use `with acting_as(...)`",
            )
        return self._known_row(tx, opened)

    def _record_unknown(self, tx: Transaction, opened: Opened) -> None:
        """The entry of an access to a session that does not exist: an auditor can tell which by the HMAC of its name."""
        tx.record({"items": 0, "detail": {"unknown_session": opened.tenant.keys.name_mac("session", self.name)[:16].hex()}})

    def _known_row(self, tx: Transaction, opened: Opened) -> SessionRow | None:
        """The session's row, checked. Raises TamperedError, KeyDestroyedError, or StaleError to resolve again."""
        if self._row is not None and sessions.unchanged(tx.execute, self._row):
            return self._row
        keys = opened.keys
        row = sessions.find(tx.execute, opened.tenant.keys.name_mac("session", self.name))
        if row is None:
            if keys is not None and not opened.made and sessions.was_created(tx.execute, keys.uid):
                raise TamperedError(f"tenant {self.tenant!r}: a session's row is gone", hint=VERIFY_HINT)
            return None
        sessions.check(opened.tenant.keys.ledger, opened.tenant.keys.uid, row)
        if keys is None or row.uid != keys.uid:
            raise StaleError
        if row.key_version != keys.version:
            raise KeyDestroyedError("the session's key was replaced since it was opened", hint="open the session again")
        self._row = row
        return row

    def _begin(self, tx: Transaction, tenant: Tenant, keys: SessionKeys) -> SessionRow:
        """Insert the session, with its `session.create` entry, which sets the main branch's first head."""
        names = Names(self.name, self.subject or self.name)
        row, branch_uid = sessions.insert(
            tx.execute,
            tenant.keys.ledger,
            tenant.keys.uid,
            uid=keys.uid,
            name=tenant.keys.name_mac("session", self.name),
            subject=keys.subject,
            key_version=keys.version,
            sealed=sessions.seal_names(keys.subject_key, tenant.keys.uid, keys.uid, names),
        )
        tx.record_write(
            {"action": "session.create"},
            branch=row.branch,
            branch_uid=branch_uid.hex(),
            head=history.begin(branch_uid),
            session=row.id,
            uid=row.uid.hex(),
        )
        return row

    def _head(self, tx: Transaction, row: SessionRow) -> HeadRow:
        """The head of the session's main branch. Raises TamperedError where the branch is another session's."""
        known = tx.head(row.branch)
        if known.session != row.uid.hex():
            raise TamperedError(f"tenant {self.tenant!r}: a branch belongs to another session", hint=VERIFY_HINT)
        return known

    def _record_write(self, tx: Transaction, row: SessionRow, branch_uid: str, head: BranchHead, count: int) -> None:
        tx.record_write(
            {"items": count}, branch=row.branch, branch_uid=branch_uid, head=head, session=row.id, uid=row.uid.hex()
        )

    def _sealed(self, tenant: Tenant, keys: SessionKeys, item: Mapping[str, Any], text: bytes) -> NewItem:
        place = Place(
            tenant.keys.uid,
            keys.uid,
            os.urandom(16),
            sdk_items.kind_of(item),
            sdk_items.role_of(item),
            sdk_items.tool_of(item),
            clock.now(),
        )
        data = seal.seal(keys.key.aead, keys.version, os.urandom(12), place, text)
        return NewItem(place, sdk_items.starts_turn(item), data)

    # ---- running it -----------------------------------------------------------------------------------------------

    async def _perform(self, build: Callable[[Opened], Operation[Any, T]], *, create: bool, here: bool = False) -> T:
        opened = self._door.known()
        if opened is None:
            opened = await asyncio.to_thread(self._door.resolve, create)
        try:
            return await perform(opened.tenant.vault, build(opened), here=here)
        except StaleError:
            anew = await asyncio.to_thread(self._door.resolve_anew)
        return await perform(anew.tenant.vault, build(anew), here=here)

    def _perform_blocking(self, build: Callable[[Opened], Operation[Any, T]]) -> T:
        opened = self._door.known() or self._door.resolve(create=False)
        try:
            return perform_blocking(opened.tenant.vault, build(opened))
        except StaleError:
            anew = self._door.resolve_anew()
        return perform_blocking(anew.tenant.vault, build(anew))
