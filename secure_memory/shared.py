"""An open store of this process, shared by its handles.

However often a store is opened in one process, it is open once: `SecureStore` and `SecureSession` objects are handles, and
closing one never closes what another uses. The last one to go records `store.close` and closes.

A store in memory is its handle's alone, has a throw-away key and no anchor.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from secure_memory import clock, directory
from secure_memory.actor import Actor, program, resolve
from secure_memory.directory import Manifest
from secure_memory.errors import ConfigurationError, KeyNotFoundError, RollbackError, SecureMemoryError
from secure_memory.keys.key import Key
from secure_memory.keys.keyring import SCHEMA, Database, Keyring, TenantKeys
from secure_memory.keys.local import (
    KEY_FILE_VARIABLE,
    FileKeyProvider,
    MemoryKeyProvider,
    check_not_inside,
    create_key_file,
    default_key_path,
    find_provider,
)
from secure_memory.keys.provider import KeyProvider
from secure_memory.ledger.anchor import Anchor, default_directory
from secure_memory.log import get_logger
from secure_memory.service import Tenant
from secure_memory.vault import sqlcipher
from secure_memory.vault.commits import Operation, perform_blocking
from secure_memory.vault.vault import Identity, Vault

SYSTEM_TENANT = "(system)"
"""The system vault's place in the keyring: no tenant's name may begin like it."""
_TENANT_NAME = re.compile(r"[^\s(\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,199}")

log = get_logger(__name__)

KeySource = KeyProvider | str | os.PathLike[str] | None


class SharedStore:
    """What the handles of one open store share: its keyring, its vaults, its anchors."""

    def __init__(
        self, manifest: Manifest, path: Path | None, root: Key, provider: KeyProvider, anchor: Path | None, required: bool
    ) -> None:
        self.manifest = manifest
        self.path = path
        self.provider = provider
        self.anchor_directory = anchor
        self.anchor_required = required
        self.handles = 0
        self.closed = False
        self._tenants: dict[str, Tenant] = {}
        self.keyring = Keyring(_keys_database(None if path is None else path / directory.KEYS), root, manifest.uid)

    # ---- tenants ------------------------------------------------------------------------------------------------

    def known_tenant(self, name: str) -> Tenant | None:
        """The tenant where it is open already. Raises RuntimeError where the store is closed."""
        if self.closed:
            raise RuntimeError("the store is closed")
        return self._tenants.get(name)

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name, made where there is none. Blocks for disk. Raises ValueError for a bad name."""
        known = self.known_tenant(name)
        if known is not None:
            return known
        keys = self.keyring.tenant(check_tenant_name(name)) or self.keyring.create_tenant(name)
        if keys.state == "creating":
            self.record({"action": "tenant.create", "detail": {"tenant": keys.uid.hex()}})
        return self._opened(keys, {"action": "tenant.create"})

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
        if known is None:
            keys = self.keyring.create_tenant(SYSTEM_TENANT)
            known = self._opened(keys, {"action": "store.create"})
        return known

    def _opened(self, keys: TenantKeys, first_entry: Mapping[str, Any]) -> Tenant:
        vault = Vault(
            Identity(self._vault_path(keys), keys.uid, keys.name, keys.vault),
            keys.vault_key,
            keys.ledger,
            self._anchor(keys.vault),
            anchor_required=self.anchor_required,
        )
        # Two threads may come here at once: the first one's stays, and the other's has no connection yet.
        tenant = self._tenants.setdefault(keys.name, Tenant(keys, vault))
        if keys.state == "creating":
            tenant.vault.create({**asking(None), **first_entry})
            self.keyring.activate_tenant(keys.uid)
        return tenant

    def _vault_path(self, keys: TenantKeys) -> Path | None:
        if self.path is None:
            return None
        if keys.name == SYSTEM_TENANT:
            return self.path / directory.SYSTEM
        return self.path / directory.VAULTS / f"{keys.vault.hex()}.db"

    def _anchor(self, vault: bytes) -> Anchor | None:
        if self.path is None or self.anchor_directory is None:
            return None
        return Anchor(self.anchor_directory, self.manifest.uid, self.path, vault)

    # ---- the system ledger --------------------------------------------------------------------------------------

    def record(self, fields: Mapping[str, Any], actor: Actor | None = None) -> None:
        """Append an entry to the system ledger, and wait until it is on disk."""
        entry = {**asking(actor), **fields}
        perform_blocking(self.system.vault, Operation(lambda tx: tx.record({}), lambda _: None, True, entry))

    def require_anchor(self) -> None:
        """From here on refuse to work without anchors."""
        self.anchor_required = True
        for tenant in self._tenants.values():
            tenant.vault.anchor_required = True

    def close(self) -> None:
        """Record `store.close`, close every vault, overwrite the keys."""
        try:
            self.record({"action": "store.close"})
        except SecureMemoryError as error:
            # Closing has to free what it can; whoever opens the store next meets the same trouble, aloud.
            log.warning("close not recorded", error=type(error).__name__)
        self.closed = True
        for tenant in self._tenants.values():
            tenant.vault.close()
            tenant.keys.zero()
        self.keyring.close()


def asking(actor: Actor | None) -> dict[str, Any]:
    """Who asks, as an entry says it: the actor given, or the one of `acting_as`, or the program."""
    who = resolve(None, None, actor) or program()
    fields: dict[str, Any] = {"actor": who.id, "roles": list(who.roles) or None, "purpose": who.purpose}
    return {**fields, "reason": who.reason}


def check_tenant_name(name: str) -> str:
    """The name. Raises ValueError where it is no name for a tenant."""
    if not isinstance(name, str) or not _TENANT_NAME.fullmatch(name):
        raise ValueError("a tenant's name is 1 to 200 printable characters and does not begin with a space or '('")
    return name


# ---- opening: one per path and process ------------------------------------------------------------------------------

_open_stores: dict[Path, SharedStore] = {}
_registry = threading.Lock()


def _after_fork() -> None:
    global _registry
    _registry = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def open_store(
    path: Path, keys: KeySource, anchor: str | os.PathLike[str] | None, *, anchor_required: bool
) -> SharedStore:
    """The store at `path`, opened or shared. Raises NotAStoreError, WrongKeyError and whatever opening raises."""
    manifest = directory.read(path)
    provider = find_provider(keys)
    if isinstance(provider, FileKeyProvider):
        check_not_inside(provider.path, path)
    root = manifest.root(provider)  # also where it is open already: a wrong key never gets a handle
    anchors = default_directory() if anchor is None else Path(anchor)
    with _registry:
        shared = _open_stores.get(path.resolve())
        if shared is None:
            shared = SharedStore(manifest, path.resolve(), root, provider, anchors, anchor_required)
            try:
                _check_whole(shared)
                shared.record({"action": "store.open"})
            except BaseException:
                shared.keyring.close()
                raise
            _open_stores[path.resolve()] = shared
        elif shared.anchor_directory != anchors:
            raise ConfigurationError(
                "the store is open in this process with another place for its anchors",
                hint="open it with one anchor= everywhere",
            )
        elif anchor_required:
            shared.require_anchor()
        shared.handles += 1
        return shared


def _check_whole(shared: SharedStore) -> None:
    """Raise RollbackError where the system vault is missing."""
    keys = shared.keyring.tenant(SYSTEM_TENANT)
    if keys is None or keys.state != "active":
        raise RollbackError("the keyring does not know the system vault", hint="restore keys.db from its newest backup")


def create_store(
    path: Path, keys: KeySource, anchor: str | os.PathLike[str] | None, *, anchor_required: bool
) -> tuple[SharedStore, bool]:
    """A new store at `path`, and whether a key was made with it. Raises ConfigurationError where one is there."""
    if directory.exists(path):
        raise ConfigurationError(f"there is a store at {path} already", hint="open it, or name another path")
    provider, made = _provider_for_new(path, keys)
    anchors = default_directory() if anchor is None else Path(anchor)

    def fill(manifest: Manifest, root: Key) -> None:
        shared = SharedStore(manifest, path.resolve(), Key(root.bytes), provider, anchors, required=False)
        try:
            _ = shared.system  # makes it
        finally:
            shared.closed = True
            for tenant in shared._tenants.values():
                tenant.vault.close()
            shared.keyring.close()

    directory.make(path, provider, fill)
    return open_store(path, provider, anchor, anchor_required=anchor_required), made


def memory_store() -> SharedStore:
    """A store in memory, with a throw-away key."""
    manifest = Manifest(Path(":memory:"), os.urandom(16), clock.now(), b"")
    shared = SharedStore(manifest, None, Key.random(), MemoryKeyProvider(), None, required=False)
    shared.handles = 1
    shared.record({"action": "store.open"})
    return shared


def release(shared: SharedStore) -> None:
    """Give a handle back; the last one closes the store."""
    with _registry:
        shared.handles -= 1
        if shared.handles > 0 or shared.closed:
            return
        if shared.path is not None and _open_stores.get(shared.path) is shared:
            del _open_stores[shared.path]
        shared.close()


def _provider_for_new(path: Path, keys: KeySource) -> tuple[KeyProvider, bool]:
    """The provider for a new store, whose key is made where none is there."""
    try:
        provider = find_provider(keys)
        if isinstance(provider, FileKeyProvider):
            check_not_inside(provider.path, path)
        return provider, False
    except KeyNotFoundError:
        if isinstance(keys, str | os.PathLike):
            place = Path(keys)
        else:
            named = os.environ.get(KEY_FILE_VARIABLE)
            place = Path(named) if named else default_key_path()
    check_not_inside(place, path)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return create_key_file(place, made_at=clock.now()), True
    except OSError as error:
        raise KeyNotFoundError(
            f"there is no key, and none could be made at {place}: {error.strerror}",
            hint="set SECMEM_KEY, or SECMEM_KEY_FILE to a place that can be written",
        ) from None


def _keys_database(path: Path | None) -> Database:
    """How the keyring reaches keys.db."""

    def connect_for(root: bytes, salt: bytes) -> Any:
        # A vanished keys.db is never made anew: only a store without a manifest, one that is being made, may make it.
        new = path is None or (not path.exists() and not (path.parent / directory.MANIFEST).exists())
        connection = sqlcipher.connect(path, root + salt, create=new)
        try:
            sqlcipher.migrate(connection, (SCHEMA,))
        except BaseException:
            connection.close()
            raise
        return connection

    return Database(connect_for, sqlcipher.begin, sqlcipher.translate, sqlcipher.DriverError, path is None)


@atexit.register
def _close_all() -> None:
    """Close what the program left open, so that the WAL is in the database and the ledger says when it ended."""
    for shared in list(_open_stores.values()):
        with suppress(Exception):  # the interpreter is going: there is nobody left to tell
            shared.close()

