"""One operation, whole: authorise, transact with its entry, prove.

A `Conversation` is one session as its callers use it. Each operation

1. resolves who asks (`actor`), and the session's keys;
2. seals what it writes, before any lock is held;
3. runs in one transaction of the vault, which checks that the actor may and that the session is still the one its keys
   were opened for, and appends the entry;
4. after the commit, proves and opens what it read, and only then returns it.

What fails on integrity or access is an entry too (`vault.Vault` writes it). Every operation has a coroutine; `blocking`
runs the same in a thread that has no event loop.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from secure_memory import clock, items as sdk_items
from secure_memory.actor import Actor, program, resolve
from secure_memory.errors import (
    AccessDeniedError,
    ConfigurationError,
    KeyDestroyedError,
    KeyNotFoundError,
    TamperedError,
)
from secure_memory.items import Item
from secure_memory.keys.keyring import Keyring, SessionKeys, TenantKeys
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import VERIFY_HINT, HeadRow
from secure_memory.vault import history, seal, sessions
from secure_memory.vault.commits import NotNow, Operation, perform, perform_blocking
from secure_memory.vault.history import ItemRow, NewItem
from secure_memory.vault.prefix import Prefix
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.vault import Transaction, Vault

T = TypeVar("T")

FEW_ROWS = 128
"""Rows that a read may fetch where it is asked; more are fetched and opened by the worker."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, open: its keys and its vault."""

    keys: TenantKeys
    vault: Vault


class Tenants(Protocol):
    """What a conversation needs of the store that it is in."""

    @property
    def keyring(self) -> Keyring:
        """The store's keys."""
        ...

    def known_tenant(self, name: str) -> Tenant | None:
        """The tenant where it is open already. Does not block. Raises RuntimeError where the store is closed."""
        ...

    def tenant(self, name: str) -> Tenant:
        """The tenant, made where there is none. Blocks for disk."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for one operation: the actor, or None where only the program is left; and the run that it belongs to."""

    actor: Actor | None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class _Open:
    """What an operation is built with: the tenant, the session's keys (None where there is no such session yet), and
    whether those were made just now, so that a missing row is no surprise."""

    tenant: Tenant
    keys: SessionKeys | None
    made: bool = False


class _StaleError(Exception):
    """The vault knows the session under other keys than ours: someone else just began it. Resolve again."""


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
        self._store = store
        self._actor = actor
        self._require_actor = require_actor
        self._prefix = Prefix() if cache else None
        self._row: SessionRow | None = None
        self._as_subject: tuple[str, bool] | None = None
        self._opened_with: _Open | None = None

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
        texts = self._perform_blocking(lambda opened: self._read(opened, limit, asker), create=False)
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

    def _read(self, opened: _Open, limit: int | None, asker: Asker) -> Operation[Any, list[bytes]]:
        tenant, keys = opened.tenant, opened.keys

        def run(tx: Transaction) -> tuple[BranchHead, list[bytes], int, bytes, list[ItemRow]] | None:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None:
                return self._record_unknown(tx, opened)
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
            texts = self._unsealed(tenant, keys, rows)
            if self._prefix is not None:
                self._prefix.extend(after, link, texts, [row.link for row in rows])
            return known + texts

        return Operation(run, finish, False, self._fields("session.read", opened, asker))

    def _append(
        self, opened: _Open, new: Sequence[Mapping[str, Any]], texts: list[bytes], asker: Asker
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

        return Operation(run, finish, True, self._fields("session.append", opened, asker))

    def _pop(self, opened: _Open, asker: Asker) -> Operation[Any, bytes | None]:
        tenant, keys = opened.tenant, opened.keys

        def run(tx: Transaction) -> bytes | None:
            row = self._enter(tx, opened, asker, "session.pop")
            if row is None or keys is None:
                return self._record_unknown(tx, opened)
            known = self._head(tx, row)
            if known.head.position == known.head.base_position:
                tx.record({"items": 0}, session=row.id)
                return None
            head, item = history.pop(tx, row.branch, known.head)
            text = self._unsealed(tenant, keys, [item])[0]  # before it is gone: what does not open is not popped
            self._record_write(tx, row, known.branch, head, 1)
            return text

        return Operation(run, lambda text: text, True, self._fields("session.pop", opened, asker))

    def _clear(self, opened: _Open, asker: Asker) -> Operation[Any, None]:
        def run(tx: Transaction) -> None:
            row = self._enter(tx, opened, asker, "session.clear")
            if row is None:
                return self._record_unknown(tx, opened)
            known = self._head(tx, row)
            head, count = history.clear(tx, row.branch, known.head)
            self._record_write(tx, row, known.branch, head, count)

        return Operation(run, lambda _: None, True, self._fields("session.clear", opened, asker))

    # ---- pieces of an operation ---------------------------------------------------------------------------------

    def _enter(self, tx: Transaction, opened: _Open, asker: Asker, action: str) -> SessionRow | None:
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

    def _record_unknown(self, tx: Transaction, opened: _Open) -> None:
        """The entry of an access to a session that does not exist: an auditor can tell which by the HMAC of its name."""
        tx.record({"items": 0, "detail": {"unknown_session": opened.tenant.keys.name_mac("session", self.name)[:16].hex()}})

    def _known_row(self, tx: Transaction, opened: _Open) -> SessionRow | None:
        """The session's row, checked. Raises TamperedError, KeyDestroyedError, or _StaleError to resolve again."""
        if self._row is not None and sessions.by_id(tx.execute, self._row.id) == self._row:
            return self._row
        keys = opened.keys
        row = sessions.find(tx.execute, opened.tenant.keys.name_mac("session", self.name))
        if row is None:
            if keys is not None and not opened.made and _was_created(tx, keys.uid):
                raise TamperedError(f"tenant {self.tenant!r}: a session's row is gone", hint=VERIFY_HINT)
            return None
        sessions.check(opened.tenant.keys.ledger, opened.tenant.keys.uid, row)
        if keys is None or row.uid != keys.uid:
            raise _StaleError
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

    def _unsealed(self, tenant: Tenant, keys: SessionKeys, rows: Sequence[ItemRow]) -> list[bytes]:
        aead, uid = keys.key.aead, tenant.keys.uid
        return [seal.unseal(aead, row.place(uid, keys.uid), row.sealed) for row in rows]

    def _fields(self, action: str, opened: _Open, asker: Asker) -> dict[str, Any]:
        """What an entry says of who asked for what. An actor who is the subject is named by the subject's uid."""
        actor = asker.actor or program()
        keys = opened.keys
        name = actor.id
        if keys is not None and self._is_subject(opened.tenant, keys, actor.id):
            name = f"subject:{keys.subject.hex()}"
        fields: dict[str, Any] = {"action": action, "actor": name}
        if actor.roles:
            fields["roles"] = list(actor.roles)
        if actor.purpose is not None:
            fields["purpose"] = actor.purpose
        if actor.reason is not None:
            fields["reason"] = actor.reason
        if actor.on_behalf_of is not None:
            fields["detail"] = {"on_behalf_of": actor.on_behalf_of}
        if asker.run is not None:
            fields["run"] = asker.run
        if keys is not None:
            fields["session"], fields["subject"] = keys.uid.hex(), keys.subject.hex()
        return fields

    def _is_subject(self, tenant: Tenant, keys: SessionKeys, actor: str) -> bool:
        if self._as_subject is None or self._as_subject[0] != actor:
            mac = tenant.keys.name_mac("subject", actor)
            self._as_subject = actor, hmac.compare_digest(mac, keys.subject_name)
        return self._as_subject[1]

    # ---- keys ---------------------------------------------------------------------------------------------------

    async def _perform(self, build: Callable[[_Open], Operation[Any, T]], *, create: bool, here: bool = False) -> T:
        opened = self._known() or await asyncio.to_thread(self._resolve, create)
        try:
            return await perform(opened.tenant.vault, build(opened), here=here)
        except _StaleError:
            opened = await asyncio.to_thread(self._resolve_anew)
        return await perform(opened.tenant.vault, build(opened), here=here)

    def _perform_blocking(self, build: Callable[[_Open], Operation[Any, T]], *, create: bool) -> T:
        opened = self._known() or self._resolve(create)
        try:
            return perform_blocking(opened.tenant.vault, build(opened))
        except _StaleError:
            opened = self._resolve_anew()
        return perform_blocking(opened.tenant.vault, build(opened))

    def _known(self) -> _Open | None:
        """The tenant and the keys where both are in memory: no lock, no disk."""
        if self._opened_with is None:
            tenant = self._store.known_tenant(self.tenant)
            if tenant is None:
                return None
            keys = self._store.keyring.cached_session(tenant.keys.uid, tenant.keys.name_mac("session", self.name))
            if keys is None:
                return None
            self._check_subject(tenant, keys)
            self._opened_with = _Open(tenant, keys)
        return self._opened_with

    def _resolve(self, create: bool) -> _Open:
        """The tenant and the keys, made where `create` asks for it. Blocks for disk."""
        tenant = self._store.tenant(self.tenant)
        name = tenant.keys.name_mac("session", self.name)
        keys, made = self._store.keyring.session(tenant.keys, name), False
        if keys is None and create:
            subject = tenant.keys.name_mac("subject", self.subject or self.name)
            keys, made = self._store.keyring.create_session(tenant.keys, name, subject)
        if keys is not None:
            self._check_subject(tenant, keys)
        return _Open(tenant, keys, made)

    def _resolve_anew(self) -> _Open:
        """As `_resolve`, when the vault knew a session whose keys we did not. Raises KeyNotFoundError."""
        self._opened_with = None
        opened = self._resolve(create=False)
        if opened.keys is None:
            raise KeyNotFoundError(
                f"tenant {self.tenant!r}: the vault has a session whose key is not in the keyring",
                hint="is keys.db an older copy than the vault? restore its newest backup",
            )
        return opened

    def _check_subject(self, tenant: Tenant, keys: SessionKeys) -> None:
        if self.subject is not None and not self._is_subject(tenant, keys, self.subject):
            raise ConfigurationError(
                f"tenant {self.tenant!r}: this session belongs to another subject than the one given",
                hint="leave subject= away to open it as it is, or use another session id",
            )


def _was_created(tx: Transaction, session: bytes) -> bool:
    """Whether the ledger knows a `session.create` of this session. Reads the whole ledger: for the rare case only."""
    found = tx.execute(
        "SELECT 1 FROM ledger WHERE branch IS NOT NULL AND instr(entry, CAST(? AS BLOB)) > 0 LIMIT 1",
        (f'"session":"{session.hex()}"',),
    ).fetchone()
    return found is not None
