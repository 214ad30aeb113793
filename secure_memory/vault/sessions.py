"""Session rows: found by the HMAC of their name, bound by a MAC.

The MAC binds (tenant, name, session uid, subject uid, main branch, key version), so that no two sessions can be swapped
and none renamed. What a session and its subject are called, and what was said of it since, is sealed under the subject's
key and goes with it. Each change of a row is an entry with the row's `digest`, so that an older copy of it, whose MAC is
right too, is found by the whole check.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import orjson
from cryptography.exceptions import InvalidTag

from secure_memory import clock
from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key, context
from secure_memory.ledger.ledger import VERIFY_HINT


class SessionRow(NamedTuple):
    """A row of `sessions`. `branch` is the id of the main branch, `created` is in microseconds."""

    id: int
    uid: bytes
    name: bytes
    subject: bytes
    branch: int
    key_version: int
    created: int
    sealed: bytes
    mac: bytes


class Naming(Protocol):
    """Whoever can turn a name into what it is found by: a tenant's keys."""

    def name_mac(self, kind: str, name: str) -> bytes:
        """The HMAC of a name of that kind (32 bytes)."""
        ...


class Names(NamedTuple):
    """What a session and its subject are called, what it is tagged with and what the program noted of it, and when it
    ended (microseconds; None where it has not) and why."""

    session: str
    subject: str
    tags: Mapping[str, str] = MappingProxyType({})
    metadata: Mapping[str, Any] = MappingProxyType({})
    ended: int | None = None
    reason: str | None = None


def row_mac(ledger_key: Key, tenant: bytes, row: SessionRow) -> bytes:
    """The MAC of a session's row (32 bytes), under the tenant's ledger key."""
    parts = (tenant, row.name, row.uid, row.subject, row.branch, row.key_version, row.created, row.sealed)
    return hmac.digest(ledger_key.bytes, context("secmem/session/v1", *parts), "sha256")


def check(ledger_key: Key, tenant: bytes, row: SessionRow) -> None:
    """Raise TamperedError where the row is not what this vault wrote."""
    try:
        ours = hmac.compare_digest(row_mac(ledger_key, tenant, row), row.mac)
    except ValueError:  # a number that no row has
        ours = False
    if not ours:
        raise TamperedError("a session's row was edited or moved", hint=VERIFY_HINT)


def find(execute: Callable[..., Any], name: bytes) -> SessionRow | None:
    """The row of the session whose name has this HMAC, not yet checked."""
    found = execute("SELECT * FROM sessions WHERE name = ?", (name,)).fetchone()
    return None if found is None else SessionRow(*found)


def by_id(execute: Callable[..., Any], row_id: int) -> SessionRow | None:
    """The row with this id, not yet checked."""
    found = execute("SELECT * FROM sessions WHERE id = ?", (row_id,)).fetchone()
    return None if found is None else SessionRow(*found)


def unchanged(execute: Callable[..., Any], row: SessionRow) -> bool:
    """Whether the row that was read and checked before is still there: its MAC binds all of it."""
    found = execute("SELECT mac FROM sessions WHERE id = ?", (row.id,)).fetchone()
    return found is not None and bool(found[0] == row.mac)


def rows(execute: Callable[..., Any]) -> Iterator[SessionRow]:
    """All rows in order of creation, not yet checked."""
    for found in execute("SELECT * FROM sessions ORDER BY id"):
        yield SessionRow(*found)


def insert(
    execute: Callable[..., Any],
    ledger_key: Key,
    tenant: bytes,
    *,
    uid: bytes,
    name: bytes,
    subject: bytes,
    branch: int,
    key_version: int,
    sealed: bytes,
    created: int | None = None,
) -> SessionRow:
    """Insert a session whose main branch will be `branch`; returns the row. It was `created` now, or before."""
    row_id = execute("SELECT coalesce(max(id), 0) + 1 FROM sessions").fetchone()[0]
    began = clock.now() if created is None else created
    row = SessionRow(row_id, uid, name, subject, branch, key_version, began, sealed, b"")
    row = row._replace(mac=row_mac(ledger_key, tenant, row))
    execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    return row


def update(execute: Callable[..., Any], ledger_key: Key, tenant: bytes, row: SessionRow) -> SessionRow:
    """Write what of a row can change: its subject, its key's version, what is sealed. Returns it under its MAC."""
    row = row._replace(mac=row_mac(ledger_key, tenant, row))
    values = row.subject, row.key_version, row.sealed, row.mac, row.id
    execute("UPDATE sessions SET subject = ?, key_version = ?, sealed = ?, mac = ? WHERE id = ?", values)
    return row


def digest(row: SessionRow) -> str:
    """What an entry says of the row that it changed (16 bytes, hex): the MAC binds all of it."""
    return row.mac[:16].hex()


def was_created(execute: Callable[..., Any], uid: bytes) -> bool:
    """Whether the ledger knows that a session was begun. Reads the ledger's writes: for the rare case only."""
    query = "SELECT 1 FROM ledger WHERE branch IS NOT NULL AND instr(entry, CAST(? AS BLOB)) > 0 LIMIT 1"
    return execute(query, (f'"session":"{uid.hex()}"',)).fetchone() is not None


def seal_names(subject_key: Key, tenant: bytes, session: bytes, names: Names) -> bytes:
    """The names of a session, sealed under the subject's key for this session. What was not said stands not there."""
    nonce = os.urandom(12)
    said = {**names._asdict(), "tags": dict(names.tags), "metadata": dict(names.metadata)}
    data = orjson.dumps({key: value for key, value in said.items() if value not in ({}, None)})
    return nonce + subject_key.aead.encrypt(nonce, data, context("secmem/names/v1", tenant, session))


def open_names(subject_key: Key, tenant: bytes, row: SessionRow) -> Names:
    """The names of a session. Raises TamperedError."""
    try:
        aad = context("secmem/names/v1", tenant, row.uid)
        found = orjson.loads(subject_key.aead.decrypt(row.sealed[:12], row.sealed[12:], aad))
    except (InvalidTag, ValueError):  # or too short for a nonce
        raise TamperedError("a session's names do not open in their place", hint=VERIFY_HINT) from None
    return Names(**found)
