"""The table of entity types that the built-in detector knows, and the one value behind the ways to write each. Pure.

PERSON, LOCATION and ORGANIZATION are not in it: no shape tells a name from a word. They need `presidio`.

Called by `detect` (what to look for), by `pipeline` (`canonical`, for pseudonyms) and by whoever checks a policy.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from secure_memory.redaction import accounts, cards, contact, credentials, identity, national, phones
from secure_memory.redaction.candidate import Shape

ENTITIES = {
    "EMAIL": "e-mail addresses",
    "PHONE": "telephone numbers that a numbering plan knows",
    "CARD_NUMBER": "payment card numbers: Luhn, issuer range and length",
    "CARD_CVV": "card verification codes, beside a word that says so",
    "CARD_TRACK": "magnetic stripe data, track 1 and 2",
    "IBAN": "international bank account numbers: mod 97 and country length",
    "BIC": "bank identifier codes, beside a word that says so",
    "US_SSN": "US social security numbers",
    "US_ITIN": "US individual taxpayer numbers",
    "US_PASSPORT": "US passport numbers, beside the word",
    "US_BANK_ACCOUNT": "US bank account numbers, beside a word that says so",
    "US_DRIVER_LICENSE": "US driver's licence numbers, beside the word",
    "UK_NHS": "NHS numbers: modulus 11, beside the word",
    "UK_NINO": "UK national insurance numbers",
    "NATIONAL_ID": "national identity numbers of 26 countries, by python-stdnum, beside a word that says so",
    "IP": "IPv4 and IPv6 addresses",
    "MAC": "hardware addresses",
    "URL_WITH_CREDENTIALS": "URLs with a user and a password",
    "CRYPTO_ADDRESS": "Bitcoin and Ethereum addresses",
    "DATE_OF_BIRTH": "dates, beside a word that says birth",
    "MEDICAL_RECORD_NUMBER": "medical record and patient numbers, beside a word that says so",
    "SECRET": "API keys, private keys, JSON web tokens, passwords",
}
"""Every entity that the built-in detector finds, in words."""

_SHAPES = (
    *credentials.SHAPES,
    *cards.SHAPES,
    *accounts.SHAPES,
    *contact.SHAPES,
    *identity.SHAPES,
    *national.SHAPES,
)
_SEPARATORS = re.compile(r"[\s.\-/()]+")
_UPPERCASE = frozenset(
    {"IBAN", "BIC", "UK_NINO", "NATIONAL_ID", "US_PASSPORT", "US_DRIVER_LICENSE", "MEDICAL_RECORD_NUMBER"}
)
_DIGITS = frozenset({"CARD_NUMBER", "CARD_CVV", "US_SSN", "US_ITIN", "US_BANK_ACCOUNT", "UK_NHS"})


def shapes(entities: Collection[str], region: str | None = None) -> tuple[Shape, ...]:
    """The shapes to look for. `region` (ISO 3166, "DE") is where phone numbers without a country code belong."""
    phone = Shape("PHONE", phones.PHONE, phones.phone_in(region), digits=6)
    return tuple(shape for shape in (*_SHAPES, phone) if shape.entity in entities)


def canonical(entity: str, text: str) -> str:
    """The value, however it was written: the digits of a card, a telephone number in E.164, an e-mail address in lower case.

    An entity without such a rule, a user's own among them, is its text.
    """
    if entity in _DIGITS:
        return "".join(filter(str.isdigit, text))
    if entity in _UPPERCASE:
        return _SEPARATORS.sub("", text).upper()
    if entity == "EMAIL":
        return text.lower()
    if entity == "MAC":
        return _SEPARATORS.sub("", text.replace(":", "")).lower()
    if entity == "PHONE":
        return phones.e164(text)
    if entity in ("IP", "CRYPTO_ADDRESS"):
        return text.lower() if ":" in text or text.startswith(("0x", "0X", "BC1")) else text
    return text
