"""Item <-> sealed bytes, bound to its place. Pure: the nonce and the uid are arguments.

Sealed item: ``0x01 | key version (2, big endian) | nonce (12) | AES-256-GCM(item JSON)``. The additional data is the
length-prefixed list (`secmem/item/v1`, tenant uid, session uid, item uid, kind, role, tool, created-at in
microseconds), so that a sealed item moved to another session, another row or another label no longer opens.
Branch and position are not part of it, so that forking copies sealed bytes; the chain binds those.

``0x02`` instead of ``0x01``: the same of what a retention rule has redacted, with `secmem/gone/v1`, so that a purge sees in
SQL what it has done already, and nobody can call an item redacted that is not.

A nonce is random, 96 bits: with at most 2^32 items under one session key the chance of a repeat stays below 2^-32
(NIST SP 800-38D 8.3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_memory.errors import TamperedError

VERSION = 1
REDACTED = 2
_LABELS = {VERSION: b"secmem/item/v1", REDACTED: b"secmem/gone/v1"}
_HEADER = struct.Struct(">BH12s")
_OWNERS = struct.Struct(">I14sI16sI16sI").pack
_CREATED = struct.Struct(">IQ").pack
_SHORTEST = _HEADER.size + 16


class Place(NamedTuple):
    """What an item is bound to. `tenant`, `session` and `uid` are 16 bytes, `created` is in microseconds."""

    tenant: bytes
    session: bytes
    uid: bytes
    kind: str
    role: str
    tool: str
    created: int


def associated_data(place: Place, version: int = VERSION) -> bytes:
    """The length-prefixed encoding of a place: no two places have the same bytes, nor has one in two versions.

    Raises ValueError for what is none.
    """
    return _associated_data(_owners(version, place.tenant, place.session), *place[2:])


def _associated_data(owners: bytes, uid: bytes, kind: str, role: str, tool: str, created: int) -> bytes:
    if len(uid) != 16:
        raise ValueError(f"an item's uid has {len(uid)} bytes instead of 16")
    return b"%b%b%b%b" % (owners, uid, _labels(kind, role, tool), _CREATED(8, created))


@lru_cache(maxsize=1024)  # all items of a session share one
def _owners(version: int, tenant: bytes, session: bytes) -> bytes:
    """What stands before an item's uid, the length of that included."""
    return _OWNERS(14, _LABELS[version], 16, tenant, 16, session, 16)


@lru_cache(maxsize=1024)  # most items share a few of them
def _labels(*labels: str) -> bytes:
    encoded = [label.encode() for label in labels]
    return b"".join(part for label in encoded for part in (len(label).to_bytes(4, "big"), label))


def seal(aead: AESGCM, key_version: int, nonce: bytes, place: Place, data: bytes, version: int = VERSION) -> bytes:
    """The sealed item. `nonce` is 12 random bytes, never used twice with one key."""
    return _HEADER.pack(version, key_version, nonce) + aead.encrypt(nonce, data, associated_data(place, version))


def unseal(aead: AESGCM, place: Place, sealed: bytes) -> bytes:
    """The item's JSON. Raises TamperedError where it is not what was sealed for this place."""
    return opener(aead, place.tenant, place.session)(*place[2:], sealed)


def opener(aead: AESGCM, tenant: bytes, session: bytes) -> Callable[[bytes, str, str, str, int, bytes], bytes]:
    """`unseal` for many items of one session: takes uid, kind, role, tool, created and the sealed item."""
    decrypt = aead.decrypt
    owners = {version: _owners(version, tenant, session) for version in _LABELS}

    def open_one(uid: bytes, kind: str, role: str, tool: str, created: int, sealed: bytes) -> bytes:
        if len(sealed) < _SHORTEST or sealed[0] not in owners:
            raise TamperedError("a sealed item has an unknown format")
        try:
            place = _associated_data(owners[sealed[0]], uid, kind, role, tool, created)
            return decrypt(sealed[3:15], sealed[15:], place)
        except (InvalidTag, ValueError, struct.error):  # or a uid or a time that no item has
            raise TamperedError("a sealed item does not open in its place") from None

    return open_one


def key_version(sealed: bytes) -> int:
    """The version of the session key that sealed this."""
    return int.from_bytes(sealed[1:3], "big")
