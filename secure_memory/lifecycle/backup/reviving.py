"""A store that was put together from a backup, made one that can be opened: compared with its anchors, told of it in its
ledgers, checked whole.

Called by `restore`, which says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from secure_memory import clock, directory
from secure_memory.actor import Actor
from secure_memory.errors import KeyNotFoundError, RollbackError, SecureMemoryError, TamperedError
from secure_memory.ledger import anchor as anchors
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.ledger import stored_nodes
from secure_memory.ledger.merkle import Head, root_at
from secure_memory.lifecycle.backup.assembling import Assembled, Progress
from secure_memory.shared import SYSTEM_TENANT, record, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import erasures, sessions
from secure_memory.vault.anchoring import Identity
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault
from secure_memory.verification import check_vault

ACTION = "store.restore"


@dataclass(frozen=True, slots=True)
class RestoredVault:
    """A vault that was restored: its entries, sessions and items. `forgotten` sessions were in the backup and have no key
    any more: they were erased since, or sealed anew. `superseded` is how many entries were known, where the backup has
    others; `anew` where the backup has no such vault, and an empty one was made."""

    tenant: str
    entries: int
    sessions: int
    items: int
    forgotten: int = 0
    superseded: int | None = None
    anew: bool = False


class Reviving:
    """One store on its way back. `anchor_of` is None, and so is `actor`, where the backup is only checked."""

    def __init__(self, made: Assembled, anchor_of: Callable[[bytes], Anchor] | None, actor: Actor | None) -> None:
        self._made = made
        self._anchor_of = anchor_of
        self._actor = actor
        self._sets = made.sets
        self._accept = False

    def run(self, *, accept: bool, progress: Progress | None) -> tuple[RestoredVault, ...]:
        """Do all of it. Raises RollbackError where more was known and nobody accepts that; IntegrityError."""
        self._accept = accept
        known = {tenant.keys.name: self._known(tenant) for tenant in self._made.tenants()}
        behind = {name: state for name, state in known.items() if state is not None}
        if (behind or self._made.lost) and not accept:
            raise self._not_declared(behind)
        for name in self._made.lost:
            self._make_anew(name)
        tenants = self._made.tenants() + [self._made.shared.tenant(name) for name in self._made.lost]
        return tuple(self._revive(tenant, behind.get(tenant.keys.name), progress) for tenant in tenants)

    def heads(self) -> dict[bytes, Head]:
        """Where each ledger ends now, by the vault's uid."""
        tenants = self._made.tenants() + [self._made.shared.tenant(name) for name in self._made.lost]
        return {t.keys.vault: Head(t.vault.database.tail.size, t.vault.database.tail.root) for t in tenants}

    # ---- what was known -----------------------------------------------------------------------------------------

    def _known(self, tenant: Tenant) -> anchors.State | None:
        """What the vault's anchor knows, where the vault does not have it."""
        state = self._state(tenant.keys.vault)
        if state is None:
            return None
        with tenant.vault.database.snapshot() as execute:
            size, node = tenant.vault.database.tail.size, stored_nodes(execute)
            try:
                found = anchors.check(state, size, lambda at: root_at(at, node))
            except RollbackError:
                found = "gap"
        return None if found == "ok" else state  # no power cut explains what a backup does not have

    def _state(self, vault: bytes) -> anchors.State | None:
        if self._anchor_of is None:
            return None
        try:
            return self._anchor_of(vault).read()
        except TamperedError:
            if not self._accept:
                raise
            return None  # it knows nothing any more, and begins anew

    def _not_declared(self, behind: dict[str, anchors.State]) -> RollbackError:
        names = [
            ("the store's own ledger" if name == SYSTEM_TENANT else f"tenant {name!r}")
            for name in (*behind, *self._made.lost)
        ]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return RollbackError(
            f"the backup is older than what is known of it: {', '.join(names[:3])}{more}",
            hint="what was written since will be gone; if that is meant, declare it: --accept-rollback --reason TEXT",
        )

    # ---- one vault ----------------------------------------------------------------------------------------------

    def _make_anew(self, name: str) -> None:
        """An empty vault for a tenant that is younger than the backup; its first entry says why."""
        shared, keys = self._made.shared, self._made.shared.keyring.tenant(name)
        assert keys is not None  # noqa: S101 - it was listed
        assert shared.path is not None  # noqa: S101 - it is on disk
        path = shared.path / directory.VAULTS / f"{keys.vault.hex()}.db"
        vault = Vault(Identity(path, keys.uid, name, keys.vault), keys.vault_key, keys.ledger, None)
        try:
            first = {"action": "tenant.create", "actor": "secure-memory", "detail": {"why": "not in the backup"}}
            vault.database.create(first, shared.policy.control(whole=False))
        finally:
            vault.close()
            keys.zero()

    def _revive(self, tenant: Tenant, superseded: anchors.State | None, progress: Progress | None) -> RestoredVault:
        name = tenant.keys.name
        anew = name in self._made.lost
        if anew and superseded is None:
            superseded = self._state(tenant.keys.vault)
        if self._actor is not None:
            record(tenant, {"action": ACTION, "detail": self._detail(tenant, superseded)}, self._actor)
        forgotten = self._forget(tenant)
        tell = (
            None if progress is None else lambda _, done: progress(f"checking {name}", done, tenant.vault.database.tail.size)
        )
        try:
            whole = check_vault(self._made.shared, tenant, None, tell)
        except SecureMemoryError as error:
            said = str(error)
            raise type(error)(said if repr(name) in said else f"tenant {name!r}: {said}", hint=error.hint) from None
        known = None if superseded is None else superseded.seen.size
        return RestoredVault(name, whole.entries, whole.sessions, whole.items, forgotten, known, anew)

    def _forget(self, tenant: Tenant) -> int:
        """Empty the sessions whose keys were destroyed after the vault was copied; returns how many there were.

        Raises KeyNotFoundError for one whose key was never destroyed and is not there.
        """
        with tenant.vault.database.snapshot() as execute:
            gone = [row for row in sessions.rows(execute) if not erasures.is_stub(row) and not self._opens(tenant, row)]
        for row in gone:
            # Where the backup is only checked nobody has to be allowed anything: what is written is thrown away.
            action = "store.open" if self._actor is None else ACTION
            transact(tenant, partial(self._empty, tenant=tenant, row=row), action, self._actor)
        return len(gone)

    def _opens(self, tenant: Tenant, row: SessionRow) -> bool:
        sessions.check(tenant.keys.ledger, tenant.keys.uid, row)
        keyring = self._made.shared.keyring
        if keyring.stands(row.uid, "session", row.key_version):
            return True
        if not keyring.buried([row.uid]):
            raise KeyNotFoundError(
                f"tenant {tenant.keys.name!r}: the keys have none for session {row.uid.hex()}, and none that was destroyed",
                hint="are these the keys of an older backup? restore the newest set of keys there is",
            )
        return False

    def _empty(self, tx: Transaction, tenant: Tenant, row: SessionRow) -> None:
        keys, subject = tenant.keys, row.subject
        erasures.empty(tx, keys.ledger, keys.uid, row, action=ACTION, subject=subject.hex())
        if any(stone.purpose == "subject" for stone in self._made.shared.keyring.buried([subject])):
            tx.execute("DELETE FROM tokens WHERE subject = ?", (subject,))

    def _detail(self, tenant: Tenant, superseded: anchors.State | None) -> dict[str, Any]:
        tail = tenant.vault.database.tail
        detail: dict[str, Any] = {
            "vaults_of": clock.rfc3339(self._sets.vaults.created),
            "keys_of": clock.rfc3339(self._sets.keys.created),
            "tombstones": len(self._made.stones),
            "restored": _said(Head(tail.size, tail.root)),
        }
        if superseded is not None:
            detail["superseded"] = {"durable": _said(superseded.durable), "seen": _said(superseded.seen)}
        return detail


def _said(head: Head) -> dict[str, Any]:
    return {"size": head.size, "root": head.root.hex()}
