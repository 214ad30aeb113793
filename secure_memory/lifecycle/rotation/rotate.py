"""Replacing keys while the store is in use: the KEK, the store root (an epoch turn), a vault's key.

Each begins and ends with an entry, and can be run again after a crash at any of its steps: it goes on where it stopped. The
ledger key and the pseudonym key are never replaced: what they MAC and name could then not be checked or found any more.
A person's keys are replaced in `resealing`; the store's method is in `rotating`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from secure_memory import clock, directory
from secure_memory.actor import Actor
from secure_memory.directory import Manifest
from secure_memory.errors import ConfigurationError
from secure_memory.keys.key import Key
from secure_memory.keys.local import FileKeyProvider
from secure_memory.keys.provider import KeyProvider, wrapped_by
from secure_memory.shared import SharedStore, record
from secure_memory.tenancy import Tenant
from secure_memory.vault import file_key, wal


def provider_of(shared: SharedStore, *, new_key: bool) -> KeyProvider:
    """The store's key provider as it is now, with a new key in its key file where that is asked for.

    Raises ConfigurationError where the keys are not in a file.
    """
    if isinstance(shared.provider, FileKeyProvider):
        shared.provider = FileKeyProvider(shared.provider.path)
    if new_key:
        if not isinstance(shared.provider, FileKeyProvider):
            raise ConfigurationError(
                f"no key can be made there: {shared.provider.describe()}",
                hint="put the new key before the old one, where that is set and kept, and run this again without --new-key",
            )
        shared.provider.add(made_at=clock.now())
    return shared.provider


# ---- the KEK --------------------------------------------------------------------------------------------------------


def rotate_kek(shared: SharedStore, actor: Actor | None, *, new_key: bool, destroy_old: bool) -> tuple[str, list[str]]:
    """Wrap the store root under the provider's newest KEK, and with `destroy_old` destroy every other one it has; returns
    the newest one's id, and those that were destroyed.

    Raises ConfigurationError where there is nothing to do, or a KEK can't be destroyed from here.
    """
    place = _place(shared)
    _record(shared, actor, {"what": "kek", "stage": "begun"})
    provider = provider_of(shared, new_key=new_key)
    newest = provider.versions()[0]
    with directory.changing(place) as manifest:
        before = wrapped_by(manifest.wrapped_root)
        if manifest.wrapped_next is not None:
            raise ConfigurationError("an epoch turn was interrupted", hint="finish it first: `secmem key rotate --epoch`")
        if before != newest:
            root = manifest.root(provider)
            directory.rewrite(replace(manifest, wrapped_root=manifest.wrap(root, provider)))
            root.zero()
        elif not destroy_old:
            raise _nothing_newer(provider)
    shared.manifest = directory.read(place)
    _record(shared, actor, {"what": "kek", "stage": "done", "kek": newest, "before": before})
    return newest, [_destroyed(shared, actor, provider, old) for old in provider.versions()[1:] if destroy_old]


def _destroyed(shared: SharedStore, actor: Actor | None, provider: KeyProvider, version: str) -> str:
    provider.destroy(version)
    _record(shared, actor, {"kek": version}, action="key.destroy")
    return version


# ---- an epoch turn --------------------------------------------------------------------------------------------------


def turn_epoch(shared: SharedStore, actor: Actor | None, *, new_key: bool) -> tuple[str, list[str]]:
    """Draw a new store root and destroy each KEK that ever wrapped the old one, so that older sets of keys go dark;
    returns the id of the KEK that wraps the new one, and of those that were destroyed.

    1. store.json has the new root, wrapped under the newest KEK, beside the old one.
    2. keys.db is written anew, every page, under a key from the new root.
    3. The tenants' roots are wrapped under the new root.
    4. The list of tombstones is MACed under it.
    5. store.json has the new root alone.
    6. Each older KEK is destroyed, where that can be done from here: rotating the KEK alone wraps the same root anew, so a
       backup from before that opens with the KEK of its day.

    Whoever opens the store in between finds both roots in store.json, and tries both. Raises ConfigurationError where no KEK
    is newer than the one that wraps the root.
    """
    place = _place(shared)
    _record(shared, actor, {"what": "epoch", "stage": "begun"})
    provider = provider_of(shared, new_key=new_key)
    with directory.changing(place) as manifest:
        manifest = begin(manifest, provider)  # (1)
        new, old = manifest.roots(provider)
        shared.keyring.turn_file(new)  # (2)
        shared.keyring.turn([old], new)  # (3)
        shared.keyring.turn_list(old, new)  # (4)
        finish(manifest)  # (5)
    shared.keyring.reload()
    newest, before = wrapped_by(shared.manifest.wrapped_root), wrapped_by(manifest.wrapped_root)
    _record(shared, actor, {"what": "epoch", "stage": "done", "kek": newest, "before": before})
    older = provider.versions()[provider.versions().index(newest) + 1 :] if provider.kind != "env" else ()
    return newest, [_destroyed(shared, actor, provider, old) for old in older]  # (6)


def begin(manifest: Manifest, provider: KeyProvider) -> Manifest:
    """The manifest with a new root beside the old one: the one that an interrupted turn has drawn, or another one."""
    if manifest.wrapped_next is not None:
        return manifest
    if wrapped_by(manifest.wrapped_root) == provider.versions()[0]:
        raise _nothing_newer(provider)
    root = Key.random()
    both = replace(manifest, wrapped_next=manifest.wrap(root, provider))
    root.zero()
    directory.rewrite(both)
    return both


def finish(manifest: Manifest) -> None:
    """Let the new root stand alone."""
    if manifest.wrapped_next is not None:
        directory.rewrite(replace(manifest, wrapped_root=manifest.wrapped_next, wrapped_next=None))


def _nothing_newer(provider: KeyProvider) -> ConfigurationError:
    return ConfigurationError(
        f"the newest key of {provider.describe()} wraps the store root already",
        hint="add a newer key before it: --new-key makes one in a key file; in SECMEM_KEY, put it first",
    )


# ---- a vault's key --------------------------------------------------------------------------------------------------


def rotate_vault(shared: SharedStore, tenant: Tenant, actor: Actor | None) -> int:
    """Give the tenant's file another key, while other processes use it; returns the key's version.

    1. The new key is a version in keys.db, beside the old one.
    2. Every page is written under it, in one transaction of the file.
    3. No page under the old key is left in the file or its WAL.
    4. The old key is destroyed.
    """
    _place(shared)
    keyring, keys, database = shared.keyring, tenant.keys, tenant.vault.database
    said: dict[str, Any] = {"what": "vault", "tenant": keys.uid.hex()}
    record(tenant, {"action": "key.rotate", "detail": {**said, "stage": "begun"}}, actor)
    version, new = keyring.prepare_vault(keys.uid)  # (1)
    old = [key for _, key in keyring.vault_keys(keys.uid)]
    wal.truncate(database)  # who reads it now is waited for here, and not between (2) and (3)
    path = database.identity.path
    if path is not None:
        file_key.rekey(path, keys.vault, old, new)  # (2)
    with database.lock:
        database.reopen()
    wal.truncate(database)  # (3)
    destroyed = keyring.settle_vault(keys.uid, version)  # (4)
    record(tenant, {"action": "key.rotate", "detail": {**said, "stage": "done", "version": version}}, actor)
    if destroyed:
        record(tenant, {"action": "key.destroy", "detail": {**said, "versions": destroyed}}, actor)
    return version


def _place(shared: SharedStore) -> Path:
    if shared.path is None:
        raise ConfigurationError("a store in memory has no key to rotate: it ends with the process")
    return shared.path


def _record(shared: SharedStore, actor: Actor | None, detail: Mapping[str, Any], action: str = "key.rotate") -> None:
    shared.record({"action": action, "detail": dict(detail)}, actor)
