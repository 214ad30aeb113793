"""The built-in detector: batches, context, tools, overlaps, and the same findings with google-re2 and without."""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.redaction.detect import BuiltinDetector, Finding, resolve, spotting
from secure_memory.redaction.entities import ENTITIES, shapes
from secure_memory.redaction.walk import Segment

Found = Callable[..., list[tuple[str, str]]]

LINEAR = BuiltinDetector(ENTITIES, linear=True)
STANDARD = BuiltinDetector(ENTITIES, linear=False)

PIECES = [
    *(
        "4242 4242 4242 4242",
        "jane@example.com",
        "+1 415 555 2671",
        "DE89 3704 0044 0532 0130 00",
        "219-09-9999",
        "password: hunter2",
    ),
    *(
        "my",
        "card",
        "cvv 123",
        "order",
        "phone",
        "id",
        "203.0.113.7",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "https://u:p@h.example/",
        "12/03/1984",
    ),
    *(
        "born",
        "NHS 943 476 5919",
        "BSN 111222333",
        "\n",
        " ",
        ",",
        "\0",
        "\ud800",
        "é",
        "1",
        "-",
        "@",
        ":",
        "/",
        "[EMAIL]",
        "İ",
        "\x0b",
    ),
]
hostile = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(string.printable, max_size=4), st.text(max_size=2)), max_size=14
)
texts = hostile.map(" ".join) | hostile.map("".join)
segments = st.lists(
    st.builds(
        Segment, texts, st.lists(st.sampled_from(["card", "id", "password", "note"]), max_size=2).map(tuple), st.booleans()
    )
)


@given(segments)
def test_both_engines_find_the_same(batch: list[Segment]) -> None:
    """With google-re2 and without, the findings are the same, in order, whatever the texts are."""
    assert STANDARD.detect(batch) == LINEAR.detect(batch)


@given(segments)
def test_a_batch_is_each_of_its_segments(batch: list[Segment]) -> None:
    """Segments that are looked at together have the findings that each has alone: nothing spans two."""
    alone = [STANDARD.detect([segment])[0] for segment in batch]
    for expected, found in zip(alone, STANDARD.detect(batch), strict=True):
        assert {(f.entity, f.start, f.end) for f in expected} == {(f.entity, f.start, f.end) for f in found}


@given(segments)
def test_findings_are_inside_their_text(batch: list[Segment]) -> None:
    """Every finding is a piece of its segment, and of an entity that was asked for."""
    for segment, findings in zip(batch, LINEAR.detect(batch), strict=True):
        assert all(0 <= f.start < f.end <= len(segment.text) and f.entity in ENTITIES for f in findings)


@given(hostile.map("".join))
def test_spotting_is_looking_for_each(text: str) -> None:
    """What the linear engine spots in one pass is what a search for each finds; of what has no UTF-8 it says nothing."""
    wanted = sorted(
        {word for shape in shapes(ENTITIES) for word in (*shape.triggers, *shape.words)} | {"é", "4242", ":", "i"}
    )
    spot = spotting(wanted)
    assert spot is not None
    assert ({word for word in wanted if word in text} if "\ud800" not in text else None) == spot(text)


def test_without_re2_nothing_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where google-re2 is not installed, the standard library does it all."""
    monkeypatch.setitem(sys.modules, "re2", None)
    assert spotting(["a"]) is None
    assert [1] == [len(found) for found in BuiltinDetector({"EMAIL"}).detect([Segment("jane@example.com", (), False)])]


def test_only_what_is_asked_for_is_looked_for() -> None:
    """A detector for cards finds no addresses, and none is found where nothing is asked for."""
    text = [Segment("4242424242424242 jane@example.com", (), False)]
    assert ["CARD_NUMBER"] == [finding.entity for finding in BuiltinDetector({"CARD_NUMBER"}).detect(text)[0]]
    assert [[]] == BuiltinDetector(()).detect(text)
    assert [] == BuiltinDetector(ENTITIES).detect([])


def test_the_baseline_imports_no_numbering_plan(elsewhere: Callable[..., str]) -> None:
    """Who looks for cards and secrets only does not pay for phonenumbers and python-stdnum."""
    source = """
import sys
from secure_memory.redaction.detect import BuiltinDetector
from secure_memory.redaction.walk import Segment
detector = BuiltinDetector({"CARD_NUMBER", "CARD_CVV", "CARD_TRACK", "SECRET"})
found = detector.detect([Segment("card 4242424242424242, password: hunter2, call +1 415 555 2671", (), False)])
print(len(found[0]), sorted({name.partition(".")[0] for name in sys.modules} & {"phonenumbers", "stdnum"}))
"""
    assert "2 []\n" == elsewhere(source)


def test_why_is_told() -> None:
    """A finding says what proved it and which word or key spoke for it."""
    (findings,) = STANDARD.detect([Segment("my card: 4242424242424242", (), False)])
    assert [Finding("CARD_NUMBER", 9, 25, 0.99, "Luhn and issuer range", "card", "builtin")] == findings
    (findings,) = STANDARD.detect([Segment("912803456", ("traveller", "passportNumber"), True)])
    assert ["passport"] == [finding.context for finding in findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the passports are here " + "x" * 10 + " 912803456", True),
        ("passportless 912803456", False),
        ("passport " + "x" * 60 + " 912803456", False),
    ],
)
def test_context_is_a_whole_word_and_near(found: Found, text: str, expected: bool) -> None:
    """A word counts where it stands near, and not as a piece of a longer one."""
    assert expected == bool(found(text))


NOBODYS = {
    "id": "0123456789",
    "order_id": "4242424242424242",
    "uuid": "550e8400-e29b-41d4-a716-446655440000",
    "created": "1700000000",
    "created_ms": 1700000000123,
    "updated_at": "2024-05-06T07:08:09.123456+00:00",
    "date": "2024-05-06",
    "sha": "3fe6faf1c2b4a5968778695a4b3c2d1e0f9a8b7c",
    "md5": "d41d8cd98f00b204e9800998ecf8427e",
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "version": "10.15.7.1",
    "price": "1,234.56",
    "total_cents": 123456,
    "lat": 52.52000659999999,
    "lon": "13.404953999999975",
    "tracking": "1Z999AA10123456784",
    "tracking_number": "9400100000000000000000",
    "isbn": "978-3-16-148410-0",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "etag": 'W/"33a64df551425fcc55e4d42a148795d9f25f89d4"',
    "image": "registry.example/app:1.2.3",
    "url": "https://example.com/items/4242424242424242?page=2",
    "phone_model": "Pixel 8",
    "placeholder": "[EMAIL]",
    "token": "EMAIL_abcdefghijkl2345",
    "snowflake": "1234567890123456789",
    "hex": "0xdeadbeef",
}


@pytest.mark.parametrize("key", NOBODYS)
def test_what_tools_say_of_nobody_is_left(found: Found, key: str) -> None:
    """Ids, times, hashes, versions, prices, places, parcels, books and placeholders are no findings, alone or in prose."""
    text = str(NOBODYS[key])
    assert [] == found(text, "data", key, tool=True)
    assert [] == found(f"{key.replace('_', ' ')}: {text}")
    assert [] == found(json.dumps({key: NOBODYS[key]}))


# ---- overlaps --------------------------------------------------------------------------------------------------------


def finding(entity: str, start: int, end: int, score: float = 0.5, validator: str | None = None) -> Finding:
    return Finding(entity, start, end, score, validator, None, "test")


def test_validated_goes_first_then_score_then_length() -> None:
    """Of two at one place the validated one stays, then the surer, then the longer."""
    assert ["A"] == [f.entity for f in resolve([finding("B", 0, 5, 0.9), finding("A", 0, 5, 0.1, "Luhn")])]
    assert ["A"] == [f.entity for f in resolve([finding("B", 0, 5, 0.8), finding("A", 0, 5, 0.9)])]
    assert ["A"] == [f.entity for f in resolve([finding("B", 1, 4), finding("A", 0, 5)])]


def test_nothing_is_half_covered() -> None:
    """What a loser covers beyond the winner stays covered, by what is left of it."""
    found = resolve([finding("A", 5, 10, 0.9), finding("B", 0, 7), finding("C", 8, 15)])
    assert [("B", 0, 5), ("A", 5, 10), ("C", 10, 15)] == [(f.entity, f.start, f.end) for f in found]
    inside = resolve([finding("A", 3, 5, 0.9, "x"), finding("B", 0, 9)])
    assert [("B", 0, 3), ("A", 3, 5), ("B", 5, 9)] == [(f.entity, f.start, f.end) for f in inside]


spans = st.tuples(st.integers(0, 30), st.integers(1, 10))
some = st.lists(
    st.builds(
        lambda s, e, v: finding(e, s[0], s[0] + s[1], 0.5, v), spans, st.sampled_from("AB"), st.sampled_from([None, "v"])
    )
)


@given(some)
def test_resolved_findings_cover_the_same_and_never_twice(findings: list[Finding]) -> None:
    """Whatever overlaps, the same characters are covered afterwards, each once, in order."""
    resolved = resolve(findings)
    assert {at for f in findings for at in range(f.start, f.end)} == {at for f in resolved for at in range(f.start, f.end)}
    assert all(one.end <= other.start for one, other in pairwise(resolved))
