"""A policy's own patterns: which are accepted, which are refused and why, and what they find."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.redaction.patterns import PatternDetector, check_pattern
from secure_memory.redaction.walk import Segment

ACCEPTED = [
    *(
        "EMP-[0-9]{6}",
        r"\bEMP-\d+",
        "(?i)emp[ -]?[0-9]{4,8}",
        r"\d{3}(?:-\d{2}){2,4}",
        "(?:AB|CD|EF)[0-9]{4}",
        "Ünïcode-[0-9]{3}",
    ),
    *("x{3}", "[A-Z]{2,4}-?[0-9]{4,10}", "KND.{5}", r"[^\W\d_]{2}\d+"),
]
REFUSED = [
    ("(a+)+b", "repeats without an end"),
    ("(a|a)*b", "repeats without an end"),
    ("[a-z]+@corp", "repeats without an end"),
    ("(?:ab)+", "repeats without an end"),
    ("x+?", "repeats without an end"),
    ("(?:a{1,9}){1,9}", "ways to match"),
    ("(?:ab?){1,20}c", "ways to match"),
    ("a{0,40}b{0,40}c", "ways to match"),
    ("(?:a{900}){900}", "characters"),
    ("(?:a?){3}", "can be empty"),
    (r"(\w)\1", "refers back"),
    ("(?=x)y", "looks around"),
    ("(?<!x)y", "looks around"),
    ("(a)?(?(1)b|c)", "depends on a group"),
    ("^x", "anchor"),
    ("x$", "anchor"),
    (r"\Ax", "anchor"),
    ("x*", "empty text"),
    ("", "empty text"),
    ("a|", "empty text"),
    (r"\b", "empty text"),
    ("[", "no regular expression"),
    ("a{2,1}", "no regular expression"),
    ("(?m)a", "flag"),
    ("(?s:a)", "flag"),
]


@pytest.mark.parametrize("pattern", ACCEPTED)
def test_a_bounded_pattern_is_accepted(pattern: str) -> None:
    """Repeats with an end, alternatives, word boundaries and one greedy repeat at the end are fine."""
    check_pattern(pattern)
    PatternDetector([("OWN", pattern, ())])


@pytest.mark.parametrize(("pattern", "why"), REFUSED)
def test_a_pattern_that_could_take_long_is_refused(pattern: str, why: str) -> None:
    """What backtracks, depends on its surroundings or matches nothing is refused, and the error says what to write."""
    with pytest.raises(ValueError, match=why):
        check_pattern(pattern)
    with pytest.raises(ValueError, match=why):
        PatternDetector([("OWN", pattern, ())])


def test_an_error_has_a_problem_and_a_hint() -> None:
    """A policy's loader shows what stands before the colon as the problem, and the rest as the hint."""
    for pattern, _ in REFUSED:
        with pytest.raises(ValueError, match=r"^[^:]+: .+"):
            check_pattern(pattern)


atoms = st.sampled_from(["a", "b", "[ab]", ".", r"\d", r"\w", "(?:ab|b)", "(?:a|b|ab)"])
repeats = st.sampled_from(["", "?", "{2}", "{1,3}", "{0,5}", "{1,30}", "{3,9}", "+", "*", "{2,}"])
made = st.lists(st.tuples(atoms, repeats).map("".join), min_size=1, max_size=6).map("".join)


@given(made, st.sampled_from(["a", "b", "ab", "1", "aab"]))
def test_what_is_accepted_is_linear(pattern: str, piece: str) -> None:
    """Whatever is accepted ends soon on a text of its worst letters, and finds what RE2, which can't backtrack, finds."""
    re2 = pytest.importorskip("re2")
    try:
        check_pattern(pattern)
    except ValueError:
        return
    text = piece * 300 + "!"  # a pattern that backtracks without end would meet the time limit of tests
    assert [match.span() for match in re2.finditer(pattern, text)] == [match.span() for match in re.finditer(pattern, text)]


def test_a_pattern_finds_its_entity() -> None:
    """A match is a finding, in each segment, under the entity's name."""
    detector = PatternDetector([("EMPLOYEE_ID", "EMP-[0-9]{6}", ()), ("TICKET", r"\bT-\d+", ())])
    batch = [Segment("EMP-123456 and T-7", (), False), Segment("nothing", (), False), Segment("EMP-654321", ("id",), True)]
    assert [[("EMPLOYEE_ID", 0, 10), ("TICKET", 15, 18)], [], [("EMPLOYEE_ID", 0, 10)]] == [
        [(finding.entity, finding.start, finding.end) for finding in findings] for findings in detector.detect(batch)
    ]


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ("his badge is 123456", (), "badge"),
        ("Staff Number 123456", (), "staff number"),
        ("the badges are 123456", (), None),
        ("123456", ("employee", "badge"), "badge"),
        ("123456", (), None),
    ],
)
def test_context_words_have_to_be_near(text: str, keys: tuple[str, ...], expected: str | None) -> None:
    """With context words, a match counts beside one of them, in whatever case, or under a key that has one."""
    detector = PatternDetector([("EMPLOYEE_ID", r"[0-9]{6}", ["Badge", "staff number"])])
    assert ([expected] if expected else []) == [
        finding.context for finding in detector.detect([Segment(text, keys, True)])[0]
    ]
