"""`policy/checking.py` and `policy/conflicts.py`: what a whole policy can't mean, and what it probably doesn't mean.

What is refused stands in `broken/`; here is what is warned of, and what is let be.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.policy.conflicts import can_meet, contradictions
from secure_memory.policy.entities import BUILT_IN
from secure_memory.policy.load import load
from secure_memory.policy.matching import Facts, matches
from secure_memory.policy.model import RetentionRule, Select
from secure_memory.redaction.entities import ENTITIES

NOW = 1_780_000_000_000_000  # 2026-05-28


def warnings(folder: Path, text: str) -> list[str]:
    """What is warned of in a policy that says this, without the place of the file."""
    path = folder / "policy.yaml"
    path.write_text(f"metadata: {{name: a}}\n{text}" if "metadata" not in text else text)
    return [warning.removeprefix(f"{path}:") for warning in load(path, now=NOW).warnings]


def test_the_entities_are_those_that_are_found() -> None:
    """A policy knows the names of what the built-in detector finds, all of them and no others."""
    assert ENTITIES.keys() == BUILT_IN


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "metadata: {name: a, review_by: 2026-05-27}\n",
            ["1: metadata.review_by was 2026-05-27: somebody has to read this policy again"],
        ),
        ("metadata: {name: a, review_by: 2026-05-28}\n", []),
        (
            "extends: [baseline]\nredaction: {detectors: [builtin, presidio]}\n",
            [
                f"3: redaction.detectors has presidio, but no rule is about {name}"
                for name in ("LOCATION", "ORGANIZATION", "PERSON")
            ],
        ),
        (
            "extends: [baseline]\nredaction:\n  patterns:\n    - {entity: STAFF, pattern: 'A[0-9]'}\n",
            ["5: redaction.patterns[STAFF] finds what no rule is about: it is kept everywhere"],
        ),
        (
            "redaction:\n  rules: [{id: a, entity: SECRET, store: block}]\n",
            ["2: redaction has no rule about CARD_CVV, CARD_NUMBER, CARD_TRACK: written as they are"],
        ),
        (
            "retention:\n  rules:\n    - {id: a, max: P30D}\n",
            ["2: retention says nothing of how long audit entries are kept at least"],
        ),
        (
            "extends: [baseline]\nretention:\n  rules:\n    - {id: a, max: P30D, idle: P7D}\n",
            ["5: retention.rules[a].idle has no effect: only `trigger: session.ended` waits for it"],
        ),
        (
            "extends: [baseline]\nretention:\n  rules:\n    - {id: a, max: P30D}\n"
            "    - {id: b, min: P6Y, select: {tag: {x: y}}}\n",
            ["6: retention.rules[b].min keeps what rule a ends: at least P6Y, but at most P30D"],
        ),
        (
            "extends: [baseline]\nretention:\n  rules:\n    - {id: a, max: P30D}\n    - {id: b, min: P1M}\n",
            ["6: retention.rules[b].min may keep what rule a ends: at least P1M, but at most P30D"],
        ),
        (
            "metadata: {name: a, jurisdiction: EU}\nextends: [baseline]\n"
            "retention:\n  rules:\n    - {id: b, min: P6Y, basis: {law: X, binding: law}}\n",
            ["5: retention.rules[b].basis does not say its jurisdiction, so it counts as the policy's own"],
        ),
        (
            "access:\n  roles: {clerk: {allow: [session.read]}}\n  members: {'user:*': [clerk]}\n",
            ["2: access lets nobody apply a later policy (policy.apply)"],
        ),
        ("access:\n  roles: {root: {allow: ['policy.*']}}\n  members: {'user:*': [root]}\n", []),
        ("extends: [baseline]\nretention:\n  rules:\n    - {id: a, max: PT0S, select: {kind: [reasoning]}}\n", []),
        ("extends: [baseline]\nretention:\n  rules:\n    - {id: a, max: PT0S, select: {tenant: [tmp-*]}}\n", []),
        ("extends: [baseline]\nretention:\n  rules:\n    - {id: a, max: PT0S, action: redact}\n", []),
    ],
)
def test_what_is_warned_of(tmp_path: Path, text: str, told: list[str]) -> None:
    """What is probably not meant is told with its line, and does not stop the policy; what may be meant is not told."""
    assert told == warnings(tmp_path, text)


# ---- floors and ceilings that meet ----------------------------------------------------------------------------------


def rule(name: str, **fields: object) -> RetentionRule:
    """A retention rule."""
    return RetentionRule.model_validate({"id": name, **fields})


def test_a_contradiction_needs_an_item_for_both() -> None:
    """A floor and a ceiling contradict each other where an item can have both, and are let be where none can."""
    floor = rule("floor", min="P6Y", select={"tag": {"record": "phi"}, "tenant": ["eu-*"]})
    for select, met in (
        ({}, True),
        ({"tag": {"record": "*"}}, True),
        ({"tag": {"record": "chat"}}, False),
        ({"tag": {"other": "chat"}}, True),
        ({"tenant": ["us-*"]}, False),
        ({"tenant": ["e*"]}, True),
        ({"tenant": ["eu-1"]}, True),
        ({"kind": ["audit_entry"]}, False),
    ):
        ceiling = rule("ceiling", max="P30D", select=select)
        found = list(contradictions([floor, ceiling]))
        assert ([(floor, ceiling, True)] if met else []) == found, select
    assert [] == list(contradictions([floor, rule("longer", max="P7Y")]))


NAMES = st.sampled_from(["eu-1", "eu-2", "us", ""])
GLOBS = st.lists(st.sampled_from(["eu-*", "*1", "us", "?s", "[eu]*"]), max_size=2).map(tuple)
SELECTS = st.builds(
    Select,
    kind=st.lists(st.sampled_from(["message", "tool_call", "audit_entry"]), max_size=2).map(tuple),
    role=st.lists(st.sampled_from(["user", "assistant"]), max_size=1).map(tuple),
    tenant=GLOBS,
    tool=GLOBS,
    tag=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b", "a*", "*"]), max_size=2),
)
FACTS = st.builds(
    Facts,
    kind=st.sampled_from(["message", "tool_call", "audit_entry"]),
    tenant=NAMES,
    tool=NAMES,
    created=st.just(0),
    session_created=st.just(0),
    last_activity=st.just(0),
    role=st.sampled_from(["", "user", "assistant"]),
    tags=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["a", "ab", "b"]), max_size=2),
)


@given(SELECTS, SELECTS, FACTS)
def test_no_meeting_is_missed(one: Select, other: Select, facts: Facts) -> None:
    """Two rules that are said never to meet are never about one item; and meeting is mutual."""
    a, b = rule("a", min="P1D", select=one), rule("b", max="P1D", select=other)
    assert can_meet(a, b) == can_meet(b, a)
    if matches(a, facts) and matches(b, facts):
        assert can_meet(a, b)
