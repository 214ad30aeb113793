"""`ledger/entry.py`: an audit entry has one form, and anything else is none."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.actions import ACTIONS
from secure_memory.ledger.entry import BranchHead, Entry, canonical, fields_of, parse
from secure_memory.ledger.merkle import leaf_hash

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "audit-entry.json").read_text("utf-8"))
FIELDS: dict[str, Any] = VECTORS["fields"]
CANONICAL: bytes = VECTORS["canonical"].encode()

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)
scalars = st.one_of(texts, st.integers(-(2**53) + 1, 2**53 - 1), st.booleans())
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner), st.dictionaries(names, inner)), max_leaves=6)
uids = st.binary(min_size=16, max_size=16).map(bytes.hex)
heads = st.builds(
    BranchHead,
    st.integers(0, 2**31),
    st.integers(0, 2**31),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**31),
    st.integers(0, 2**31),
    st.binary(min_size=32, max_size=32),
)
times = st.integers(0, 253_402_300_799_999_999)
entries = st.builds(
    Entry,
    seq=st.integers(0, 2**53 - 1),
    time=times,
    tenant=uids,
    action=st.sampled_from(sorted(ACTIONS)),
    outcome=st.sampled_from(["ok", "denied", "failed"]),
    actor=texts,
    roles=st.lists(texts, max_size=3).map(tuple),
    purpose=st.none() | texts,
    reason=st.none() | texts,
    subject=st.none() | uids,
    session=st.none() | uids,
    branch=st.none() | uids,
    items=st.none() | st.integers(0, 2**31),
    head=st.none() | heads,
    run=st.none() | texts,
    control=st.none() | uids,
    detail=st.dictionaries(names, values, max_size=2),
    host=st.none() | texts,
    salt=uids,
)


def written(entry: Entry) -> bytes:
    """An entry as the ledger writes it."""
    from secure_memory import clock

    fields = {name: getattr(entry, name) for name in Entry.__slots__}
    fields |= {"v": 1, "time": clock.rfc3339(entry.time), "roles": list(entry.roles)}
    fields["head"] = None if entry.head is None else entry.head.to_json()
    return canonical(fields)


def test_vector() -> None:
    """The canonical bytes of an entry, and the leaf they make, are the frozen ones."""
    assert CANONICAL == canonical(FIELDS)
    assert VECTORS["leaf"] == leaf_hash(CANONICAL).hex()
    assert FIELDS == fields_of(CANONICAL)


def test_the_vector_is_an_entry() -> None:
    """What a reader sees of it is what was written."""
    entry = parse(CANONICAL)
    assert (7, "session.append", "user:żółw", ("agent", "admin")) == (entry.seq, entry.action, entry.actor, entry.roles)
    assert 1_795_000_000_000_000 == entry.time
    assert BranchHead(3, 2, bytes(range(32)), 1, 1, bytes(range(32, 64))) == entry.head


@given(st.dictionaries(names, values))
def test_it_is_rfc_8785(fields: dict[str, Any]) -> None:
    """Of anything that an entry may hold, the canonical bytes are those of the package rfc8785."""
    assert rfc8785.dumps(fields) == canonical(fields)


@given(st.dictionaries(names, values))
def test_it_is_sorted_and_says_nothing_twice(fields: dict[str, Any]) -> None:
    """What canonical bytes say is what they were made of, in whatever order that came."""
    turned = dict(reversed(fields.items()))
    assert canonical(turned) == canonical(fields)
    assert fields == json.loads(canonical(fields))


@given(entries)
def test_an_entry_comes_back(entry: Entry) -> None:
    """What was written of an entry is read of it."""
    assert entry == parse(written(entry))


@given(heads)
def test_a_head_comes_back(head: BranchHead) -> None:
    """A head that was written into an entry is read from it."""
    assert head == BranchHead.from_json(json.loads(json.dumps(head.to_json())))


def test_what_does_not_apply_does_not_stand() -> None:
    """A field that is None is left out; nothing else is, be it empty or zero."""
    assert b'{"items":0,"reason":"","roles":[]}' == canonical({"items": 0, "reason": "", "roles": [], "run": None})


@pytest.mark.parametrize(
    "value", [2**53 + 1, -(2**53) - 1, 2**64, "\ud800", {1}, b"x", datetime(2026, 11, 18), {1: 2}, [{"x": 0.5}]]
)
def test_what_has_no_canonical_form(value: Any) -> None:
    """Integers that others would round, floats, half characters and foreign types are refused, not written somehow."""
    with pytest.raises((TypeError, ValueError)):
        canonical({"detail": value})


OTHER_FORMS = {
    "a space": CANONICAL.replace(b'"v":1', b'"v": 1'),
    "a line end": CANONICAL + b"\n",
    "another order": canonical({"v": 1})[:-1] + b"," + CANONICAL[1:].replace(b',"v":1', b""),
    "a key twice": CANONICAL[:-1] + b',"v":1}',
    "an escape that need not be": CANONICAL.replace(b"agent", b"\\u0061gent"),
    "a float": CANONICAL.replace(b'"seq":7', b'"seq":7.0'),
    "a null": CANONICAL.replace(b'"run"', b'"quux":null,"run"'),
    "another version": CANONICAL.replace(b'"v":1', b'"v":2'),
    "no version": CANONICAL.replace(b',"v":1', b""),
    "a float that is none": CANONICAL.replace(b'"turn":1', b'"turn":1.0'),
    "a float among the details": CANONICAL.replace(b'"yes":true', b'"yes":0.5'),
    "too deep": CANONICAL.replace(b'"yes":true', b'"yes":' + b"[" * 300 + b"]" * 300),
    "deeper": CANONICAL.replace(b'"yes":true', b'"yes":' + b"[" * 1000 + b"]" * 1000),
    "a list": b"[]",
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": CANONICAL.replace(b"agent", b"\xff"),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_another_form_of_an_entry_is_none(form: str) -> None:
    """Bytes that say the same in another way, or nothing, are refused."""
    assert OTHER_FORMS[form] != CANONICAL
    with pytest.raises(ValueError, match=r".+"):
        parse(OTHER_FORMS[form])


@pytest.mark.parametrize(
    "change",
    [
        *({name: None} for name in ("seq", "time", "tenant", "action", "outcome", "actor")),
        {"unknown": "field"},
        {"time": "yesterday"},
        {"time": 7},
        {"time": []},
        {"head": {}},
        {"head": 7},
        {"head": {**FIELDS["head"], "link": "xyz"}},
        {"head": {**FIELDS["head"], "link": 7}},
        {"head": {**FIELDS["head"], "base": []}},
        {"roles": 7},
    ],
    ids=str,
)
def test_what_is_no_entry(change: dict[str, Any]) -> None:
    """Canonical bytes that lack what an entry has, or have what it lacks, are refused with ValueError and nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        parse(canonical({**FIELDS, **change}))


@given(st.binary(max_size=40) | st.dictionaries(names, values, max_size=3).map(lambda f: canonical({**f, "v": 1})))
def test_any_bytes_are_an_entry_or_a_value_error(data: bytes) -> None:
    """Nothing that can stand in a row makes parsing fail in another way."""
    with contextlib.suppress(ValueError):
        assert isinstance(parse(data), Entry)


def test_actions_are_nouns_and_verbs() -> None:
    """Every action is two words with a point between, as filters expect."""
    assert all(len(action.split(".")) == 2 for action in ACTIONS)
    assert {"session.tampered", "access.denied", "audit.gap", "store.open"} <= ACTIONS
