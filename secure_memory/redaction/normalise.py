"""What evasion looks like, undone: the texts that detectors look at, each with the way back to the original. Pure.

`views(text)` gives the texts in whose light a text is looked at, most often the text itself and nothing else:
- **folded**: full-width, Arabic-Indic and other digits and letters by NFKC, dashes, spaces and dots to those of ASCII. One
  character for one, so that offsets stay what they are;
- **loosened**: what nobody sees is dropped (zero-width, soft hyphen, variation selectors); percent-encoding, `\\u0040`,
  `&#64;` are decoded; a line break inside a number is a space;
- **decoded**: what a run of base64 says. A finding in it covers the whole run, of which no part can be taken out.

Both the folded and the loosened text are looked at where they differ, so that undoing hides nothing that was plain.
Linear; bounded in depth (encodings in encodings) and in the length of a run of base64. Not undone: letters that look like
other letters (Cyrillic for Latin), characters that NFKC makes several of, encodings we don't know. Called by `pipeline`.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

MAX_DECODINGS = 3
"""An encoding in an encoding in an encoding."""
MIN_BASE64, MAX_BASE64 = 16, 16_384
"""Characters of a run: shorter ones hold nothing that we know; a longer one is a file, and files are not looked into."""

_DROPPED = (  # Default_Ignorable_Code_Point (UAX #44), and what turns a digit into a keycap
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20e3\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\U000e0000-\U000e0fff"
)
_LOOSE = re.compile(
    rf"[{_DROPPED}]+|(?:%(?:25){{0,{MAX_DECODINGS - 1}}}[0-9A-Fa-f]{{2}})+|(?:(?<!\\)\\{{1,4}}u[0-9A-Fa-f]{{4}})+"
    r"|(?<!\\)\\{1,4}x[0-9A-Fa-f]{2}"
    r"|&#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6});|(?<=[0-9]) ?\r?\n ?(?=[0-9])"
)
_DROPPED_ONE = re.compile(f"[{_DROPPED}]")
_BREAK = re.compile(r"[0-9] ?\r?\n ?[0-9]")
# After a space, so that the search goes from one to the next: four times as fast as to try everywhere.
_LONG_WORD = re.compile(f" [^ ]{{{MIN_BASE64}}}")
_LONG_FIRST = re.compile(f"[^ ]{{{MIN_BASE64}}}")
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{MIN_BASE64},}}={{0,2}}")
_URL_SAFE = str.maketrans("-_", "+/")
_SPACES = str.maketrans("", "", "\t\n\r")


class View:
    """A text to look at in the place of another one, and the way back."""

    __slots__ = ("_ends", "_seen", "_starts", "text", "whole")

    def __init__(
        self, text: str, pieces: list[tuple[str, int, int]] | None = None, whole: tuple[int, int] | None = None
    ) -> None:
        """`pieces` are (what stands here, start, end in the original), where the text is made of such; `whole` is the span
        that any finding covers. With neither, offsets are those of the original."""
        self.text = text
        self.whole = whole
        self._seen: list[int] | None = None
        if pieces is not None:
            self._seen = list(accumulate((len(seen) for seen, _, _ in pieces), initial=0))
            self._starts = [start for _, start, _ in pieces]
            self._ends = [end for _, _, end in pieces]

    def back(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that `text[start:end]` came from, for 0 <= start < end <= len(text). What was decoded or
        dropped is inside it as a whole."""
        if self.whole is not None:
            return self.whole
        if self._seen is None:
            return start, end
        return self._place(start)[0], self._place(end - 1)[1]

    def _place(self, at: int) -> tuple[int, int]:
        """Where the character at an offset came from."""
        assert self._seen is not None  # noqa: S101  (for the type checker: `back` has asked)
        piece = bisect_right(self._seen, at) - 1
        first, start, end = self._seen[piece], self._starts[piece], self._ends[piece]
        if self._seen[piece + 1] - first != end - start:  # decoded
            return start, end
        return start + at - first, start + at - first + 1


def views(text: str) -> list[View]:
    """The texts to look at, the folded one first. Text in ASCII with nothing encoded in it is its own only view."""
    if text.isascii():
        folded, loose = text, "%" in text or "\\" in text or "&#" in text
    else:
        folded = _fold(text)
        loose = "%" in text or "\\" in text or "&#" in text or _DROPPED_ONE.search(text) is not None
    found = [View(folded)]
    if loose or ("\n" in text and _BREAK.search(folded)):
        found += _loosen(folded)
    if _has_long_word(folded):
        found += _decoded(folded, MAX_DECODINGS)
    return found


def _has_long_word(text: str) -> bool:
    """Whether a run of base64 could be in it: nearly no sentence has one, and this is asked of each."""
    if len(text) < MIN_BASE64:
        return False
    return _LONG_WORD.search(text) is not None or _LONG_FIRST.match(text) is not None


def plain(text: str) -> str:
    """The text as one would write it who has nothing to hide: folded and loosened. What canonical values are made from."""
    folded = _fold(text)
    return next((view.text for view in _loosen(folded)), folded)


def _fold(text: str) -> str:
    """The text, character for character: digits, letters, dashes, spaces and dots as ASCII has them, where it has them."""
    changes = {char: new for char in set(text) if (new := _folded(char)) != char}
    if len(changes) > 8:
        return text.translate({ord(char): new for char, new in changes.items()})
    for char, new in changes.items():  # the usual few: a pass for each is faster than one that looks each character up
        text = text.replace(char, new)
    return text


@lru_cache(8192)
def _folded(char: str) -> str:
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char == "\u2212":  # dashes, and the minus sign
        return "-"
    if category == "Zs":
        return " "
    if char in "\u2028\u2029\x85":
        return "\n"
    if char in "\u2024\u3002\uff61\u00b7\u30fb\u2027":  # dots, low and raised
        return "."
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


def _loosen(text: str) -> Iterator[View]:
    """The text without what nobody sees, and with what is encoded decoded: a view, or none where nothing is."""
    pieces: list[tuple[str, int, int]] = []
    at = 0
    for match in _LOOSE.finditer(text):
        start, end = match.span()
        plain = _plain(match[0])
        if plain == match[0]:
            continue
        if start > at:
            pieces.append((text[at:start], at, start))
        if plain:
            pieces.append((plain, start, end))
        at = end
    if at:
        pieces.append((text[at:], at, len(text)))
        yield View("".join(seen for seen, _, _ in pieces), pieces)


def _plain(run: str) -> str:
    """What an encoded run says; nothing for what nobody sees; the run itself where it says nothing."""
    try:
        if run[0] == "%":
            while "%25" in run:
                run = run.replace("%25", "%")
            return _fold(bytes.fromhex(run.replace("%", "")).decode())
        if run[0] == "\\":
            codes = re.split(r"\\+[ux]", run)[1:]
            # Pairs of surrogates are one character; lone ones stay what they are.
            units = b"".join(int(code, 16).to_bytes(2, "big") for code in codes)
            return _fold(units.decode("utf-16-be", "surrogatepass"))
        if run[0] == "&":
            return _fold(chr(int(run[3:-1], 16) if run[2] in "xX" else int(run[2:-1])))
    except (ValueError, OverflowError):
        return run
    return " " if "\n" in run else ""


def _decoded(text: str, depth: int, whole: tuple[int, int] | None = None) -> Iterator[View]:
    """What the runs of base64 in a text say, and what those in them say."""
    for match in _BASE64.finditer(text):
        if match.end() - match.start() > MAX_BASE64:
            continue
        inner = _said(match[0])
        if inner is None:
            continue
        span = whole or match.span()
        inner = _fold(inner)
        yield View(inner, whole=span)
        if depth > 1 and _has_long_word(inner):
            yield from _decoded(inner, depth - 1, span)


def _said(run: str) -> str | None:
    """The text that a run of base64 is, or None where it is none: identifiers, hashes, long words."""
    run = run.rstrip("=").translate(_URL_SAFE)
    if len(run) % 4 == 1:
        return None
    try:
        said = b64decode(run + "=" * (-len(run) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return said if said.translate(_SPACES).isprintable() else None
