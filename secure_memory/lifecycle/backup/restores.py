"""Restoring a store, and checking a backup by restoring it to a place that is thrown away.

1. Nobody uses the place: no process has the store open, and what is there is this store, or nothing.
2. The store is put together beside it (`assembling`), with everything erased that was erased since.
3. It is compared with what its anchors know. Where they know more, the restore is a rollback, which has to be declared.
4. Every ledger gets a `store.restore` entry, which names the heads that it supersedes.
5. Everything is checked, as `secmem audit verify` does.
6. What is there is put aside, the restored store takes its place, and the anchors begin again at its heads.

A restore that is killed before (6) has changed nothing. In the midst of (6) it leaves a store that its anchors don't know,
which nobody can open: restore it again. `SecureStore` has its methods from `Restores`.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from secure_memory.actor import Actor, as_actor, program, resolve
from secure_memory.errors import StorageError
from secure_memory.keys.local import FileKeyProvider, check_not_inside, find_provider
from secure_memory.keys.tombstones import FILE as TOMBSTONES
from secure_memory.ledger.anchor import Anchor, default_directory
from secure_memory.ledger.merkle import Head
from secure_memory.lifecycle.backup import backup_set, replacing
from secure_memory.lifecycle.backup.assembling import Progress, assemble, find
from secure_memory.lifecycle.backup.reviving import RestoredVault, Reviving
from secure_memory.registry import KeySource

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What was restored, or could be where `store` is None: a backup that was checked. Times are those of the sets, in
    microseconds. `destroyed` keys had been erased since; `replaced` is where the store is now that was there."""

    store: str | None
    uid: str
    vaults_of: int
    keys_of: int
    destroyed: int
    vaults: tuple[RestoredVault, ...]
    replaced: str | None = None

    @property
    def rollback(self) -> bool:
        """Whether more was known than is there now."""
        return any(vault.superseded is not None or vault.anew for vault in self.vaults)


class Restores:
    """The methods of a store that bring it back. `SecureStore` has the rest."""

    @classmethod
    def restore(
        cls,
        directory: PathLike,
        path: PathLike,
        *,
        keys_in: PathLike | None = None,
        keys: KeySource = None,
        anchor: PathLike | None = None,
        tombstones: PathLike | None = None,
        accept_rollback: bool = False,
        reason: str | None = None,
        keep_replaced: bool = True,
        actor: Actor | str | None = None,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Put the store at `path` together from a backup. `directory` is a set of vaults, or has such sets, and the newest
        counts; `keys_in` is the same for keys, which are beside the vaults if it is left out. `keys` and `anchor` are as for
        `open`; `tombstones` is the list of what was erased since, where it is not beside the anchors.

        Where the anchors know more than the backup has, the restore is a rollback, and refused unless `accept_rollback` says
        that it is meant, with a `reason`. Each ledger says so in a `store.restore` entry, on disk before the store is in its
        place. What was there stays beside it, or is deleted at the end where `keep_replaced` is false.
        `progress(what, done, all)` is called now and then.

        Raises RollbackError, TamperedError for a backup that is damaged, ConfigurationError, StoreBusyError where a process
        has the store open, KeyManagementError, AccessDeniedError by the restored store's policy, DiskFullError.
        """
        who = _declared(actor, accept_rollback, reason)
        place = Path(path).expanduser().absolute()
        anchors = default_directory() if anchor is None else Path(anchor)
        provider = find_provider(keys)
        if isinstance(provider, FileKeyProvider):
            check_not_inside(provider.path, place)
        sets = find(_path(directory), None if keys_in is None else _path(keys_in))
        uid = bytes.fromhex(sets.keys.store)
        own = _list_beside(anchors, uid, place)
        lists = (own if own.exists() else None) if tombstones is None else _path(tombstones), _lists(anchors, uid)
        with replacing.alone(place, sets) as occupied, backup_set.being_written(*replacing.workshop(place)) as beside:  # (1)
            made = assemble(sets, beside, provider, lists, progress)  # (2)
            try:
                reviving = Reviving(made, lambda vault: Anchor(anchors, uid, place, vault), who)
                done = reviving.run(accept=accept_rollback, progress=progress)  # (3) (4) (5)
                heads = reviving.heads()
                made.shared.keyring.tombstones_at(own).append(made.stones)
            finally:
                made.shared.abandon()
            aside = replacing.swap(beside, place, occupied)  # (6)
            _begin_anchors({vault: Anchor(anchors, uid, place, vault) for vault in heads}, heads)
        if aside is not None and not keep_replaced:
            replacing.discard(aside)
            aside = None
        replaced = None if aside is None else str(aside)
        return RestoreReport(str(place), uid.hex(), sets.vaults.created, sets.keys.created, made.destroyed, done, replaced)

    @classmethod
    def backup_verify(
        cls,
        directory: PathLike,
        *,
        keys_in: PathLike | None = None,
        keys: KeySource = None,
        anchor: PathLike | None = None,
        tombstones: PathLike | None = None,
        progress: Progress | None = None,
    ) -> RestoreReport:
        """Check a backup by restoring it to a place for temporary files (TMPDIR), where everything is checked and then
        deleted. Parameters and errors are those of `restore`; no store need be there, and the backup is only read."""
        provider = find_provider(keys)
        sets = find(_path(directory), None if keys_in is None else _path(keys_in))
        uid = bytes.fromhex(sets.keys.store)
        anchors = default_directory() if anchor is None else Path(anchor)
        lists = None if tombstones is None else _path(tombstones), _lists(anchors, uid)
        with (
            backup_set.told("check the backup in the place for temporary files (TMPDIR)"),
            tempfile.TemporaryDirectory(prefix="secmem-") as scratch,
        ):
            made = assemble(sets, Path(scratch), provider, lists, progress)
            try:
                done = Reviving(made, None, None).run(accept=True, progress=progress)
            finally:
                made.shared.abandon()
        return RestoreReport(None, uid.hex(), sets.vaults.created, sets.keys.created, made.destroyed, done)


def _path(path: PathLike) -> Path:
    return Path(path).expanduser()


def _declared(actor: Actor | str | None, accept_rollback: bool, reason: str | None) -> Actor:
    """Who restores, with the reason. Raises ValueError where a rollback is accepted for none."""
    who = resolve(None, None, None if actor is None else as_actor(actor)) or program()
    if reason is not None:
        who = replace(who, reason=reason)
    if accept_rollback and who.reason is None:
        raise ValueError("accepting a rollback needs a reason")
    return who


def _lists(anchors: Path, uid: bytes) -> list[Path]:
    """Where the store's list of erased keys may be: beside its anchors, wherever it has been."""
    return [place / TOMBSTONES for place in sorted(anchors.glob(f"{uid.hex()}-*"))]


def _list_beside(anchors: Path, uid: bytes, place: Path) -> Path:
    return Anchor(anchors, uid, place, uid).path.with_name(TOMBSTONES)


def _begin_anchors(anchors: dict[bytes, Anchor], heads: dict[bytes, Head]) -> None:
    for vault, anchor in anchors.items():
        try:
            anchor.reset(heads[vault])
        except OSError as error:
            raise StorageError(
                f"the store is restored, but its anchors can't be begun anew: {(error.strerror or 'unknown error').lower()}",
                hint=f"check the directory {anchor.path.parent}, then restore again: until then the store can't be opened",
            ) from None
        finally:
            anchor.close()
