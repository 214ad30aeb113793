"""keys.db copied while it is in use: what a backup's set of keys is made of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from secure_memory.keys.database import KeysDatabase, Progress
from secure_memory.keys.rows import KeyRows


class KeysCopied(NamedTuple):
    """What is in a copy of keys.db: the vaults of the tenants that are active, and those of the tenants of which a key was
    replaced at the time asked for or later: a copy of such a vault from before may be sealed with the key before."""

    active: set[bytes]
    replaced: set[bytes]


class Copying(KeyRows):
    """How a keyring is copied."""

    _database: KeysDatabase

    def copy_to(self, path: Path, since: int, progress: Progress | None = None) -> KeysCopied:
        """Copy keys.db as it is now to a new file, under the same key. `since` is in microseconds.

        Raises StorageError, TamperedError for a damaged page.
        """
        with self._database.transaction(write=False) as db:
            active = db.execute("SELECT vault FROM tenants WHERE state = 'active'").fetchall()
            replaced = db.execute(
                "SELECT DISTINCT vault FROM tombstones JOIN keys USING (owner, purpose)"
                " JOIN tenants ON tenants.uid = keys.tenant WHERE destroyed >= ?",
                (since,),
            ).fetchall()
            self._database.copy_to(db, path, progress)
        return KeysCopied({vault for (vault,) in active}, {vault for (vault,) in replaced})
