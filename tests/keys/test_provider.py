"""`keys/provider.py`: what holds of every provider, and the ids of KEK versions."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from secure_memory import clock
from secure_memory.errors import ConfigurationError, KeyNotFoundError, WrongKeyError
from secure_memory.keys.key import Key
from secure_memory.keys.local import EnvKeyProvider, MemoryKeyProvider, create_key_file
from secure_memory.keys.provider import KeyProvider, kek_id

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wrapped-keys.json").read_text("utf-8"))
SECRET = bytes(range(32))


@pytest.fixture(params=["file", "env", "memory"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> KeyProvider:
    """One provider of each kind, with a random key."""
    if request.param == "file":
        return create_key_file(tmp_path / "key", made_at=clock.now())
    if request.param == "env":
        return EnvKeyProvider(environ={"SECMEM_KEY": base64.b64encode(Key.random().bytes).decode()})
    return MemoryKeyProvider()


def env(*secrets: bytes) -> EnvKeyProvider:
    return EnvKeyProvider(environ={"SECMEM_KEY": " ".join(base64.b64encode(secret).decode() for secret in secrets)})


def test_kek_id_vector() -> None:
    """The id of a KEK is the frozen function of it."""
    assert VECTORS["kek_id"] == kek_id(Key(bytes.fromhex(VECTORS["outer"])))


def test_wrapped_key_vector() -> None:
    """What a provider wrapped, in the frozen format, opens."""
    opened = env(bytes.fromhex(VECTORS["outer"])).unwrap(
        bytes.fromhex(VECTORS["wrapped_by_provider"]), bytes.fromhex(VECTORS["aad"])
    )
    assert VECTORS["inner"] == opened.hex()


def test_a_provider_is_one(provider: KeyProvider) -> None:
    """Each kind meets the protocol, and says what it is."""
    assert isinstance(provider, KeyProvider)
    assert provider.kind in {"file", "env", "memory"}
    assert provider.describe()


def test_what_is_wrapped_unwraps(provider: KeyProvider) -> None:
    """Wrapping and unwrapping with the same context gives the secret back; the wrapped key is 69 bytes."""
    wrapped = provider.wrap(SECRET, b"here")
    assert SECRET == provider.unwrap(wrapped, b"here")
    assert 69 == len(wrapped)


def test_a_wrapped_key_names_its_version(provider: KeyProvider) -> None:
    """The version that wraps is the newest, and its id stands after the format byte."""
    assert provider.versions()[0] == provider.wrap(SECRET, b"here")[1:9].hex()


def test_a_wrapped_key_is_bound_to_its_place(provider: KeyProvider) -> None:
    """With another context it doesn't open."""
    with pytest.raises(WrongKeyError, match="doesn't authenticate"):
        provider.unwrap(provider.wrap(SECRET, b"here"), b"there")


def test_no_byte_of_a_wrapped_key_can_change(provider: KeyProvider) -> None:
    """A flipped bit anywhere raises: nothing of a wrapped key goes unchecked."""
    wrapped = provider.wrap(SECRET, b"here")
    for index in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[index] ^= 1
        with pytest.raises(ConfigurationError if index == 0 else WrongKeyError):
            provider.unwrap(bytes(changed), b"here")


def test_malformed_is_not_wrong(provider: KeyProvider) -> None:
    """Bytes that were never a wrapped key are said to be that, and not blamed on the key."""
    with pytest.raises(ConfigurationError, match="malformed wrapped key of 3 bytes"):
        provider.unwrap(b"\x01ab", b"here")


def test_another_providers_key_is_named(provider: KeyProvider) -> None:
    """What a key that isn't here wrapped is refused, with the id that is missing and those that are here."""
    stranger = MemoryKeyProvider()
    with pytest.raises(WrongKeyError) as raised:
        provider.unwrap(stranger.wrap(SECRET, b"here"), b"here")
    assert stranger.versions()[0] in str(raised.value)
    assert provider.versions()[0] in str(raised.value)
    assert raised.value.hint is not None
    assert stranger.versions()[0] in raised.value.hint


def test_a_stranger_is_not_destroyed(provider: KeyProvider) -> None:
    """Destroying a version that isn't held raises and names it."""
    with pytest.raises(KeyNotFoundError, match="no key 0011223344556677 in"):
        provider.destroy("0011223344556677")


def test_a_rotation() -> None:
    """With the new key first, the new one wraps and both unwrap; with the old one gone, what it wrapped stays shut."""
    old, new = Key.random().bytes, Key.random().bytes
    wrapped = env(old).wrap(SECRET, b"here")
    both = env(new, old)
    assert (kek_id(Key(new)), kek_id(Key(old))) == both.versions()
    assert SECRET == both.unwrap(wrapped, b"here")
    assert SECRET == env(new).unwrap(both.wrap(SECRET, b"here"), b"here")
    with pytest.raises(WrongKeyError):
        env(new).unwrap(wrapped, b"here")


def test_a_key_given_twice_is_one_version() -> None:
    """A template that sets old and new to the same key is no rotation, and no error."""
    assert (kek_id(Key(SECRET)),) == env(SECRET, SECRET).versions()
