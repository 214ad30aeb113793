"""`literals.py`: where the strings and numbers of a JSON text stand, and that nothing but a replaced one changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.redaction.literals import KEYS, literals, pointer, splice

texts = st.text(st.characters(exclude_categories=()))  # lone surrogates and controls included
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner)),
    max_leaves=12,
)
layouts = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def leaves_of(value: Any) -> list[str]:
    """The strings and numbers of a value, as JSON writes them."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves_of(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves_of(inner)]
    if value is None or isinstance(value, bool):
        return []
    return [value if isinstance(value, str) else json.dumps(value)]


@given(values, layouts)
def test_every_string_and_number_is_found(value: Any, layout: dict[str, Any]) -> None:
    """However it is laid out, the literals of a JSON text are the strings and numbers that were written."""
    found = literals(json.dumps(value, **layout))
    assert found is not None
    # In JSON a pair of lone surrogates is one character: compare as what comes back.
    assert leaves_of(json.loads(json.dumps(value))) == [literal.text for literal in found]


@given(values, layouts, st.data())
def test_only_what_is_replaced_changes(value: Any, layout: dict[str, Any], data: st.DataObject) -> None:
    """A spliced text is the old one around the new literals, and still JSON."""
    raw = json.dumps(value, **layout)
    found = literals(raw) or []
    changes = data.draw(st.dictionaries(st.sampled_from(range(len(found))), texts)) if found else {}
    spliced = splice(raw, found, changes)
    again = literals(spliced)
    assert again is not None
    written = [json.loads(json.dumps(changes[n])) if n in changes else found[n].text for n in range(len(found))]
    assert written == [literal.text for literal in again]
    if not changes:
        assert raw == spliced


@given(st.text('{}[]:," \\u0at1-.eE\n', max_size=12))
def test_what_json_refuses_is_none(raw: str) -> None:
    """A text is taken for JSON exactly where the standard library takes it, or a run of lines, for JSON."""
    try:
        json.loads(raw, strict=False)
    except json.JSONDecodeError:
        found = literals(raw)
        assert found is None or _several(raw)
    else:
        assert literals(raw) is not None


def _several(raw: str) -> bool:
    """Whether a text is JSON texts after one another."""
    decoder, at = json.JSONDecoder(strict=False), 0
    while raw[at:].strip(" \t\n\r"):
        at += len(raw[at:]) - len(raw[at:].lstrip(" \t\n\r"))
        at = decoder.raw_decode(raw, at)[1]
    return True


def test_what_a_value_would_lose_stays() -> None:
    """Duplicate keys, digits of a number, NaN and escapes are what they were."""
    raw = '{"a": 1.10, "a": "x\\u00e9\\/", "n": NaN, "h": 123456789012345678901234567890, "b": 1e5}'
    found = literals(raw)
    assert found is not None
    assert ["1.10", "xé/", "NaN", "123456789012345678901234567890", "1e5"] == [literal.text for literal in found]
    assert raw.replace("1e5", '"[X]"') == splice(raw, found, {4: "[X]"})


def test_ascii_stays_ascii() -> None:
    """A literal that was written in ASCII is replaced in ASCII, and any other as it is read."""
    for raw, expected in (('["x"]', '["\\u00e9"]'), ('["ü"]', '["é"]')):
        assert expected == splice(raw, literals(raw) or [], {0: "é"})


def test_keys_and_path_lead_to_the_leaf() -> None:
    """A leaf has its keys, outermost first, and a JSON Pointer; null counts in an array."""
    found = literals('{"a/b": [null, {"c": "x"}]}', ("top",), (None, "arguments"))
    assert found is not None
    assert [(("top", "a/b", "c"), "/arguments/a~1b/1/c")] == [(leaf.keys, pointer(leaf.path)) for leaf in found]


def test_json_lines_are_json() -> None:
    """Texts after one another are read one by one."""
    assert ["x", "y"] == [literal.text for literal in literals('{"a":"x"}\n{"a":"y"}\n') or []]


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_no_depth_is_too_deep(opening: str) -> None:
    """Nesting far past the interpreter's limit is walked, and keeps the innermost keys only."""
    depth = 50_000
    found = literals(opening * depth + '"x"' + ("]" if opening == "[" else "}") * depth)
    assert found is not None
    assert ["x"] == [literal.text for literal in found]
    assert len(found[0].keys) <= KEYS
