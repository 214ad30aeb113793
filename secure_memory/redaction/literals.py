"""The strings and numbers of a JSON text, each with its place in it, so that one can be replaced and the rest stays. Pure.

- What comes out is where a literal stands, and not a value: duplicate keys are both there, a number has the digits that
  it was written with, NaN and lone surrogates are what they are, and white space is nobody's business.
- No recursion: nesting costs a list entry, so that no depth is too deep. One pass, linear in the text.
- One or more JSON texts after one another are read (JSON lines); what is anything else is no JSON, and None.

RFC 8259, and what `json.loads` takes beyond it: NaN, Infinity, control characters in strings. Called by `walk`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # of the standard library since 2.6, in C; not in typeshed
from typing import NamedTuple

Path = tuple["Path", str | int] | None
"""A place in JSON: the place that it is in, and the key or index there. Linked, so that depth costs nothing."""

KEYS = 8
"""So many keys of a leaf are kept, the innermost: a copy of all of them for each leaf would be quadratic in the depth."""

_NEXT = re.compile(
    r'[ \t\n\r]*(?:([{}\[\]:,"])|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|-?Infinity)|true|false|null)'
)
_END = re.compile(r"[ \t\n\r]*\Z")


class Literal(NamedTuple):
    """`text` is what the string says, or the number as it is written; `raw[start:end]` is the literal, quotes included."""

    start: int
    end: int
    text: str
    keys: tuple[str, ...]
    path: Path
    number: bool


def literals(raw: str, keys: tuple[str, ...] = (), path: Path = None) -> list[Literal] | None:
    """The strings (but keys) and numbers of a JSON text, in order, below the keys and the path given; None if it is none."""
    found: list[Literal] = []
    at, state = 0, "value"  # what may come: value, item (or the end of an array), name, first (name or end), colon, next
    # The container that is open: its mark, keys, path, and the index of the next value; and those around it.
    mark, index, around = "", 0, list[tuple[str, tuple[str, ...], Path, int]]()
    below, place = keys, path  # of the value that comes next
    while True:
        token = _NEXT.match(raw, at)
        if token is None:
            return found if state == "next" and not around and _END.match(raw, at) else None
        at = token.end()
        sign = token[1]
        if sign is None or sign in '"[{':
            if state == "name" or state == "first":
                if sign != '"' or (string := _string(raw, at)) is None:
                    return None
                name, at = string
                below, place, state = (*keys, name)[-KEYS:], (path, name), "colon"
                continue
            if state == "next" and not around:
                below, place = keys, path  # another text after this one
            elif state != "value" and state != "item":
                return None
            if mark == "[":
                place, index = (path, index), index + 1
            if sign == '"':
                begin = at - 1
                if (string := _string(raw, at)) is None:
                    return None
                text, at = string
                found.append(Literal(begin, at, text, below, place, False))
            elif sign is not None:
                around.append((mark, keys, path, index))
                mark, keys, path, index = sign, below, place, 0
                state = "first" if sign == "{" else "item"
                continue
            elif (number := token[2]) is not None:  # true, false and null are no text
                found.append(Literal(token.start(2), at, number, below, place, True))
            state = "next"
        elif sign == ",":
            if state != "next" or not around:
                return None
            state = "name" if mark == "{" else "value"
        elif sign == ":":
            if state != "colon":
                return None
            state = "value"
        elif (state == "next" or state == ("first" if sign == "}" else "item")) and mark == ("{" if sign == "}" else "["):
            mark, keys, path, index = around.pop()
            below, state = keys, "next"
        else:
            return None


def _string(raw: str, at: int) -> tuple[str, int] | None:
    """What the string says whose opening quote was just read, and where it ends."""
    try:
        string: tuple[str, int] = scanstring(raw, at, False)
    except json.JSONDecodeError:
        return None
    return string


def splice(raw: str, found: list[Literal], changes: Mapping[int, str]) -> str:
    """The JSON text with some literals (by their index in `found`) replaced by strings; all else stays byte for byte."""
    parts, at = [], 0
    for index in sorted(changes):
        literal = found[index]
        # ASCII stays ASCII: whoever wrote it may have had a reason.
        ascii_only = raw[literal.start : literal.end].isascii()
        parts += [raw[at : literal.start], json.dumps(changes[index], ensure_ascii=ascii_only)]
        at = literal.end
    return "".join([*parts, raw[at:]])


def pointer(path: Path) -> str:
    """The path as a JSON Pointer (RFC 6901)."""
    steps = []
    while path is not None:
        path, step = path
        steps.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{step}" for step in reversed(steps))
