"""Backups: consistent copies of a store that is in use, encrypted as the store is.

1. The vaults, each copied in a read transaction of its own, the system vault last: a policy or tenant that a vault knows of,
   the system vault has to know too. Then the archives in the store: what a purge took out of a vault that was copied later.
2. keys.db, last of all: so it has the key of whatever the vaults hold. Where a tenant was made meanwhile, or a key replaced,
   that vault is copied again, and keys.db after it.
3. Both sets are on disk, under names that nobody takes for a backup.
4. A `store.backup` entry, which names the manifests, is on disk.
5. The sets get their names.

Two sets, since they live differently long: whoever deletes an old set of keys makes everything unreadable that was erased
since, in every copy of the vaults (docs/backup.md). `SecureStore` has its method from `Backups`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from secure_memory import audit, clock, directory
from secure_memory.actor import Actor
from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, StoreBusyError
from secure_memory.facet import Facet
from secure_memory.keys.copying import KeysCopied
from secure_memory.lifecycle.backup import backup_set
from secure_memory.lifecycle.backup.backup_set import BackupSet, CopiedVault, Kind
from secure_memory.shared import SYSTEM_TENANT, SharedStore, transact
from secure_memory.tenancy import Tenant

ROUNDS = 10
"""How often vaults are copied again because keys were made or replaced meanwhile."""

Progress = Callable[[str, int, int], None]
"""Called now and then with what is being copied, its bytes so far, and how many there are."""


@dataclass(frozen=True, slots=True)
class KeptSet:
    """A set that was written: where, how many vaults, how many bytes, and the SHA-256 of its manifest."""

    path: str
    kind: str
    vaults: int
    bytes: int
    manifest: str


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup wrote. `created` is in microseconds."""

    store: str
    created: int
    sets: tuple[KeptSet, ...]


class Backups(Facet):
    """The method of a store that copies it. `SecureStore` has the rest."""

    def backup(
        self,
        directory: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        only: Literal["vaults", "keys"] | None = None,
    ) -> BackupReport:
        """Copy the store into two new sets in `directory`, or `only` one of them, while it is in use.

        The copies are encrypted under the store's own keys. It is a `store.backup` entry, on disk before the sets have their
        names. `progress(what, bytes so far, bytes)` is called now and then. Raises ConfigurationError for a store in memory
        and for a directory inside the store, DiskFullError, which leaves nothing, StorageError, IntegrityError for a vault
        that is damaged, AccessDeniedError.
        """
        if only not in (None, "vaults", "keys"):
            raise ValueError("only is 'vaults' or 'keys'")
        return _backup(self._open(), Path(directory).expanduser(), only, self._who(), progress)


def _backup(
    shared: SharedStore, into: Path, only: Kind | None, actor: Actor | None, progress: Progress | None
) -> BackupReport:
    path = _outside(shared, into)
    transact(shared.system, lambda _: None, "store.backup", actor)  # who may not, is told before anything is copied
    created = clock.now()
    stamp = clock.rfc3339(created).replace(":", "")
    kinds: tuple[Kind, ...] = ("vaults", "keys") if only is None else (only,)
    with ExitStack() as partials:
        places = {kind: partials.enter_context(backup_set.being_written(into, f"{stamp}-{kind}")) for kind in kinds}
        with backup_set.told(f"write to {into}"):
            copying = _Copying(shared, path, created, progress)
            written = copying.into(places)
        kept = [_kept(into / f"{stamp}-{one.kind}", one) for one in written]
        said = [{"kind": one.kind, "bytes": one.bytes, "manifest": one.manifest} for one in kept]
        shared.record({"action": "store.backup", "detail": {"sets": said}}, actor)  # (4)
        for kind, partial in places.items():
            backup_set.keep(partial, f"{stamp}-{kind}")  # (5)
    return BackupReport(shared.manifest.uid.hex(), created, tuple(kept))


def _outside(shared: SharedStore, into: Path) -> Path:
    """The store's path. Raises ConfigurationError where the backup would be in it, or there is nothing to copy."""
    if shared.path is None:
        raise ConfigurationError("a store in memory can't be backed up")
    if into.resolve().is_relative_to(shared.path):
        raise ConfigurationError(
            f"{into} is inside the store {shared.path}", hint="a backup goes to another disk, or better another building"
        )
    return shared.path


def _kept(place: Path, written: BackupSet) -> KeptSet:
    digest = sha256(written.text()).hexdigest()
    return KeptSet(str(place), written.kind, len(written.vaults), written.size, digest)


class _Copying:
    """One backup of one store on its way."""

    def __init__(self, shared: SharedStore, path: Path, created: int, progress: Progress | None) -> None:
        self._shared = shared
        self._path = path
        self._created = created
        self._progress = progress
        self._vaults: dict[str, CopiedVault] = {}
        self._manifest = (path / directory.MANIFEST).read_bytes()
        self._spans: dict[Kind, tuple[int, int]] = {}
        # Made before anything is copied: the copy of keys.db must have it.
        self._mac_key = shared.keyring.store_key("backup")

    def into(self, places: dict[Kind, Path]) -> list[BackupSet]:
        """Fill the directories; returns the sets, synced and not yet named."""
        vaults, keys = places.get("vaults"), places.get("keys")
        since = clock.now()
        if vaults is not None:
            (vaults / directory.VAULTS).mkdir(mode=0o700)
            self._copy_vaults(vaults, None)  # (1)
        if keys is not None:
            self._copy_keys_after(keys, vaults, since)  # (2)
        return [self._written(place, kind) for kind, place in places.items()]  # (3)

    def _copy_keys_after(self, keys: Path, vaults: Path | None, since: int) -> None:
        """Copy keys.db until the vaults that were copied have what it says of them. Raises StoreBusyError."""
        for left in reversed(range(ROUNDS)):
            found = self._copy_keys(keys, since)
            missed = (found.active - set(map(bytes.fromhex, self._vaults))) | found.replaced
            if vaults is None or not missed:
                return
            if not left and not found.replaced:
                return  # tenants are made without end: those are younger than this backup
            since = clock.now()
            self._copy_vaults(vaults, missed)
        raise StoreBusyError("keys are replaced faster than vaults can be copied", hint="try again when there is less to do")

    def _copy_vaults(self, place: Path, wanted: set[bytes] | None) -> None:
        """Copy these vaults, or all, and the system vault after them."""
        system, *tenants = audit.tenants(self._shared, None)
        for tenant in (*tenants, system):
            if wanted is None or tenant.keys.vault in wanted or tenant is system:
                self._copy_vault(place, tenant)
        self._copy_archives(place / directory.ARCHIVES)
        self._spans["vaults"] = self._created, max(self._created, clock.now())

    def _copy_vault(self, place: Path, tenant: Tenant) -> None:
        uid, name = tenant.keys.vault.hex(), tenant.keys.name
        file = place / (directory.SYSTEM if name == SYSTEM_TENANT else f"{directory.VAULTS}/{uid}.db")
        file.unlink(missing_ok=True)
        head = tenant.vault.database.copy_to(file, self._telling(f"tenant {name}"))
        sync(file)
        self._vaults[uid] = CopiedVault(tenant.keys.uid.hex(), head.size, head.root.hex())

    def _copy_archives(self, place: Path) -> None:
        """Copy the archives that are whole, and not copied yet: they are never changed."""
        archives = self._path / directory.ARCHIVES
        for file in sorted(archives.iterdir()) if archives.is_dir() else ():
            if not file.name.startswith(".") and not (place / file.name).exists():
                place.mkdir(mode=0o700, exist_ok=True)
                backup_set.copy(file, place / file.name)

    def _copy_keys(self, place: Path, since: int) -> KeysCopied:
        """Copy keys.db, and store.json as it is meanwhile: a store root that is being replaced waits."""
        file = place / directory.KEYS
        file.unlink(missing_ok=True)
        # Not before the vaults were finished, whatever the clock says: a restore compares them.
        created = max(clock.now(), self._spans.get("vaults", (0, 0))[1])
        with directory.changing(self._path):
            found = self._shared.keyring.copy_to(file, since, self._telling("keys"))
            self._manifest = (self._path / directory.MANIFEST).read_bytes()
        sync(file)
        self._spans["keys"] = created, max(created, clock.now())
        return found

    def _telling(self, what: str) -> Callable[[int, int], None] | None:
        progress = self._progress
        return None if progress is None else lambda done, total: progress(what, done, total)

    def _written(self, place: Path, kind: Kind) -> BackupSet:
        """The set in that directory, with its manifest. It has store.json too: without it nothing can be opened."""
        backup_set.write(place / directory.MANIFEST, self._manifest)
        files = sorted(file for file in place.rglob("*") if file.is_file())
        made = BackupSet(
            place,
            kind,
            self._shared.manifest.uid.hex(),
            *self._spans[kind],
            {str(file.relative_to(place)): backup_set.measured(file) for file in files},
            self._vaults if kind == "vaults" else {},
            self._listed() if kind == "keys" else None,
        )
        made = replace(made, mac=made.signed(self._mac_key))
        backup_set.write(place / backup_set.MANIFEST, made.text())
        return made

    def _listed(self) -> int:
        """How many erased keys are listed beside the anchors, in a list that is there from now on: a restore asks for it."""
        tombstones = self._shared.keyring.tombstones
        return 0 if tombstones is None else tombstones.append([])
