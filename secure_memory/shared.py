"""An open store of this process: its keyring, its vaults, its anchors, shared by its handles (see `registry`)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from secure_memory import directory, fork, inforce, keys_db
from secure_memory.actions import GRANTED
from secure_memory.actor import Actor, program, resolve
from secure_memory.directory import Manifest
from secure_memory.errors import ConfigurationError, RollbackError, SecureMemoryError
from secure_memory.inforce import InForce, StalePolicyError, govern
from secure_memory.keys import store_keys, tombstones
from secure_memory.keys.key import Key
from secure_memory.keys.keyring import Keyring
from secure_memory.keys.local import FileKeyProvider
from secure_memory.keys.opened import TenantKeys
from secure_memory.keys.provider import KeyProvider
from secure_memory.ledger.anchor import Anchor
from secure_memory.log import get_logger
from secure_memory.tenancy import Tenant
from secure_memory.vault.anchoring import Identity
from secure_memory.vault.commits import Operation, perform_blocking
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

T = TypeVar("T")

SYSTEM_TENANT = store_keys.SYSTEM_TENANT

log = get_logger(__name__)


class SharedStore:
    """What the handles of one open store share: its keyring, its vaults, its anchors."""

    def __init__(
        self,
        manifest: Manifest,
        path: Path | None,
        root: Key,
        provider: KeyProvider,
        anchor: Path | None,
        required: bool,
    ) -> None:
        self.manifest = manifest
        self.path = path
        self.provider = provider
        self.anchor_directory = anchor
        self.anchor_required = required
        self.handles = 0
        self.closed = False
        self._opened_by = os.getpid()
        self._tenants: dict[str, Tenant] = {}
        self._making = threading.RLock()  # held while a tenant is made or opened
        self._policy: InForce | None = None
        fork.renew(self)
        beside = self._anchor(manifest.uid)  # no vault's: the list of tombstones lies where the anchors do
        self.keyring = Keyring(
            keys_db.driver(self.path_of_keys),
            root,
            manifest.uid,
            None if beside is None else beside.path.with_name(tombstones.FILE),
            None if path is None else self.roots,
        )

    def forked(self) -> None:
        """In the child of a fork: whoever was making a tenant is not there."""
        self._making = threading.RLock()

    # ---- tenants ------------------------------------------------------------------------------------------------

    def known_tenant(self, name: str) -> Tenant | None:
        """The tenant where it is open already. Raises RuntimeError where the store is closed."""
        if self.closed:
            raise RuntimeError("the store is closed")
        return self._tenants.get(name)

    def tenant(self, name: str, actor: Actor | None = None) -> Tenant:
        """The tenant of that name, made where there is none. Blocks for disk. Raises ValueError for a bad name."""
        known = self.known_tenant(check_tenant_name(name))
        if known is not None:
            return known
        with self._making:  # two threads may come here at once: the second one finds what the first one made
            return self.known_tenant(name) or self._made(name, actor)

    def _made(self, name: str, actor: Actor | None) -> Tenant:
        keys = self.keyring.tenant(name)
        if keys is None:
            transact(self.system, lambda _: None, "tenant.create", actor)  # who may not, leaves no keys
            keys = self._created(name)
        if keys.state == "creating":
            self.record({"action": "tenant.create", "detail": {"tenant": keys.uid.hex()}}, actor)
        return self._opened(keys, {**asking(actor), "action": "tenant.create"})

    def _created(self, name: str) -> TenantKeys:
        """A new tenant's keys. Raises RollbackError where there are vaults that the keyring does not know."""
        if self.path is not None:
            files = {file.stem for file in (self.path / directory.VAULTS).glob("*.db")}  # first these: keys come first
            if files - {vault.hex() for vault in self.keyring.vaults()}:
                raise RollbackError(
                    "there are vaults that the keyring does not know",
                    hint="is keys.db an older copy than the vaults? restore its newest backup",
                )
        return self.keyring.create_tenant(name)

    def existing_tenant(self, name: str) -> Tenant:
        """The tenant of that name. Raises ConfigurationError where there is none."""
        keys = self.keyring.tenant(check_tenant_name(name))
        if keys is None:
            raise ConfigurationError(f"there is no tenant {name!r}", hint="`secmem tenant list` shows the tenants")
        return self.tenant(name)

    @property
    def system(self) -> Tenant:
        """The system vault."""
        known = self.known_tenant(SYSTEM_TENANT)
        if known is not None:
            return known
        with self._making:
            if (known := self.known_tenant(SYSTEM_TENANT)) is not None:
                return known
            keys = self.keyring.create_tenant(SYSTEM_TENANT)
            if keys.state == "creating":
                self._policy = inforce.first()
            return self._opened(keys, {**asking(None), "action": "store.create"})

    def forget(self, name: str) -> None:
        """Close a tenant that was erased, and keep none of its keys."""
        with self._making:
            tenant = self._tenants.pop(name, None)
            if tenant is not None:
                tenant.vault.close()
                tenant.keys.zero()

    # ---- the policy ---------------------------------------------------------------------------------------------

    @property
    def policy(self) -> InForce:
        """The policy in force, as far as this process knows. Raises TamperedError."""
        if self._policy is None:
            found = inforce.of_system(self.system.vault.database.control)
            if found is None:
                fields = {"action": "policy.apply", "actor": "secure-memory"}
                found = perform_blocking(self.system.vault, Operation(inforce.begin, lambda found: found, True, fields))
            self._policy = self._policy or found
        return self._policy

    def reload_policy(self, number: int) -> None:
        """Look which policy is in force, which has this number or a later one. Blocks for disk.

        Raises RollbackError where the system vault knows no such policy, TamperedError.
        """
        asked = {**asking(None), "action": "policy.apply"}
        found = perform_blocking(
            self.system.vault, Operation(lambda tx: inforce.known(tx, number), lambda found: found, False, asked)
        )
        if self._policy is None or self._policy.number <= found.number:  # else another thread has found a later one
            self._policy = found

    # ---- vaults -------------------------------------------------------------------------------------------------

    def _opened(self, keys: TenantKeys, first_entry: Mapping[str, Any]) -> Tenant:
        vault = Vault(
            Identity(self._vault_path(keys), keys.uid, keys.name, keys.vault),
            keys.vault_key,
            keys.ledger,
            self._anchor(keys.vault),
            anchor_required=self.anchor_required,
            ask=lambda: [key for _, key in self.keyring.vault_keys(keys.uid)],
        )
        try:
            if keys.state == "creating":
                vault.database.create(first_entry, self.policy.control(whole=keys.name == SYSTEM_TENANT))
                self.keyring.activate_tenant(keys.uid)
            else:
                with vault.database.lock:
                    vault.database.open()  # here, where waiting for a disk is fine, and not in the first read
        except BaseException:
            vault.close()
            raise
        tenant = self._tenants[keys.name] = Tenant(keys, vault, self)  # known only now that it is made and open
        return tenant

    def _vault_path(self, keys: TenantKeys) -> Path | None:
        if self.path is None:
            return None
        if keys.name == SYSTEM_TENANT:
            return self.path / directory.SYSTEM
        return self.path / directory.VAULTS / f"{keys.vault.hex()}.db"

    @property
    def path_of_keys(self) -> Path | None:
        """Where keys.db is; None in memory."""
        return None if self.path is None else self.path / directory.KEYS

    def _anchor(self, vault: bytes) -> Anchor | None:
        if self.path is None or self.anchor_directory is None:
            return None
        return Anchor(self.anchor_directory, self.manifest.uid, self.path, vault)

    def roots(self) -> list[Key]:
        """The store roots that there are now, the newest first: another process may have drawn one. Raises WrongKeyError
        where the key that wraps it is not there."""
        if isinstance(self.provider, FileKeyProvider):
            self.provider = FileKeyProvider(self.provider.path)  # which may hold another key by now, too
        self.manifest = directory.read(self.path or self.manifest.path)
        return self.manifest.roots(self.provider)

    # ---- the system ledger --------------------------------------------------------------------------------------

    def record(self, fields: Mapping[str, Any], actor: Actor | None = None) -> None:
        """Append an entry to the system ledger, and wait until it is on disk."""
        record(self.system, fields, actor)

    def require_anchor(self) -> None:
        """From here on refuse to work without anchors."""
        self.anchor_required = True
        for tenant in self._tenants.values():
            tenant.vault.database.anchor_required = True

    def close(self) -> None:
        """Record `store.close`, unless this is a forked child of who opened it; close every vault, overwrite the keys."""
        try:
            if os.getpid() == self._opened_by:
                self.record({"action": "store.close"})
        except SecureMemoryError as error:
            # Closing has to free what it can; whoever opens the store next meets the same trouble, aloud.
            log.warning("close not recorded", error=type(error).__name__)
        self.abandon()

    def abandon(self) -> None:
        """Close every vault and overwrite the keys, without an entry."""
        self.closed = True
        for tenant in self._tenants.values():
            tenant.vault.close()
            tenant.keys.zero()
        self.keyring.close()


def record(tenant: Tenant, fields: Mapping[str, Any], actor: Actor | None) -> None:
    """Append an entry to the tenant's own ledger, if the actor may, and wait until it is on disk. Raises as `transact`."""
    transact(tenant, lambda tx: tx.record(fields), fields["action"], actor)


def transact(tenant: Tenant, work: Callable[[Transaction], T], action: str, actor: Actor | None) -> T:
    """What `work` returns in a transaction of the tenant's vault, governed by the policy in force and allowed by it; it is
    on disk then. Waits. Raises AccessDeniedError, and what `work` raises."""
    who = resolve(None, None, actor)
    while True:
        policy = tenant.store.policy

        def run(tx: Transaction, policy: InForce = policy) -> T:
            govern(tx, policy)
            if action in GRANTED:  # opening and closing are nobody's to forbid
                policy.authorise(who, action, f"tenant {tenant.keys.name!r}")
            return work(tx)

        try:
            asked = {**asking(who), "action": action}
            return perform_blocking(tenant.vault, Operation(run, lambda done: done, True, asked))
        except StalePolicyError as stale:
            tenant.store.reload_policy(stale.number)


def asking(actor: Actor | None) -> dict[str, Any]:
    """Who asks, as an entry says it: the actor given, or the one of `acting_as`, or the program."""
    who = resolve(None, None, actor) or program()
    fields: dict[str, Any] = {"actor": who.id, "roles": list(who.roles) or None, "purpose": who.purpose}
    if who.on_behalf_of is not None:
        fields["detail"] = {"on_behalf_of": who.on_behalf_of}
    return {**fields, "reason": who.reason}


def check_tenant_name(name: str) -> str:
    """The name. Raises ValueError where it is no name for a tenant."""
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable() or name[0] in " (":
        raise ValueError("a tenant's name is 1 to 200 printable characters and does not begin with a space or '('")
    return name
