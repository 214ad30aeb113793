"""What is done to a finding: the text that stands in its place.

- redact       `[EMAIL]`
- mask         what helps to tell one from another and gives nobody away: `************1111`
- pseudonymise `EMAIL_k7f3...`: the same person's address is the same pseudonym in the tenant
- tokenise     the same form, under the subject's key; the original is told to the caller, who keeps it sealed
- block        nothing: the pipeline refuses the whole

A pseudonym is HMAC-SHA256 of (entity, canonical value), its first 80 bits in base32. Keyed, since card numbers and
addresses are few enough to try them all against a plain hash; 80 bits, so that a billion values are 2^-21 likely to
share one. The key never comes here: whoever composes hands in the function.

What stands in the place of a finding is never one again: `standing` finds placeholders and tokens, and the pipeline keeps
detectors from them. Anybody can write such a text; then it is text, and names nothing. Called by `pipeline`.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

HMAC = Callable[[bytes], bytes]
"""HMAC-SHA256 under a key that only its owner has."""

KEPT = "keep"
BLOCKED = "block"
OPERATORS = frozenset({KEPT, "redact", "mask", "pseudonymise", "tokenise", BLOCKED})

TOKEN_LETTERS = 16  # 80 bits

_SHOWN = {
    # The last four digits of a card may be displayed (PCI DSS 4.0.1 3.4.1), and are what its holder knows it by.
    "CARD_NUMBER": 4,
    "IBAN": 4,
    "US_BANK_ACCOUNT": 4,
    # Two digits tell a caller's numbers apart and don't ring.
    "PHONE": 2,
}
MIN_MASKED = 8
"""Letters and digits that a value must have for a part of it to be shown: of less, a part is too much."""


class Keyed(NamedTuple):
    """The keyed functions: the tenant's for pseudonyms, the subject's for tokens."""

    pseudonym: HMAC
    token: HMAC


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was put in the place of `original`, for whoever keeps that sealed. Says nothing of it in its repr."""

    token: str
    entity: str
    original: str = field(repr=False)


def redacted(entity: str) -> str:
    """`[EMAIL]`"""
    return f"[{entity}]"


def masked(entity: str, text: str) -> str:
    """The text with all but a little of it hidden; where nothing may be shown, or the value is short, `[ENTITY]`."""
    letters = "".join(char for char in text if char.isalnum())
    if not text.isascii() or len(letters) < MIN_MASKED:
        return redacted(entity)
    if entity == "EMAIL" and "@" in text:
        local, _, domain = text.rpartition("@")
        # The first letter of a name and whether it is .com or .de: the domain itself may be a person's or a firm's.
        ending = domain.rpartition(".")[2]
        return (
            f"{local[0]}***@***.{ending}" if len(local) > 2 and local[0].isalnum() and ending.isalpha() else redacted(entity)
        )
    shown = _SHOWN.get(entity, 0)
    if not shown or not letters[-shown:].isdigit():
        return redacted(entity)
    return "*" * (len(letters) - shown) + letters[-shown:]


def keyed(entity: str, canonical: str, mac: HMAC) -> str:
    """`EMAIL_k7f3...`: the name that a value has under a key. `canonical` is the value however it was written."""
    # Entities have no NUL, so that no two pairs give the same bytes. Text in JSON may have lone surrogates.
    digest = mac(entity.encode() + b"\0" + canonical.encode("utf-8", "surrogatepass"))
    return f"{entity}_{b32encode(digest[:10]).decode().lower()}"


def standing(entities: Collection[str]) -> Callable[[str], list[tuple[int, int]]]:
    """What finds the spans of placeholders and tokens of these entities in a text.

    Only names of known entities count, since `[AKIAIOSFODNN7EXAMPLE]` must not pass for a placeholder; and a token ends
    where it ends, so that nothing hides in `EMAIL_aaaaaaaaaaaaaaaajane@example.com`, nor before an @. One that consists of
    digits alone could be a card number: no real one does (in 2^-38 of all cases).
    """
    names = "|".join(sorted(map(re.escape, entities), key=len, reverse=True)) or r"(?!)"
    placed = re.compile(rf"\[(?:{names})\]|(?<![A-Za-z0-9_])(?:{names})_(?![2-7]{{16}})[a-z2-7]{{16}}(?![A-Za-z0-9_@])")
    tail = re.compile(r"_[a-z2-7]{16}")

    def spans(text: str) -> list[tuple[int, int]]:
        if "[" not in text and tail.search(text) is None:  # cheap, and nearly always enough
            return []
        return [match.span() for match in placed.finditer(text)]

    return spans
