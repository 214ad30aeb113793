"""What is left of an item that a retention rule redacted: its shape, and nothing of what was said. Pure.

A rule's `redact` is not the redaction of personal data (`redaction.pipeline`), which looks for what to take out: here all
of it goes, since its time has passed. What stays keeps a conversation valid for the model: types, ids, roles, names, states.

- Every text becomes a notice with the rule's id. Arguments and other JSON in a text become `{}`, which parses.
- Numbers become 0, since a balance is content too; true, false and null stay.
- What only says something to whoever made it goes: the encrypted content of reasoning, annotations, log probabilities,
  results of hosted searches. A picture or a file becomes the notice, as text; a screenshot one transparent pixel.

Called by the purge, and by `cleaning` for rules that act on write. An item that is nothing but its content (a compaction, a
paused run) is deleted instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_memory.items import Item

WHOLLY_CONTENT = frozenset({"compaction"})
"""The kinds of items of which nothing would be left."""

_KEPT = frozenset(
    {
        "type",
        "role",
        "name",
        "status",
        "namespace",
        "server_label",
        "phase",
        "environment",
        "file_id",
        "container_id",
        "tool",
    }
)
_API_KEYS = frozenset(
    {"commands", "timeout_ms", "max_output_length", "stdout", "stderr", "outcome", "exit_code", "query", "queries", "url"}
    | {"path", "diff", "pattern", "caller_id", "text"}
)
_JSON_TEXTS = frozenset({"arguments"})
_EMPTIED: Mapping[str, Any] = {
    "annotations": [],
    "logprobs": [],
    "encrypted_content": None,
    "results": None,
    "outputs": None,
}
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
_AS_TEXT = {
    "input_image": "input_text",
    "input_file": "input_text",
    "input_audio": "input_text",
    "output_audio": "output_text",
}


def blank(item: Item, rule: str) -> Item:
    """The item without what was said; a deterministic function, and `blank(blank(x)) == blank(x)` for the same rule."""
    notice = f"[redacted by retention rule {rule}]"
    return {name: _value(name, value, notice) for name, value in item.items()}


def _value(name: str, value: Any, notice: str) -> Any:
    if name in _KEPT or name == "id" or name.endswith("_id"):
        return value if not isinstance(value, dict | list) else _inside(value, notice)
    if name in _EMPTIED:
        return _EMPTIED[name]
    if name in _JSON_TEXTS and isinstance(value, str):
        return "{}"
    return _inside(value, notice)


def _inside(value: Any, notice: str) -> Any:
    if isinstance(value, str):
        return notice
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return 0
    if isinstance(value, Mapping):
        return _object(value, notice)
    return [_inside(one, notice) for one in value]


def _object(value: Mapping[str, Any], notice: str) -> dict[str, Any]:
    kind = value.get("type")
    if kind == "computer_screenshot":
        return {"type": kind, "image_url": _PIXEL}
    if isinstance(kind, str) and kind in _AS_TEXT:
        return {"type": _AS_TEXT[kind], "text": notice}
    if kind is None:  # its keys may be content too, but for those that the API gives
        value = {name: one for name, one in value.items() if name in _API_KEYS}
    return {name: _value(name, one, notice) for name, one in value.items()}
