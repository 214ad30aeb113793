"""`vault/seal.py`: a sealed item opens in its place, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.vault.seal import REDACTED, Place, associated_data, key_version, seal, unseal

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "sealed-item.json").read_text("utf-8"))
UIDS = ("tenant", "session", "uid")
PLACE = Place(**{key: bytes.fromhex(value) if key in UIDS else value for key, value in VECTOR["place"].items()})
SEALED = bytes.fromhex(VECTOR["sealed"])
AEAD = AESGCM(bytes.fromhex(VECTOR["key"]))

uids = st.binary(min_size=16, max_size=16)
labels = st.text(max_size=9)
places = st.builds(Place, uids, uids, uids, labels, labels, labels, st.integers(0, 2**63 - 1))
nonces = st.binary(min_size=12, max_size=12)
versions = st.integers(0, 2**16 - 1)


def test_vector() -> None:
    """The sealed bytes and their additional data are the frozen ones."""
    nonce, text = bytes.fromhex(VECTOR["nonce"]), VECTOR["item"].encode()
    assert VECTOR["aad"] == associated_data(PLACE).hex()
    assert SEALED == seal(AEAD, VECTOR["key_version"], nonce, PLACE, text)
    assert text == unseal(AEAD, PLACE, SEALED)


@given(st.binary(), places, nonces, versions)
def test_what_is_sealed_opens(data: bytes, place: Place, nonce: bytes, version: int) -> None:
    """Whatever is sealed comes back in its place, and says which key version sealed it."""
    sealed = seal(AEAD, version, nonce, place, data)
    assert data == unseal(AEAD, place, sealed)
    assert version == key_version(sealed)


@given(places, places)
def test_no_two_places_have_the_same_bytes(one: Place, other: Place) -> None:
    """The additional data is injective."""
    assert (one == other) == (associated_data(one) == associated_data(other))


@given(labels, labels, labels, st.integers(0, 27), st.integers(0, 27))
def test_labels_keep_their_borders(kind: str, role: str, tool: str, first: int, second: int) -> None:
    """A letter can't move from one label into the next without a trace."""
    joined = kind + role + tool
    moved = PLACE._replace(kind=joined[:first], role=joined[first:second], tool=joined[max(first, second) :])
    place = PLACE._replace(kind=kind, role=role, tool=tool)
    assert (place == moved) == (associated_data(place) == associated_data(moved))


@pytest.mark.parametrize("index", [index for index in range(len(SEALED)) if index not in (1, 2)])
def test_no_byte_of_a_sealed_item_can_change(index: int) -> None:
    """A flipped bit anywhere in format, nonce, text or tag is found. (The key version, bytes 1 and 2, picks the key.)"""
    changed = bytearray(SEALED)
    changed[index] ^= 1
    with pytest.raises(TamperedError):
        unseal(AEAD, PLACE, bytes(changed))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *((part, bytes(16)) for part in UIDS),
        ("uid", PLACE.uid[:15]),
        ("uid", PLACE.uid + b"x"),
        *((part, "other") for part in ("kind", "role", "tool")),
        ("created", PLACE.created + 1),
        ("created", -1),
        ("created", 2**64),
    ],
)
def test_an_item_opens_in_its_place_only(part: str, value: Any) -> None:
    """Another tenant, session, uid, label or time, or one that no item can have, and it does not open."""
    with pytest.raises(TamperedError, match="does not open in its place"):
        unseal(AEAD, PLACE._replace(**{part: value}), SEALED)


def test_another_key_opens_nothing() -> None:
    """An item opens under its session's key only."""
    with pytest.raises(TamperedError):
        unseal(AESGCM(bytes(32)), PLACE, SEALED)


@pytest.mark.parametrize("sealed", [b"", b"\x01", SEALED[:30], b"\x00" + SEALED[1:], b"\x03" + SEALED[1:]])
def test_an_unknown_format(sealed: bytes) -> None:
    """What is too short, or of another format, is refused before anything is decrypted."""
    with pytest.raises(TamperedError, match="unknown format"):
        unseal(AEAD, PLACE, sealed)


def test_nothing_can_be_sealed() -> None:
    """The shortest item is the shortest sealed item."""
    assert b"" == unseal(AEAD, PLACE, seal(AEAD, 1, bytes(12), PLACE, b""))


@given(st.binary(), places, nonces)
def test_what_is_redacted_is_sealed_so(data: bytes, place: Place, nonce: bytes) -> None:
    """An item that a retention rule redacted opens like any other, and its mark can't be put on or taken off."""
    sealed = seal(AEAD, 1, nonce, place, data, REDACTED)
    assert (data, 2) == (unseal(AEAD, place, sealed), sealed[0])
    for other in (b"\x01" + sealed[1:], b"\x02" + seal(AEAD, 1, nonce, place, data)[1:]):
        with pytest.raises(TamperedError):
            unseal(AEAD, place, other)
