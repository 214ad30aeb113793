"""The store root, as the keyring has it: what opens keys.db, wraps the tenants' roots, and MACs the tombstones.

There is one, but for an epoch turn: another process may have drawn a new one since, or died while it did. Then keys.db does
not open any more, the roots are asked for again, and what is under the old one is still found.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from pathlib import Path

from secure_memory.errors import TamperedError
from secure_memory.keys.database import Connection, KeysDatabase
from secure_memory.keys.key import Key, context
from secure_memory.keys.rows import KeyRows
from secure_memory.keys.tombstones import TombstoneList

Ask = Callable[[], Sequence[Key]]
"""What gives the store roots that there are, the newest first."""


class Roots(KeyRows):
    """How a keyring uses the store root."""

    _database: KeysDatabase

    def __init__(self, store: bytes, root: Key, tombstones: Path | None, ask: Ask | None) -> None:
        """`tombstones` is the path of the list beside the anchors, `ask` what is asked when keys.db no longer opens."""
        super().__init__(store)
        self._roots = [root]
        self._list = tombstones
        self._ask = ask

    @property
    def _root(self) -> Key:
        """The newest, which wraps what is new."""
        return self._roots[0]

    @property
    def tombstones(self) -> TombstoneList | None:
        """The list beside the anchors; None for a store in memory."""
        with self._database.transaction(write=False):
            pass  # where another process turned the epoch, this finds it
        return self._tombstones()

    def tombstones_at(self, path: Path) -> TombstoneList:
        """The list at that path, as this store reads it."""
        lists = [TombstoneList(path, tombstone_key(root, self._store)) for root in self._roots]
        for one in lists[:-1]:
            try:
                one.read()
            except TamperedError:
                continue
            return one
        return lists[-1]

    def _tombstones(self) -> TombstoneList | None:
        return None if self._list is None else self.tombstones_at(self._list)

    def _tenant_root(self, db: Connection, tenant: bytes) -> Key:
        return self._under_root(db, self._roots, tenant)

    def _under_root(self, db: Connection, roots: Sequence[Key], tenant: bytes) -> Key:
        """A tenant's root, under whichever of these it is wrapped. Raises TamperedError, KeyDestroyedError."""
        for root in roots[:-1]:
            try:
                return self._open(db, root, tenant, "tenant", tenant=tenant)
            except TamperedError:
                continue
        return self._open(db, roots[-1], tenant, "tenant", tenant=tenant)

    def _other_keys(self) -> Sequence[Key]:
        """The keys that keys.db may be under now, after the roots were asked for again."""
        if self._ask is None:
            return []
        self._roots = list(self._ask())
        return [file_key(root, self._store) for root in self._roots]


def file_key(root: Key, store: bytes) -> Key:
    """The key of keys.db. The salt of the file need only differ between databases."""
    return Key(hmac.digest(root.bytes, context("secmem/keys.db/v1", store), "sha256"))


def tombstone_key(root: Key, store: bytes) -> Key:
    """What the MACs of the list of tombstones are under."""
    return Key(hmac.digest(root.bytes, context("secmem/tombstones/v1", store), "sha256"))
