"""Destroying keys: rows go, tombstones stay, the WAL is truncated; what an erasure destroys is listed beside the anchors.

1. The list can be written: asked before anything is destroyed.
2. One transaction deletes the rows and leaves a tombstone for each.
3. The list has them, durably.
4. Nothing of the rows is left in the WAL.

Each step may be done again: whoever died in between is finished by running the erasure once more.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from secure_memory import clock
from secure_memory.errors import KeyNotFoundError
from secure_memory.keys.database import Connection, KeysDatabase
from secure_memory.keys.key import Key, context
from secure_memory.keys.opened import SessionKeys
from secure_memory.keys.rows import KeyRows
from secure_memory.keys.tombstones import Tombstone, TombstoneList

KeyName = tuple[bytes, str]
"""A key by its owner's uid and its purpose."""


class Erased(NamedTuple):
    """What an erasure destroyed, now or when it was begun; how long the list beside the anchors is (0: there is none)."""

    tombstones: list[Tombstone]
    listed: int


class Erasing(KeyRows):
    """How a keyring destroys. `tombstones` is the list beside the anchors, None for a store in memory."""

    _root: Key
    _database: KeysDatabase
    _sessions: OrderedDict[tuple[bytes, bytes], SessionKeys]
    tombstones: TombstoneList | None

    def tombstone_key(self) -> Key:
        """What the list's MACs are under: it comes from the store root."""
        return Key(hmac.digest(self._root.bytes, context("secmem/tombstones/v1", self._store), "sha256"))

    def tombstones_at(self, path: Path) -> TombstoneList:
        """The list at that path, as this store reads it."""
        return TombstoneList(path, self.tombstone_key())

    def owned(self, tenant: bytes, subject: bytes) -> list[KeyName]:
        """The key of a subject and those of its sessions, by keys.db: sessions that the vault has not come to know, too."""
        query = "SELECT DISTINCT owner, purpose FROM keys WHERE tenant = ? AND subject = ?"
        with self._database.transaction(write=False) as db:
            return [(owner, purpose) for owner, purpose in db.execute(query, (tenant, subject))]

    def owned_by_tenant(self, tenant: bytes) -> list[KeyName]:
        """Every key of a tenant."""
        with self._database.transaction(write=False) as db:
            found = db.execute("SELECT DISTINCT owner, purpose FROM keys WHERE tenant = ?", (tenant,))
            return [(owner, purpose) for owner, purpose in found]

    def stands(self, owner: bytes, purpose: str, version: int) -> bool:
        """Whether that version of a key is there."""
        query = "SELECT 1 FROM keys WHERE owner = ? AND purpose = ? AND version = ?"
        with self._database.transaction(write=False) as db:
            return db.execute(query, (owner, purpose, version)).fetchone() is not None

    def erase(self, names: Sequence[KeyName], *, tenant: bytes | None = None) -> Erased:
        """Destroy every version of these keys for good; `tenant` is the tenant that goes with them, if one does.

        Raises StorageError or TamperedError where the list can't be written, before anything is destroyed, and
        StoreBusyError where another process keeps the WAL.
        """
        if self.tombstones is not None:
            self.tombstones.append([])  # (1)
        with self._database.transaction(write=True) as db:  # (2)
            for owner, purpose in names:
                self._bury(db, owner, purpose)
            if tenant is not None:
                db.execute("UPDATE tenants SET state = 'erased' WHERE uid = ?", (tenant,))
            stones = [stone for name in names for stone in _tombstones(db, *name)]
            self._sessions.clear()
        listed = 0 if self.tombstones is None else self.tombstones.append(stones)  # (3)
        self._database.truncate_wal()  # (4)
        return Erased(stones, listed)

    def replay(self, stones: Iterable[Tombstone]) -> int:
        """Destroy what the list says was destroyed, as after a restore; returns how many keys that were there."""
        count = 0
        with self._database.transaction(write=True) as db:
            for owner, purpose, version, destroyed in stones:
                db.execute("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)", (owner, purpose, version, destroyed))
                one = (owner, purpose, version)
                count += db.execute("DELETE FROM keys WHERE owner = ? AND purpose = ? AND version = ?", one).rowcount
                if purpose == "tenant":
                    db.execute("UPDATE tenants SET state = 'erased' WHERE uid = ?", (owner,))
            self._sessions.clear()
        self._database.truncate_wal()
        return count

    def destroy(self, owner: bytes, purpose: str) -> int:
        """Destroy every version of one key, which is nobody's erasure; returns how many versions there were.

        Raises KeyNotFoundError where there never was one. Destroying twice destroys once.
        """
        with self._database.transaction(write=True) as db:
            count = self._bury(db, owner, purpose)
            if not count and not self._tombstone(db, owner, purpose):
                raise KeyNotFoundError(f"there is no {purpose} key of that owner to destroy")
            self._sessions.clear()
        self._database.truncate_wal()
        return count

    def _bury(self, db: Connection, owner: bytes, purpose: str, below: int | None = None) -> int:
        """Delete the versions of a key, those before `below` where it is given, and leave tombstones; returns how many."""
        one = "owner = ? AND purpose = ? AND version < coalesce(?, 9223372036854775807)"
        which = (owner, purpose, below)
        now = clock.now()
        db.execute(f"INSERT INTO tombstones SELECT owner, purpose, version, ? FROM keys WHERE {one}", (now, *which))  # noqa: S608
        count: int = db.execute(f"DELETE FROM keys WHERE {one}", which).rowcount  # noqa: S608 - our own words
        return count


def _tombstones(db: Connection, owner: bytes, purpose: str) -> list[Tombstone]:
    query = "SELECT owner, purpose, version, destroyed FROM tombstones WHERE owner = ? AND purpose = ? ORDER BY version"
    return [Tombstone(*row) for row in db.execute(query, (owner, purpose))]
