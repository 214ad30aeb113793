"""A secret key in memory, and how one key is wrapped under another.

- A key is 32 random bytes, held in one buffer that `zero()` overwrites. Used after that, it raises.
- A key says nothing: its `repr` is `<Key>`, and it refuses to be pickled or copied.
- A wrapped key is `0x01 | nonce(12) | AES-256-GCM(key)`: 61 bytes. Its AAD is the caller's, made by `context()`, so
  that a wrapped key opens only in the place that it was made for.

Random nonces are safe here: NIST SP 800-38D 8.3 allows 2^32 encryptions under one key, and a key wraps far fewer.
Overwriting is best effort. What `Key.bytes` hands out, what OpenSSL holds and what a page of swap keeps is out of its
reach; SECURITY.md says so. Called by the key providers and the keyring.
"""

from __future__ import annotations

import os
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_memory.errors import ConfigurationError, WrongKeyError

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
FORMAT = b"\x01"
WRAPPED_BYTES = len(FORMAT) + NONCE_BYTES + KEY_BYTES + TAG_BYTES


def context(*parts: bytes | str | int) -> bytes:
    """Return the parts as one string of bytes that no other parts of the same types give.

    Each part follows its length (4 bytes, big-endian). Text is UTF-8 and an integer is 8 bytes, big-endian. Types are
    not recorded, so the first part is a constant such as `secmem/item/v1`, which says what the others are. Raises
    `ValueError` for an integer below 0 or from 2^64 on.
    """
    encoded = []
    for part in parts:
        if isinstance(part, str):
            # JSON allows lone surrogates ("\ud800"), and names from items come here: they must have an encoding too.
            part = part.encode("utf-8", "surrogatepass")
        elif isinstance(part, int):
            if not 0 <= part < 1 << 64:
                raise ValueError(f"integer out of range for a context: {part}")
            part = part.to_bytes(8, "big")
        encoded += [len(part).to_bytes(4, "big"), part]
    return b"".join(encoded)


def check_wrapped(wrapped: bytes, length: int) -> None:
    """Raise `ConfigurationError` unless these bytes have the length, and the format byte, of a wrapped key."""
    if len(wrapped) != length or not wrapped.startswith(FORMAT):
        raise ConfigurationError(
            f"malformed wrapped key of {len(wrapped)} bytes",
            hint="the file it came from is damaged or was written by a newer version: restore it, or upgrade",
        )


class Key:
    """A 32-byte secret. `Key.random()` draws one; `zero()` ends it."""

    __slots__ = ("_aead", "_secret")

    def __init__(self, secret: bytes | bytearray) -> None:
        """Take a copy of the secret. Raises `ValueError` unless it is 32 bytes long."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = bytearray(secret)
        self._aead: AESGCM | None = None

    @classmethod
    def random(cls) -> Key:
        """Return a new key from the operating system's generator."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def aead(self) -> AESGCM:
        """AES-256-GCM under this key, made at first use; safe to share between threads."""
        if self._aead is None:
            self._aead = AESGCM(self.bytes)
        return self._aead

    def wrap(self, inner: bytes, aad: bytes) -> bytes:
        """Return the 32-byte secret `inner` wrapped under this key; `aad` must be given again to unwrap it."""
        if len(inner) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes, not {len(inner)}")
        nonce = os.urandom(NONCE_BYTES)
        return FORMAT + nonce + self.aead.encrypt(nonce, inner, aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> Key:
        """Return the key that `wrap` wrapped.

        Raises `ConfigurationError` if these bytes were never a wrapped key, and `WrongKeyError` if they don't
        authenticate: another key, another place, or changed bytes; GCM can't tell which.
        """
        check_wrapped(wrapped, WRAPPED_BYTES)
        nonce, sealed = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        try:
            return Key(self.aead.decrypt(nonce, sealed, aad))
        except InvalidTag:
            raise WrongKeyError(
                "a wrapped key doesn't authenticate: it is another key's, another place's, or was changed",
                hint="check that the key and the store's files belong together; if they do, treat it as tampering",
            ) from None

    def zero(self) -> None:
        """Overwrite the secret and drop the cipher. The key can't be used again; zeroing twice is harmless."""
        self._secret[:] = bytes(len(self._secret))
        self._secret.clear()
        self._aead = None

    # From here on `bytes`, in an annotation of this class, would mean this property: so what takes the type is above.
    @property
    def bytes(self) -> bytes:
        """The secret itself, copied. Raises `RuntimeError` once the key is zeroed."""
        if not self._secret:
            raise RuntimeError("the key was zeroed, it can't be used any more")
        return bytes(self._secret)

    def __repr__(self) -> str:
        return "<Key>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse `pickle`, `copy.copy` and `copy.deepcopy`, which all come here: a copy escapes `zero()`."""
        raise TypeError("a key can't be pickled or copied")
