"""A row's text to the item that is in it: plain JSON, as SQLiteSession writes it, or the envelope of EncryptedSession.

The envelope (`agents/extensions/memory/encrypt_session.py`): ``{"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": token}``,
where the token is Fernet under a key that HKDF-SHA256 makes of the master key, with the session id as salt. The master key
is 32 bytes in URL-safe base64, or any other text as it is.

With a key, what is not encrypted is not an item, as in the SDK: anyone could have put it there. When an envelope expires is
not in the database; whoever imports says it, or nothing expires.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secure_memory import items as sdk_items
from secure_memory.errors import SerializationError
from secure_memory.items import Item
from secure_memory.lifecycle.transfer.foreign import is_text

_INFO = b"agents.session-store.hkdf.v1"


class UnreadableError(Exception):
    """A row that holds no item; it is counted, and never leaves the import. Its text is the reason, without content."""


def cipher(master: str, session: str) -> Fernet:
    """The cipher of one session."""
    key = master.encode()
    try:
        decoded = base64.urlsafe_b64decode(master)
        key = decoded if len(decoded) == 32 else key
    except (binascii.Error, ValueError):
        pass  # not base64: the SDK takes the text itself
    derived = HKDF(hashes.SHA256(), 32, session.encode(), _INFO).derive(key)
    return Fernet(base64.urlsafe_b64encode(derived))


def reader(fernet: Fernet | None, oldest: int | None) -> Callable[[object], tuple[Item, bytes]]:
    """What gives the item of a row's text, and the JSON that we keep of it; it raises UnreadableError.

    `oldest` is the time, in seconds, before which an envelope has expired.
    """

    def read(data: object) -> tuple[Item, bytes]:
        value = _object(data)
        if _is_envelope(value):
            if fernet is None:
                raise UnreadableError("encrypted, and no key was given")
            value = _object(_opened(fernet, value["payload"], oldest))
        elif fernet is not None:
            raise UnreadableError("not encrypted, though a key was given")
        try:
            return value, sdk_items.dump(value)
        except SerializationError:
            raise UnreadableError("not exact JSON") from None

    return read


def _object(data: object) -> Item:
    if not isinstance(data, bytes) and not is_text(data):
        raise UnreadableError("not text")
    try:
        value = json.loads(data)  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        raise UnreadableError("not JSON") from None
    if not isinstance(value, dict):
        raise UnreadableError("not a JSON object")
    return value


def _is_envelope(item: Item) -> bool:
    return item.get("__enc__") == 1 and {"payload", "kid", "v"} <= item.keys()


def _opened(fernet: Fernet, payload: Any, oldest: int | None) -> bytes:
    try:
        token = payload.encode()
        text = fernet.decrypt(token)
    except (InvalidToken, AttributeError, UnicodeEncodeError):
        raise UnreadableError("encrypted with another key, or altered") from None
    if oldest is not None and fernet.extract_timestamp(token) < oldest:
        raise UnreadableError("expired")
    return text
