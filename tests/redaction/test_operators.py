"""`operators.py`: what stands in the place of a finding."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.redaction.operators import MIN_MASKED, Token, keyed, masked, redacted, standing

ENTITIES = ("EMAIL", "CARD_NUMBER", "IBAN", "PHONE", "US_SSN", "SECRET")
entities = st.sampled_from(ENTITIES)
find = standing(ENTITIES)


def mac(message: bytes) -> bytes:
    """A keyed function as a tenant has one."""
    return hmac.digest(b"key", message, "sha256")


@pytest.mark.parametrize(
    ("entity", "text", "expected"),
    [
        ("CARD_NUMBER", "4111 1111 1111 1111", "************1111"),
        ("IBAN", "DE89 3704 0044 0532 0130 00", "******************3000"),
        ("PHONE", "+1 (415) 555-2671", "*********71"),
        ("EMAIL", "jane@example.com", "j***@***.com"),
        ("EMAIL", "jo@example.com", "[EMAIL]"),
        ("US_SSN", "078-05-1120", "[US_SSN]"),
        ("SECRET", "sk-abcdefghijklmnop", "[SECRET]"),
        ("CARD_NUMBER", "4111", "[CARD_NUMBER]"),
        ("PHONE", "911", "[PHONE]"),
    ],
)
def test_masks(entity: str, text: str, expected: str) -> None:
    """A mask shows what tells one value from another, by entity; of a short value, or a secret one, nothing."""
    assert expected == masked(entity, text)


@given(entities, st.text())
def test_a_mask_gives_nobody_away(entity: str, text: str) -> None:
    """Whatever the value, a mask shows at most four of its characters, and of a short one none."""
    shown = masked(entity, text)
    if shown == redacted(entity):
        return
    assert sum(map(str.isalnum, text)) >= MIN_MASKED
    assert 4 >= sum(map(str.isalnum, shown.partition("@")[0]))


def test_a_pseudonym_has_the_form_that_the_policy_says() -> None:
    """Entity, 80 bits of HMAC-SHA256 over entity and value, base32 in small letters (this one by OpenSSL and base32)."""
    assert "EMAIL_h4t3ho47jwchq2o3" == keyed("EMAIL", "jane@example.com", mac)
    assert keyed("EMAIL", "x", mac)[6:] != keyed("PHONE", "x", mac)[6:]
    assert keyed("EMAIL", "x", mac) != keyed("EMAIL", "x", lambda m: hmac.digest(b"other", m, "sha256"))


@given(entities, st.text(st.characters(exclude_categories=())))
def test_what_was_written_is_found_again(entity: str, value: str) -> None:
    """A placeholder and a token are found as a whole, whatever stands beside them."""
    for written in (redacted(entity), keyed(entity, value, mac)):
        assert [(2, 2 + len(written))] == find(f"x {written}, y")


@pytest.mark.parametrize(
    "text",
    [
        "[AKIAIOSFODNN7EXAMPLE]",
        "[UNKNOWN]",
        "EMAIL_aaaaaaaaaaaaaaaajane@example.com",
        "CARD_NUMBER_5555555555554444",
        "CARD_NUMBER_4111111111111111",
        "EMAIL_aaaaaaaaaaaaaaa",
        "MYEMAIL_aaaaaaaaaaaaaaaa",
        "[email]",
        "EMAIL",
    ],
)
def test_what_looks_alike_is_text(text: str) -> None:
    """Nothing hides in the form of a placeholder or a token."""
    assert [] == find(text)


def test_a_token_says_nothing_of_its_original() -> None:
    """The original of a token is not in its repr."""
    assert "jane" not in repr(Token("EMAIL_aaaaaaaaaaaaaaaa", "EMAIL", "jane@example.com"))
