"""PHONE: telephone numbers that a numbering plan knows (phonenumbers, Google's libphonenumber). Pure.

With a country code anywhere; in national form beside a word or key that says telephone, in the region given, grouped as
North American numbers are, or grouped behind a trunk zero. phonenumbers is imported when the first candidate needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from secure_memory.redaction.candidate import Candidate, Check, Hit, digits_of, phrases

PHONE = r"[+(]?\d[\d \t().\-/]{4,22}\d"
"""What may be a phone number; its check, `phone_in`, depends on the region."""

PHONE_WORDS = phrases(
    *(
        "phone",
        "phones",
        "phone number",
        "telephone",
        "tel",
        "mobile",
        "cell",
        "cellphone",
        "fax",
        "call",
        "calling",
        "called",
    ),
    *(
        "text",
        "sms",
        "whatsapp",
        "signal",
        "dial",
        "ring",
        "answering",
        "message",
        "messages",
        "registered",
        "reach",
        "reached",
    ),
    *("contact", "hotline", "voicemail", "landline", "number is", "my number", "his number", "her number", "their number"),
    *("telefon", "telefonnummer", "handy", "mobil", "téléphone", "portable", "teléfono", "telefono", "móvil", "cellulare"),
    *("telefone", "celular", "telefoon", "puhelin"),
)
_GROUPED_NANP = re.compile(
    r"(?:\+?1[ .\-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d([ .\-]))[2-9]\d\d[ .\-]\d{4}(?:(?: ?x| ?ext\.? ?)\d{1,6})?"
)
_NO_PHONE = re.compile(
    r"(?:(?:19|20)\d\d[ ./\-]\d\d?[ ./\-]\d\d?|\d\d?[./\-]\d\d?[./\-](?:19|20)?\d\d)(?![./\-]?\d)"  # a date
    r"|\d{3}-\d\d-\d{4}\Z"  # a social security number
    r"|\d{1,3}(?:\.\d{1,3}){3}\Z"  # an IP address
)
_TRUNK_ZERO = ("GB", "FR", "NL", "BE", "CH", "SE", "AU", "NZ", "IE", "ZA", "IN", "JP")
"""Where numbers in national form begin with a zero: one that is grouped and that one of them knows is a telephone's."""
_PLACES = phrases("apt", "apartment", "suite", "unit", "box", "room", "flat")
"""What the number of a door stands behind."""
_SAID_BEFORE = re.compile(r"\b(office|desk|home|work|direct)[ :.]{1,3}\Z", re.IGNORECASE)
_SAID_AFTER = re.compile(r"[ \-(]{1,2}(phone|office|mobile|cell|fax|home|work|tel|desk|direct)\b", re.IGNORECASE)
_EXTENSION = re.compile(r"(?: ?[xX]| ?[eE]xt\.? ?)\d{1,6}(?!\w)")


def known(number: str, region: str | None) -> str | None:
    """E.164 where a numbering plan has such a number; None where none does."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    valid = phonenumbers.is_valid_number(parsed)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) if valid else None


def e164(text: str) -> str:
    """The number in E.164 where it has a country code or is North American; else its digits."""
    number, _, _ = text.lower().partition("x")
    international = number.startswith("+") or number.startswith("00")
    full = known("+" + number.lstrip("+").removeprefix("00") if international else number, "US")
    return full or ("+" if international else "") + digits_of(number).removeprefix("00")


def possible(number: str, region: str | None) -> bool:
    """Whether the number has a length that its country has."""
    import phonenumbers

    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def phone_in(region: str | None) -> Check:
    """The check for PHONE, which takes numbers without a country code for ones of `region`, where it is given."""

    def check(seen: Candidate) -> Iterator[Hit]:
        text = seen.match.group()
        start, end = seen.match.start(), seen.match.end() - len(text) + len(text.rstrip(" .()/-\t\n"))
        if "\n" in text:
            end = start + len(text.partition("\n")[0].rstrip(" .()/-\t"))
        hit = _phone(seen, start, end, region)
        if hit:
            yield hit

    return check


def _phone(seen: Candidate, start: int, end: int, region: str | None) -> Hit | None:
    number = seen.whole[start:end]
    digits = digits_of(number)
    international = number[0] == "+" or (number.startswith("00") and number[2:3] != "0" and len(digits) > 9)
    if not 6 <= len(digits) <= (18 if international else 13) or _NO_PHONE.match(number):
        return None
    extension = _EXTENSION.match(seen.whole, end, seen.last)
    stop = extension.end() if extension else end
    apart = seen.apart(start, stop) or (seen.alone(start, stop) and _SAID_AFTER.match(seen.whole, stop, seen.last))
    if not apart or seen.before(start, 1) in ("+", "$", "€", "£"):
        return None
    said = _SAID_BEFORE.search(seen.before(start, 12)) or _SAID_AFTER.match(seen.whole, stop, seen.last)
    named = seen.context(start, end, PHONE_WORDS) or (said.group(1).lower() if said else None)
    if (not named and seen.numbered(start)) or seen.said_before(start, _PLACES, 10):
        return None
    if international:
        full = number if number[0] == "+" else "+" + number[2:].lstrip(" -.")
        if known(full, None) or known(full.replace("(0)", ""), None):
            return Hit(start, stop, 0.95, "numbering plan", named)
        sure = named or number[0] == "+"
        return Hit(start, stop, 0.6, None, named) if sure and possible(full.replace("(0)", ""), None) else None
    if seen.segment.tool and not named and "(" not in number:
        return None
    close = said or seen.said_before(start, PHONE_WORDS, 30 if len(digits) > 6 else 12)
    score, plan = _national(number, digits, bool(named), bool(close), region)
    return Hit(start, stop, score, plan, named) if score else None


def _national(number: str, digits: str, named: bool, close: bool, region: str | None) -> tuple[float, str | None]:
    """How sure it is that a number without a country code is a telephone's, and by what; 0 where it isn't. `named`: a word
    says so, somewhere near; `close`: right there."""
    grouped = bool(_GROUPED_NANP.fullmatch(number))
    trunk = digits[0] == "0" and len(digits) < len(number) and len(digits) >= 9
    if any(known(number, place) for place in (region, "US" if grouped or named else None) if place):
        return 0.9, "numbering plan"
    if grouped or (trunk and number[0] == "("):
        return 0.6, None
    # Numbers of other countries: the word says what it is, and its shape that it may be.
    if close and (len(digits) < len(number) or digits[0] == "0" or len(digits) == 10):
        return 0.6, None
    if trunk and any(known(number, place) for place in _TRUNK_ZERO):
        return 0.9, "numbering plan"
    return 0.0, None
