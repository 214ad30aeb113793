"""YAML 1.2, as strictly as a policy has to be read: text -> plain values with their lines. The only user of ruamel here.

- Of YAML only what a person would write in a settings file: mappings, lists, texts, whole numbers, true and false, by the
  core schema (YAML 1.2.2 10.3). So `no`, `12:30` and `2026-11-22` are texts.
- Refused, because somebody reads it differently, or not at all: keys that are there twice, anchors and aliases, tags,
  merges, directives, a second document, empty values, numbers like `010`, tabs, characters that can't be seen.
- What is made is bounded: nothing refers to anything, and nothing is deeper than `MAX_DEPTH`.

It works on ruamel's events, which are made one by one; its composer and constructors are never asked. Called by `load`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from secure_memory.errors import PolicyError
from secure_memory.policy.written import Path, Written

MAX_DEPTH = 12
"""Mappings and lists inside each other; a policy needs seven."""
_UNSEEN = re.compile("[\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]")
_INT = re.compile(r"[-+]?[0-9]{1,18}|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
_AMBIGUOUS = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLS = {**dict.fromkeys(("true", "True", "TRUE"), True), **dict.fromkeys(("false", "False", "FALSE"), False)}


def parsed(text: str, file: str) -> Written:
    """What the text says. Raises PolicyError, which names the file, the line and the key."""
    from ruamel.yaml import YAML  # here: only who reads a policy needs it
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if unseen := _UNSEEN.search(text):
        line = text.count("\n", 0, unseen.start()) + 1
        problem = f"the character U+{ord(unseen[0]):04X} can't be seen, and changes what is read"
        _refuse(file, line, problem, "delete it")
    try:
        return _Document(file, YAML(typ="safe", pure=True).parse(text)).read()
    except MarkedYAMLError as error:
        opened = any(
            word in (error.context or "") for word in ("quoted", "flow")
        )  # what was opened is what has to be closed
        mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
        _refuse(file, mark.line + 1 if mark else 1, *_in_our_words(error.problem or "", error.context or ""))
    except (YAMLError, ValueError, RecursionError) as error:
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        _refuse(file, line, "it has a character that no text has", "delete it, and save the file as UTF-8")


def _refuse(file: str, line: int, problem: str, hint: str) -> NoReturn:
    raise PolicyError(f"{file}:{line}: {problem}", file=file, line=line, hint=hint) from None


def _in_our_words(problem: str, context: str) -> tuple[str, str]:
    """What ruamel says of text that is no YAML, and what to do about it."""
    if "'\\t'" in problem:
        return "a tab stands where only spaces can", "indent with spaces"
    if "mapping values are not allowed" in problem:
        return (
            "a colon stands where a value has begun, or a key is not indented as the others",
            "put a text with a colon in quotes",
        )
    if "that cannot start any token" in problem:
        sign = problem.split("'")[1]
        return f"a value can't begin with {sign}", "put it in quotes"
    if "quoted scalar" in context:
        return (
            "a quotation mark is not closed, or has a backslash too many",
            "use single quotes, in which a backslash is itself",
        )
    if "flow" in context:
        return "a bracket or brace is not closed, or a comma is missing", "close what is open, and put commas between"
    if "sequence entries are not allowed" in problem:
        return "a dash stands where a value has begun", "begin a list on its own line"
    return "it is not indented as what it belongs to", "line up the keys of a mapping, and the dashes of a list"


class _Document:
    """Reads one file's events, and notes on which line each part stands."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self._file = file
        self._events = events
        self._lines: dict[Path, int] = {}

    def read(self) -> Written:
        """The one document of the stream."""
        value: Any = None
        documents = 0
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if event.version or event.tags:
                    self._fail(
                        event, (), "a line begins with %, which is a directive", "leave out the line that begins with %"
                    )
                if documents > 1:
                    self._fail(event, (), "a second document begins", "write one policy a file")
            elif kind not in ("StreamStartEvent", "DocumentEndEvent", "StreamEndEvent"):
                value = self._value(event, (), 0, root=True)
        if not documents or value is None:
            _refuse(self._file, 1, "the file is empty", "begin with `apiVersion: secmem/v1`")
        return Written(self._file, value, self._lines)

    def _value(self, event: Any, path: Path, depth: int, *, root: bool = False) -> Any:
        self._lines.setdefault(path, event.start_mark.line + 1)
        kind = type(event).__name__
        if kind == "AliasEvent" or event.anchor:
            self._fail(event, path, "has an anchor or an alias", "write it out: what is read has to be what is seen")
        if event.tag:
            self._fail(event, path, "has a tag", "leave out what begins with an exclamation mark")
        if depth > MAX_DEPTH:
            self._fail(event, path, f"is nested more than {MAX_DEPTH} deep", "a policy needs seven")
        if kind == "MappingStartEvent":
            return self._mapping(path, depth)
        if kind == "SequenceStartEvent":
            return self._list(path, depth)
        if root and event.value in _NULL and event.style is None:
            return None
        return self._scalar(event, path)

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._key(event, path)
            place = (*path, key)
            if key in found:
                line = self._lines[place]
                self._fail(event, place, f"is there twice: the other one is on line {line}", "leave one of them out")
            self._lines[place] = event.start_mark.line + 1
            found[key] = self._value(next(self._events), place, depth + 1)
        return found

    def _key(self, event: Any, path: Path) -> str:
        if type(event).__name__ != "ScalarEvent" or event.anchor or event.tag:
            self._fail(event, path, "has a key that is no plain text", "write keys as plain words")
        if event.value == "<<" and event.style is None:
            self._fail(event, path, "has a merge key", "write it out, or use `extends`")
        key = self._scalar(event, path)
        if not isinstance(key, str):
            self._fail(event, path, f"has a key that is no text: {event.value}", f"write '{event.value}', in quotes")
        return key

    def _list(self, path: Path, depth: int) -> list[Any]:
        found: list[Any] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            found.append(self._value(event, (*path, len(found)), depth + 1))
        return found

    def _scalar(self, event: Any, path: Path) -> str | int | float | bool:
        text: str = event.value
        if event.style is not None:
            return text
        if text in _NULL:
            self._fail(event, path, "has no value", "write one, or leave the key out")
        if text in _BOOLS:
            return _BOOLS[text]
        if _AMBIGUOUS.fullmatch(text):
            self._fail(
                event, path, f"is {text}, which some read as another number", f"write {int(text)}, or '{text}' for a text"
            )
        if _INT.fullmatch(text):
            return int(text, 0)
        return float(text.replace(".inf", "inf").replace(".nan", "nan")) if _FLOAT.fullmatch(text.lower()) else text

    def _fail(self, event: Any, path: Path, problem: str, hint: str) -> NoReturn:
        line = event.start_mark.line + 1
        self._lines[path] = line
        where = Written(self._file, {}, self._lines)
        raise where.error(path, problem, hint)
