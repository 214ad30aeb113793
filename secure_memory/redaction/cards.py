"""Payment cards: CARD_NUMBER, CARD_CVV, CARD_TRACK. Pure.

A card number has a length and an issuer range that exist, and passes Luhn (ISO/IEC 7812-1). One in ten numbers does, so that
a bare one that is called an order or an id is none. A code has no checksum: a word, a key or a card has to stand before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from secure_memory.redaction.candidate import Candidate, Hit, Shape, digits_of, phrases

CARD_WORDS = phrases(
    *("card", "cards", "credit card", "debit card", "cc", "ccn", "pan", "visa", "mastercard", "amex", "american express"),
    *("maestro", "discover", "diners", "jcb", "unionpay", "karte", "kreditkarte", "carte", "tarjeta", "carta", "cartao"),
    *("payment", "pay", "charge", "charged", "cvv", "cvc", "expiry", "exp", "expires"),
)
_LENGTHS: tuple[tuple[range, range], ...] = (
    (range(400_000, 500_000), range(13, 20, 3)),  # Visa: 13, 16, 19
    (range(510_000, 560_000), range(16, 17)),  # Mastercard
    (range(222_100, 272_100), range(16, 17)),
    (range(340_000, 350_000), range(15, 16)),  # American Express
    (range(370_000, 380_000), range(15, 16)),
    (range(601_100, 601_200), range(16, 20)),  # Discover
    (range(644_000, 660_000), range(16, 20)),
    (range(350_000, 360_000), range(16, 20)),  # JCB
    (range(213_100, 213_200), range(15, 16)),
    (range(180_000, 180_100), range(15, 16)),
    (range(300_000, 306_000), range(14, 20)),  # Diners Club
    (range(309_500, 309_600), range(14, 20)),
    (range(360_000, 370_000), range(14, 20)),
    (range(380_000, 400_000), range(14, 20)),
    (range(620_000, 630_000), range(16, 20)),  # UnionPay
    (range(810_000, 820_000), range(16, 20)),
    (range(500_000, 510_000), range(12, 20)),  # Maestro
    (range(560_000, 590_000), range(12, 20)),
    (range(630_400, 630_500), range(12, 20)),
    (range(639_000, 640_000), range(12, 20)),
    (range(675_900, 676_400), range(12, 20)),
)
"""First six digits of what each issuer gives out, and how long its numbers are."""
_GROUPINGS = {(4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (6, 13), (8, 8)}
_RUN = re.compile(r"\d+")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


def issued(digits: str) -> bool:
    """Whether an issuer gives out numbers that start so and are that long."""
    first = int(digits[:6])
    return any(first in prefixes and len(digits) in lengths for prefixes, lengths in _LENGTHS)


def _cards(seen: Candidate) -> Iterator[Hit]:
    runs = [(m.start(), m.end()) for m in _RUN.finditer(seen.whole, seen.match.start(), seen.match.end())]
    sizes = [end - start for start, end in runs]
    first = 0 if sum(sizes) >= 12 else len(runs)
    while first < len(runs):
        # Digits one by one are a number from the first of them on: else a column of digits would be looked at from each.
        inner = first > 0 and sizes[first] <= 2 and sizes[first - 1] == sizes[first]
        size = 0
        for last in range(first, first if inner else len(runs)):
            size += sizes[last]
            if size > 19:
                break
            hit = _card(seen, runs[first : last + 1]) if size >= 12 else None
            if hit:
                yield hit
                first = last
                break
        first += 1


def _card(seen: Candidate, runs: list[tuple[int, int]]) -> Hit | None:
    """The card number that these runs of digits are together, if they are one."""
    sizes = tuple(end - start for start, end in runs)
    if not 12 <= sum(sizes) <= 19:
        return None
    start, end = runs[0][0], runs[-1][1]
    gaps = [seen.whole[runs[i][1] : runs[i + 1][0]] for i in range(len(runs) - 1)]
    even = len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0] and sizes[0] in (1, 2, 4)
    if gaps and (not (even or sizes in _GROUPINGS) or max(map(len, gaps)) > 3 or sum("\n" in gap for gap in gaps) > 1):
        return None
    digits = "".join(seen.whole[a:b] for a, b in runs)
    if not (luhn(digits) and seen.apart(start, end)) or len(set(digits)) < 2:
        return None
    if not issued(digits):  # what is called a card and passes Luhn may be one of an issuer that we don't know
        said = seen.said_before(start, CARD_WORDS[:10], 40)
        return Hit(start, end, 0.8, "Luhn", said) if said and len(runs) < 6 else None
    context = seen.context(start, end, CARD_WORDS)
    # 12 and 13 digits are also account numbers, bar codes and milliseconds.
    if context is None and len(runs) == 1 and (len(digits) < 14 or seen.numbered(start)):
        return None
    return Hit(start, end, 0.99, "Luhn and issuer range", context)


CVV_WORDS = phrases("cvv", "cvv2", "cvc", "cvc2", "cvn", "csc", "cid", "security code", "verification code", "card code")


def _cvv(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span(1)
    if not seen.apart(start, end):
        return
    named = " ".join(seen.match.group().lower()[: start - seen.match.start()].split())
    doubtful = named.startswith(("cid", "verification"))
    if not seen.alone(seen.match.start(), end) or (doubtful and not seen.context(seen.match.start(), end, CARD_WORDS[:15])):
        return
    yield Hit(start, end, 0.95, None, re.sub(r"[\W_]+.*", "", named) or named)


def _cvv_by_key(seen: Candidate) -> Iterator[Hit]:
    """A whole leaf of three or four digits, under a key that says what it is."""
    start, end = seen.match.span()
    if (start, end) == (seen.first, seen.last):
        named = seen.said_before(start, CVV_WORDS)
        if named and (named not in ("cid", "verification code") or seen.context(start, end, phrases("card", "payment"))):
            yield Hit(start, end, 0.95, None, named)


def _cvv_after_expiry(seen: Candidate) -> Iterator[Hit]:
    """`4111 1111 1111 1111 12/27 123`: the code behind a number and a date."""
    number = digits_of(seen.match.group(1))
    if any(luhn(number[-length:]) and issued(number[-length:]) for length in (16, 15, 14) if len(number) >= length):
        start, end = seen.match.span(2)
        if seen.apart(start, end):
            yield Hit(start, end, 0.9, None, "card number")


def _track(seen: Candidate) -> Iterator[Hit]:
    number = digits_of(re.split(r"[\^=]", seen.match.group())[0])
    if luhn(number):
        yield Hit(*seen.match.span(), 1.0, "Luhn, track layout")


SHAPES = (
    Shape("CARD_NUMBER", r"\d[\d \t\n.\-]{11,}", _cards, digits=12),
    Shape(
        "CARD_CVV",
        r"(?i)(?:cvv2?|cvc2?|cvn2?|csc|cid|(?:card )?(?:security|verification|card) (?:code|value|number))"
        r"[ \t]{0,3}(?:number|code|no\.?|is|was|:|=|#|->|\(|\"|'|[ \t]){0,6}(\d{3,4})",
        _cvv,
        ("cvv", "cvc", "cvn", "csc", "cid", "security", "verification", "card code"),
        digits=3,
    ),
    Shape("CARD_CVV", r"\d{3,4}", _cvv_by_key, ("cvv", "cvc", "cvn", "csc", "cid", "security", "verification"), 3),
    Shape(
        "CARD_CVV",
        r"(\d[\d \-]{12,22})[ ,;|/]{1,3}(?:exp(?:iry|ires)?[:. ]{0,2})?\d\d ?/ ?(?:20)?\d\d[ ,;|/]{1,3}(\d{3,4})",
        _cvv_after_expiry,
        ("/",),
        digits=18,
    ),
    Shape("CARD_TRACK", r"%?[Bb]\d{12,19}\^[^\^\n\x00]{2,40}\^\d{4}[^?\n\x00]{3,80}\??", _track, ("^",), 16),
    Shape("CARD_TRACK", r";?\d{12,19}=\d{7,40}\??", _track, ("=",), 19),
)
