"""What the SDK's items are: kinds, roles, tool names, and their exact JSON. Pure.

An item is one JSON object of the Responses API (`TResponseInputItem`). What we store is the JSON that the SDK's own
sessions would store (`json.dumps`, see `agents/memory/sqlite_session.py`), so that what comes back is what they would
give back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import orjson

from secure_memory.errors import SerializationError

Item = dict[str, Any]

_TOOL_NAMED_BY_TYPE = frozenset(
    {"computer_call", "file_search_call", "web_search_call", "code_interpreter_call", "shell_call", "apply_patch_call"}
)
_KINDS = {
    "message": "message",
    "reasoning": "reasoning",
    "compaction": "compaction",
    "compaction_summary": "compaction",
    "program": "tool_call",
    "mcp_approval_request": "approval",
    "mcp_approval_response": "approval",
}

_EXACT = b" "
"""A leading space, which JSON allows, marks a text that only the standard library reads exactly."""
_ORJSON = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_FIRST = itemgetter(0)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def kind_of(item: Mapping[str, Any]) -> str:
    """message, tool_call, tool_output, reasoning, approval, compaction or other: the kinds that policies select."""
    type_ = item.get("type")
    if type_ is None:
        return "message" if "role" in item else "other"
    if not isinstance(type_, str):
        return "other"
    if type_ in _KINDS:
        return _KINDS[type_]
    if type_.endswith("_output"):
        return "tool_output"
    return "tool_call" if type_.endswith("_call") else "other"


def role_of(item: Mapping[str, Any]) -> str:
    """The item's role, or an empty string."""
    role = item.get("role")
    return _label(role) if isinstance(role, str) else ""


def tool_of(item: Mapping[str, Any]) -> str:
    """The tool that the item calls or answers for, or an empty string, by the rule of the SDK
    (`AdvancedSQLiteSession._extract_tool_name`)."""
    type_ = item.get("type")
    if type_ in ("mcp_call", "mcp_approval_request") and "server_label" in item:
        return _label(".".join(str(part) for part in (item.get("server_label"), item.get("name")) if part))
    if type_ in ("tool_search_call", "tool_search_output"):
        return "tool_search"
    if isinstance(type_, str) and type_ in _TOOL_NAMED_BY_TYPE:
        return type_
    name, namespace = (str(item[key]) if item.get(key) is not None else "" for key in ("name", "namespace"))
    # A namespace equal to the name is synthetic (`agents/_tool_identity.py`).
    return _label(f"{namespace}.{name}" if name and namespace and namespace != name else name)


def _label(text: str) -> str:
    """Bounded, and valid Unicode: a label stands in a column beside the item, where the item itself is exact."""
    return text if text.isascii() and len(text) <= 200 else text[:200].encode(errors="replace").decode()


def starts_turn(item: Mapping[str, Any]) -> bool:
    """Whether a turn starts here: at a user message, as in the SDK."""
    return item.get("role") == "user"


def dump(item: object) -> bytes:
    """The item's JSON, exactly as given. Raises SerializationError where it is not a JSON object.

    By orjson where that gives the same item back, which it does for nearly all; else by the standard library, as the SDK
    does it: integers past 64 bits, NaN, lone surrogates, keys that are no text, tuples, what is nested very deep.
    """
    if not isinstance(item, Mapping):
        raise SerializationError(
            f"an item must be a JSON object (a dict), not {type(item).__name__}",
            hint="pass what the SDK passes: dicts such as {'role': 'user', 'content': '...'}",
        )
    plain = item if isinstance(item, dict) else dict(item)
    try:
        data = orjson.dumps(plain, option=_ORJSON)
        if orjson.loads(data) == plain:
            return data
    except (orjson.JSONEncodeError, orjson.JSONDecodeError, RecursionError):
        pass  # what the standard library makes of it is decided below
    try:
        text = _encode(plain)
        try:
            return _EXACT + text.encode()
        except UnicodeEncodeError:  # lone surrogates: escape them, as the SDK does
            return _EXACT + json.dumps(plain, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The driver's or the value's own words could hold content: only the error's type is told.
        raise SerializationError(
            f"an item could not be written as JSON ({type(error).__name__})",
            hint="use plain dicts, lists, strings, numbers, booleans and None; model_dump() pydantic objects first",
        ) from None


def load(data: bytes) -> Item:
    """The item of a JSON text that `dump` made."""
    item: Item
    item = json.loads(data) if data[:1] == _EXACT else orjson.loads(data)
    return item


def load_all(texts: Sequence[bytes]) -> list[Item]:
    """The items of many texts: one parse where orjson reads all of them exactly."""
    if _EXACT[0] in map(_FIRST, texts):
        return [load(text) for text in texts]
    items: list[Item] = orjson.loads(b"[%b]" % b",".join(texts))
    return items
