"""What a shape is, and a place in a text where one was seen. Pure.

- A shape's pattern finds candidates cheaply, and its check decides. Patterns have no look-around, no backreference, and
  no repeat after which a long match can fail: they take linear time.
- Candidates are looked for in a whole batch, joined by NUL: what stands around one is of its own segment only.
- Context is a whole word, 60 characters before or 30 after, or a word of a JSON key that leads to the text.

Called by the tables of entities (`cards`, `accounts`, `contact`, `phones`, `identity`, `national`,
`credentials`) and by `detect`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from secure_memory.redaction.walk import Segment

BEFORE = 60
"""Characters before a candidate in which a context word counts."""
AFTER = 30

_NO_WORD = re.compile(r"[\W_]+")
_BLANKED = bytes(code if code > 127 or chr(code).isalnum() else 32 for code in range(256))
_SENTENCE = re.compile(r"[.!?][ \n]+|\n")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


Phrases = tuple[str, ...]
"""Words and phrases in lower case, each with a space before and after it, as `phrases` makes them."""


def phrases(*words: str) -> Phrases:
    """The words as they are looked for in what `spaced` gives."""
    return tuple(f" {word} " for word in words)


NUMBERED = phrases(
    *("order", "orders", "tracking", "track", "shipment", "parcel", "invoice", "ticket", "imei", "isbn", "ean", "upc"),
    *("gtin", "sku", "serial", "transaction", "reference", "ref", "case", "id", "uuid", "epoch", "timestamp", "hash", "sha"),
    *(
        "commit",
        "trace",
        "span",
        "request",
        "build",
        "version",
        "batch",
        "part",
        "model",
        "asset",
        "confirmation",
        "booking",
    ),
    *("snowflake", "nonce", "offset", "size", "bytes", "latitude", "longitude", "lat", "lon", "lng", "price", "amount"),
    "total",
)
"""What numbers that are nobody's are called: before a bare digit run, they outweigh a checksum that one in ten passes."""


def _first(words: Phrases, near: str) -> str | None:
    for word in words:
        if word in near:
            return word[1:-1]
    return None


class Hit(NamedTuple):
    """What a check found: a place in the joined text, how sure it is, and why."""

    start: int
    end: int
    score: float
    validator: str | None = None
    context: str | None = None


class Candidate:
    """A match of a shape's pattern in the joined text, with the segment that it lies in."""

    __slots__ = ("_place", "_words", "first", "last", "match", "segment", "whole")

    def __init__(self, match: re.Match[str], segment: Segment, first: int) -> None:
        self.match = match
        self.segment = segment
        self.whole = match.string
        self.first = first
        """Where the segment starts in the joined text; `last` is where it ends."""
        self.last = first + len(segment.text)
        self._place = (-1, -1)
        self._words = ""

    def before(self, start: int, characters: int = BEFORE) -> str:
        """What stands before a place, in the segment."""
        return self.whole[max(self.first, start - characters) : start]

    def after(self, end: int, characters: int = AFTER) -> str:
        """What stands after a place, in the segment."""
        return self.whole[end : min(self.last, end + characters)]

    def alone(self, start: int, end: int) -> bool:
        """Whether no letter, digit or underscore touches the place: it is no part of a longer word or number."""
        return not (
            (start > self.first and _wordlike(self.whole[start - 1])) or (end < self.last and _wordlike(self.whole[end]))
        )

    def apart(self, start: int, end: int) -> bool:
        """Whether the place is `alone`, and no part of a longer id or number with dashes, dots or slashes in it."""
        if not self.alone(start, end):
            return False
        before, after = self.before(start, 2), self.after(end, 2)
        if len(before) == 2 and (
            (before[1] in "-/" and _wordlike(before[0])) or (before[1] in ".:" and before[0].isdigit())
        ):
            return False
        if len(after) < 2:
            return True
        return not (
            (after[0] in "-@" and _wordlike(after[1]))
            or (after[0] in ".:" and after[1].isdigit())
            or (after[0] == "/" and after[1].isalpha())
        )

    def context(self, start: int, end: int, words: Phrases) -> str | None:
        """The first of these words that stands near, or in the keys; None where none does."""
        return _first(words, self.near(start, end))

    def near(self, start: int, end: int) -> str:
        """The words that stand near, and those of the keys, `spaced`."""
        if self._place != (start, end):
            self._place = start, end
            self._words = self._around(start, end) + keywords(self.segment.keys)
        return self._words

    def _around(self, start: int, end: int) -> str:
        before, after = self.before(start), self.after(end)
        cut_before = len(before) == BEFORE and start - BEFORE > self.first and _wordlike(self.whole[start - BEFORE - 1])
        cut_after = len(after) == AFTER and end + AFTER < self.last and _wordlike(self.whole[end + AFTER])
        words = spaced(before)
        if cut_before:  # a word that the window cuts is no whole word
            words = " " + words[1:].partition(" ")[2]
        following = spaced(after)
        if cut_after:
            following = following[:-1].rpartition(" ")[0] + " "
        return words + following

    def said_before(self, start: int, words: Phrases, characters: int = 25) -> str | None:
        """The first of these words that stands close before a place, or in the last key."""
        return _first(words, spaced(self.before(start, characters)) + keywords(self.segment.keys[-1:]))

    def numbered(self, start: int) -> str | None:
        """What the number is called, by the sentence before it or the last key, where that is nobody's: "order", "id"."""
        return _first(NUMBERED, spaced(_SENTENCE.split(self.before(start, 25))[-1]) + keywords(self.segment.keys[-1:]))


Check = Callable[[Candidate], Iterable[Hit]]


Spot = Callable[[str], frozenset[str] | None]
"""Which of the texts that it was made for are somewhere in a text; None where it can't say."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One way in which an entity is written.

    The rest are tests of a microsecond, which most batches fail: one of `triggers` (lowercase) has to occur somewhere in a
    text or a key, one of `words` as whole words, so many `digits`, and a run of so many characters without white space.
    """

    entity: str
    pattern: str
    check: Check
    triggers: tuple[str, ...] = ()
    digits: int = 0
    words: tuple[str, ...] = ()
    unspaced: int = 0


class Batch:
    """What the tests of shapes ask of a batch, each worked out once, when it is asked. `spot` says which triggers and words
    are somewhere in a text, at once, where something can."""

    def __init__(self, joined: str, keys: Iterable[tuple[str, ...]], spot: Spot | None) -> None:
        self._joined = joined
        self._lower = joined.lower() + "".join(map(keywords, keys))
        self.spotted = spot(self._lower) if spot else None
        self._known: dict[tuple[str, ...], bool] = {}

    def may_have(self, shape: Shape) -> bool:
        """Whether the shape's tests pass."""
        return (
            (not shape.digits or shape.digits <= self._digits)
            and (not shape.unspaced or self.spotted is not None or shape.unspaced <= self._unspaced)
            and (not shape.triggers or self._occurs(shape.triggers))
            and (not shape.words or self._said(shape.words))
        )

    def _occurs(self, texts: tuple[str, ...]) -> bool:
        known = self._known.get(texts)
        if known is None:
            if self.spotted is None:
                known = any(text in self._lower for text in texts)
            else:
                known = not self.spotted.isdisjoint(texts)
            self._known[texts] = known
        return known

    def _said(self, words: tuple[str, ...]) -> bool:
        """Whether one of the words is there as a whole word; of a phrase all words, wherever they are."""
        first, single, several = parted(words)
        return (self.spotted is None or self._occurs(first)) and (
            not self._words.isdisjoint(single) or any(part <= self._words for part in several)
        )

    @cached_property
    def _digits(self) -> int:
        text = self._joined.encode("utf-8", "surrogatepass")
        return len(text) - len(text.translate(None, b"0123456789"))

    @cached_property
    def _unspaced(self) -> int:
        return max(map(len, self._joined.split()), default=0)

    @cached_property
    def _words(self) -> frozenset[str]:
        # As `spaced` splits, several times as fast: ASCII by a table, and only what has other characters by the pattern.
        words = self._lower.encode("utf-8", "surrogatepass").translate(_BLANKED).decode("utf-8", "surrogatepass").split()
        return frozenset(part for word in words for part in ((word,) if word.isascii() else _NO_WORD.split(word)))


@lru_cache(maxsize=256)
def parted(words: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str], tuple[frozenset[str], ...]]:
    """The first word of each, those that are one word, and the words of the others."""
    split = [word.split() for word in words]
    first = tuple(sorted({parts[0] for parts in split}))
    return first, frozenset(p[0] for p in split if len(p) == 1), tuple(frozenset(p) for p in split if len(p) > 1)


def _wordlike(character: str) -> bool:
    return character.isalnum() or character == "_"


def spaced(text: str) -> str:
    """The words of a text in lower case, one space before and after each, so that `" word " in` finds whole words."""
    return f" {_NO_WORD.sub(' ', text.lower()).strip()} " if text else " "


@lru_cache(maxsize=1024)
def keywords(keys: tuple[str, ...]) -> str:
    """The words of JSON keys, `spaced`: `cardNumber`, `card_number` and `card-number` are "card number". Keys come again and
    again, so that some are remembered; of texts nothing ever is."""
    return spaced(" ".join(_HUMP.sub(" ", key[:100]) for key in keys)) if keys else " "


def digits_of(text: str) -> str:
    """The digits of a text."""
    return "".join(filter(str.isdigit, text))
