"""A store put together from a set of vaults and a set of keys, in a directory where nobody uses it yet.

1. The sets belong together: one store, and keys that are not older than the vaults.
2. Every file is what its manifest says; it is copied.
3. The key provider opens the store; both manifests have the store's own MAC.
4. What was erased since is erased here: the list of tombstones is replayed. It has to be there, and not to be older than the
   sets.
5. The vaults are those that keys.db knows, and each ledger ends where its manifest says. A tenant that is younger than the
   vaults has no vault.

What `secmem restore` puts into place and `secmem backup verify` throws away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secure_memory import directory
from secure_memory.errors import ConfigurationError, KeyDestroyedError, RollbackError, TamperedError
from secure_memory.keys.provider import KeyProvider
from secure_memory.keys.tombstones import FILE as TOMBSTONES
from secure_memory.keys.tombstones import Tombstone
from secure_memory.lifecycle.backup import backup_set
from secure_memory.lifecycle.backup.backup_set import BackupSet
from secure_memory.shared import SYSTEM_TENANT, SharedStore
from secure_memory.tenancy import Tenant

Progress = Callable[[str, int, int], None]
"""Called now and then with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Sets:
    """A set of vaults and the set of keys that opens it."""

    vaults: BackupSet
    keys: BackupSet


@dataclass(frozen=True, slots=True)
class Assembled:
    """A store that was put together, open, without anchors. `stones` are what was ever erased, and `destroyed` how many keys
    of the backup that were; `lost` tenants are younger than the vaults."""

    shared: SharedStore
    sets: Sets
    stones: list[Tombstone]
    destroyed: int
    lost: tuple[str, ...]

    def tenants(self) -> list[Tenant]:
        """The system vault and every tenant whose vault is there, in order of name. Opens them: raises IntegrityError."""
        every = [(uid, name) for uid, name, state, _ in self.shared.keyring.tenants() if state == "active"]
        there = sorted((one for one in every if one[1] not in self.lost), key=lambda one: one[1] != SYSTEM_TENANT)
        return [self._opened(uid, name) for uid, name in there]

    def _opened(self, uid: bytes, name: str) -> Tenant:
        try:
            return self.shared.system if name == SYSTEM_TENANT else self.shared.tenant(name)
        except TamperedError:
            # Its file is what was written, by the manifest: so it is the key that is another one.
            if any(stone.purpose == "vault" for stone in self.shared.keyring.buried([uid])):
                raise KeyDestroyedError(
                    f"tenant {name!r}: the key of its vault was replaced after the vault was copied",
                    hint="restore newer vaults, or name the keys of that time with --keys",
                ) from None
            raise


def find(vaults: Path, keys: Path | None) -> Sets:
    """The sets to restore (1): each is named, or is the newest one in the directory that is named; left out, the keys are
    beside the vaults. Raises ConfigurationError, RollbackError, TamperedError."""
    found = _newest(vaults, "vaults")
    beside = found.path.parent if keys is None else keys
    with_it = _newest(beside, "keys")
    if with_it.store != found.store:
        raise ConfigurationError(
            f"{with_it.path.name} and {found.path.name} are of two stores", hint="name the keys of that store with --keys"
        )
    if with_it.created < found.finished:
        raise RollbackError(
            f"the keys in {with_it.path.name} are older than the vaults in {found.path.name}",
            hint="restore the newest set of keys there is: what was erased since must not come back",
        )
    return Sets(found, with_it)


def _newest(place: Path, kind: backup_set.Kind) -> BackupSet:
    paths = backup_set.sets_in(place, kind)
    if not paths:
        raise ConfigurationError(f"there is no set of {kind} in {place}", hint="`secmem backup DIR` makes sets in DIR")
    found = backup_set.read(paths[-1])
    if found.kind != kind:
        raise TamperedError(
            f"{paths[-1].name} is not a set of {kind}", hint="was a set renamed? its manifest says what it is"
        )
    return found


def assemble(
    sets: Sets, place: Path, provider: KeyProvider, tombstones: tuple[Path | None, list[Path]], progress: Progress | None
) -> Assembled:
    """The store of these sets, made in the empty directory `place`. `tombstones` are the list of erased keys, if one is
    named, and where others of this store may be; what is in any of them was erased.

    Raises TamperedError, RollbackError, WrongKeyError, ConfigurationError, DiskFullError. Whoever called removes `place`.
    """
    for one in (sets.vaults, sets.keys):
        one.check_files()  # (2)
    _copy(sets, place, progress)
    manifest = directory.read(place)
    shared = SharedStore(manifest, place.resolve(), manifest.root(provider), provider, None, required=False)  # (3)
    try:
        key = shared.keyring.store_key("backup")
        for one in (sets.vaults, sets.keys):
            one.check_mac(key)
        stones = _erased(shared, *tombstones, sets.keys.tombstones or 0)
        destroyed = shared.keyring.replay(stones)  # (4)
        made = Assembled(shared, sets, stones, destroyed, _check_vaults(shared, sets, place))  # (5)
        for tenant in made.tenants():
            _check_head(tenant, sets.vaults)
        return made
    except BaseException:
        shared.abandon()
        raise


def _copy(sets: Sets, place: Path, progress: Progress | None) -> None:
    """Copy the files; store.json is the one of the keys, which are never older."""
    with backup_set.told(f"restore to {place.parent}"):
        (place / directory.VAULTS).mkdir(mode=0o700)  # also where there is no tenant yet
        wanted = [
            *((sets.keys.path / name, name) for name in (directory.MANIFEST, directory.KEYS)),
            *((sets.vaults.path / name, name) for name in sets.vaults.files if name != directory.MANIFEST),
        ]
        total = sum(source.stat().st_size for source, _ in wanted)
        done = 0
        for source, name in wanted:
            (place / name).parent.mkdir(mode=0o700, exist_ok=True)
            backup_set.copy(source, place / name)
            done += source.stat().st_size
            if progress is not None:
                progress("copying", done, total)


def _erased(shared: SharedStore, named: Path | None, others: list[Path], least: int) -> list[Tombstone]:
    """What the lists say was erased, in any of them. One that was not named, and that this store's key does not prove,
    counts for nothing: it may be from before the store root was replaced.

    Raises ConfigurationError where there is none, RollbackError where they are too short, TamperedError.
    """
    found: dict[tuple[bytes, str, int], Tombstone] = {}
    read = 0
    for path in [named, *others]:
        if path is None or not path.exists():
            continue
        try:
            found.update((stone[:3], stone) for stone in shared.keyring.tombstones_at(path).read())
            read += 1
        except TamperedError as error:
            if path == named or (path == others[-1] and not read):
                raise TamperedError(str(error), hint=f"{error.hint}; or are the keys older than its store root?") from None
    if not read:
        raise ConfigurationError(
            "the list of what was erased since is not there, and without it erased data would come back",
            hint=f"it is the file `{TOMBSTONES}` beside the store's anchors: bring it back, or name it with --tombstones",
        )
    if len(found) < least:
        raise RollbackError(
            f"the list of what was erased is older than the backup: it has {len(found)} entries, and had {least}",
            hint=f"bring the newest copy of the file `{TOMBSTONES}` that was beside the store's anchors",
        )
    return list(found.values())


def _check_vaults(shared: SharedStore, sets: Sets, place: Path) -> tuple[str, ...]:
    """Take away the vaults of erased tenants; returns the tenants that are younger than the vaults.

    Raises RollbackError where there is a vault that keys.db does not know.
    """
    there = set(sets.vaults.vaults)
    if there - {vault.hex() for vault in shared.keyring.vaults()}:
        raise RollbackError("there is a vault that the keys do not know", hint="restore the newest set of keys there is")
    lost = []
    erased = set(there)
    for _, name, state, _ in shared.keyring.tenants():
        if state == "erased":
            continue
        keys = shared.keyring.tenant(name)
        assert keys is not None  # noqa: S101 - it was just listed
        if keys.vault.hex() not in there and state == "active":
            lost.append(name)
        erased.discard(keys.vault.hex())
        keys.zero()
    for vault in erased:
        (place / directory.VAULTS / f"{vault}.db").unlink(missing_ok=True)
    return tuple(lost)


def _check_head(tenant: Tenant, vaults: BackupSet) -> None:
    """Raise TamperedError where the ledger does not end where the manifest says."""
    stated = vaults.vaults[tenant.keys.vault.hex()]
    tail = tenant.vault.database.tail
    if (tenant.keys.uid.hex(), tail.size, tail.root.hex()) != (stated.tenant, stated.size, stated.root):
        raise TamperedError(
            f"tenant {tenant.keys.name!r}: the vault does not end where the backup says",
            hint="keep the backup for the investigation, and restore another one",
        )
