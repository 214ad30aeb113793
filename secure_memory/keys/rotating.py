"""Keys that are replaced while the store is in use: the vaults' and the store root.

A vault's new key is a version beside the old one, made before the file is written under it (`prepare_vault`); the old one
goes when it is (`settle_vault`). Whoever opens the vault in between tries both. An epoch turn wraps what the store root
wraps under a new root (`turn`), after keys.db itself was written under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secure_memory.keys.database import Connection
from secure_memory.keys.erasing import Erasing
from secure_memory.keys.key import Key


class Rotating(Erasing):
    """How a keyring replaces keys."""

    def vault_keys(self, tenant: bytes) -> list[tuple[int, Key]]:
        """The versions of a vault's key, the newest first."""
        with self._database.transaction(write=False) as db:
            return self._vault_keys(db, tenant)

    def prepare_vault(self, tenant: bytes) -> tuple[int, Key]:
        """The key that the vault's file is to get: one that was prepared and not yet settled, or a new one."""
        with self._database.transaction(write=True) as db:
            known = self._vault_keys(db, tenant)
            if len(known) > 1:
                return known[0]
            version, key = known[0][0] + 1, Key.random()
            self._insert(db, self._tenant_root(db, tenant), tenant, "vault", key, tenant=tenant, version=version)
        return version, key

    def settle_vault(self, tenant: bytes, version: int) -> int:
        """Destroy the versions before this one, which the file is under now; returns how many they were."""
        with self._database.transaction(write=True) as db:
            count = self._bury(db, tenant, "vault", below=version)
        self._database.truncate_wal()
        return count

    def turn(self, old: Sequence[Key], new: Key) -> int:
        """Wrap every tenant's root under the `new` store root, whichever of the `old` ones it is under; returns how many.

        In one transaction, and again without harm. Raises TamperedError where none opens one.
        """
        with self._database.transaction(write=True) as db:
            tenants = [uid for (uid,) in db.execute("SELECT owner FROM keys WHERE purpose = 'tenant'").fetchall()]
            for uid in tenants:
                root = self._under_root(db, [new, *old], uid)
                self._rewrap(db, new, root, uid)
        self._database.truncate_wal()
        return len(tenants)

    def _rewrap(self, db: Connection, parent: Key, root: Key, tenant: bytes) -> None:
        query = "SELECT version FROM keys WHERE owner = ? AND purpose = 'tenant' ORDER BY version DESC LIMIT 1"
        (version,) = db.execute(query, (tenant,)).fetchone()
        wrapped = parent.wrap(root.bytes, self.wrap_context(tenant, "tenant", version, tenant, None))
        values: tuple[Any, ...] = (wrapped, tenant, version)
        db.execute("UPDATE keys SET wrapped = ? WHERE owner = ? AND purpose = 'tenant' AND version = ?", values)

    def _vault_keys(self, db: Connection, tenant: bytes) -> list[tuple[int, Key]]:
        root = self._tenant_root(db, tenant)
        query = "SELECT version FROM keys WHERE owner = ? AND purpose = 'vault' ORDER BY version DESC"
        versions = [version for (version,) in db.execute(query, (tenant,)).fetchall()]
        return [(n, self._open(db, root, tenant, "vault", tenant=tenant, version=n)) for n in versions or [None]]
