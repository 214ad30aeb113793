"""`policy/weakening.py`: the table of what is weaker, row by row, and that it is an order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.policy import durations
from secure_memory.policy.matching import KINDS, Facts, matches
from secure_memory.policy.model import Basis, Operator, RedactionRule, RetentionRule, Role, Select
from secure_memory.policy.weakening import OPERATORS, as_strict, surely_not_shorter, weakenings

RULE = ("retention", "rules", "a")
LAW = Basis(law="Art. 1", binding="law", jurisdiction="US")


def rule(**fields: Any) -> RetentionRule:
    """A retention rule."""
    return RetentionRule(id="a", **fields)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (rule(min="P6Y"), rule(min="P5Y"), "min may be shorter: it is P5Y, was P6Y"),
        (rule(min="P31D"), rule(min="P1M"), "min may be shorter: it is P1M, was P31D"),
        (rule(min="P6Y"), rule(max="P7Y"), "min is gone, was P6Y"),
        (rule(max="P30D"), rule(max="P31D"), "max may be longer: it is P31D, was P30D"),
        (rule(max="P30D"), rule(max="P1M"), "max may be longer: it is P1M, was P30D"),
        (rule(max="P30D"), rule(min="P1D"), "max is gone, was P30D"),
        (rule(max="P1D", action="delete"), rule(max="P1D", action="redact"), "action is redact, was delete"),
        (rule(max="P1D", action="delete"), rule(max="P1D", action="archive"), "action is archive, was delete"),
        (rule(max="P1D", action="archive"), rule(max="P1D", action="redact"), "action is redact, was archive"),
        (rule(max="P1D", action="redact"), rule(max="P1D", action="archive"), "action is archive, was redact"),
        (
            rule(min="P1D", max="P2D", action="archive"),
            rule(min="P1D", max="P2D", action="delete"),
            "action is delete, was archive",
        ),
        (
            rule(max="P1D", trigger="item.created"),
            rule(max="P1D", trigger="session.last_activity"),
            "trigger is session.last_activity, was item.created",
        ),
        (
            rule(min="P1D", trigger="item.created"),
            rule(min="P1D", trigger="session.created"),
            "trigger is session.created, was item.created",
        ),
        (
            rule(max="P1D", trigger="session.ended"),
            rule(max="P1D", trigger="item.created"),
            "trigger is item.created, was session.ended",
        ),
        (
            rule(max="P1D", trigger="session.ended"),
            rule(max="P1D", trigger="session.ended", idle="P31D"),
            "idle is P31D, was P30D",
        ),
        (
            rule(min="P1D"),
            rule(min="P1D", select=Select(kind=("message",))),
            "select.kind leaves out what was selected",
        ),
        (
            rule(min="P1D", select=Select(kind=("audit_entry",))),
            rule(min="P1D"),
            "select.kind leaves out what was selected",
        ),
        (
            rule(min="P1D", select=Select(tenant=("eu-*", "ch"))),
            rule(min="P1D", select=Select(tenant=("eu-1", "ch"))),
            "select.tenant leaves out what was selected",
        ),
        (
            rule(min="P1D", select=Select(tenant=("*",))),
            rule(min="P1D", select=Select(tenant=("?",))),
            "select.tenant leaves out what was selected",
        ),
        (
            rule(min="P1D", select=Select(tag={"a": "b"})),
            rule(min="P1D", select=Select(tag={"a": "b", "c": "*"})),
            "select.tag asks for c: *",
        ),
        (rule(min="P1D", basis=LAW), rule(min="P1D"), "basis is no longer binding law"),
        (
            rule(min="P1D", basis=LAW),
            rule(min="P1D", basis=LAW.model_copy(update={"jurisdiction": "EU"})),
            "basis has jurisdiction EU, was US",
        ),
    ],
)
def test_a_weaker_retention_rule(old: RetentionRule, new: RetentionRule, told: str) -> None:
    """Each row of the table is told in words, and is not as strict."""
    assert [told] == weakenings(RULE, old, new)
    assert not as_strict(RULE, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rule(min="P6Y"), rule(min="P72M")),
        (rule(min="P6Y"), rule(min="P7Y")),
        (rule(min="P1M"), rule(min="P31D")),
        (rule(max="P1M"), rule(max="P28D")),
        (rule(max="P30D"), rule(max="P30D", min="P1D")),
        (rule(max="P1D", action="redact"), rule(max="P1D", action="delete")),
        (rule(max="P1D", action="archive"), rule(max="P1D", action="delete")),
        (rule(max="P1D", trigger="session.last_activity"), rule(max="P1D", trigger="item.created")),
        (rule(max="P1D", trigger="session.ended", idle="P9D"), rule(max="P1D", trigger="session.ended", idle="P1D")),
        (rule(min="P1D", select=Select(kind=("message",))), rule(min="P1D")),
        (rule(min="P1D", select=Select(tenant=("eu-*",))), rule(min="P1D", select=Select(tenant=("e*",)))),
        (rule(min="P1D", select=Select(tag={"a": "b"})), rule(min="P1D", select=Select(tag={"a": "*"}))),
        (rule(min="P1D", basis=LAW), rule(min="P1D", basis=LAW.model_copy(update={"note": "other words"}))),
    ],
)
def test_a_rule_that_is_as_strict(old: RetentionRule, new: RetentionRule) -> None:
    """What keeps as long, ends as soon and selects as much is not weaker, however it is written."""
    assert [] == weakenings(RULE, old, new)


def test_operators_are_ordered() -> None:
    """Each operator is weaker than the one to its left, on each surface; each has its place."""
    assert set(get_args(Operator)) == set(OPERATORS)
    assert ("block", "redact", "tokenise", "pseudonymise", "mask", "keep") == OPERATORS[::-1]
    key = ("redaction", "rules", "a")
    for surface in ("store", "model", "view"):
        for less, more in pairwise(OPERATORS):
            old, new = (RedactionRule(id="a", entity="EMAIL", **{surface: name}) for name in (more, less))
            assert [f"{surface} is {less}, was {more}"] == weakenings(key, old, new)
            assert [] == weakenings(key, new, old)


def test_another_entity_is_weaker() -> None:
    """A rule that is about something else no longer protects what it protected."""
    old, new = (RedactionRule(id="a", entity=entity, store="block") for entity in ("EMAIL", "PHONE"))
    assert ["it is about PHONE, was about EMAIL"] == weakenings(("redaction", "rules", "a"), old, new)


def test_a_weaker_role() -> None:
    """A role that allows more, sees more or has to say less is weaker."""
    key = ("access", "roles", "a")
    old = Role(allow=("session.read",), view="masked", require=("purpose", "reason"))
    assert ["it allows more: session.append, session.assign, session.branch and others"] == weakenings(
        key, old, old.model_copy(update={"allow": ("session.*",)})
    )
    assert ["view is clear, was masked"] == weakenings(key, old, old.model_copy(update={"view": "clear"}))
    assert ["it no longer requires a purpose"] == weakenings(key, old, old.model_copy(update={"require": ("reason",)}))
    assert [] == weakenings(key, Role(allow=("*",)), Role(allow=("session.*", "audit.read")))


def test_a_weaker_setting() -> None:
    """Settings are weaker one way, and not the other."""
    for key, strict, weak in (
        (("audit", "durability"), "full", "normal"),
        (("retention", "on_conflict"), "fail", "retain"),
        (("redaction", "detectors"), ("builtin", "presidio"), ("builtin",)),
    ):
        assert 1 == len(weakenings(key, strict, weak))
        assert [] == weakenings(key, weak, strict)


# ---- properties -----------------------------------------------------------------------------------------------------

PERIODS = st.sampled_from(["PT0S", "P1D", "P28D", "P30D", "P31D", "P1M", "P2M", "P365D", "P366D", "P1Y", "P1YT1H"])
GLOBS = st.lists(st.sampled_from(["a", "b", "a*", "*", "?", "[ab]", "ab"]), max_size=2).map(tuple)
SELECTS = st.builds(
    Select,
    kind=st.lists(st.sampled_from(sorted(KINDS | {"audit_entry"})), max_size=2).map(tuple),
    tenant=GLOBS,
    tool=GLOBS,
    role=st.lists(st.sampled_from(["user", "assistant"]), max_size=1).map(tuple),
    tag=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["a", "a*", "*"]), max_size=2),
)
FACTS = st.builds(
    Facts,
    kind=st.sampled_from(sorted(KINDS | {"audit_entry"})),
    tenant=st.sampled_from(["a", "b", "ab", "c", ""]),
    created=st.just(0),
    session_created=st.just(0),
    last_activity=st.just(0),
    role=st.sampled_from(["", "user", "assistant"]),
    tool=st.sampled_from(["", "a", "b", "ab"]),
    tags=st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["a", "ab", "b"]), max_size=2),
)


@given(SELECTS, SELECTS, FACTS)
def test_what_was_selected_is_selected(old: Select, new: Select, facts: Facts) -> None:
    """Where the table finds no narrower selection, every item that the old rule is about the new one is about, too."""
    before, after = rule(min="P1D", select=old), rule(min="P1D", select=new)
    if not weakenings(RULE, before, after) and matches(before, facts):
        assert matches(after, facts)


@given(PERIODS, PERIODS, st.integers(0, 4_000_000_000_000_000))
def test_not_shorter_is_not_shorter(one: str, other: str, start: int) -> None:
    """A duration that is surely not shorter ends no earlier, wherever in the calendar both begin."""
    longer, shorter = durations.parse(one), durations.parse(other)
    if surely_not_shorter(longer, shorter):
        assert longer.after(start) >= shorter.after(start)


@given(PERIODS, PERIODS, PERIODS)
def test_not_shorter_is_an_order(one: str, two: str, three: str) -> None:
    """Nothing is shorter than itself, and what is not shorter than the middle is not shorter than the least."""
    a, b, c = map(durations.parse, (one, two, three))
    assert surely_not_shorter(a, a)
    if surely_not_shorter(a, b) and surely_not_shorter(b, c):
        assert surely_not_shorter(a, c)
