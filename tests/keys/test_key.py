"""`keys/key.py`: a secret that keeps to itself, and wrapping one under another."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import ConfigurationError, WrongKeyError
from secure_memory.keys.key import KEY_BYTES, WRAPPED_BYTES, Key, context

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wrapped-keys.json").read_text("utf-8"))
WRAPPED = bytes.fromhex(VECTORS["wrapped_by_key"])

secrets = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
texts = st.text(st.characters(exclude_categories=()))  # lone surrogates included
parts = st.one_of(st.binary(), texts, st.integers(0, 2**64 - 1))


def test_context_vector() -> None:
    """The encoding of a context is the frozen one."""
    assert VECTORS["context"]["hex"] == context(*VECTORS["context"]["parts"]).hex()


@given(st.lists(st.tuples(parts, parts)))
def test_context_is_injective(pairs: list[tuple[bytes | str | int, bytes | str | int]]) -> None:
    """Two contexts whose parts have the same types are equal only if the parts are."""
    left = [a for a, b in pairs if type(a) is type(b)]
    right = [b for a, b in pairs if type(a) is type(b)]
    assert (left == right) == (context(*left) == context(*right))


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_context_keeps_the_borders_of_its_parts(left: list[bytes], right: list[bytes]) -> None:
    """Bytes can't move from one part into the next without a trace."""
    assert (left == right) == (context(*left) == context(*right))


def test_context_tells_lone_surrogates_apart() -> None:
    """JSON allows a lone surrogate in a name, UTF-8 doesn't; each still has an encoding of its own."""
    assert 4 == len({context(name) for name in ("\ud800", "\ud801", "?", "\ufffd")})


@pytest.mark.parametrize("number", [-1, 2**64])
def test_context_refuses_a_number_without_an_encoding(number: int) -> None:
    """A number that doesn't fit its 8 bytes is a bad argument."""
    with pytest.raises(ValueError, match="out of range"):
        context(number)


@pytest.mark.parametrize("length", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_has_one_length(length: int) -> None:
    """Nothing but 32 bytes is a key."""
    with pytest.raises(ValueError, match=f"32 bytes, not {length}"):
        Key(bytes(length))


def test_random_keys_differ() -> None:
    """A random key is a key of its own."""
    assert Key.random().bytes != Key.random().bytes


def test_a_key_shows_nothing() -> None:
    """Neither `repr` nor `str` nor formatting shows a key."""
    assert ["<Key>"] * 3 == [repr(Key.random()), str(Key.random()), f"{Key.random()}"]


@pytest.mark.parametrize("copied_by", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_key_is_not_copied(copied_by: Callable[[Key], object]) -> None:
    """Copying or pickling a key raises."""
    with pytest.raises(TypeError, match="can't be pickled or copied"):
        copied_by(Key.random())


def test_zeroing_overwrites_the_buffer() -> None:
    """The very bytes that held the secret are zeros afterwards, not merely let go of."""
    key = Key.random()
    seen: list[bytes] = []

    class Watched(bytearray):
        def clear(self) -> None:
            seen.append(bytes(self))
            super().clear()

    key._secret = Watched(key._secret)
    key.zero()
    assert [bytes(KEY_BYTES)] == seen


@pytest.mark.parametrize(
    "use", [lambda k: k.bytes, lambda k: k.aead, lambda k: k.wrap(bytes(32), b""), lambda k: k.unwrap(WRAPPED, b"")]
)
def test_a_zeroed_key_is_of_no_use(use: Callable[[Key], object]) -> None:
    """Whatever a key can do raises once it is zeroed, even if its cipher was in use; zeroing again does not."""
    key = Key.random()
    assert key.aead is key.aead
    key.zero()
    key.zero()
    with pytest.raises(RuntimeError, match="zeroed"):
        use(key)


def test_wrapped_key_vector() -> None:
    """A wrapped key in the frozen format opens."""
    outer, aad = Key(bytes.fromhex(VECTORS["outer"])), bytes.fromhex(VECTORS["aad"])
    assert VECTORS["inner"] == outer.unwrap(WRAPPED, aad).bytes.hex()


@given(secrets, secrets, st.binary())
def test_what_is_wrapped_unwraps(outer: bytes, inner: bytes, aad: bytes) -> None:
    """Wrapping and unwrapping under the same key and context gives the key back, and never the same bytes twice."""
    key = Key(outer)
    wrapped = key.wrap(inner, aad)
    assert inner == key.unwrap(wrapped, aad).bytes
    assert WRAPPED_BYTES == len(wrapped)
    assert wrapped != key.wrap(inner, aad)


@given(secrets, secrets, st.binary(), st.binary())
def test_another_key_or_place_opens_nothing(outer: bytes, other: bytes, aad: bytes, elsewhere: bytes) -> None:
    """A wrapped key opens under no other key, and in no other context."""
    wrapped = Key(outer).wrap(bytes(KEY_BYTES), aad)
    for key, place in ((other, aad), (outer, elsewhere)):
        if (key, place) != (outer, aad):
            with pytest.raises(WrongKeyError):
                Key(key).unwrap(wrapped, place)


@pytest.mark.parametrize("index", range(WRAPPED_BYTES))
def test_no_byte_of_a_wrapped_key_can_change(index: int) -> None:
    """A flipped bit anywhere is noticed: in the format byte as malformed, elsewhere by authentication."""
    changed = bytearray(WRAPPED)
    changed[index] ^= 1
    with pytest.raises(ConfigurationError if index == 0 else WrongKeyError) as raised:
        Key(bytes.fromhex(VECTORS["outer"])).unwrap(bytes(changed), bytes.fromhex(VECTORS["aad"]))
    assert raised.value.hint


@pytest.mark.parametrize("wrapped", [b"", WRAPPED[:-1], WRAPPED + b"\0"])
def test_another_length_is_no_wrapped_key(wrapped: bytes) -> None:
    """Bytes too few or too many are called malformed before anything is decrypted."""
    with pytest.raises(ConfigurationError, match=f"malformed wrapped key of {len(wrapped)} bytes"):
        Key.random().unwrap(wrapped, b"")


def test_only_a_key_is_wrapped() -> None:
    """What isn't 32 bytes could not be unwrapped, so it isn't wrapped either."""
    with pytest.raises(ValueError, match="32 bytes, not 48"):
        Key.random().wrap(bytes(48), b"")


def test_threads_share_a_key() -> None:
    """One key wraps and unwraps in several threads at once."""
    key, opened = Key.random(), []

    def work() -> None:
        for _ in range(500):
            secret = Key.random().bytes
            opened.append(key.unwrap(key.wrap(secret, b"aad"), b"aad").bytes == secret)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [True] * 2000 == opened
