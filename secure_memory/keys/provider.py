"""Where a key-encryption key (KEK) lives, behind one small protocol.

A provider wraps and unwraps the keys at the top of the hierarchy: the store root, and the root of a tenant that brings
its own. It may hold several versions of its KEK, as it does during a rotation: the newest wraps, all of them unwrap.

- A version is named by an id that comes from the key itself, so the same key has the same id wherever it is kept.
- A wrapped key names the version that wrapped it. So "this is not the key" is said before anything is decrypted.
- No method, error or `repr` of a provider shows key bytes.

The local providers are in `local.py`; a KMS or an HSM stands beside them by implementing these six.
"""

from __future__ import annotations

import hashlib
from typing import Protocol, runtime_checkable

from secure_memory.keys.key import FORMAT, WRAPPED_BYTES, Key, check_wrapped

KEK_ID_BYTES = 8


@runtime_checkable
class KeyProvider(Protocol):
    """What a store asks of whatever keeps its KEK."""

    @property
    def kind(self) -> str:
        """What sort of provider it is, as `secmem doctor` prints it: "file", "env" or "memory"."""
        ...

    def describe(self) -> str:
        """Return in words where the key is; never the key."""
        ...

    def versions(self) -> tuple[str, ...]:
        """Return the ids of the KEK versions held, newest first."""
        ...

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """Return the 32-byte secret `key`, wrapped under the newest version and bound to `aad`.

        Raises `KeyNotFoundError` if there is no version left.
        """
        ...

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Return the secret that `wrap` wrapped.

        Raises `WrongKeyError` if the version that wrapped it isn't held or it doesn't authenticate, and
        `ConfigurationError` if these bytes were never a wrapped key.
        """
        ...

    def destroy(self, version: str) -> None:
        """Destroy one version, so that what it wrapped can't be opened by this provider any more.

        Raises `KeyNotFoundError` if that version isn't held, and `ConfigurationError` if it can't be destroyed.
        """
        ...


def kek_id(key: Key) -> str:
    """Return the id of a KEK version: the first 8 bytes, in hex, of a hash of it that nothing else uses.

    The id is public. It doesn't help to find the key: that is 256 random bits, not a passphrase.
    """
    return hashlib.sha256(b"secmem/kek-id/v1" + key.bytes).digest()[:KEK_ID_BYTES].hex()


def wrapped_by(wrapped: bytes) -> str:
    """The id of the KEK version that wrapped this key. Raises `ConfigurationError` for what was never a wrapped key."""
    check_wrapped(wrapped, WRAPPED_BYTES + KEK_ID_BYTES)
    return wrapped[len(FORMAT) : len(FORMAT) + KEK_ID_BYTES].hex()
