"""Branch rows: found by the HMAC of their name inside their session, bound by a MAC.

A row outlives its branch, so that neither an id nor a name is used twice in a session. Whether a branch still is, and
where it ends, is said by the ledger.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag

from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key, context
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.vault.sessions import Naming, SessionRow

MAIN = "main"
"""The name of a session's first branch, as in the SDK."""


class BranchRow(NamedTuple):
    """A row of `branches`. `created` is in microseconds."""

    id: int
    session: int
    uid: bytes
    name: bytes
    sealed: bytes
    created: int
    mac: bytes


def row_mac(ledger_key: Key, session: bytes, row: BranchRow) -> bytes:
    """The MAC of a branch's row (32 bytes), under the tenant's ledger key. `session` is the session's uid."""
    parts = (session, row.id, row.uid, row.name, row.sealed, row.created)
    return hmac.digest(ledger_key.bytes, context("secmem/branch/v1", *parts), "sha256")


def check(ledger_key: Key, session: bytes, row: BranchRow) -> None:
    """Raise TamperedError where the row is not what this vault wrote."""
    try:
        ours = hmac.compare_digest(row_mac(ledger_key, session, row), row.mac)
    except ValueError:  # a number that no row has
        ours = False
    if not ours:
        raise TamperedError("a branch's row was edited or moved", hint=VERIFY_HINT)


def name_mac(names: Naming, session: bytes, name: str) -> bytes:
    """What a branch is found by: the HMAC of its name in its session."""
    return names.name_mac(f"branch of {session.hex()}", name)


def state_mac(names: Naming, session: bytes) -> bytes:
    """What the branch is found by that keeps a session's paused run: a name that no branch can be given."""
    return names.name_mac(f"run state of {session.hex()}", "")


def withheld_mac(names: Naming, session: bytes) -> bytes:
    """What the branch is found by that has what is withheld of a session: a name that no branch can be given."""
    return names.name_mac(f"withheld of {session.hex()}", "")


def hidden(names: Naming, session: bytes) -> tuple[bytes, bytes]:
    """What the branches of a session are found by that are no part of its conversation."""
    return state_mac(names, session), withheld_mac(names, session)


def next_id(execute: Callable[..., Any]) -> int:
    """The id of the next branch of the vault."""
    found: int = execute("SELECT coalesce(max(id), 0) + 1 FROM branches").fetchone()[0]
    return found


def insert(execute: Callable[..., Any], ledger_key: Key, session: SessionRow, row: BranchRow) -> None:
    """Insert a branch. Raises ValueError where its session has had one of that name."""
    if find(execute, session.id, row.name) is not None:
        raise ValueError("a branch of that name has already been used in this session: choose another name")
    made = row._replace(mac=row_mac(ledger_key, session.uid, row))
    execute("INSERT INTO branches VALUES (?, ?, ?, ?, ?, ?, ?)", made)


def rename(execute: Callable[..., Any], ledger_key: Key, session: SessionRow, row: BranchRow, sealed: bytes) -> None:
    """Write the branch's name sealed anew; what it is found by stays."""
    new = row._replace(sealed=sealed)
    execute("UPDATE branches SET sealed = ?, mac = ? WHERE id = ?", (sealed, row_mac(ledger_key, session.uid, new), row.id))


def find(execute: Callable[..., Any], session: int, name: bytes) -> BranchRow | None:
    """The branch of the session whose name has this HMAC, not yet checked."""
    found = execute("SELECT * FROM branches WHERE session = ? AND name = ?", (session, name)).fetchone()
    return None if found is None else BranchRow(*found)


def by_id(execute: Callable[..., Any], row_id: int) -> BranchRow | None:
    """The branch with this id, not yet checked."""
    found = execute("SELECT * FROM branches WHERE id = ?", (row_id,)).fetchone()
    return None if found is None else BranchRow(*found)


def of_session(execute: Callable[..., Any], session: int) -> list[BranchRow]:
    """All branches that a session ever had, the oldest first, not yet checked."""
    return [BranchRow(*found) for found in execute("SELECT * FROM branches WHERE session = ? ORDER BY id", (session,))]


def seal_name(subject_key: Key, uid: bytes, name: str) -> bytes:
    """A branch's name, sealed under its subject's key."""
    nonce = os.urandom(12)
    return nonce + subject_key.aead.encrypt(
        nonce, name.encode("utf-8", "surrogatepass"), context("secmem/branch-name/v1", uid)
    )


def open_name(subject_key: Key, row: BranchRow) -> str:
    """A branch's name. Raises TamperedError."""
    try:
        found = subject_key.aead.decrypt(row.sealed[:12], row.sealed[12:], context("secmem/branch-name/v1", row.uid))
    except (InvalidTag, ValueError):  # or too short for a nonce
        raise TamperedError("a branch's name does not open in its place", hint=VERIFY_HINT) from None
    return found.decode("utf-8", "surrogatepass")
