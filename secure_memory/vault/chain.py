"""Link hashes: what makes a sequence of items provable. Pure.

``link_0 = SHA-256(0x02 | branch uid)`` and ``link_n = SHA-256(0x02 | link_{n-1} | position | turn | item uid)``, with
position and turn as 8 bytes, big endian. The newest link commits to every item, its place and its turn; the newest
ledger entry of the branch names that link. An item's content is bound to its uid by its seal.
"""

from __future__ import annotations

import struct
from hashlib import sha256

_PLACE = struct.Struct(">QQ").pack


def first(branch_uid: bytes) -> bytes:
    """The link before the first item of a branch (32 bytes)."""
    return sha256(b"\x02" + branch_uid).digest()


def follow(link: bytes, position: int, turn: int, uid: bytes) -> bytes:
    """The link of the item `uid` at `position`, in `turn`, after `link` (32 bytes)."""
    return sha256(b"\x02%b%b%b" % (link, _PLACE(position, turn), uid)).digest()
