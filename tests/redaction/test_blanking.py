"""`redaction/blanking.py`: nothing of what was said is left, and all that keeps a conversation valid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import items as sdk_items
from secure_memory.redaction.blanking import blank

NOTICE = "[redacted by retention rule chats]"


@pytest.mark.parametrize(
    ("item", "left"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": NOTICE}),
        (
            {
                "type": "function_call",
                "id": "fc",
                "call_id": "c",
                "name": "pay",
                "arguments": '{"iban": "DE1"}',
                "status": "x",
            },
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "pay", "arguments": "{}", "status": "x"},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "balance 7"}]},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": NOTICE}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://x/secret.png", "detail": "auto"}]},
            {"role": "user", "content": [{"type": "input_text", "text": NOTICE}]},
        ),
        (
            {
                "type": "reasoning",
                "id": "rs",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "gAA",
            },
            {
                "type": "reasoning",
                "id": "rs",
                "summary": [{"type": "summary_text", "text": NOTICE}],
                "encrypted_content": None,
            },
        ),
        (
            {"type": "shell_call", "call_id": "c", "action": {"commands": ["rm -r x"], "timeout_ms": 9}},
            {"type": "shell_call", "call_id": "c", "action": {"commands": [NOTICE], "timeout_ms": 0}},
        ),
        (
            {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True, "reason": "she asked"},
            {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True, "reason": NOTICE},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": {"ana@example.com": 12.5}},
            {"type": "function_call_output", "call_id": "c", "output": {}},
        ),
    ],
)
def test_what_is_left(item: dict[str, Any], left: dict[str, Any]) -> None:
    """Of each kind of item its shape is left, and a notice that says by which rule."""
    assert left == blank(item, "chats")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["SECRET", "xSECRETx"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["SECRET", "text", "a", "output"]), inner, max_size=3)
    ),
    max_leaves=12,
)
made = st.dictionaries(st.sampled_from(["content", "output", "arguments", "summary", "action", "queries", "x"]), json_values)


@given(made, st.sampled_from(["message", "function_call", "computer_call_output", "custom_tool_call"]))
def test_nothing_of_it_is_left(said: dict[str, Any], kind: str) -> None:
    """Wherever a text stood, as a value or as a name, it is gone; what is protected stays; twice is as good as once."""
    item = {"type": kind, "call_id": "c1", **said}
    left = blank(item, "r")
    assert "SECRET" not in json.dumps(left)
    assert (kind, "c1") == (left["type"], left["call_id"])
    assert left == blank(left, "r")
    assert sdk_items.kind_of(item) == sdk_items.kind_of(left)
