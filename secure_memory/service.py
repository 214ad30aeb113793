"""One operation, whole: authorise, transact with its entry, prove.

A `Service` is one session's way into its vault. Each operation on it

1. resolves who asks (`actor`), and the session's keys (`tenancy`);
2. seals what it writes, before any lock is held;
3. runs in one transaction of the vault, which checks that the actor may and that the session is still the one its keys
   were opened for, and appends the entry;
4. after the commit, proves and opens what it read, and only then returns it.

What fails on integrity or access is an entry too (`vault.Vault` writes it). What the operations are is said in
`conversation` and `branching`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar

from secure_memory import clock
from secure_memory import items as sdk_items
from secure_memory.actor import Actor, program, resolve
from secure_memory.errors import AccessDeniedError, KeyDestroyedError, TamperedError
from secure_memory.inforce import StalePolicyError, govern
from secure_memory.keys.opened import SessionKeys
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.tenancy import Asker, Door, Opened, StaleError, Tenant, Tenants
from secure_memory.vault import branches, erasures, history, seal, sessions
from secure_memory.vault.branches import MAIN
from secure_memory.vault.commits import Operation, perform, perform_blocking
from secure_memory.vault.history import NewItem
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

P = ParamSpec("P")
T = TypeVar("T")
Build = Callable[[Opened], Operation[Any, T] | Coroutine[Any, Any, Operation[Any, T]]]
"""What makes an operation of what it is opened with, again where that turns out to be stale."""

_blocking: ContextVar[bool] = ContextVar("secure_memory_blocking", default=False)


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, run in this thread: each of its operations waits here, so that it needs no event loop
    and may run inside one, which stands still meanwhile. It may await operations of ours and nothing else."""
    token = _blocking.set(True)
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        _blocking.reset(token)
        coroutine.close()
    raise RuntimeError("a blocking operation awaited something that needs an event loop")


class Spot(NamedTuple):
    """A branch inside a transaction: its row id, its uid in hex, its head."""

    id: int
    uid: str
    head: BranchHead


class Service:
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
    ) -> None:
        self.name = name
        self.tenant = tenant
        self.subject = subject
        self._actor = actor
        self._require_actor = require_actor
        self._row: SessionRow | None = None
        self._current: int | None = None  # the row id of the current branch; None is the main branch
        self._door = Door(store, tenant, name, subject, actor)

    def asker(self, actor: Actor | str | None, context: object, run: str | None) -> Asker:
        """Who asks, by the precedence that `actor` gives. Raises ValueError."""
        return Asker(resolve(actor, context, self._actor), run)

    # ---- pieces of an operation ---------------------------------------------------------------------------------

    def _enter(self, tx: Transaction, opened: Opened, asker: Asker, action: str) -> SessionRow | None:
        """Authorise, and the session's row; None where there is no such session."""
        if asker.actor is None and self._require_actor:
            raise nobody_asks(f"tenant {self.tenant!r}", action)
        govern(tx, opened.policy)
        opened.policy.authorise(asker.actor, action, f"tenant {self.tenant!r}")
        return self._known_row(tx, opened)

    def _record_unknown(self, tx: Transaction, opened: Opened) -> None:
        """The entry of an access to a session that does not exist: an auditor can tell which by the HMAC of its name."""
        tx.record({"items": 0, "detail": {"unknown_session": opened.tenant.keys.name_mac("session", self.name)[:16].hex()}})

    def _known_row(self, tx: Transaction, opened: Opened) -> SessionRow | None:
        """The session's row, checked. Raises TamperedError, KeyDestroyedError, or StaleError to resolve again."""
        keys = opened.keys
        row = self._row
        if row is None or not sessions.unchanged(tx.execute, row):
            row = sessions.find(tx.execute, opened.tenant.keys.name_mac("session", self.name))
            if row is None:
                if self._row is not None:
                    self._refuse_erased(tx, opened.tenant, self._row.uid)
                if keys is not None and (self._row is not None or not opened.made):
                    self._refuse_erased(tx, opened.tenant, keys.uid)
                    if sessions.was_created(tx.execute, keys.uid):
                        raise TamperedError(f"tenant {self.tenant!r}: a session's row is gone", hint=VERIFY_HINT)
                return None
            sessions.check(opened.tenant.keys.ledger, opened.tenant.keys.uid, row)
            self._row = row
        if keys is None or (row.uid, row.key_version) != (keys.uid, keys.version):
            if keys is not None and row.uid == keys.uid and row.key_version < keys.version:
                raise KeyDestroyedError(
                    f"tenant {self.tenant!r}: the key that a session's row names was destroyed when it was resealed",
                    hint="is the vault an older copy than keys.db? restore its newest backup",
                )
            raise StaleError(self.tenant, row.key_version)
        return row

    def _refuse_erased(self, tx: Transaction, tenant: Tenant, uid: bytes) -> None:
        """Raise KeyDestroyedError where the session that we knew was erased: its row is there under another name."""
        left = erasures.by_uid(tx.execute, uid)
        if left is not None:
            sessions.check(tenant.keys.ledger, tenant.keys.uid, left)
            raise erased(self.tenant)

    def _begin(self, tx: Transaction, tenant: Tenant, keys: SessionKeys, created: int | None = None) -> SessionRow:
        """Insert the session, with its `session.create` entry, which sets the main branch's first head. One that is
        imported was `created` before now."""
        if not tenant.store.keyring.stands(keys.uid, "session", keys.version):
            raise erased(self.tenant)  # its subject was, while it began
        names = Names(self.name, self.subject or self.name)
        main = branches.next_id(tx.execute)
        row = sessions.insert(
            tx.execute,
            tenant.keys.ledger,
            tenant.keys.uid,
            uid=keys.uid,
            name=tenant.keys.name_mac("session", self.name),
            subject=keys.subject,
            branch=main,
            key_version=keys.version,
            sealed=sessions.seal_names(keys.subject_key, tenant.keys.uid, keys.uid, names),
            created=created,
        )
        uid = self._insert_branch(tx, row, main, MAIN, tenant, keys, created)
        self._record_write(tx, row, Spot(main, uid.hex(), history.begin(uid)), None, action="session.create")
        return row

    def _insert_branch(
        self,
        tx: Transaction,
        row: SessionRow,
        branch: int,
        name: str,
        tenant: Tenant,
        keys: SessionKeys,
        created: int | None = None,
    ) -> bytes:
        """Insert a branch of this name; returns its uid. Raises ValueError where the name was used before."""
        uid = os.urandom(16)
        mac = branches.name_mac(tenant.keys, row.uid, name)
        sealed = branches.seal_name(keys.subject_key, uid, name)
        began = clock.now() if created is None else created
        new = branches.BranchRow(branch, row.id, uid, mac, sealed, began, b"")
        branches.insert(tx.execute, tenant.keys.ledger, row, new)
        return uid

    def _spot(self, tx: Transaction, row: SessionRow, branch: int | None) -> Spot:
        """A branch of the session, the main one where `branch` is None. Raises TamperedError where it is another session's.

        A branch that is gone, because the session was cleared or the branch deleted elsewhere, leads back to main.
        """
        known = tx.head(row.branch if branch is None else branch)
        if known.session != row.uid.hex():
            raise TamperedError(f"tenant {self.tenant!r}: a branch belongs to another session", hint=VERIFY_HINT)
        if known.gone:
            if self._current == branch:
                self._current = None
            return self._spot(tx, row, None)
        return Spot(row.branch if branch is None else branch, known.branch, known.head)

    def _record_write(self, tx: Transaction, row: SessionRow, spot: Spot, count: int | None, **fields: Any) -> None:
        """The entry of a write, which moves the branch's head to `spot.head`."""
        tx.record_write(
            {"items": count, **fields},
            branch=spot.id,
            branch_uid=spot.uid,
            head=spot.head,
            session=row.id,
            uid=row.uid.hex(),
        )

    def _sealed(
        self,
        tenant: Tenant,
        keys: SessionKeys,
        item: Mapping[str, Any],
        text: bytes,
        created: int | None = None,
        version: int = seal.VERSION,
    ) -> NewItem:
        """The item on its way in. One that is imported was `created` before now."""
        drawn = os.urandom(16 + 12)  # at once: each call lets other threads go first
        place = Place(
            tenant.keys.uid,
            keys.uid,
            drawn[:16],
            sdk_items.kind_of(item),
            sdk_items.role_of(item),
            sdk_items.tool_of(item),
            clock.now() if created is None else created,
        )
        data = seal.seal(keys.key.aead, keys.version, drawn[16:], place, text, version)
        return NewItem(place, sdk_items.starts_turn(item), data)

    # ---- running it -----------------------------------------------------------------------------------------------

    async def _perform(
        self,
        build: Build[T],
        *,
        create: bool,
        here: bool = False,
    ) -> T:
        opened = await self._opened(create)
        version = 0
        while True:
            try:
                built = build(opened)
                operation = built if isinstance(built, Operation) else await built
                return await self._run(opened.tenant.vault, operation, here=here)
            except StalePolicyError as stale:
                await self._aside(self._door.reload_policy, stale.number)
                opened = await self._aside(self._door.resolve, create)
                continue
            except StaleError as stale:
                if stale.version <= version:  # it was resolved for this version, and in vain
                    raise
                version = stale.version
            except KeyDestroyedError:
                self._forget()
                raise
            opened = await self._aside(self._door.resolve_anew, version)

    def _forget(self) -> None:
        """The session was erased: nothing of it stays in memory, and whoever comes back begins anew."""
        self._row, self._current = None, None
        self._door.forget()

    async def _opened(self, create: bool) -> Opened:
        known = self._door.known()
        return await self._aside(self._door.resolve, create) if known is None else known

    async def _run(self, vault: Vault, operation: Operation[Any, T], *, here: bool) -> T:
        return perform_blocking(vault, operation) if _blocking.get() else await perform(vault, operation, here=here)

    async def _aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns, which waits for a disk: run in a thread, or here where the caller blocks anyway."""
        return work(*args, **kwargs) if _blocking.get() else await asyncio.to_thread(work, *args, **kwargs)


def erased(tenant: str) -> KeyDestroyedError:
    """What is raised by the next operation of whoever still holds the keys of an erased session."""
    return KeyDestroyedError(
        f"tenant {tenant!r}: the session was erased",
        hint="what it held is gone, on purpose; the next operation begins it anew",
    )


def nobody_asks(where: str, action: str) -> AccessDeniedError:
    """The denial of what nobody asks for, where somebody has to."""
    return AccessDeniedError(
        f"{where}: nobody said who asks, and this store wants to know",
        actor=program().id,
        action=action,
        needed="an actor",
        hint="pass actor=..., give the run context an `actor`, or use `with acting_as(...)`",
    )
