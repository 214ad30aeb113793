"""What a policy file says, and on which line each part of it stands. Pure.

A key path is how a person finds a part: `retention.rules[chat-storage-limit].max`. A rule is named by its id where it has
one, and by its number where it has none. Made by `load`; whoever finds a problem in a policy tells it by `error`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secure_memory.errors import PolicyError

Path = tuple[str | int, ...]
_NAMES = ("id", "entity", "name")
"""What a part of a list is called by, if it has it."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file's content as plain values, and the line of each path in it. `file` is what errors call it."""

    file: str
    value: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line on which that part stands; that of what it would stand in, where it is missing."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return self.lines.get((), 1)

    def key(self, path: Path) -> str:
        """The path, as a person reads it."""
        text, value = "", self.value
        for part in path:
            value = _inside(value, part)
            if isinstance(part, int):
                text += f"[{_plain(_name(value) or str(part))}]"
            else:
                text += f".{_plain(part)}" if text else _plain(part)
        return text

    def error(self, path: Path, problem: str, hint: str | None = None) -> PolicyError:
        """The error that this part has that problem."""
        line, key = self.line(path), self.key(path)
        message = f"{self.file}:{line}: {key} {problem}" if key else f"{self.file}:{line}: {problem}"
        return PolicyError(message, file=self.file, line=line, key=key or None, hint=hint)


def _plain(text: str) -> str:
    """A key, on one line and not too long: it stands in an error's one sentence, and was written by anybody."""
    short = text if len(text) <= 100 else f"{text[:97]}..."
    return short if short.isprintable() else repr(short)


def _inside(value: Any, part: str | int) -> Any:
    if isinstance(part, int):
        return value[part] if isinstance(value, Sequence) and not isinstance(value, str) and part < len(value) else None
    return value.get(part) if isinstance(value, Mapping) else None


def _name(value: Any) -> str | None:
    for name in _NAMES:
        if isinstance(value, Mapping) and isinstance(value.get(name), str) and 0 < len(value[name]) <= 100:
            return str(value[name])
    return None


def in_order(errors: Sequence[PolicyError]) -> PolicyError:
    """The first of several errors, by line; it carries the others."""
    first, *others = sorted(errors, key=lambda error: (error.file or "", error.line or 0))
    for other in others:
        other.others = ()
    first.others = tuple(others)
    return first
