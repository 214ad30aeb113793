"""Destroying keys: rows go, tombstones stay, the WAL is truncated; what an erasure destroys is listed beside the anchors.

1. In one transaction the keys that are to go are found and listed, durably: what is destroyed is never unlisted, and where
   the list can't be written nothing is destroyed.
2. The same transaction deletes their rows and leaves a tombstone for each.
3. Nothing of the rows is left in the WAL.

Each step may be done again: whoever died in between is finished by running the erasure once more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from secure_memory import clock
from secure_memory.errors import KeyNotFoundError
from secure_memory.keys.database import Connection
from secure_memory.keys.opened import SessionKeys
from secure_memory.keys.roots import Roots
from secure_memory.keys.tombstones import Tombstone


class Erased(NamedTuple):
    """What an erasure destroyed, and how long the list beside the anchors is (0: there is none)."""

    tombstones: list[Tombstone]
    listed: int


class Held(NamedTuple):
    """A key's row: whose it is, for what, its version; and its wrapped bytes, to search for once it is destroyed."""

    owner: bytes
    purpose: str
    version: int
    wrapped: bytes


class Erasing(Roots):
    """How a keyring destroys."""

    _sessions: OrderedDict[tuple[bytes, bytes], SessionKeys]

    def file_key(self) -> bytes:
        """The key of keys.db itself, for a search of its pages (see `vault.pages`)."""
        return self._database.key.bytes

    def held(self, *, subject: bytes | None = None, session: bytes | None = None, tenant: bytes | None = None) -> list[Held]:
        """The keys of a subject and its sessions, of a session, or of a tenant: those that `erase` would destroy."""
        with self._database.transaction(write=False) as db:
            return _held(db, subject, session, tenant, None)

    def stands(self, owner: bytes, purpose: str, version: int) -> bool:
        """Whether that version of a key is there."""
        query = "SELECT 1 FROM keys WHERE owner = ? AND purpose = ? AND version = ?"
        with self._database.transaction(write=False) as db:
            return db.execute(query, (owner, purpose, version)).fetchone() is not None

    def erase(
        self,
        *,
        subject: bytes | None = None,
        session: bytes | None = None,
        tenant: bytes | None = None,
        below: int | None = None,
    ) -> Erased:
        """Destroy for good the key of a subject with every session's key below it; or a session's key, its versions before
        `below` where that is given; or every key of a tenant.

        Raises StorageError or TamperedError where the list can't be written, and nothing is destroyed then; StoreBusyError
        where another process keeps the WAL.
        """
        listed = 0
        with self._database.transaction(write=True) as db:
            now = clock.now()
            doomed = _held(db, subject, session, tenant, below)
            stones = [Tombstone(key.owner, key.purpose, key.version, now) for key in doomed]
            tombstones = self._tombstones()
            if tombstones is not None:
                listed = tombstones.append(stones)  # (1)
            for stone in stones:  # (2)
                db.execute("INSERT INTO tombstones VALUES (?, ?, ?, ?)", stone)
                db.execute("DELETE FROM keys WHERE owner = ? AND purpose = ? AND version = ?", stone[:3])
            if tenant is not None:
                db.execute("UPDATE tenants SET state = 'erased' WHERE uid = ?", (tenant,))
            self._sessions.clear()
        self._database.truncate_wal()  # (3)
        return Erased(stones, listed)

    def buried(self, owners: Iterable[bytes]) -> list[Tombstone]:
        """The tombstones of the keys of these owners."""
        query = "SELECT owner, purpose, version, destroyed FROM tombstones WHERE owner = ? ORDER BY purpose, version"
        with self._database.transaction(write=False) as db:
            return [Tombstone(*row) for owner in owners for row in db.execute(query, (owner,))]

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


def _held(
    db: Connection, subject: bytes | None, session: bytes | None, tenant: bytes | None, below: int | None
) -> list[Held]:
    query = (
        "SELECT owner, purpose, version, wrapped FROM keys WHERE subject = ? OR (owner = ? AND purpose = 'session' AND"
        " version < coalesce(?, version + 1)) OR tenant = ? ORDER BY owner, purpose, version"
    )
    return [Held(*row) for row in db.execute(query, (subject, session, below, tenant))]
