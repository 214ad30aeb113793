"""CARD_NUMBER, CARD_CVV, CARD_TRACK."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

Found = Callable[..., list[tuple[str, str]]]

# Test numbers that issuers and payment providers publish: Stripe "Testing", Adyen "Test card numbers", PayPal.
PUBLISHED = [
    *("4242424242424242", "4000056655665556", "5555555555554444", "2223003122003222", "5105105105105100", "378282246310005"),
    *("371449635398431", "6011111111111117", "3056930009020004", "36227206271667", "3566002020360505", "6200000000000005"),
]


@pytest.mark.parametrize("number", PUBLISHED)
def test_published_test_numbers_are_found(found: Found, number: str) -> None:
    """Every issuer's test number is found, together and in groups of four, with spaces, dashes and dots."""
    groups = [number[at : at + 4] for at in range(0, len(number), 4)]
    assert [("CARD_NUMBER", number)] == found(f"please use {number}, thanks")
    for between in (" ", "-", "."):
        written = between.join(groups)
        assert [("CARD_NUMBER", written)] == found(f"please use {written}, thanks")


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A number as an issuer could give it: a prefix, random digits, the check digit."""
    prefix, length = draw(
        st.sampled_from([("4", 16), ("51", 16), ("2300", 16), ("37", 15), ("6011", 16), ("36", 14), ("62", 16)])
    )
    rest = length - len(prefix) - 1
    body = prefix + draw(st.text("0123456789", min_size=rest, max_size=rest))
    return body + luhn.calc_check_digit(body)


@given(cards())
def test_a_valid_number_is_found(found: Found, number: str) -> None:
    """Whatever its digits are, a number that passes Luhn and that an issuer could give is found."""
    assert [("CARD_NUMBER", number)] == found(f"my card is {number}")


@given(cards(), st.integers(1, 9))
def test_a_wrong_check_digit_is_no_card(found: Found, number: str, more: int) -> None:
    """With any other check digit the same number is none."""
    wrong = number[:-1] + str((int(number[-1]) + more) % 10)
    assert ("CARD_NUMBER", wrong) not in found(f"my card is {wrong}")


@pytest.mark.parametrize(
    "text",
    [
        "order 4242424242424242",
        "tracking number 4242424242424242",
        "IMEI 356938035643809",
        "a4242424242424242",
        "4242424242424242b",
        "0.4242424242424242",
        "550e8400-e29b-41d4-a716-446655440000",
        "4242424242424241",
        "0000000000000000",
        "978-3-16-148410-0",
        "1700000000000000",
    ],
)
def test_other_numbers_are_no_cards(found: Found, text: str) -> None:
    """Orders, parcels, telephones' serial numbers, pieces of longer words and numbers that fail Luhn are no cards."""
    assert [] == found(text)


def test_a_card_behind_other_digits_is_found(found: Found) -> None:
    """Digits before and after it, even a date, do not hide a card."""
    assert [("CARD_NUMBER", "4242 4242 4242 4242")] == found("for 3 people 12 4242 4242 4242 4242 12/27")


def test_a_bare_number_of_a_tool_needs_a_key(found: Found) -> None:
    """In what a tool gives, a bare number is a card where a key or a word says so, and an id where none does."""
    assert [] == found("4242424242424242", "item", "ref", tool=True)
    assert [] == found("4242424242424242", "value", tool=True)
    assert [("CARD_NUMBER", "4242424242424242")] == found("4242424242424242", "cardNumber", tool=True)
    assert [("CARD_NUMBER", "4242424242424242")] == found("paid by card 4242424242424242", "note", tool=True)
    assert [("CARD_NUMBER", "4242 4242 4242 4242")] == found("4242 4242 4242 4242", "value", tool=True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cvv 123", "123"),
        ("CVV: 123", "123"),
        ("the CVC is 4567.", "4567"),
        ("card security code = 999", "999"),
        ("4242 4242 4242 4242 12/27 123", "123"),
    ],
)
def test_verification_codes_are_found(found: Found, text: str, code: str) -> None:
    """A code is found behind its name, and behind a card number and its date."""
    assert ("CARD_CVV", code) in found(text)


def test_a_verification_code_is_found_under_its_key(found: Found) -> None:
    """A leaf of three digits is a code where its key says so, and a number where it does not."""
    assert [("CARD_CVV", "123")] == found("123", "card", "cvv", tool=True)
    assert [] == found("123", "quantity", tool=True)


@pytest.mark.parametrize("text", ["it costs 123", "verification code 123456", "room 404", "cvv 12345", "cvvs2 are 3-digit"])
def test_other_short_numbers_are_no_codes(found: Found, text: str) -> None:
    """A number of another length, or without the word, is no verification code."""
    assert [] == found(text)


@pytest.mark.parametrize(
    "track",
    # ISO/IEC 7813, as in the MagTek reference of track layouts, with published test numbers.
    ["%B4242424242424242^DOE/JOHN^2712101000000000?", ";4242424242424242=27121010000000000?"],
)
def test_track_data_is_found_whole(found: Found, track: str) -> None:
    """Both tracks are found from their first to their last sign, and not as a card number with a rest."""
    assert [("CARD_TRACK", track)] == found(f"swiped: {track}")
