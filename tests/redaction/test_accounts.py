"""IBAN, BIC, US_BANK_ACCOUNT."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

Found = Callable[..., list[tuple[str, str]]]

# Examples of the SWIFT IBAN registry, release 99.
REGISTRY = [
    *(
        "AD1200012030200359100100",
        "AT611904300234573201",
        "BE68539007547034",
        "CH9300762011623852957",
        "CZ6508000000192000145399",
    ),
    *(
        "DE89370400440532013000",
        "DK5000400440116243",
        "ES9121000418450200051332",
        "FI2112345600000785",
        "GB29NWBK60161331926819",
    ),
    *(
        "FR1420041010050500013M02606",
        "IE29AIBK93115212345678",
        "IT60X0542811101000000123456",
        "MT84MALT011000012345MTLCAST001S",
    ),
    *(
        "NL91ABNA0417164300",
        "NO9386011117947",
        "PL61109010140000071219812874",
        "PT50000201231234567890154",
        "SE4550000000058398257466",
    ),
]


@pytest.mark.parametrize("iban", REGISTRY)
def test_ibans_of_the_registry_are_found(found: Found, iban: str) -> None:
    """Each country's example is found: together, in groups of four, and in small letters."""
    grouped = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
    for written in (iban, grouped, iban.lower()):
        assert [("IBAN", written)] == found(f"to {written} please")


@given(st.sampled_from(REGISTRY), st.integers(2, 3), st.integers(1, 9))
def test_a_wrong_check_digit_is_no_iban(found: Found, iban: str, place: int, more: int) -> None:
    """With another check digit an IBAN is none."""
    wrong = iban[:place] + str((int(iban[place]) + more) % 10) + iban[place + 1 :]
    assert "IBAN" not in [entity for entity, _ in found(f"to {wrong} please")]


def test_an_iban_behind_what_looks_like_one_is_found(found: Found) -> None:
    """A head that is none does not hide the one that follows."""
    assert [("IBAN", "DE89370400440532013000")] == found("XX12 DE89370400440532013000")
    assert [("IBAN", "DE89370400440532013000")] == found("DE12 DE89370400440532013000")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BIC DEUTDEFF500", [("BIC", "DEUTDEFF500")]),
        ("swift code: NEDSZAJJ", [("BIC", "NEDSZAJJ")]),
        ("the SHIPMENT left", []),
        ("BIC codes have the form AAAAZZ22", []),
    ],
)
def test_bics_need_the_word_and_a_country(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """A word of eight capitals is a BIC where one is spoken of, and where it names a country."""
    assert expected == found(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my account number is 000123456789", [("US_BANK_ACCOUNT", "000123456789")]),
        (
            "routing 021000021, checking account 123456789012",
            [("US_BANK_ACCOUNT", "021000021"), ("US_BANK_ACCOUNT", "123456789012")],
        ),
        ("your order 000123456789 is on its way", []),
        ("account closed in 2024", []),
        ("github account id 12345678", []),
    ],
)
def test_bank_accounts_need_the_word(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """Digits are a bank account close behind a word that says so, and not where they are an order or a user's id."""
    assert expected == found(text)
