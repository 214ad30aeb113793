"""`walk.py`: where text stands in the SDK's items, what is never touched, and that nothing else changes."""

from __future__ import annotations

import base64
import copy
import json
import re
from typing import Any, get_args, get_type_hints

import pytest
from agents.items import TResponseInputItem
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import RedactionError
from secure_memory.items import Item
from secure_memory.redaction.literals import pointer
from secure_memory.redaction.walk import MAX_DEPTH, leaves, rewrite

PICTURE = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 4).decode()

# One item of each kind that the SDK stores, with what may be looked at spelt in capitals.
ITEMS: list[tuple[Item, list[str]]] = [
    ({"role": "user", "content": "TEXT"}, ["TEXT"]),
    ({"type": "message", "role": "user", "id": "msg", "status": "completed", "content": "TEXT"}, ["TEXT"]),
    (
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "ONE"},
                {"type": "input_image", "image_url": PICTURE, "detail": "auto", "file_id": "file"},
                {"type": "input_file", "file_data": "data:text/plain;base64,QQ==", "filename": "NAME", "file_id": "file"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        ["ONE", "NAME"],
    ),
    (
        {
            "type": "message",
            "role": "assistant",
            "id": "msg",
            "content": [
                {
                    "type": "output_text",
                    "text": "ONE",
                    "annotations": [
                        {"type": "url_citation", "url": "URL", "title": "TITLE", "start_index": 100, "end_index": 200}
                    ],
                    "logprobs": [{"token": "x", "logprob": -0.123, "bytes": [120]}],
                },
                {"type": "refusal", "refusal": "REFUSAL"},
                {"type": "output_audio", "transcript": "SAID"},
            ],
        },
        ["ONE", "URL", "TITLE", "REFUSAL", "SAID"],
    ),
    (
        {"type": "function_call", "id": "fc", "call_id": "call", "name": "f", "arguments": '{"a": "ARG", "b": 12345}'},
        ["ARG", "12345"],
    ),
    ({"type": "function_call_output", "call_id": "call", "output": "OUT"}, ["OUT"]),
    ({"type": "function_call_output", "call_id": "call", "output": '[{"id": "OUT"}]'}, ["OUT"]),
    (
        {
            "type": "function_call_output",
            "call_id": "call",
            "output": [{"type": "input_text", "text": "OUT"}, {"type": "input_image", "image_url": PICTURE}],
        },
        ["OUT"],
    ),
    (
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "SUM"}],
            "content": [{"type": "reasoning_text", "text": "THINK"}],
            "encrypted_content": "gAAAA",
        },
        ["SUM", "THINK"],
    ),
    (
        {
            "type": "mcp_call",
            "id": "mcp",
            "server_label": "label",
            "name": "f",
            "arguments": '{"q": "ARG"}',
            "output": "OUT",
            "error": {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "ERR"}]},
            "approval_request_id": "mcpr",
        },
        ["ARG", "OUT", "ERR"],
    ),
    ({"type": "mcp_approval_request", "id": "mcpr", "server_label": "label", "name": "f", "arguments": '["ARG"]'}, ["ARG"]),
    ({"type": "mcp_approval_response", "approval_request_id": "mcpr", "approve": True, "reason": "WHY"}, ["WHY"]),
    (
        {
            "type": "mcp_list_tools",
            "id": "mcpl",
            "server_label": "label",
            "tools": [
                {"name": "f", "description": "DESCRIPTION", "input_schema": {"type": "object", "description": "schema"}}
            ],
        },
        ["DESCRIPTION"],
    ),
    (
        {
            "type": "computer_call",
            "id": "cu",
            "call_id": "call",
            "status": "completed",
            "action": {"type": "type", "text": "TYPED"},
            "pending_safety_checks": [{"id": "sc", "code": "CODE", "message": "MESSAGE"}],
        },
        ["TYPED", "CODE", "MESSAGE"],
    ),
    (
        {
            "type": "computer_call_output",
            "call_id": "call",
            "output": {"type": "computer_screenshot", "image_url": PICTURE, "file_id": "file"},
        },
        [],
    ),
    (
        {
            "type": "local_shell_call",
            "id": "lsh",
            "call_id": "call",
            "status": "completed",
            "action": {"type": "exec", "command": ["CMD", "ARG"], "env": {"name": "VALUE"}, "timeout_ms": 30000},
        },
        ["CMD", "ARG", "VALUE"],
    ),
    ({"type": "local_shell_call_output", "id": "lsh", "output": '{"stdout": "OUT"}'}, ["OUT"]),
    (
        {
            "type": "shell_call",
            "call_id": "call",
            "action": {"commands": ["CMD"], "timeout_ms": 1000, "max_output_length": 4096},
        },
        ["CMD"],
    ),
    (
        {
            "type": "shell_call_output",
            "call_id": "call",
            "max_output_length": 4096,
            "output": [{"stdout": "OUT", "stderr": "ERR", "outcome": {"type": "EXIT", "exit_code": 0}}],
        },
        ["OUT", "ERR", "EXIT"],
    ),
    (
        {
            "type": "apply_patch_call",
            "call_id": "call",
            "status": "completed",
            "operation": {"type": "update_file", "path": "PATH", "diff": "DIFF"},
        },
        ["PATH", "DIFF"],
    ),
    ({"type": "apply_patch_call_output", "call_id": "call", "status": "completed", "output": "OUT"}, ["OUT"]),
    ({"type": "custom_tool_call", "id": "ctc", "call_id": "call", "name": "f", "input": "IN"}, ["IN"]),
    ({"type": "custom_tool_call_output", "call_id": "call", "output": "OUT"}, ["OUT"]),
    (
        {
            "type": "code_interpreter_call",
            "id": "ci",
            "container_id": "cntr",
            "status": "completed",
            "code": "CODE",
            "outputs": [{"type": "logs", "logs": "LOGS"}, {"type": "image", "url": PICTURE}],
        },
        ["CODE", "LOGS"],
    ),
    (
        {
            "type": "web_search_call",
            "id": "ws",
            "status": "completed",
            "action": {"type": "search", "query": "QUERY", "sources": [{"type": "url", "url": "URL"}]},
        },
        ["QUERY", "URL"],
    ),
    (
        {
            "type": "file_search_call",
            "id": "fs",
            "status": "completed",
            "queries": ["QUERY"],
            "results": [
                {
                    "file_id": "file",
                    "filename": "NAME",
                    "score": 0.875,
                    "text": "TEXT",
                    "attributes": {"name": "WHO", "n": 12345},
                }
            ],
        },
        ["QUERY", "NAME", "TEXT", "WHO", "12345"],
    ),
    ({"type": "tool_search_call", "id": "ts", "call_id": "call", "arguments": {"name": "ARG"}}, ["ARG"]),
    ({"type": "image_generation_call", "id": "ig", "status": "completed", "result": "iVBORw0KGgo="}, []),
    ({"type": "program", "id": "p", "call_id": "call", "code": "CODE", "fingerprint": "fp"}, ["CODE"]),
    ({"type": "program_output", "id": "p", "call_id": "call", "result": "RESULT", "status": "completed"}, ["RESULT"]),
    ({"type": "compaction", "id": "cmp", "encrypted_content": "gAAAA"}, []),
    ({"type": "item_reference", "id": "msg"}, []),
    ({"type": "new_in_2028", "id": "n", "what": {"is": ["NEW", 12345]}, "owner_id": "o"}, ["NEW", "12345"]),
]


def upper(text: str) -> str:
    """What a test puts in the place of a text."""
    return f"<{text}>"


def test_every_kind_of_the_sdk_is_here() -> None:
    """The table above has an item of every type that the SDK's union of input items knows, but what holds no text at all."""
    annotated = [str(get_type_hints(kind, include_extras=True).get("type")) for kind in get_args(TResponseInputItem)]
    known = {name for annotation in annotated for name in re.findall(r"'([a-z_]+)'", annotation)}
    without = {"compaction_trigger", "additional_tools", "tool_search_output", "configuration_update", "steer"}
    assert {"message", "function_call"} <= known  # so that an empty answer means something
    assert set() == known - {item.get("type") for item, _ in ITEMS} - without


@pytest.mark.parametrize(("item", "expected"), ITEMS, ids=[item.get("type", "plain") for item, _ in ITEMS])
def test_text_is_found_and_protected_fields_are_not(item: Item, expected: list[str]) -> None:
    """Of each kind of item what a person, a model or a tool wrote is looked at, and nothing else."""
    assert expected == [leaf.segment.text for leaf in leaves(item)]


@pytest.mark.parametrize(("item", "expected"), ITEMS, ids=[item.get("type", "plain") for item, _ in ITEMS])
def test_only_what_was_looked_at_changes(item: Item, expected: list[str]) -> None:
    """Every text gets back to its place; what is not one is as it was, and the item that was given too."""
    before = copy.deepcopy(item)
    changed = rewrite(item, [upper(text) for text in expected])
    assert before == item
    assert [upper(text) for text in expected] == [leaf.segment.text for leaf in leaves(changed)]
    assert [pointer(leaf.path) for leaf in leaves(item)] == [pointer(leaf.path) for leaf in leaves(changed)]
    assert list(item) == list(changed)
    for name in ("id", "call_id", "type", "role", "name", "status", "encrypted_content", "file_id"):
        assert item.get(name) == changed.get(name)


@pytest.mark.parametrize(("item", "expected"), ITEMS, ids=[item.get("type", "plain") for item, _ in ITEMS])
def test_an_item_that_does_not_change_is_itself(item: Item, expected: list[str]) -> None:
    """Where the texts are the same, so is the object."""
    assert item is rewrite(item, expected)


def test_what_does_not_change_is_the_same_object() -> None:
    """A copy shares with the original everything that is not on the way to a change."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in ("a", "b")]}
    changed = rewrite(item, ["a", "c"])
    assert item["content"][0] is changed["content"][0]
    assert "c" == changed["content"][1]["text"]


texts = st.text(st.characters(exclude_categories=()), max_size=20)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts, texts.map(json.dumps)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4), st.dictionaries(texts, inner).map(json.dumps)
    ),
    max_leaves=10,
)
items = st.dictionaries(
    st.one_of(st.sampled_from(["type", "role", "id", "content", "arguments", "output", "text", "input"]), texts),
    values,
    max_size=5,
)


@given(items)
def test_any_item_comes_back(item: dict[str, Any]) -> None:
    """Whatever an item holds, it is itself where nothing changes, and nothing is asked twice or forgotten."""
    found = [leaf.segment.text for leaf in leaves(item)]
    assert item is rewrite(item, found)
    changed = rewrite(item, [upper(text) for text in found])
    assert [upper(text) for text in found] == [leaf.segment.text for leaf in leaves(changed)]


def test_prose_has_no_keys_and_data_has() -> None:
    """Keys of the protocol say nothing, keys of data name what is below them, and what is data is marked."""
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    assert [((), False)] == [(leaf.segment.keys, leaf.segment.tool) for leaf in leaves(message)]
    call = {"type": "function_call", "name": "f", "call_id": "c", "arguments": '{"card": {"number": 4111}}'}
    assert [(("card", "number"), True)] == [(leaf.segment.keys, leaf.segment.tool) for leaf in leaves(call)]
    assert [((), True)] == [
        (f.segment.keys, f.segment.tool) for f in leaves({"type": "function_call_output", "output": "x"})
    ]
    pasted = {"role": "user", "content": '{"card": "x"}'}
    assert [(("card",), True)] == [(leaf.segment.keys, leaf.segment.tool) for leaf in leaves(pasted)]


def test_names_in_data_are_data() -> None:
    """`name` and `id` are protocol in an item, and what somebody said in arguments."""
    item = {"type": "function_call", "name": "f", "id": "fc", "arguments": '{"name": "Jane", "id": "J-1", "type": "person"}'}
    assert ["Jane", "J-1", "person"] == [leaf.segment.text for leaf in leaves(item)]


def test_json_is_changed_where_it_changed() -> None:
    """In a JSON text everything but the changed literal stays as it was written, and a replaced number is a string."""
    arguments = '{ "a": 1.50, "a":"caf\\u00e9","mail" : "x",\n "n":4111, "deep": "{\\"mail\\": \\"y\\"}" }'
    item = {"type": "function_call", "name": "f", "arguments": arguments}
    assert ["1.50", "café", "x", "4111", "y"] == [leaf.segment.text for leaf in leaves(item)]
    changed = rewrite(item, ["1.50", "café", "[X]", "[N]", "[Y]"])
    expected = arguments.replace('"x"', '"[X]"').replace("4111", '"[N]"').replace('\\"y\\"', '\\"[Y]\\"')
    assert expected == changed["arguments"]


def test_json_in_json_ends() -> None:
    """JSON in JSON is walked as deep as we say, and is text below."""
    text = "deep"
    for _ in range(6):
        text = json.dumps({"a": text})
    (leaf,) = leaves({"role": "user", "content": text})
    assert "deep" in leaf.segment.text
    assert leaf.segment.text.startswith("{")
    (twice,) = leaves({"role": "user", "content": json.dumps(json.dumps({"a": "deep"}))})
    assert "deep" == twice.segment.text


@pytest.mark.parametrize("text", ["{", "[EMAIL]", '{"a": 1', "[1, 2", '"\\', "{'a': 'x'}"])
def test_what_does_not_parse_is_text(text: str) -> None:
    """A text that only looks like JSON is one leaf, as it is."""
    assert [text] == [leaf.segment.text for leaf in leaves({"role": "user", "content": text})]


def test_deep_json_text_is_walked() -> None:
    """JSON nested 100 deep, or 10,000, is walked to its end."""
    for depth in (100, 10_000):
        text = '{"a":[' * depth + '"x"' + "]}" * depth
        item = {"type": "function_call_output", "output": text}
        assert ["x"] == [leaf.segment.text for leaf in leaves(item)]
        assert text.replace("x", "y") == rewrite(item, ["y"])["output"]


def test_objects_nested_too_deep_are_refused() -> None:
    """Objects that are nested past what the interpreter walks are refused, and not passed by."""
    value: Any = "x"
    for _ in range(100):
        value = {"a": [value]}
    assert ["x"] == [leaf.segment.text for leaf in leaves({"type": "x", "content": value})]
    for _ in range(MAX_DEPTH):
        value = [value]
    with pytest.raises(RedactionError, match="nested more than"):
        leaves({"type": "x", "content": value})


def test_bytes_are_not_text() -> None:
    """A picture is neither looked at nor changed, under whatever name it comes; base64 of a text is looked at."""
    picture = base64.b64encode(bytes(range(256)) * 8).decode()
    assert [] == leaves({"type": "function_call_output", "output": picture})
    assert [] == leaves({"type": "x", "whatever": PICTURE})
    assert 1 == len(leaves({"type": "x", "whatever": base64.b64encode(b"some text, " * 40).decode()}))
    assert 1 == len(leaves({"type": "x", "whatever": "4111111111111111\n" * 40}))
    assert [] == leaves({"type": "x", "whatever": "\n".join(picture[at : at + 76] for at in range(0, len(picture), 76))})
    assert 1 == len(leaves({"type": "x", "whatever": "data:text/plain;base64,QUJD"}))
    assert 1 == len(leaves({"type": "x", "whatever": PICTURE + " and my card"}))


def test_parts_that_follow_one_another_say_so() -> None:
    """A text part knows the one right before it in the same list; a picture between them parts them."""
    one, two, three = ({"type": "input_text", "text": text} for text in "abc")
    picture = {"type": "input_image", "image_url": PICTURE}
    item = {"type": "message", "role": "user", "content": [one, two, picture, three]}
    assert [("a", -1), ("b", 0), ("c", -1)] == [(leaf.segment.text, leaf.after) for leaf in leaves(item)]
    cited = {"type": "output_text", "annotations": [{"type": "url_citation", "title": "t"}], "text": "d"}
    item = {"type": "message", "role": "assistant", "content": [cited, {**cited, "text": "e"}]}
    assert [("t", -1), ("d", -1), ("t", -1), ("e", 1)] == [(leaf.segment.text, leaf.after) for leaf in leaves(item)]


def test_five_megabytes_are_walked() -> None:
    """A message of 5 MB, as text and as JSON, is walked whole."""
    assert 5_000_000 == len(leaves({"role": "user", "content": "x " * 2_500_000})[0].segment.text)
    rows = json.dumps([{"id": n, "text": "x" * 20} for n in range(100_000)])
    assert 100_000 <= len(leaves({"type": "function_call_output", "output": rows}))
