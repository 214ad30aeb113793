"""What an operation on a session is opened with: the tenant, the session's keys, who asks.

A `Door` is one session's way to its tenant and its keys. Keys are taken from memory where they are there, without a lock
and without disk; else `resolve` gets them from the keyring, or makes them with the first write.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from secure_memory.actor import Actor, program
from secure_memory.errors import ConfigurationError, KeyDestroyedError, KeyNotFoundError
from secure_memory.inforce import InForce
from secure_memory.keys.keyring import Keyring
from secure_memory.keys.opened import SessionKeys, TenantKeys
from secure_memory.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, open: its keys and its vault, and the store that it is in."""

    keys: TenantKeys
    vault: Vault
    store: Tenants


class Tenants(Protocol):
    """What a conversation needs of the store that it is in."""

    @property
    def keyring(self) -> Keyring:
        """The store's keys."""
        ...

    @property
    def policy(self) -> InForce:
        """The policy in force, as far as this process knows."""
        ...

    def reload_policy(self, number: int) -> None:
        """Look which policy is in force: it has this number or a later one. Blocks for disk. Raises RollbackError."""
        ...

    def known_tenant(self, name: str) -> Tenant | None:
        """The tenant where it is open already. Does not block. Raises RuntimeError where the store is closed."""
        ...

    def tenant(self, name: str, actor: Actor | None = None) -> Tenant:
        """The tenant, made where there is none. Blocks for disk."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for one operation: the actor, or None where only the program is left; and the run that it belongs to."""

    actor: Actor | None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What an operation is built with: the tenant, the session's keys (None where there is no such session yet), the policy
    in force, and whether the keys were made here, so that a row that was never seen is not missed."""

    tenant: Tenant
    keys: SessionKeys | None
    policy: InForce
    made: bool = False


class StaleError(KeyNotFoundError):
    """The vault knows the session under other keys than ours: someone else just began or resealed it. Resolve again, with
    the `version` that its row names.

    Where that does not help, the keys are missing, which is what whoever asked is told.
    """

    def __init__(self, tenant: str, version: int) -> None:
        super().__init__(
            f"tenant {tenant!r}: the vault has a session whose key is not in the keyring",
            hint="was an erasure interrupted? run it again; is keys.db an older copy? restore its newest backup",
        )
        self.version = version


def not_begun(tenant: str) -> ConfigurationError:
    """What is raised where something is asked of a session that has not begun."""
    return ConfigurationError(
        f"tenant {tenant!r} has no such session", hint="a session begins with its first item or tag; check its id"
    )


class Door:
    """One session's way to its tenant and its keys."""

    def __init__(self, store: Tenants, tenant: str, session: str, subject: str | None, actor: Actor | None) -> None:
        """`actor` is who begins a tenant, where nobody nearer says who asks."""
        self._store = store
        self._actor = actor
        self._tenant = tenant
        self._session = session
        self._subject = subject
        self._check = True  # that the session is that subject's
        self._opened: Opened | None = None
        self._made = False  # the keys, by this door
        self._as_subject: tuple[str, bytes, bool] | None = None

    def known(self) -> Opened | None:
        """The tenant and the keys where both are in memory: no lock, no disk."""
        if self._opened is None:
            tenant = self._store.known_tenant(self._tenant)
            if tenant is None:
                return None
            keys = self._store.keyring.cached_session(tenant.keys.uid, tenant.keys.name_mac("session", self._session))
            if keys is None:
                return None
            self._check_subject(tenant, keys)
            self._opened = Opened(tenant, keys, self._store.policy, self._made)
        elif self._opened.tenant is not self._store.known_tenant(self._tenant):
            self._opened = None  # it was erased
        elif self._opened.policy is not self._store.policy:
            self._opened = replace(self._opened, policy=self._store.policy)
        return self._opened

    def resolve(self, create: bool, version: int | None = None) -> Opened:
        """The tenant and the keys, made where `create` asks for it. Blocks for disk."""
        tenant = self._store.tenant(self._tenant, self._actor)
        name = tenant.keys.name_mac("session", self._session)
        keys, made = self._store.keyring.session(tenant.keys, name, version), False
        if keys is None and create:
            subject = tenant.keys.name_mac("subject", self._subject or self._session)
            keys, made = self._store.keyring.create_session(tenant.keys, name, subject)
            self._made = self._made or made
        if keys is not None:
            self._check_subject(tenant, keys)
        return Opened(tenant, keys, self._store.policy, made or self._made)

    def resolve_anew(self, version: int) -> Opened:
        """As `resolve`, when the vault knew a session whose keys we did not: they have this version."""
        self._opened = None
        try:
            return self.resolve(False, version)
        except KeyDestroyedError:  # it may have been resealed once more since the row was read
            return self.resolve(create=False)

    @property
    def policy(self) -> InForce:
        """As `Tenants.policy`."""
        return self._store.policy

    def reload_policy(self, number: int) -> None:
        """As `Tenants.reload_policy`."""
        self._store.reload_policy(number)

    def prepare(self, subject: str) -> SessionKeys:
        """New keys for the session, below that subject's: see `Keyring.prepare_session`. Blocks for disk.

        Raises ConfigurationError where the session has not begun.
        """
        opened = self.known() or self.resolve(create=False)
        if opened.keys is None:
            raise not_begun(self._tenant)
        name = opened.tenant.keys.name_mac("subject", subject)
        return self._store.keyring.prepare_session(opened.tenant.keys, opened.keys.uid, name)

    def forget(self) -> None:
        """The session's keys are destroyed: keep none of them."""
        known, self._opened = self._opened, None
        tenant = known.tenant if known is not None else self._store.known_tenant(self._tenant)
        if tenant is not None:
            self._store.keyring.forget_session(tenant.keys.uid, tenant.keys.name_mac("session", self._session))

    def moved(self, subject: str) -> None:
        """The session belongs to that subject now: its keys are to be resolved again."""
        self._subject, self._check, self._opened = subject, False, None

    def settle(self, keys: SessionKeys) -> None:
        """Let the keys that were prepared stand, and destroy those before them. Blocks for disk."""
        with suppress(KeyDestroyedError):  # the session was assigned once more since: those that followed stand
            self._store.keyring.settle(keys.uid, keys.version)

    def _check_subject(self, tenant: Tenant, keys: SessionKeys) -> None:
        if self._check and self._subject is not None and not self._is_subject(tenant, keys, self._subject):
            raise ConfigurationError(
                f"tenant {self._tenant!r}: this session belongs to another subject than the one given",
                hint="leave subject= away to open it as it is, or use another session id",
            )

    def fields(self, action: str, opened: Opened, asker: Asker) -> dict[str, Any]:
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
        known = self._as_subject  # read once: another thread may be asking about someone else
        if known is None or known[:2] != (actor, keys.subject):
            mac = tenant.keys.name_mac("subject", actor)
            self._as_subject = known = actor, keys.subject, hmac.compare_digest(mac, keys.subject_name)
        return known[2]
