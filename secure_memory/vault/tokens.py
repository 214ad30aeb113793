"""What tokens stand for: the originals, each sealed under the key of the subject whose it is.

- A token names its row. It is an HMAC under a key that comes from the subject's, so that nobody without that key can tell
  what a token stands for, or make one up that stands for something (`secret_of`).
- Destroying the subject's key kills every token of theirs, in backups too.
- A session that is assigned to another subject takes its tokens along: each has a row for each subject whose it is.

Called inside transactions of a vault.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import InvalidTag

from secure_memory import clock
from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key, context
from secure_memory.ledger.ledger import VERIFY_HINT

_TOKEN = re.compile(rb"[A-Z][A-Z0-9_]{1,59}_[a-z2-7]{16}")  # `redaction.operators.keyed` writes them so


class Original(NamedTuple):
    """A token, the entity that it stands for, and the text that was there."""

    token: str
    entity: str
    text: str

    def __repr__(self) -> str:
        return f"Original({self.token!r}, {self.entity!r})"


class TokenRow(NamedTuple):
    """A row of `tokens`. `subject` is a uid, `created` is in microseconds."""

    token: str
    subject: bytes
    created: int
    sealed: bytes


def secret_of(subject_key: Key) -> Callable[[bytes], bytes]:
    """The HMAC that makes a subject's tokens: under a key of its own, which the subject's key gives."""
    key = hmac.digest(subject_key.bytes, b"secmem/token-key/v1", "sha256")
    return lambda data: hmac.digest(key, data, "sha256")


def keep(
    execute: Callable[..., Any], subject_key: Key, tenant: bytes, subject: bytes, originals: Iterable[Original]
) -> None:
    """Keep what these tokens stand for; what is kept already stays as it is."""
    for original in originals:
        nonce, aad = os.urandom(12), _place(tenant, subject, original.token)
        text = orjson.dumps([original.entity, original.text.encode("utf-8", "surrogatepass").hex()])
        row = original.token, subject, clock.now(), nonce + subject_key.aead.encrypt(nonce, text, aad)
        execute("INSERT INTO tokens VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


def find(execute: Callable[..., Any], token: str) -> list[TokenRow]:
    """The rows of a token, one for each subject whose it is; none where this vault never issued it."""
    return [TokenRow(*row) for row in execute("SELECT * FROM tokens WHERE token = ? ORDER BY created", (token,))]


def open_original(subject_key: Key, tenant: bytes, row: TokenRow) -> Original:
    """What a token stands for. Raises TamperedError."""
    try:
        data = subject_key.aead.decrypt(row.sealed[:12], row.sealed[12:], _place(tenant, row.subject, row.token))
        entity, text = orjson.loads(data)
    except (InvalidTag, ValueError):  # or too short for a nonce
        raise TamperedError("what a token stands for does not open in its place", hint=VERIFY_HINT) from None
    return Original(row.token, entity, bytes.fromhex(text).decode("utf-8", "surrogatepass"))


def named_in(text: bytes) -> set[str]:
    """What may be tokens in an item's JSON, of which some may be none."""
    return {found.decode() for found in _TOKEN.findall(text)} if b"_" in text else set()


def drop(execute: Callable[..., Any], subject: bytes) -> int:
    """Delete every token of a subject; returns how many there were."""
    deleted: int = execute("DELETE FROM tokens WHERE subject = ?", (subject,)).rowcount
    return deleted


def elsewhere(execute: Callable[..., Any], subject: bytes) -> int:
    """How many of a subject's tokens others have, too: a session that went to somebody else, or that was withheld."""
    query = "SELECT count(*) FROM tokens mine WHERE subject = ? AND EXISTS"
    query += " (SELECT 1 FROM tokens other WHERE other.token = mine.token AND other.subject <> mine.subject)"
    count: int = execute(query, (subject,)).fetchone()[0]
    return count


def drop_unused(execute: Callable[..., Any]) -> int:
    """Delete the tokens of the subjects of whom no item is left, whatever the branch; returns how many there were.

    Of a subject who has an item left every token stays: it may be the one that stands in it. So do those of the nobody that
    an erasure made for what it withheld, whose session it knows (`drop`).
    """
    if execute("SELECT 1 FROM tokens LIMIT 1").fetchone() is None:
        return 0
    deleted: int = execute(
        "DELETE FROM tokens WHERE subject IN (SELECT subject FROM sessions) AND subject NOT IN"
        " (SELECT s.subject FROM sessions s JOIN branches b ON b.session = s.id"
        " WHERE EXISTS (SELECT 1 FROM items WHERE id >= b.id * 2147483648 AND id < (b.id + 1) * 2147483648))"
    ).rowcount
    return deleted


def _place(tenant: bytes, subject: bytes, token: str) -> bytes:
    return context("secmem/token/v1", tenant, subject, token)
