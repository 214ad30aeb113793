"""JSON items <-> text segments: where text stands in an item, and how a changed text gets back to its place. Pure.

- `leaves` and `rewrite` are one traversal: what the second asks for comes in the order in which the first gave it.
- What did not change is the same object, and in a JSON text the same bytes. An item that did not change is itself.
- Every string of an item is looked at, whatever its type is called, but what `_protected` names. So a type that is new
  in the SDK is covered on the day it comes.
- JSON in strings is parsed, never matched as it is written: its leaves are strings and numbers, and its keys are context.
  A number that is replaced becomes a string. Keys themselves are never changed.

Called by `pipeline`.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from secure_memory.errors import RedactionError
from secure_memory.items import Item, kind_of
from secure_memory.redaction.literals import KEYS, Path, literals, splice

MAX_DEPTH = 250
"""Objects in objects: past it an item is refused, before the interpreter's own limit is met. JSON texts have no limit."""
MAX_NESTED = 3
"""JSON in a string, in a JSON string, in a JSON string: what is nested deeper is text."""
MIN_NUMBER = 3
"""No entity is a number of fewer characters (the shortest is a card verification code)."""

_PROTECTED = frozenset(
    {
        # What the SDK and the API find an item, its kind and its answer by. Changed, the next request fails.
        *("id", "type", "role", "name", "namespace", "status", "phase", "object", "model", "caller", "execution"),
        *("server_label",),  # and whatever ends with _id or _ids
        # Opaque to all but who wrote it, and checked there: changed, it is refused. There is nothing in it to read.
        *("encrypted_content", "fingerprint", "signature", "thought_signature"),
        # Files, pictures and sound are bytes: what is in them is beyond a redactor of text.
        *("file_data", "audio_data", "b64_json"),
        # Tools as their makers describe them to the model: configuration. JSON Schema breaks where a word of it changes.
        *("input_schema", "output_schema", "parameters"),
        # Figures and enumerations of the protocol: a text in their place is an error there.
        *("detail", "format", "encoding", "mime_type", "button", "index", "start_index", "end_index", "score", "bytes"),
        *("logprobs", "logprob", "top_logprobs", "created_at", "timeout_ms", "max_output_length", "exit_code"),
        *("x", "y", "scroll_x", "scroll_y"),
    }
)
_DATA = frozenset({"arguments", "input", "output", "env", "attributes", "variables", "result", "structured_content"})
"""Below these is what a program or a person wrote, and no protocol: `name` and `id` are data there, and are looked at."""
_PARTS = frozenset(
    {
        *("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text", "input_image", "output_image"),
        *("image", "image_url", "input_file", "file", "input_audio", "audio", "computer_screenshot"),
    }
)
"""Parts that an output may consist of: protocol again."""
_STRUCTURE = _DATA | {
    *("content", "text", "refusal", "transcript", "summary", "action", "actions", "operation", "results", "queries"),
    *("query", "outcome", "error", "tools"),
}
"""Keys that say nothing about the value below them."""
_PROSE = frozenset({"message", "reasoning", "compaction", "other"})

_BYTES_URL = re.compile(r"data:(?!text/|application/json)[\w.+/;=-]{0,200};base64,[A-Za-z0-9+/=_%-]*\Z", re.ASCII)
# In one line, or in lines of 64 (PEM) or 76 (MIME): shorter ones are a column of something.
_BYTES = re.compile(r"(?:(?:[A-Za-z0-9+/]{64}\r?\n)+|(?:[A-Za-z0-9+/]{76}\r?\n)+)?[A-Za-z0-9+/]*={0,2}\n?\Z")


NONE = -1


class Segment(NamedTuple):
    """A text to look at. `keys` are the JSON keys that lead to it, outermost first, empty for prose; `tool` says that it is
    of what a tool was given or gave, where bare digit runs are no findings without a word or a key that names them."""

    text: str
    keys: tuple[str, ...]
    tool: bool


class Leaf(NamedTuple):
    """A segment and its place in the item. `after` is the leaf (by its index) of the text part right before this one in the
    same message or output, so that what began there may end here; NONE where there is none."""

    segment: Segment
    path: Path
    after: int


def leaves(item: Item) -> list[Leaf]:
    """The leaves of an item, in order. Raises RedactionError where it is nested too deep."""
    found: list[Leaf] = []

    def take(leaf: Leaf) -> str:
        found.append(leaf)
        return leaf.segment.text

    _Walk(item, take).item()
    return found


def rewrite(item: Item, texts: Iterable[str]) -> Item:
    """The item with these texts in the place of those that `leaves` gave, in the same order: a copy where one differs, and
    in the copy the same objects wherever nothing does."""
    answers = iter(texts)
    changed: Item = _Walk(item, lambda _: next(answers)).item()
    return changed


class _Walk:
    """One traversal of an item: asks `leaf` about each leaf, and keeps what it is told."""

    def __init__(self, item: Item, leaf: Callable[[Leaf], str]) -> None:
        self._item, self._leaf = item, leaf
        self._tool = False
        self._count = 0  # of the leaves so far
        self._after = NONE  # which leaf the next text continues
        self._last_part = NONE  # the leaf of the text part that was just walked

    def item(self) -> Item:
        item = self._item
        self._tool = kind_of(item) not in _PROSE
        content = item.get("content")
        if len(item) == 2 and "role" in item and isinstance(content, str):  # {"role", "content"}: most of all items
            text = self._text(content, (), (None, "content"), self._tool, MAX_NESTED)
            return item if text is content else {**item, "content": text}
        changed: Item = self._object(item, (), None, False, MAX_DEPTH)
        return changed

    def _value(self, value: Any, keys: tuple[str, ...], path: Path, data: bool, depth: int) -> Any:
        """The value, or what it became. In `data` no name is protected, and every number is a leaf."""
        if isinstance(value, str):
            return self._text(value, keys, path, self._tool or data, MAX_NESTED)
        if isinstance(value, Mapping):
            return self._object(value, keys, path, data, depth)
        if isinstance(value, (list, tuple)):
            return self._list(value, keys, path, data, depth)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._number(value, keys, path)
        return value

    def _object(self, value: Mapping[Any, Any], keys: tuple[str, ...], path: Path, data: bool, depth: int) -> Any:
        _check(depth)
        changes = {}
        after, self._after = self._after, NONE
        for key, inner in value.items():
            # bool, int and None are keys in Python, and text in JSON
            name = key if isinstance(key, str) else str(key)
            if not data and (_protected(name, value) or inner is None):
                continue
            below = keys if not (data or keys) and name in _STRUCTURE else (*keys, name)[-KEYS:]
            self._after = after if name == "text" else NONE
            new = self._value(inner, below, (path, name), data or _begins_data(name, inner), depth - 1)
            if new is not inner:
                changes[key] = new
        self._after = NONE
        return {**value, **changes} if changes else value

    def _list(self, value: Sequence[Any], keys: tuple[str, ...], path: Path, data: bool, depth: int) -> Any:
        _check(depth)
        changes = {}
        for index, inner in enumerate(value):
            is_text = isinstance(inner, Mapping) and isinstance(inner.get("text"), str)
            self._after, self._last_part = self._last_part if is_text and index else NONE, NONE
            # A list of parts is protocol, also where an output is one.
            new = self._value(inner, keys, (path, index), data and not _is_part(inner), depth - 1)
            if new is not inner:
                changes[index] = new
        self._after = self._last_part = NONE
        return [changes.get(index, inner) for index, inner in enumerate(value)] if changes else value

    def _number(self, value: int | float, keys: tuple[str, ...], path: Path) -> Any:
        if isinstance(value, int) and -100 < value < 100:
            return value
        try:
            text = repr(value)
        except ValueError:  # more digits than Python converts (sys.set_int_max_str_digits); nor can it be written as JSON
            return value
        new = self._ask(text, keys, path, True, NONE)
        return value if new == text else new

    def _ask(self, text: str, keys: tuple[str, ...], path: Path, tool: bool, after: int) -> str:
        self._count += 1
        return self._leaf(Leaf(Segment(text, keys, tool), path, after))

    def _text(self, text: str, keys: tuple[str, ...], path: Path, tool: bool, nested: int) -> str:
        """The text, or what it became; where it is JSON, leaf by leaf."""
        after, self._after = self._after, NONE
        if _is_bytes(text):
            return text
        found = literals(text, keys, path) if nested and _looks_like_json(text) else None
        if found is None:
            if path is not None and path[1] == "text":
                self._last_part = self._count
            new = self._ask(text, keys, path, tool, after)
            return text if new == text else new
        changes = {}
        for index, literal in enumerate(found):
            if not literal.number:
                new = self._text(literal.text, literal.keys, literal.path, True, nested - 1)
            elif len(literal.text) >= MIN_NUMBER:
                new = self._ask(literal.text, literal.keys, literal.path, True, NONE)
            else:
                continue
            if new != literal.text:
                changes[index] = new
        return splice(text, found, changes) if changes else text


def _protected(name: str, holder: Mapping[Any, Any]) -> bool:
    """Whether a field of the protocol's own objects is never touched, nor looked at."""
    if name in _PROTECTED or name.endswith(("_id", "_ids")):
        return True
    # The picture that was made, and sound: bytes under names that mean text elsewhere.
    return (name == "result" and holder.get("type") == "image_generation_call") or (name == "data" and "format" in holder)


def _begins_data(name: str, inner: Any) -> bool:
    return name in _DATA and not isinstance(inner, str) and not _is_part(inner)


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("type") in _PARTS


def _check(depth: int) -> None:
    if not depth:
        raise RedactionError(
            f"an item is nested more than {MAX_DEPTH} deep, and was not looked through",
            hint="pass what is nested deeper as a JSON text",
        )


def _looks_like_json(text: str) -> bool:
    """Whether it could be an object, an array, or a string that was encoded twice."""
    first = text[:1]
    if first in " \t\n\r":
        first = text[:200].lstrip()[:1]
    return first == "{" or first == "[" or (first == '"' and "\\" in text)


def _is_bytes(text: str) -> bool:
    """Whether it is a picture, or anything else that is base64 and no text below: neither looked at nor changed."""
    if len(text) < 256:
        return text.startswith("data:") and _BYTES_URL.match(text) is not None
    if text.startswith("data:"):
        return _BYTES_URL.match(text) is not None
    if _BYTES.match(text) is None:
        return False
    letters = "".join(text[:100].split())[:64]
    head = b64decode(letters[: len(letters) // 4 * 4])
    return any(byte < 0x20 and byte not in b"\t\n\r" for byte in head)
