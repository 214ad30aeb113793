"""Numbers that a state or a hospital gave a person, and dates of birth. Pure.

US_SSN, US_ITIN, US_PASSPORT, US_DRIVER_LICENSE, UK_NHS, UK_NINO, DATE_OF_BIRTH, MEDICAL_RECORD_NUMBER. `national` has those
of other countries. Most such numbers are bare digits without a checksum, so that a word or a key has to name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from secure_memory.redaction.candidate import Candidate, Check, Hit, Phrases, Shape, digits_of, phrases

SSN_WORDS = phrases("ssn", "ssns", "social security", "social security number", "social", "soc sec", "ss number", "ss")
ITIN_WORDS = phrases("itin", "taxpayer", "tax id", "tin", "individual taxpayer", "tax")
_GROUPED = re.compile(r"(\d{3})([ .\-]?)(\d{2})\2(\d{4})\Z")


def _ssn(seen: Candidate) -> Iterator[Hit]:
    """SSA: no area 000, 666 or 900 and up, no group 00, no serial 0000."""
    parts = _GROUPED.match(seen.match.group())
    start, end = seen.match.span()
    if not parts or not seen.apart(start, end):
        return
    area, separator, group, serial = parts.groups()
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return
    context = seen.context(start, end, SSN_WORDS)
    if context or (separator == "-" and not seen.numbered(start)):
        yield Hit(start, end, 0.95 if context else 0.85, "SSA ranges", context)


def _itin(seen: Candidate) -> Iterator[Hit]:
    """IRS: area 900 and up, group 50-65, 70-88, 90-92 or 94-99."""
    parts = _GROUPED.match(seen.match.group())
    start, end = seen.match.span()
    if not parts or not seen.apart(start, end) or parts.group(1)[0] != "9":
        return
    group = int(parts.group(3))
    if not (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99):
        return
    context = seen.context(start, end, ITIN_WORDS + SSN_WORDS)
    if context or (parts.group(2) == "-" and not seen.numbered(start)):
        yield Hit(start, end, 0.95 if context else 0.85, "IRS ranges", context)


def _named(words: Phrases, score: float, near: int, digits: int, against: Phrases = ()) -> Check:
    """A check for what has no checksum: one of the words stands at most `near` characters before, or in the last key."""

    def check(seen: Candidate) -> Iterator[Hit]:
        start, end = seen.match.span()
        if sum(map(str.isdigit, seen.match.group())) < digits or not seen.apart(start, end):
            return
        context = seen.said_before(start, words, near)
        if context and not (against and seen.said_before(start, against, 12)):
            yield Hit(start, end, score, None, context)

    return check


PASSPORT_WORDS = phrases("passport", "passports", "passport number", "passport no", "passport id", "travel document")
LICENSE_WORDS = phrases(
    *("driver license", "drivers license", "driver s license", "driving license", "driver licence", "drivers licence"),
    *(
        "driver s licence",
        "driving licence",
        "license number",
        "licence number",
        "driver lic",
        "dl",
        "dln",
        "permit",
        "license",
    ),
)
RECORD_WORDS = phrases(
    *("mrn", "medical record", "medical record number", "medical records", "patient id", "patient number", "patient no"),
    *("chart number", "health record", "hospital number", "medical id", "medical number", "record number"),
)
BIRTH_WORDS = phrases(
    *(
        "dob",
        "d o b",
        "born",
        "birth",
        "birthday",
        "birthdate",
        "birth date",
        "date of birth",
        "bday",
        "geboren",
        "geburtsdatum",
    ),
    *(
        "geb",
        "né",
        "née",
        "naissance",
        "nacido",
        "nacida",
        "nacimiento",
        "nascita",
        "nato",
        "nata",
        "nascimento",
        "geboortedatum",
    ),
)
_MONTHS = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    "|dec(?:ember)?)"
)
_YEAR = "(?:19|20)[0-9]{2}"
DATE = "|".join(
    (
        rf"{_YEAR}[\-/.][0-9]{{1,2}}[\-/.][0-9]{{1,2}}",
        rf"[0-9]{{1,2}}[\-/.][0-9]{{1,2}}[\-/.](?:{_YEAR}|[0-9]{{2}})",
        rf"[0-9]{{1,2}}(?:st|nd|rd|th)?[ \-](?:of )?{_MONTHS}\.?,?[ \-]{_YEAR}",
        rf"{_MONTHS}\.? [0-9]{{1,2}}(?:st|nd|rd|th)?,? {_YEAR}",
    )
)
_TIME = re.compile(r"[T ]\d\d:\d\d")


def _birth(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    if not seen.apart(start, end) or _TIME.match(seen.whole, end, seen.last):
        return
    small = [int(number) for number in re.findall(r"\d+", seen.match.group()) if len(number) <= 2][:2]
    if all(1 <= number <= 31 for number in small) and (len(small) < 2 or min(small) <= 12):
        context = seen.said_before(start, BIRTH_WORDS, 40)
        if context:
            yield Hit(start, end, 0.9, None, context)


# ---- United Kingdom --------------------------------------------------------------------------------------------------

NINO_WORDS = phrases("nino", "ni", "national insurance", "ni number", "insurance number")
NHS_WORDS = phrases("nhs", "nhs number", "nhs no", "health service")


def _nino(seen: Candidate) -> Iterator[Hit]:
    """HMRC, NIM39110: no D, F, I, Q, U, V in the prefix, no O as its second letter, and prefixes that are not given out."""
    start, end = seen.match.span()
    text = seen.match.group().upper()
    if not seen.apart(start, end) or text[:2] in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"):
        return
    context = seen.context(start, end, NINO_WORDS)
    spaced = " " in text
    if context or (seen.match.group()[:2].isupper() and (spaced or not (seen.segment.tool or seen.numbered(start)))):
        yield Hit(start, end, 0.95 if context else 0.85, "NINO prefixes", context)


def _nhs(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    digits = digits_of(seen.match.group())
    context = seen.apart(start, end) and seen.context(start, end, NHS_WORDS)
    if context and (11 - sum(int(d) * w for d, w in zip(digits, range(10, 1, -1), strict=False)) % 11) % 11 == int(
        digits[9]
    ):
        yield Hit(start, end, 0.98, "modulus 11", context)


_NINO = r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"

SHAPES = (
    Shape("US_SSN", r"\d{3}[ .\-]?\d{2}[ .\-]?\d{4}", _ssn, digits=9),
    Shape("US_ITIN", r"9\d{2}[ .\-]?\d{2}[ .\-]?\d{4}", _itin, digits=9),
    Shape("US_PASSPORT", r"[A-Za-z]?\d{8,9}", _named(PASSPORT_WORDS, 0.85, 40, 8), digits=8, words=PASSPORT_WORDS),
    Shape(
        "US_DRIVER_LICENSE",
        r"[A-Za-z0-9][A-Za-z0-9\-]{4,18}",
        _named(LICENSE_WORDS, 0.8, 35, 2, phrases("plate", "software", "key")),
        digits=2,
        words=LICENSE_WORDS,
    ),
    Shape(
        "MEDICAL_RECORD_NUMBER",
        r"(?:[A-Za-z]{1,4}-?)?\d[A-Za-z0-9\-]{3,14}",
        _named(RECORD_WORDS, 0.85, 30, 4),
        digits=4,
        words=RECORD_WORDS,
    ),
    Shape("UK_NINO", _NINO, _nino, digits=6),
    Shape("UK_NINO", _NINO.lower(), _nino, digits=6, words=NINO_WORDS),
    Shape("UK_NHS", r"\d{3}[ \-]?\d{3}[ \-]?\d{4}", _nhs, digits=10, words=NHS_WORDS),
    Shape("DATE_OF_BIRTH", f"(?i)(?:{DATE})", _birth, digits=3, words=BIRTH_WORDS),
)
