"""SecureStore: opens, composes, closes. Every `secmem` command is one method here, with the same name and parameters.

``secmem tenant list`` is ``store.tenant_list()``, and what a command prints is what its method returned: a service can do
all that cron does. The same methods, awaited, are in `AsyncSecureStore`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from secure_memory import audit, verification
from secure_memory.actor import Actor, as_actor, resolve
from secure_memory.audit import LogFilter, LogRecord
from secure_memory.billing import Billing
from secure_memory.catalogue import Catalogue
from secure_memory.errors import ConfigurationError
from secure_memory.lifecycle import reserve
from secure_memory.lifecycle.backup.backups import Backups
from secure_memory.lifecycle.backup.restores import Restores
from secure_memory.lifecycle.cleansing import Cleansing
from secure_memory.lifecycle.erasure.erasures import Erasures
from secure_memory.lifecycle.governing import Governing, loaded
from secure_memory.lifecycle.holding import Holding
from secure_memory.lifecycle.purge.archives import Archives
from secure_memory.lifecycle.purge.purges import Purges
from secure_memory.lifecycle.rotation.rotations import Rotations
from secure_memory.lifecycle.subject_export import Subjects
from secure_memory.lifecycle.transfer.transfers import Transfers
from secure_memory.policy.model import Policy
from secure_memory.registry import Handle, KeySource, create_store, memory_store, open_store
from secure_memory.scrubbing import structlog_processor
from secure_memory.service import nobody_asks
from secure_memory.shared import SYSTEM_TENANT, SharedStore, record, transact
from secure_memory.verification import AnchorReport, TenantReport

if TYPE_CHECKING:
    from secure_memory.agents_sdk.session import SecureSession

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A tenant. `created` is in microseconds."""

    name: str
    uid: str
    state: str
    created: int


class SecureStore(
    Catalogue,
    Billing,
    Transfers,
    Holding,
    Governing,
    Cleansing,
    Backups,
    Restores,
    Subjects,
    Erasures,
    Rotations,
    Purges,
    Archives,
):
    """An open store: ``with SecureStore.open("support.secmem") as store: session = store.session("user_123")``.

    A handle: opened twice in one process, the store is open once, and closing one handle leaves the others alone.
    """

    def __init__(self, handle: Handle, *, actor: Actor | None, require_actor: bool, key_made: bool = False) -> None:
        """For `open`, `create` and `in_memory`."""
        self._handle = handle
        self._shared = handle.shared
        self._actor = actor
        self._require_actor = require_actor
        self._closed = False
        self.key_made = key_made

    # ---- opening and closing ------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: PathLike,
        *,
        keys: KeySource = None,
        anchor: PathLike | None = None,
        anchor_required: bool = False,
        actor: Actor | str | None = None,
        require_actor: bool = False,
    ) -> SecureStore:
        """The store at `path`. `keys` is a key provider or the path of a key file; else SECMEM_KEY, SECMEM_KEY_FILE or the
        platform's configuration directory name it. `anchor` is the directory of the anchors. `actor` is who asks where
        nothing nearer says so; with `require_actor` what nobody asks for is refused.

        Raises ConfigurationError, KeyManagementError, IntegrityError, StorageError.
        """
        who = None if actor is None else as_actor(actor)
        handle = open_store(Path(path).expanduser(), keys, anchor, anchor_required=anchor_required, actor=who)
        return cls(handle, actor=who, require_actor=require_actor)

    @classmethod
    def create(
        cls,
        path: PathLike,
        *,
        keys: KeySource = None,
        anchor: PathLike | None = None,
        anchor_required: bool = False,
        actor: Actor | str | None = None,
        require_actor: bool = False,
        policy: PathLike | Policy | None = None,
    ) -> SecureStore:
        """A new store at `path`, which must not exist or be an empty directory. Where no key is found one is made:
        `key_made` says so, and `key_place` where it is. `policy` (a pack's name, a file, or a policy) governs it, else the
        baseline does. Parameters and errors as in `open`; PolicyError, and then nothing was made."""
        who = None if actor is None else as_actor(actor)
        governing = None if policy is None else loaded(policy)[0]
        handle, made = create_store(Path(path).expanduser(), keys, anchor, anchor_required=anchor_required, actor=who)
        store = cls(handle, actor=who, require_actor=require_actor, key_made=made)
        if governing is not None:
            store.policy_apply(governing)
        return store

    @classmethod
    def in_memory(cls, *, actor: Actor | str | None = None, require_actor: bool = False) -> SecureStore:
        """A store in memory, with a throw-away key."""
        return cls(memory_store(), actor=None if actor is None else as_actor(actor), require_actor=require_actor)

    @staticmethod
    def on_reserve(path: PathLike) -> AbstractContextManager[None]:
        """Inside the block a store on a full disk may write to the room that it keeps for that: for what makes room, or must
        not fail for want of it. ``with SecureStore.on_reserve(path), SecureStore.open(path) as store: ...``"""
        return reserve.at_hand(Path(path).expanduser())

    def close(self) -> None:
        """Give this handle back; the last one closes the store. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._handle.release()

    def __enter__(self) -> SecureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SecureStore {self._shared.path or 'in memory'}{', closed' if self._closed else ''}>"

    @property
    def path(self) -> Path | None:
        """The store's directory; None in memory."""
        return self._shared.path

    @property
    def key_place(self) -> str:
        """Where the key is, in words."""
        return self._shared.provider.describe()

    # ---- conversations ------------------------------------------------------------------------------------------

    def session(
        self,
        session_id: str,
        *,
        tenant: str = "default",
        subject: str | None = None,
        actor: Actor | str | None = None,
        session_settings: Any = None,
        cache: bool = True,
    ) -> SecureSession:
        """A conversation, as the SDK wants it: see `SecureSession`. Nothing is written until it is used.

        Raises ValueError for bad arguments, RuntimeError where the store is closed.
        """
        # Here and not above: `import agents` costs seconds, and no command but `demo` needs it.
        from secure_memory.agents_sdk.session import SecureSession

        self._open()
        return SecureSession.in_store(
            self._handle.share(),
            session_id,
            tenant,
            subject=subject,
            actor=self._actor if actor is None else actor,
            require_actor=self._require_actor,
            session_settings=session_settings,
            cache=cache,
        )

    def log_processor(self) -> Callable[..., Any]:
        """A processor for structlog's chain, which takes out of events what this store's policy treats: see `scrubbing`."""
        shared = self._open()
        return structlog_processor(lambda: shared.policy)

    # ---- tenants ------------------------------------------------------------------------------------------------

    def tenant_create(self, name: str) -> TenantInfo:
        """Make a tenant, with its keys and its vault. Raises ValueError for a bad name, ConfigurationError where there is
        one of that name, AccessDeniedError."""
        shared, who = self._open(), self._who()
        transact(shared.system, lambda _: None, "tenant.create", who)  # who may not, is not told which tenants there are
        if any(name == info.name and info.state != "creating" for info in _tenants(shared)):
            raise ConfigurationError(f"there is a tenant {name!r} already")
        shared.tenant(name, who)
        return next(info for info in _tenants(shared) if info.name == name)

    def tenant_list(self) -> list[TenantInfo]:
        """The tenants, by name. It is an `audit.read` entry of the store's own ledger. Raises AccessDeniedError."""
        shared = self._open()
        record(shared.system, {"action": "audit.read", "detail": {"list": "tenants"}}, self._who())
        return _tenants(shared)

    # ---- audit --------------------------------------------------------------------------------------------------

    def audit_log(
        self,
        *,
        tenant: str | None = None,
        since: int | None = None,
        until: int | None = None,
        session: str | None = None,
        subject: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        limit: int | None = None,
    ) -> list[LogRecord]:
        """The newest `limit` entries that match everything given, in order of time; of every ledger where no tenant is
        named. Times are in microseconds, `until` exclusive. Reading the log is an entry."""
        wanted = LogFilter(since, until, session, subject, actor, action, outcome)
        with reserve.at_hand(self._open().path):
            return audit.log(self._open(), tenant, wanted, limit, self._who())

    def audit_follow(
        self,
        *,
        tenant: str | None = None,
        session: str | None = None,
        subject: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
    ) -> Iterator[LogRecord]:
        """Entries that match, as they are written, without end: `secmem audit log --follow`."""
        wanted = LogFilter(None, None, session, subject, actor, action, outcome)
        return audit.follow(self._open(), tenant, wanted, self._who())

    def audit_verify(
        self, *, tenant: str | None = None, progress: Callable[[str, int], None] | None = None
    ) -> list[TenantReport]:
        """Check one vault, or all: every entry, hash, MAC, session, item and anchor. Raises IntegrityError, which names
        the first thing that is wrong. `progress(tenant, entries so far)` is called now and then."""
        with reserve.at_hand(self._open().path):
            return verification.verify(self._open(), tenant, self._who(), progress)

    def audit_anchor(self, *, tenant: str | None = None, begin: bool = False) -> list[AnchorReport]:
        """What the anchors say. With `begin` they are begun anew at the ledgers' present heads: for a store that lost
        its anchors, once it is verified; it is an `audit.gap` entry."""
        return verification.anchor(self._open(), tenant, begin, self._who())

    # ---- this handle --------------------------------------------------------------------------------------------

    def _open(self) -> SharedStore:
        if self._closed:
            raise RuntimeError("the store is closed")
        return self._shared

    def _who(self) -> Actor | None:
        """Who asks. Raises AccessDeniedError, with an entry, where nobody says so and the store wants to know."""
        who = resolve(None, None, self._actor)
        if who is None and self._require_actor:
            denial = nobody_asks("the store", "store.*")
            self._open().record({"action": "access.denied", "outcome": "denied", "detail": {"needed": denial.needed}})
            raise denial
        return who


def _tenants(shared: SharedStore) -> list[TenantInfo]:
    rows = shared.keyring.tenants()
    return [TenantInfo(name, uid.hex(), state, made) for uid, name, state, made in rows if name != SYSTEM_TENANT]
