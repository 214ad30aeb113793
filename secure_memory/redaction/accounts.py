"""Bank accounts: IBAN, BIC, US_BANK_ACCOUNT. Pure.

An IBAN has its country's length and passes mod 97-10 (ISO 13616). The others have no checksum, and are found beside a word
that names them.
"""

from __future__ import annotations

from collections.abc import Iterator

from secure_memory.redaction.candidate import NUMBERED, Candidate, Hit, Shape, digits_of, phrases

_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD FK", "19": "MK SI", "20": "AT BA EE KZ LT LU XK MN",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ OM TL SO",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "PT ST LY", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC", "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""Characters of an IBAN by country: SWIFT's IBAN registry."""


def _iban(seen: Candidate) -> Iterator[Hit]:
    """The pattern is an IBAN's head only: what follows may be another one's head."""
    start, end = seen.match.span()
    length = _IBAN_LENGTHS.get(seen.match.group()[:2].upper(), 0)
    value = seen.match.group().upper()
    while len(value) < length and end < seen.last:
        character = seen.whole[end]
        if character.isalnum() and character.isascii():
            value += character.upper()
        elif character not in " -." or not seen.whole[end - 1].isalnum():
            break
        end += 1
    if len(value) == length and seen.alone(start, end) and mod97(value):
        yield Hit(start, end, 1.0, "mod 97 and country length", seen.context(start, end, _IBAN_WORDS))


def mod97(value: str) -> bool:
    """Whether the check digits of an IBAN are right: ISO 7064 mod 97-10."""
    return int("".join(str(int(character, 36)) for character in value[4:] + value[:4])) % 97 == 1


_IBAN_WORDS = phrases("iban", "account", "konto")
BIC_WORDS = phrases("bic", "swift", "swift code", "bic code", "swift bic")
ACCOUNT_WORDS = phrases(
    *(
        "account number",
        "account no",
        "account num",
        "account",
        "acct",
        "acct number",
        "bank account",
        "checking",
        "savings",
    ),
    *("direct deposit", "iban", "routing", "routing number", "aba", "wire"),
)
_NO_BANK = (
    phrases(
        "google", "github", "user", "customer", "member", "twitter", "instagram", "email", "aws", "loyalty", "phone", "ssn"
    )
    + NUMBERED
)


def _bic(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    context = seen.apart(start, end) and seen.context(start, end, BIC_WORDS)
    if context and seen.match.group()[4:6] in _COUNTRIES:
        yield Hit(start, end, 0.9, None, context)


_COUNTRIES = frozenset(_IBAN_LENGTHS) | {
    *(
        "US",
        "CA",
        "AU",
        "NZ",
        "JP",
        "CN",
        "HK",
        "SG",
        "IN",
        "KR",
        "TW",
        "TH",
        "MY",
        "ID",
        "PH",
        "VN",
        "ZA",
        "NG",
        "KE",
        "MA",
    ),
    *("MX", "AR", "CL", "CO", "PE", "UY", "BO", "EC", "PY", "VE", "PA", "JM", "BS", "BM", "KY"),
}
"""Countries that a BIC may name, at its fifth letter."""


def _bank_account(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    if not (6 <= len(digits_of(seen.match.group())) <= 17 and seen.apart(start, end)):
        return
    near = seen.said_before(start, ACCOUNT_WORDS, 40)
    if near and not seen.said_before(start, _NO_BANK, 20):
        yield Hit(start, end, 0.7, None, near)


SHAPES = (
    Shape("IBAN", r"[A-Za-z]{2}\d\d", _iban, digits=8),
    Shape("BIC", r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", _bic, words=BIC_WORDS),
    Shape(
        "US_BANK_ACCOUNT",
        r"\d{3,17}(?:[ \-]\d{3,17}){0,3}",
        _bank_account,
        digits=6,
        words=ACCOUNT_WORDS,
    ),
)
