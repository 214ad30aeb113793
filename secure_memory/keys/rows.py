"""The rows of keys.db's table of keys: each wrapped under the key above it, and opened in its place only."""

from __future__ import annotations

from typing import Any

from secure_memory import clock
from secure_memory.errors import ConfigurationError, KeyDestroyedError, KeyNotFoundError, TamperedError, WrongKeyError
from secure_memory.keys.database import Connection
from secure_memory.keys.key import Key, context

_VERSION = 1


class KeyRows:
    """How a keyring of the store with this uid reads and writes its rows. Each method is called inside a transaction."""

    def __init__(self, store: bytes) -> None:
        self._store = store

    def _insert(
        self,
        db: Connection,
        parent: Key,
        owner: bytes,
        purpose: str,
        key: Key,
        *,
        tenant: bytes,
        subject: bytes | None = None,
        name: bytes | None = None,
        version: int = _VERSION,
    ) -> None:
        aad = self.wrap_context(owner, purpose, version, tenant, subject)
        wrapped = parent.wrap(key.bytes, aad)
        db.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (owner, purpose, version, tenant, subject, name, wrapped, clock.now()),
        )

    def _open(
        self,
        db: Connection,
        parent: Key,
        owner: bytes,
        purpose: str,
        *,
        tenant: bytes,
        subject: bytes | None = None,
        version: int | None = None,
    ) -> Key:
        row = db.execute(
            "SELECT version, wrapped FROM keys WHERE owner = ? AND purpose = ? AND version = coalesce(?, version)"
            " ORDER BY version DESC LIMIT 1",
            (owner, purpose, version),
        ).fetchone()
        if row is None:
            if self._tombstone(db, owner, purpose):
                raise KeyDestroyedError(f"the {purpose} key was destroyed", hint="what it sealed is gone, on purpose")
            raise KeyNotFoundError(
                f"the keyring has no {purpose} key of that owner", hint="restore keys.db from its newest backup"
            )
        try:
            return parent.unwrap(row[1], self.wrap_context(owner, purpose, row[0], tenant, subject))
        except (WrongKeyError, ConfigurationError):  # another key's, or none at all
            raise TamperedError(
                f"a {purpose} key does not open in its place in the keyring",
                hint="keep a copy of keys.db for the investigation, then restore it from its newest backup",
            ) from None

    def _tombstone(self, db: Connection, owner: bytes, purpose: str, version: int | None = None) -> bool:
        """Whether a key, or this version of it, was destroyed."""
        query = "SELECT 1 FROM tombstones WHERE owner = ? AND purpose = ? AND version = coalesce(?, version)"
        return db.execute(query, (owner, purpose, version)).fetchone() is not None

    def wrap_context(self, owner: bytes, purpose: str, version: int, tenant: bytes, subject: bytes | None) -> bytes:
        """The additional data that a key is wrapped with: everything that says which key it is."""
        return context("secmem/wrap/v1", self._store, tenant, subject or b"", owner, purpose, version)

    def _named(self, db: Connection, tenant: bytes, purpose: str, name: bytes) -> Any:
        return db.execute(
            "SELECT owner, version, subject, name FROM keys WHERE tenant = ? AND purpose = ? AND name = ?"
            " ORDER BY version DESC LIMIT 1",
            (tenant, purpose, name),
        ).fetchone()
