"""EMAIL, PHONE, IP, MAC, URL_WITH_CREDENTIALS, CRYPTO_ADDRESS."""

from __future__ import annotations

from collections.abc import Callable

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.redaction.detect import BuiltinDetector
from secure_memory.redaction.walk import Segment

Found = Callable[..., list[tuple[str, str]]]


@pytest.mark.parametrize(
    "address",
    # RFC 5322 A.1, RFC 6531, Wikipedia "Email address: valid".
    [
        *(
            "jdoe@machine.example",
            "mary@example.net",
            "john.q.public@example.com",
            "disposable.style.email.with+symbol@example.com",
        ),
        *(
            "user-@example.org",
            "o'neil@example.ie",
            "user.name+tag+sorting@example.com",
            "x@example.com",
            "müller@example.de",
        ),
        *("anna@bücher.example", "a_b@mail.sub.example.co.uk", "用户@例子.广告", "info@xn--bcher-kva.example"),
    ],
)
def test_addresses_are_found(found: Found, address: str) -> None:
    """Every form of address is found whole, with a sentence around it."""
    assert [("EMAIL", address)] == found(f"write to {address}, or <{address}>.")[:1]
    assert [("EMAIL", address)] == found(f"{address}")


@pytest.mark.parametrize("around", ["mail='{}'", 'mail="{}"', "?to={}&x=1", "mailto:{}", "`{}`", "*{}*", "'{}'", "a/{}"])
def test_what_stands_around_an_address_is_none_of_it(found: Found, around: str) -> None:
    """Quotes, names and marks around an address stay."""
    assert [("EMAIL", "jane@example.com")] == found(around.format("jane@example.com"))


@pytest.mark.parametrize(
    "text",
    [
        "@example.com",
        "jdoe@",
        "jdoe@localhost",
        "jdoe@127.0.0.1",
        "git@github.com:owner/project",
        "3 apples @ 2.50",
        "@alice hello",
    ],
)
def test_what_is_no_address_is_left(found: Found, text: str) -> None:
    """Handles, hosts without a domain, prices and a repository's address are no e-mail addresses."""
    assert "EMAIL" not in [entity for entity, _ in found(text)]


REGIONS = [r for r in ("US", "GB", "DE", "FR", "IN", "JP", "BR", "AU", "ES", "IT", "NL", "SE", "CH", "ZA", "MX", "PL")]


@given(st.sampled_from(REGIONS), st.booleans())
def test_numbers_with_a_country_code_are_found(found: Found, region: str, mobile: bool) -> None:
    """The example of each country's numbering plan is found, in each way to write it."""
    kind = phonenumbers.PhoneNumberType.MOBILE if mobile else phonenumbers.PhoneNumberType.FIXED_LINE
    number = phonenumbers.example_number_for_type(region, kind)
    for form in (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164):
        written = phonenumbers.format_number(number, form)
        assert [("PHONE", written)] == found(f"It is {written} in the evening")


@given(st.sampled_from(REGIONS))
def test_national_numbers_are_found_beside_the_word(found: Found, region: str) -> None:
    """Without a country code, a number is found where something says telephone."""
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.FIXED_LINE)
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    assert [("PHONE", written)] == found(f"my phone number: {written}")


@pytest.mark.parametrize(
    "number",
    [
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "+1 415 555 2671",
        "1-415-555-2671",
        "001-415-555-2671",
        "415-555-2671 x12",
    ],
)
def test_north_american_numbers_are_found(found: Found, number: str) -> None:
    """The ways to write a North American number are found without a word beside them, extensions with them."""
    assert [("PHONE", number)] == found(f"It is {number} in the evening")


def test_a_region_makes_national_numbers_known() -> None:
    """Where a region is given, its numbers in national form are found without a word beside them; else they are not."""
    segment = [Segment("Erreichbar unter 030901820", (), False)]
    assert [0] == [len(f) for f in BuiltinDetector({"PHONE"}).detect(segment)]
    (german,) = BuiltinDetector({"PHONE"}, region="DE").detect(segment)
    assert [(17, 26)] == [(finding.start, finding.end) for finding in german]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "order 415-555-2671",
            "2024-05-06",
            "06.05.2024 - 07.05.2024",
            "12345-6789",
            "$415 555 2671",
            "version 4.15.555.2671",
        ),
        *(
            "1700000000",
            "10.11.12.13 is ours",
            "3.14159265358979",
            "isbn 978-3-16-148410-0",
            "52.520008, 13.404954",
            "1,234,567.89",
        ),
        *("9400 1000 0000 0000 0000 00", "build 20240506.1234", "1Z999AA10123456784", "078-05-1120"),
    ],
)
def test_what_is_no_telephone_is_left(found: Found, text: str) -> None:
    """Orders, dates, codes, prices, versions, epochs, coordinates, books and parcels are no telephone numbers."""
    assert "PHONE" not in [entity for entity, _ in found(text)]


def test_tools_need_a_word_for_a_number_without_country(found: Found) -> None:
    """In what a tool gives, digits are a telephone number where a key says so; with a country code always."""
    assert [] == found("4155552671", "id", tool=True)
    assert [] == found("415-555-2671", "sku", tool=True)
    assert [("PHONE", "4155552671")] == found("4155552671", "contact", "phoneNumber", tool=True)
    assert [("PHONE", "+14155552671")] == found("+14155552671", "value", tool=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 203.0.113.7", [("IP", "203.0.113.7")]),
        ("203.0.113.7:8080 refused", [("IP", "203.0.113.7")]),
        ("2001:db8::ff00:42:8329", [("IP", "2001:db8::ff00:42:8329")]),
        ("[2001:db8:0:0:0:0:2:1]:443", [("IP", "2001:db8:0:0:0:0:2:1")]),
        ("fe80::1ff:fe23:4567:890a is up", [("IP", "fe80::1ff:fe23:4567:890a")]),
        ("127.0.0.1", []),
        ("::1", []),
        ("0.0.0.0", []),
        ("255.255.255.0", []),
        ("256.1.1.1", []),
        ("version 1.2.3.4", []),
        ("Chrome/120.0.6099.129", []),
        ("1.2.3.4.5", []),
        ("12:34:56", []),
        ("std::vector", []),
        ("01.02.03.04", []),
    ],
)
def test_addresses_of_machines(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """RFC 5737 and RFC 3849 addresses are found; a machine's own, masks, versions, times and code are not."""
    assert expected == found(text)


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_found(found: Found, address: object) -> None:
    """Whatever its groups are, an IPv6 address is found whole, but for very short ones."""
    text = str(address)
    if len(text) >= 6 and any(map(str.isdigit, text)) and not text.startswith("::"):
        assert [("IP", text)] == found(f"from {text} today")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:1B:44:11:3A:B7", [("MAC", "00:1B:44:11:3A:B7")]),
        ("00-1b-44-11-3a-b7", [("MAC", "00-1b-44-11-3a-b7")]),
        ("SHA1 ab:cd:ef:01:23:45:67:89:ab:cd", []),
        ("00:00:00:00:00:00", []),
        ("00:1B-44:11-3A:B7", []),
    ],
)
def test_hardware_addresses(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """Six pairs with one separator are a hardware address; a piece of a fingerprint is none."""
    assert expected == found(text)


def test_urls_with_credentials_are_found_whole(found: Found) -> None:
    """A URL with a user and a password is one finding, not a secret, an e-mail address and a rest."""
    assert [("URL_WITH_CREDENTIALS", "postgres://app:s3cret@db.example.com:5432/main")] == found(
        "use postgres://app:s3cret@db.example.com:5432/main."
    )
    assert [] == found("https://example.com:8080/a?b=c")
    assert [] == found("postgres://app:[SECRET]@db.example.com/main")
    assert [] == found("postgres://${USER}:${PASSWORD}@db.example.com/main")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # BIP 173, BIP 350, the Bitcoin wiki's "Address", EIP-55.
        ("17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhem", 1),
        ("3EktnHQD7RiAE6uzMj2ZifT9YgRrkSgzQX", 1),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 1),
        ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", 1),
        ("17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhen", 0),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", 0),
        ("commit 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", 0),
        ("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", 0),
    ],
)
def test_addresses_of_coins(found: Found, text: str, expected: int) -> None:
    """Addresses whose checksum is right are found; one wrong letter, and hashes, are not."""
    assert expected == [entity for entity, _ in found(text)].count("CRYPTO_ADDRESS")
