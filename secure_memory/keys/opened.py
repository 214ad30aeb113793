"""Keys as they are held open: a tenant's, a session's."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from secure_memory.keys.key import Key, context


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """A tenant and its opened keys. `uid` and `vault` are 16 bytes, `created` is in microseconds."""

    uid: bytes
    name: str
    vault: bytes
    state: str
    created: int
    root: Key
    vault_key: Key
    ledger: Key
    pseudonym: Key

    def name_mac(self, kind: str, name: str) -> bytes:
        """What a subject's or a session's name is found by (32 bytes)."""
        return hmac.digest(self.pseudonym.bytes, context("secmem/name/v1", kind, name), "sha256")

    def zero(self) -> None:
        """Overwrite the keys."""
        for key in (self.root, self.vault_key, self.ledger, self.pseudonym):
            key.zero()


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """A session's opened key and its subject's, with their uids (16 bytes each)."""

    uid: bytes
    subject: bytes
    subject_name: bytes
    version: int
    key: Key
    subject_key: Key
