"""A vault's control state: what it is, which policy governs it, which holds there are. Every entry carries its digest.

    tenant, vault   whose it is: their uids
    policy          which policy governs it: its number in the store (8 bytes) and its SHA-256
    policy_text     in the system vault only: that policy, as canonical JSON
    holds           SHA-256 over the rows of `holds`

Whoever edits a row can't write the entry that would have to say so: the newest entry's digest tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from secure_memory.keys.key import context


@dataclass(frozen=True, slots=True)
class Control:
    """The rows by name, and their digest (16 bytes, hex)."""

    rows: Mapping[str, bytes]
    digest: str

    @classmethod
    def of(cls, rows: Mapping[str, bytes]) -> Control:
        """The control state that has these rows."""
        parts = (part for name in sorted(rows) for part in (name, rows[name]))
        return cls(rows, sha256(context("secmem/control/v1", *parts)).digest()[:16].hex())

    @classmethod
    def read(cls, execute: Callable[..., Any]) -> Control:
        """What the table says, not yet checked against an entry."""
        return cls.of(dict(execute("SELECT name, value FROM control").fetchall()))

    def with_row(self, name: str, value: bytes) -> Control:
        """The state with one row written."""
        return Control.of({**self.rows, name: value})


UNKNOWN = Control({}, "")
"""What nobody has looked at yet."""
