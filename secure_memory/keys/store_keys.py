"""The store's own keys: what signs certificates and checkpoints, what archives are under, what plans are MACed with.

They are rows of keys.db under the system tenant, made at first use, so that a backup of the keyring has them and an epoch
turn takes them along.
"""

from __future__ import annotations

from secure_memory.errors import KeyNotFoundError
from secure_memory.keys.database import Connection
from secure_memory.keys.key import Key
from secure_memory.keys.roots import Roots

SYSTEM_TENANT = "(system)"
"""The system vault's place in the keyring: no tenant's name may begin like it."""
PURPOSES = ("signing", "archive", "plan", "backup")
"""`signing`: the seed of an Ed25519 key (RFC 8032). `archive`: archives of ledgers and items. `plan`: MACs of purge plans.
`backup`: MACs of what backups hold."""


class StoreKeys(Roots):
    """How a keyring keeps the store's own keys."""

    def store_key(self, purpose: str) -> Key:
        """The store's key for that purpose, made where there is none. Raises ValueError for a purpose that no store has."""
        if purpose not in PURPOSES:
            raise ValueError(f"a store has no {purpose!r} key, but {', '.join(PURPOSES)}")
        with self._database.transaction(write=False) as db:
            found = self._store_key(db, purpose)
        if found is not None:
            return found
        with self._database.transaction(write=True) as db:
            if self._store_key(db, purpose) is None:  # another process may have been first
                uid, root = self._system(db)
                self._insert(db, root, uid, purpose, Key.random(), tenant=uid)
        with self._database.transaction(write=False) as db:  # only now that it is on disk
            made = self._store_key(db, purpose)
        if made is None:
            raise KeyNotFoundError(f"the store's {purpose} key vanished while it was made")
        return made

    def _store_key(self, db: Connection, purpose: str) -> Key | None:
        uid, root = self._system(db)
        query = "SELECT 1 FROM keys WHERE owner = ? AND purpose = ?"
        if db.execute(query, (uid, purpose)).fetchone() is None:
            return None
        return self._open(db, root, uid, purpose, tenant=uid)

    def _system(self, db: Connection) -> tuple[bytes, Key]:
        row = db.execute("SELECT uid FROM tenants WHERE name = ?", (SYSTEM_TENANT,)).fetchone()
        if row is None:
            raise KeyNotFoundError("the keyring does not know the system vault", hint="restore keys.db from its backup")
        return row[0], self._tenant_root(db, row[0])
