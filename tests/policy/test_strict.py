"""`policy/strict.py`: whatever a file holds, it is a policy or a PolicyError, soon, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from secure_memory.errors import PolicyError
from secure_memory.policy.load import load
from secure_memory.policy.strict import MAX_DEPTH, parsed

PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "a",
                ": ",
                "- ",
                "\n",
                "\n  ",
                "\n    ",
                "\t",
                " ",
                ",",
                "[",
                "]",
                "{",
                "}",
                "'",
                '"',
                "#",
                "&x ",
                "*x",
                "!t ",
                "? ",
            ),
            *(
                "|",
                ">",
                "%",
                "@",
                "`",
                "<<",
                "---\n",
                "...\n",
                "~",
                "null",
                "010",
                "0x1F",
                "1e3",
                ".inf",
                "true",
                "\\",
                "\\u0000",
            ),
            *(
                "\x00",
                "\x85",
                "\u2028",
                "\u202e",
                "\ufeff",
                "\ud800",
                "ä",
                "😀",
                "metadata: {name: a}\n",
                "retention:\n",
                "rules:",
            ),
        ]
    ),
    max_size=30,
).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@example(b".\xc2\x85\xc2\x85!:")
@given(st.one_of(st.binary(max_size=200), PIECES.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_whatever_a_file_holds(tmp_path: Path, data: bytes) -> None:
    """No bytes raise anything but PolicyError, and that one says the file."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(data)
    try:
        load(path, now=0)
    except PolicyError as error:
        told = error
    else:
        return
    assert str(path) == told.file
    assert told.hint
    assert "\n" not in str(told)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{a: " * 60_000,
        "- " * 120_000,
        "? " * 120_000,
        "a: &a [x]\nb: [" + "*a, " * 60_000 + "]",
        "a:\n" * 80_000,
    ],
    ids=["brackets", "braces", "dashes", "keys", "aliases", "colons"],
)
@pytest.mark.timeout(10)
def test_what_is_made_to_take_long(text: str) -> None:
    """What is nested without end, or refers to itself, is refused at its first few tokens."""
    with pytest.raises(PolicyError):
        parsed(text, "policy.yaml")


def test_depth() -> None:
    """What is as deep as it may be is read, and one more is refused."""
    for depth, fits in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False)):
        text = "a: " + "[" * (depth - 1) + "x" + "]" * (depth - 1)
        if fits:
            assert parsed(text, "policy.yaml").value
        else:
            with pytest.raises(PolicyError, match=r"nested more than 12 deep"):
                parsed(text, "policy.yaml")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.booleans(), st.integers(-(10**17), 10**17), st.text(st.characters(min_codepoint=32, max_codepoint=126))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), VALUES, min_size=1, max_size=3))
def test_json_is_yaml(value: dict[str, Any]) -> None:
    """What is written as JSON is read as it was meant: JSON is YAML, and every text in it is quoted."""
    assert value == parsed(json.dumps(value), "policy.yaml").value


def test_lines() -> None:
    """Each part is known by its line: a key by where it stands, a member of a list by where it begins."""
    found = parsed("a:\n  - x\n  -\n    b: 1\nc: {d: 2}\n", "policy.yaml")
    assert {(): 1, ("a",): 1, ("a", 0): 2, ("a", 1): 4, ("a", 1, "b"): 4, ("c",): 5, ("c", "d"): 5} == dict(found.lines)


WHOLE: dict[str, Any] = {
    "apiVersion": "secmem/v1",
    "metadata": {"name": "a", "version": 1, "review_by": "2027-06-30"},
    "extends": ["gdpr"],
    "redaction": {
        "detectors": ["builtin"],
        "rules": [{"id": "mail", "entity": "STAFF", "store": "mask", "basis": {"law": "x", "mark": "choice"}}],
        "patterns": [{"entity": "STAFF", "pattern": "EMP-[0-9]{6}", "context": ["badge"]}],
        "allow": ["me@example.com"],
    },
    "retention": {
        "timezone": "Europe/Berlin",
        "rules": [
            {"id": "r", "select": {"kind": ["message"], "tag": {"a": "b"}, "tenant": ["eu-*"]}, "min": "P1D", "max": "P1Y"}
        ],
    },
    "access": {"roles": {"clerk": {"allow": ["session.*"], "require": ["reason"]}}, "members": {"user:a": ["clerk"]}},
    "audit": {"durability": "full"},
    "examples": [{"name": "x", "given": {"created": "2026-01-01", "tag": {"a": "b"}}, "expect": {"state": "kept"}}],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.sampled_from(places(WHOLE)[1:]),
    VALUES | st.sampled_from(["", "P1D", "mask", "owner", "EMAIL", "*", "gdpr", "./x"]),
    st.booleans(),
)
def test_whatever_stands_in_a_part(tmp_path: Path, place: tuple[Any, ...], value: Any, renamed: bool) -> None:
    """A policy in which any one part is something else, or is called something else, is a policy or a PolicyError that says
    where."""
    whole = json.loads(json.dumps(WHOLE))
    parent = whole
    for part in place[:-1]:
        parent = parent[part]
    if renamed and isinstance(parent, dict):
        parent[str(value)] = parent.pop(place[-1])
    else:
        parent[place[-1]] = value
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(whole, indent=1))
    try:
        load(path, now=0)
    except PolicyError as error:
        told = error
    else:
        return
    for one in (told, *told.others):
        assert one.line
        assert one.hint
        assert "\n" not in str(one)
