"""Keys that are replaced while the store is in use: the vaults', the store root, a person's.

A vault's new key is a version beside the old one, made before the file is written under it (`prepare_vault`); the old one
goes when it is (`settle_vault`). Whoever opens the vault in between tries both. An epoch turn wraps what the store root
wraps under a new root (`turn`), after keys.db itself was written under it. A person's new key is a version beside the old
one, and her sessions' keys move below it one by one: until all have, each opens under the version that it is below.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from secure_memory.errors import TamperedError
from secure_memory.keys.database import Connection
from secure_memory.keys.erasing import Erasing
from secure_memory.keys.key import Key
from secure_memory.keys.opened import TenantKeys
from secure_memory.keys.roots import file_key, tombstone_key
from secure_memory.keys.tombstones import TombstoneList


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

    def turn_file(self, new: Key) -> None:
        """Write keys.db under a key from the `new` store root, in one transaction; other processes find out."""
        self._database.rekey(file_key(new, self._store))
        self._database.truncate_wal()

    def turn_list(self, old: Key, new: Key) -> None:
        """Put the list of tombstones, where there is one, under the `new` store root, durably. Twice does no harm."""
        path = self._list
        if path is None or not path.exists():
            return
        try:
            TombstoneList(path, tombstone_key(new, self._store)).read()
        except TamperedError:
            TombstoneList(path, tombstone_key(old, self._store)).turn(tombstone_key(new, self._store))

    def reload(self) -> None:
        """Know the store roots that there are now."""
        self._other_keys()

    # ---- a person's keys ----------------------------------------------------------------------------------------

    def subject_keys(self, tenant: TenantKeys, subject: bytes) -> list[Key]:
        """The versions of a subject's key, the newest first."""
        with self._database.transaction(write=False) as db:
            return self._subject_keys(db, tenant, subject)

    def prepare_subject(self, tenant: TenantKeys, subject: bytes, name: bytes) -> int:
        """A new version of a subject's key, beside the old one, below which what is prepared from now on is; one that was
        prepared and not settled is taken. Returns its number."""
        with self._database.transaction(write=True) as db:
            query = "SELECT version FROM keys WHERE owner = ? AND purpose = 'subject' ORDER BY version DESC"
            versions: list[int] = [version for (version,) in db.execute(query, (subject,))]
            if len(versions) == 1:
                versions.insert(0, versions[0] + 1)
                self._insert(
                    db,
                    tenant.root,
                    subject,
                    "subject",
                    Key.random(),
                    tenant=tenant.uid,
                    subject=subject,
                    name=name,
                    version=versions[0],
                )
        return versions[0]

    def settle_subject(self, tenant: TenantKeys, subject: bytes, version: int, known: Collection[bytes]) -> bool:
        """Destroy the versions before this one; False, and nothing has happened, where the key of a session is still below
        one of them that the vault has. `known` are those: their uids.

        The key of one that the vault has not is destroyed, too: whoever is just beginning it is refused, and begins anew.
        """
        with self._database.transaction(write=True) as db:
            newest = self._subject_keys(db, tenant, subject)[0]
            query = "SELECT owner, version FROM keys WHERE subject = ? AND purpose = 'session'"
            left = [
                session
                for session, its in db.execute(query, (subject,)).fetchall()
                if not self._opens(db, newest, session, tenant=tenant.uid, subject=subject, version=its)
            ]
            if set(left) & set(known):
                return False
            for session in left:
                self._bury(db, session, "session")
            self._bury(db, subject, "subject", below=version)
            self._sessions.clear()
        self._database.truncate_wal()
        return True

    def _opens(self, db: Connection, parent: Key, session: bytes, *, tenant: bytes, subject: bytes, version: int) -> bool:
        try:
            self._open(db, parent, session, "session", tenant=tenant, subject=subject, version=version)
        except TamperedError:
            return False
        return True

    def _subject_keys(self, db: Connection, tenant: TenantKeys, subject: bytes) -> list[Key]:
        query = "SELECT version FROM keys WHERE owner = ? AND purpose = 'subject' ORDER BY version DESC"
        versions = [version for (version,) in db.execute(query, (subject,)).fetchall()] or [None]
        return [
            self._open(db, tenant.root, subject, "subject", tenant=tenant.uid, subject=subject, version=version)
            for version in versions
        ]

    # ---- how ----------------------------------------------------------------------------------------------------

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
