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


class _Frame:
    """An object or array that is open: its keys and path, and the key or index that comes next."""

    __slots__ = ("here", "keys", "named", "path")

    def __init__(self, keys: tuple[str, ...], path: Path, named: bool) -> None:
        self.keys, self.path, self.named = keys, path, named
        self.here: str | int = -1

    def inside(self) -> tuple[tuple[str, ...], Path]:
        """Keys and path of the value that comes next."""
        if isinstance(self.here, str):
            return (*self.keys, self.here)[-KEYS:], (self.path, self.here)
        return self.keys, (self.path, self.here)


def literals(raw: str, keys: tuple[str, ...] = (), path: Path = None) -> list[Literal] | None:
    """The strings (but keys) and numbers of a JSON text, in order, below the keys and the path given; None if it is none."""
    found: list[Literal] = []
    frames: list[_Frame] = []
    at, state = 0, "value"  # what may come: value, item (or the end of an array), name, first (name or end), colon, next
    while not (state == "next" and not frames and _END.match(raw, at)):
        if state == "next" and not frames:
            state = "value"  # another text after this one
        token = _NEXT.match(raw, at)
        if token is None:
            return None
        mark, at = token[1], token.end()
        if mark == '"':
            begin = at - 1
            try:
                text, at = scanstring(raw, at, False)
            except json.JSONDecodeError:
                return None
            if state in ("name", "first"):
                frames[-1].here, state = text, "colon"
                continue
            number = False
        else:
            begin, text, number = token.start(2), token[2], True
        if mark == '"' or mark is None:
            if state not in ("value", "item"):
                return None
            inner = _place(frames, keys, path)
            if text is not None:  # true, false and null are no text
                found.append(Literal(begin, at, text, *inner, number))
            state = "next"
        else:
            turned = _turn(mark, state, frames, keys, path)
            if turned is None:
                return None
            state = turned
    return found


def _place(frames: list[_Frame], keys: tuple[str, ...], path: Path) -> tuple[tuple[str, ...], Path]:
    if not frames:
        return keys, path
    frame = frames[-1]
    if isinstance(frame.here, int):
        frame.here += 1
    return frame.inside()


def _turn(mark: str, state: str, frames: list[_Frame], keys: tuple[str, ...], path: Path) -> str | None:
    """The state after one of `{}[]:,`, frames opened and closed; None where it may not stand."""
    if mark in "{[":
        if state not in ("value", "item"):
            return None
        frames.append(_Frame(*_place(frames, keys, path), named=mark == "{"))
        return "first" if mark == "{" else "item"
    if mark == ":":
        return "value" if state == "colon" else None
    if mark == ",":
        if state != "next" or not frames:
            return None
        return "name" if frames[-1].named else "value"
    allowed = ("next", "first") if mark == "}" else ("next", "item")
    if state not in allowed or not frames or frames[-1].named != (mark == "}"):
        return None
    frames.pop()
    return "next"


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
