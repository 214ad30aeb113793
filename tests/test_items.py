"""`items.py`: the JSON that the SDK would have stored, exactly, and what an item is called."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from enum import Enum, IntEnum
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from agents.extensions.memory import AdvancedSQLiteSession
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import SerializationError
from secure_memory.items import dump, kind_of, load, load_all, role_of, starts_turn, tool_of

CANARY = "the canary sings"

numbers = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**18, 10**17]),
    st.floats(),
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=())),  # lone surrogates and controls included
    st.sampled_from(["NaN", "Infinity", "\\ud800", "\ud83d\ude00", "\x00", "\u2028", "é", "123456789012345678901"]),
)
keys = st.one_of(texts, st.booleans(), st.none(), st.integers(), st.floats())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(keys, inner)),
    max_leaves=8,
)
objects = st.dictionaries(keys, values)


def same(left: Any, right: Any) -> bool:
    """Whether two values are one JSON value: 1 is not 1.0 or True, 0.0 not -0.0, and NaN is NaN."""
    return repr(left) == repr(right)


@given(objects)
def test_what_comes_back_is_what_the_sdk_would_give_back(item: dict[Any, Any]) -> None:
    """An item is the value that `json.loads(json.dumps(item))` is, to the last digit."""
    assert same(json.loads(json.dumps(item)), load(dump(item)))


@given(st.lists(objects, max_size=3))
def test_many_come_back_as_each_would(some: list[dict[Any, Any]]) -> None:
    """Items that are read together are what they are when read one by one."""
    texts = [dump(item) for item in some]
    assert same([load(text) for text in texts], load_all(texts))


@given(objects)
def test_what_was_read_is_written_again_the_same(item: dict[Any, Any]) -> None:
    """Once through JSON nothing changes any more."""
    once = load(dump(item))
    assert dump(once) == dump(load(dump(once)))


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**64),
        10**400,
        1e308,
        5e-324,
        -0.0,
        0.1 + 0.2,
        math.inf,
        -math.inf,
        "\ud800",
        "\ud83d\ude00",
        "\x00",
        "\x7f",
    ],
)
def test_values_that_json_libraries_disagree_on(value: Any) -> None:
    """Big integers, the ends of the floats and half characters are what the standard library makes of them."""
    item = {"role": "user", "content": value}
    assert same(json.loads(json.dumps(item)), load(dump(item)))


def test_not_a_number_comes_back() -> None:
    """NaN, which JSON does not have and Python writes, is read again."""
    assert math.isnan(load(dump({"x": math.nan}))["x"])


def test_keys_become_text_as_in_the_sdk() -> None:
    """Keys that are no text are written as JSON writes them, and of two that become the same the last one stays."""
    assert {"7": "b", "true": 2, "null": 3, "1.5": 4} == load(dump({7: "a", "7": "b", True: 2, None: 3, 1.5: 4}))


def test_text_is_not_escaped() -> None:
    """Text takes as many bytes as its UTF-8, not six for a letter."""
    assert '{"content":"żółw"}'.encode() == dump({"content": "żółw"})


@pytest.mark.parametrize("depth", [100, *range(250, 258), 500, 900])
@pytest.mark.parametrize("innermost", [1, 2**70])
def test_deep_items_come_back(depth: int, innermost: int) -> None:
    """An item that could be written can be read, however deep it is, alone and among others."""
    value: Any = innermost
    for _ in range(depth):
        value = [value]
    text = dump({"content": value})
    assert {"content": value} == load(text)
    assert [{}, {"content": value}] == load_all([dump({}), text])


def test_an_item_that_is_too_deep() -> None:
    """What Python itself can't write is refused, and does not end the program."""
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError, match="RecursionError"):
        dump({"content": value})


def test_an_item_that_holds_itself() -> None:
    """A circle is no JSON."""
    item: dict[str, Any] = {}
    item["content"] = item
    with pytest.raises(SerializationError, match="ValueError"):
        dump(item)


@pytest.mark.parametrize("item", [None, "text", 7, ["role", "user"], b"{}", SimpleNamespace(role="user")])
def test_only_an_object_is_an_item(item: object) -> None:
    """What is no JSON object is named by its type, with a hint."""
    with pytest.raises(SerializationError, match=f"not {type(item).__name__}") as raised:
        dump(item)
    assert raised.value.hint


class Role(str, Enum):
    USER = "user"


@pytest.mark.parametrize("value", [Role.USER, IntEnum("Level", "LOW").LOW, OrderedDict(a=1), (1, (2,)), True, 1.0])
def test_what_python_writes_as_json_is_written_so(value: Any) -> None:
    """Subclasses of the plain types are what `json.dumps` makes of them."""
    assert same(json.loads(json.dumps({"content": value})), load(dump({"content": value})))


@pytest.mark.parametrize("value", [Enum("Color", "RED").RED, UUID(int=7), date(2026, 11, 18), orjson.Fragment(b"[]")])
def test_what_only_orjson_writes_is_refused(value: object) -> None:
    """What the SDK's sessions refuse is refused, although a faster library would write it."""
    with pytest.raises(SerializationError, match="TypeError"):
        dump({"content": value})


@pytest.mark.parametrize("item", [OrderedDict(role="user"), MappingProxyType({"role": "user"})])
def test_any_mapping_is_an_object(item: Mapping[str, Any]) -> None:
    """A mapping of another type is stored as the object that it is."""
    assert {"role": "user"} == load(dump(item))


@pytest.mark.parametrize(
    "value",
    [
        {CANARY},
        CANARY.encode(),
        SimpleNamespace(words=CANARY),
        {(CANARY,): 1},
        pytest.param(10**5000, id="more digits than Python writes"),
    ],
)
def test_what_is_no_json_is_refused_without_a_word_of_it(value: object) -> None:
    """The error names the kind of trouble, and neither it nor what is behind it repeats the content."""
    with pytest.raises(SerializationError) as raised:
        dump({"role": "user", "content": value})
    assert CANARY not in f"{raised.value}{raised.value.hint}"
    assert raised.value.__suppress_context__


# ---- what an item is called

TYPES = [
    *("message", "reasoning", "compaction", "compaction_summary", "program", "custom", "", None, 7, ["function_call"]),
    *("function_call", "function_call_output", "mcp_call", "mcp_list_tools", "mcp_approval_request"),
    *("mcp_approval_response", "computer_call", "computer_call_output", "file_search_call", "web_search_call"),
    *("code_interpreter_call", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output"),
    *("tool_search_call", "tool_search_output", "custom_tool_call", "image_generation_call", "local_shell_call"),
]


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        ("message", {"role": "user", "content": "hi"}),
        ("message", {"type": "message", "role": "assistant"}),
        ("tool_call", {"type": "function_call", "name": "f"}),
        ("tool_call", {"type": "web_search_call"}),
        ("tool_call", {"type": "program"}),
        ("tool_output", {"type": "function_call_output", "output": "x"}),
        ("tool_output", {"type": "tool_search_output"}),
        ("reasoning", {"type": "reasoning", "summary": []}),
        ("approval", {"type": "mcp_approval_request"}),
        ("approval", {"type": "mcp_approval_response"}),
        ("compaction", {"type": "compaction"}),
        ("compaction", {"type": "compaction_summary"}),
        ("other", {"type": "mcp_list_tools"}),
        ("other", {"type": 7, "role": "user"}),
        ("other", {}),
    ],
)
def test_kinds(kind: str, item: dict[str, Any]) -> None:
    """Each type of the Responses API is one of the kinds that policies select, and a new type is `other`."""
    assert kind == kind_of(item)


sdk_items = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([type_ for type_ in TYPES if not isinstance(type_, list)]),
        "role": st.sampled_from(["user", "assistant", "system", "tool", None, 7, "", "\ud800"]),
        "name": st.sampled_from(["", "lookup", "a.b", None, 0, 7]),
        "namespace": st.sampled_from(["", "lookup", "crm", None, 0, "7"]),
        "server_label": st.sampled_from(["", "deepwiki", None, 7]),
    },
)


@given(sdk_items)
def test_tools_are_called_as_the_sdk_calls_them(item: dict[str, Any]) -> None:
    """The name of a tool is the one that AdvancedSQLiteSession would store."""
    theirs = AdvancedSQLiteSession._extract_tool_name(None, item)  # type: ignore[arg-type]
    assert (theirs or "") == tool_of(item)


@given(sdk_items)
def test_a_turn_starts_where_the_sdk_starts_it(item: dict[str, Any]) -> None:
    """A turn is what AdvancedSQLiteSession counts as one."""
    theirs = AdvancedSQLiteSession._is_user_message(None, item)  # type: ignore[arg-type]
    assert theirs == starts_turn(item)


@given(st.dictionaries(st.sampled_from(["type", "role", "name", "namespace", "server_label"]), values))
def test_every_object_has_its_labels(item: dict[str, Any]) -> None:
    """Whatever stands where a label is read, the labels are short text that a column can hold."""
    for label in (kind_of(item), role_of(item), tool_of(item)):
        assert len(label.encode()) <= 800
        assert len(label) <= 200
    assert starts_turn(item) in (True, False)
