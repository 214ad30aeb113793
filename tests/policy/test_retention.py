"""Retention, resolved: the invariants as properties, each held against an oracle that is written the other way round, and
mutants of the resolver, which all have to die of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from secure_memory.policy import durations, matching, retention
from secure_memory.policy.matching import Facts
from secure_memory.policy.model import Basis, Retention, RetentionRule, Select

NOON = 1_795_000_000_000_000
DAY = 86_400_000_000
HOME = "EU"
PERIODS = ["PT0S", "P1D", "P30D", "P1M", "P6M", "P1Y", "P3Y"]
TRIGGERS = ["item.created", "session.created", "session.last_activity", "session.ended"]

# ---- what is drawn --------------------------------------------------------------------------------------------------

BASES = [None, Basis(law="Art. 1"), *(
    Basis(law="Art. 2", binding="law", jurisdiction=where) for where in (None, HOME, "US")
)]  # fmt: skip
SELECTS = [
    *[Select()] * 10,
    Select(kind=("message",)),
    Select(kind=("reasoning", "message")),
    Select(kind=("audit_entry",)),
    Select(tenant=("eu-*",)),
    Select(tag={"record": "phi"}),
    Select(tag={"record": "p*", "case": "*"}),
    Select(role=("user",)),
    Select(tool=("refund*",)),
]


def pool(size: int) -> list[RetentionRule]:
    """Make rules of every kind, the same each time; drawing one of them costs less than drawing its parts."""
    dice = Random(5)
    return [
        RetentionRule(
            id=f"rule-{dice.randrange(10**6)}-{number}",  # an id says nothing of a rule's place
            basis=dice.choice(BASES),
            select=dice.choice(SELECTS),
            trigger=dice.choice([*TRIGGERS, "session.ended"]),
            min=dice.choice([None, *PERIODS]),
            max=dice.choice([None, *PERIODS, *PERIODS]),
            idle=dice.choice(["P1D", "P30D", "P1Y"]),
            action=dice.choice(["delete", "redact", "archive"]),
        )
        for number in range(size)
    ]


rules = st.sampled_from(pool(600))
times = st.sampled_from([NOON - days * DAY for days in (0, 1, 29, 30, 31, 59, 366, 1097)])


class Case(NamedTuple):
    """A policy, an item, and a time."""

    policy: Retention
    facts: Facts
    now: int


@st.composite
def cases(draw: st.DrawFn, *, erasure: bool = False) -> Case:
    """Draw a policy, an item that its rules may be about, and a time, often just when something of it happens."""
    found = Retention(rules=tuple(draw(st.lists(rules, max_size=4, unique_by=lambda rule: rule.id))))
    session_created, created, last_activity, ended = sorted(draw(st.tuples(times, times, times, times)))
    facts = Facts(
        kind=draw(st.sampled_from(["message", "message", "message", "reasoning", "tool_call", "audit_entry"])),
        tenant=draw(st.sampled_from(["eu-bank", "eu-bank", "us-bank"])),
        created=created,
        session_created=session_created,
        last_activity=last_activity,
        role=draw(st.sampled_from(["user", "user", "assistant", ""])),
        tool=draw(st.sampled_from(["", "refund_card"])),
        tags=draw(st.sampled_from([{}, {"record": "phi"}, {"record": "phi", "case": "7"}, {"record": "other"}])),
        ended=draw(st.sampled_from([None, ended])),
        redacted=draw(st.sampled_from([False, False, True])),
        erasure=draw(times) if erasure else None,
    )
    moments = [NOON, NOON + 4000 * DAY]
    for rule in found.rules:
        moments.append(durations.parse(rule.idle).after(last_activity))
        for period in filter(None, (rule.min, rule.max)):
            moments += [durations.parse(period).after(start) for start in (session_created, created, last_activity, ended)]
    now = draw(st.sampled_from([moment for moment in moments if moment >= NOON])) + draw(st.sampled_from([0, -1, 1]))
    return Case(found, facts, max(now, NOON))


any_case = cases() | cases(erasure=True)

# ---- the oracle -----------------------------------------------------------------------------------------------------


def begins(rule: RetentionRule, facts: Facts, now: int) -> int | None:
    """When a rule's time begins, None where it has not."""
    if rule.trigger == "session.ended":
        if facts.ended is None and now < durations.parse(rule.idle).after(facts.last_activity):
            return None
        return facts.last_activity if facts.ended is None else facts.ended
    return {
        "item.created": facts.created,
        "session.created": facts.session_created,
        "session.last_activity": facts.last_activity,
    }[rule.trigger]


def selected(found: Retention, facts: Facts) -> list[RetentionRule]:
    """The rules that are about the item, by tables of what each select of the strategy means."""
    tags = dict(facts.tags)

    def about(select: Select) -> bool:
        return all(
            [
                facts.kind != "audit_entry" if select.kind == () else facts.kind in select.kind,
                select.tenant == () or select.tenant[0][:2] == facts.tenant[:2],
                all(
                    tags.get(name, "-")[0] == glob[0] or (glob == "*" and name in tags) for name, glob in select.tag.items()
                ),
                select.role == () or facts.role in select.role,
                select.tool == () or (facts.tool != "" and select.tool[0][:4] == facts.tool[:4]),
            ]
        )

    return [rule for rule in found.rules if about(rule.select)]


def passed(rule: RetentionRule, period: str | None, facts: Facts, now: int) -> bool:
    """Whether a period of the rule has begun and passed."""
    start = begins(rule, facts, now)
    return period is not None and start is not None and durations.parse(period).after(start) <= now


def unmet(found: Retention, facts: Facts, now: int) -> list[RetentionRule]:
    """The rules about the item whose floor has not passed."""
    return [rule for rule in selected(found, facts) if rule.min is not None and not passed(rule, rule.min, facts, now)]


def reached(found: Retention, facts: Facts, now: int) -> list[RetentionRule]:
    """The rules about the item whose ceiling has passed, without redaction where it is done."""
    rules = [rule for rule in selected(found, facts) if passed(rule, rule.max, facts, now)]
    return [rule for rule in rules if not (facts.redacted and rule.action == "redact")]


def law(rule: RetentionRule) -> bool:
    """Whether no erasure drops the rule's floor."""
    return rule.basis is not None and rule.basis.binding == "law"


def foreign(rule: RetentionRule) -> bool:
    """Whether the rule is another jurisdiction's."""
    return rule.basis is not None and rule.basis.jurisdiction == "US"


# ---- the properties, of any resolver --------------------------------------------------------------------------------


class Property(NamedTuple):
    """What holds of a resolver, which is a module; and what it is drawn from."""

    check: Callable[..., None]
    drawn: st.SearchStrategy[Any]


PROPERTIES: dict[str, Property] = {}


def holds_for(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a property of a function that takes the resolver's module and what is drawn."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        PROPERTIES[check.__name__] = Property(check, st.tuples(*strategies))
        return check

    return register


@holds_for(any_case, st.lists(st.sampled_from(["M-1", "M-2"]), min_size=1))
def a_hold_always_wins(module: Any, case: Case, matters: list[str]) -> None:
    """Whatever rules and erasures say, nothing happens to what is held, and the matters are told."""
    found, facts, now = case
    outcome = module.resolve(found, replace(facts, holds=tuple(matters)), now, HOME)
    assert ("held", None, None, tuple(sorted({*matters}))) == (outcome.state, outcome.action, outcome.at, outcome.matters)
    assert module.keeps(found, replace(facts, holds=tuple(matters)), now)


@holds_for(cases())
def due_is_what_a_ceiling_says_and_no_floor_forbids(module: Any, case: Case) -> None:
    """Something happens exactly where a ceiling has passed and every floor has."""
    found, facts, now = case
    due = bool(reached(found, facts, now)) and not unmet(found, facts, now)
    assert due == (module.resolve(found, facts, now, HOME).state == "due")


@holds_for(cases())
def a_floor_defers_what_is_due(module: Any, case: Case) -> None:
    """Where a ceiling has passed and a floor has not, it is deferred, by exactly the floors that have not."""
    found, facts, now = case
    outcome = module.resolve(found, facts, now, HOME)
    keeping = unmet(found, facts, now)
    assert (bool(reached(found, facts, now)) and bool(keeping)) == (outcome.state == "deferred")
    if outcome.state == "deferred":
        assert {rule.id for rule in keeping} == {cited.id for cited in outcome.rules}


@holds_for(any_case, st.integers(0, 1000))
def the_order_of_rules_is_irrelevant(module: Any, case: Case, seed: int) -> None:
    """The rules in any order come to the same, in every word."""
    found, facts, now = case
    shuffled = list(found.rules)
    Random(seed).shuffle(shuffled)
    expected = module.resolve(found, facts, now, HOME)
    assert expected == module.resolve(found.model_copy(update={"rules": tuple(shuffled)}), facts, now, HOME)
    assert expected == module.resolve(found, facts, now, HOME)


@holds_for(any_case, rules)
def adding_a_floor_never_advances_anything(module: Any, case: Case, rule: RetentionRule) -> None:
    """With one floor more, nothing is due that was not, and nothing earlier."""
    found, facts, now = case
    more = found.model_copy(update={"rules": (*found.rules, rule.model_copy(update={"max": None, "id": "added"}))})
    before, after = (module.resolve(one, facts, now, HOME) for one in (found, more))
    assert before.state == "due" or after.state != "due"
    if before.at is not None and after.at is not None:
        assert before.at <= after.at


@holds_for(any_case, st.sampled_from([0, 1, DAY, 30 * DAY, 3000 * DAY]))
def once_due_always_due(module: Any, case: Case, later: int) -> None:
    """What is due is due at any later time, and what is done to it then is not weaker."""
    found, facts, now = case
    first, second = (module.resolve(found, facts, when, HOME) for when in (now, now + later))
    if first.state == "due":
        strength = ["redact", "delete", "archive"].index
        assert ("due", True) == (second.state, strength(first.action) <= strength(second.action))


@holds_for(cases(erasure=True))
def an_erasure_is_deferred_by_law_alone(module: Any, case: Case) -> None:
    """What was asked to be erased is deleted at once, unless a law keeps it: ours defers, another's a person weighs."""
    found, facts, now = case
    outcome = module.resolve(found, facts, now, HOME)
    keeping = [rule for rule in unmet(found, facts, now) if law(rule)]
    ours = [rule for rule in keeping if not foreign(rule)]
    expected = "deferred" if ours else "conflict" if keeping else "due"
    assert expected == outcome.state
    assert {rule.id for rule in ours or keeping} == {cited.id for cited in outcome.rules}
    assert (None if expected == "conflict" else "delete") == outcome.action


@holds_for(cases())
def what_is_to_be_archived_is_never_deleted(module: Any, case: Case) -> None:
    """The strongest action that is due is done; but a delete archives where a rule about the item says archive."""
    found, facts, now = case
    outcome = module.resolve(found, facts, now, HOME)
    if outcome.state == "due":
        actions = {rule.action for rule in reached(found, facts, now)}
        archives = any(rule.action == "archive" for rule in selected(found, facts))
        expected = (
            "archive" if archives and actions & {"archive", "delete"} else "delete" if "delete" in actions else "redact"
        )
        assert expected == outcome.action
        assert {cited.id for cited in outcome.rules} <= {rule.id for rule in reached(found, facts, now)}
        assert outcome.rules


@holds_for(cases())
def what_is_foretold_happens(module: Any, case: Case) -> None:
    """What is kept or deferred until a time is due at that time, and not before; the same is done as was foretold."""
    found, facts, now = case
    facts = replace(facts, ended=facts.last_activity if facts.ended is None else facts.ended)
    outcome = module.resolve(found, facts, now, HOME)
    if outcome.state in ("kept", "deferred") and outcome.at is not None:
        then = module.resolve(found, facts, outcome.at, HOME)
        assert ("due", outcome.action, outcome.at) == (then.state, then.action, then.at)
        assert "due" != module.resolve(found, facts, outcome.at - 1, HOME).state
    elif outcome.state == "kept":
        assert outcome.due is None


@holds_for(any_case)
def what_keeps_is_withheld(module: Any, case: Case) -> None:
    """What the agent deletes is withheld exactly where a floor has not passed, whoever's law it is."""
    found, facts, now = case
    keeping = [rule for rule in unmet(found, facts, now) if facts.erasure is None or law(rule)]
    assert bool(keeping) == module.keeps(found, facts, now)


@holds_for(cases())
def nothing_is_silent(module: Any, case: Case) -> None:
    """What no rule is about is unmatched; what waits for the end of a session is open; neither has a time."""
    found, facts, now = case
    outcome = module.resolve(found, facts, now, HOME)
    about = selected(found, facts)
    assert (not about) == (outcome.state == "unmatched")
    waits = [rule for rule in about if rule.max is not None and begins(rule, facts, now) is None]
    ends = [
        rule
        for rule in about
        if rule.max is not None and rule not in waits and not (facts.redacted and rule.action == "redact")
    ]
    waits = [rule for rule in waits if not (facts.redacted and rule.action == "redact")]
    assert (bool(waits) and not ends) == (outcome.state == "open")
    if outcome.state in ("unmatched", "open"):
        assert (None, None) == (outcome.at, outcome.action)
        assert {rule.id for rule in waits} == {cited.id for cited in outcome.rules}


@holds_for(cases())
def the_hot_path_asks_enough(module: Any, case: Case) -> None:
    """Whatever has an unmet floor is of a kind that the cheap question names."""
    found, facts, now = case
    if facts.kind != "audit_entry" and module.keeps(found, facts, now):
        assert matching.has_floors(found, facts.tenant)
        assert facts.kind in matching.floored_kinds(found, facts.tenant)


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name: str) -> None:
    """Each property holds of the resolver; what it says stands in its docstring."""
    check, drawn = PROPERTIES[name]

    @given(drawn)
    @settings(max_examples=200)
    def holds(example: Any) -> None:
        check(retention, *example)

    holds()


# ---- mutants --------------------------------------------------------------------------------------------------------

MUTANTS = [
    ("retention", "    if facts.holds:\n        return", '    if facts.holds and "M-1" in facts.holds:\n        return'),
    ("retention", "return bool(facts.holds) or max(", "return max("),
    ("retention", "if weighed.keep_until > now:", "if weighed.keep_until > now + 1:"),
    ("retention", "if weighed.due > now:", "if weighed.due >= now:"),
    ("retention", "min(ceilings, default=UNKNOWN)", "max(ceilings, default=UNKNOWN)"),
    ("retention", "max((keep for _, keep in some), default=0)", "min((keep for _, keep in some), default=0)"),
    ("retention", "and not (asked and not _is_law(one.rule))", ""),
    ("retention", "and not (asked and not _is_law(one.rule))", "and not asked"),
    ("retention", "if asked and _is_foreign(floor[0], home)", "if asked"),
    ("retention", "if asked and _is_foreign(floor[0], home)", "if _is_foreign(floor[0], home)"),
    ("retention", "if asked and _is_foreign(floor[0], home)", "if False"),
    ("retention", 'return "conflict" if weighed.disputed > now else "due"', 'return "due"'),
    ("retention", "    if weighed.asked:\n        return", "    if False:\n        return"),
    ("retention", "strongest = max(actions, key=STRENGTH.index)", "strongest = actions[0]"),
    ("retention", '("redact", "delete", "archive")', '("delete", "redact", "archive")'),
    ("retention", '        return "archive"\n    return strongest', "        return strongest\n    return strongest"),
    ("retention", "cited = tuple(sorted(", "cited = tuple(list("),
    (
        "retention",
        'if not weighed.found and not weighed.asked and not weighed.discarded:\n        return "unmatched"',
        'if False:\n        return "kept"',
    ),
    ("retention", "for rule, keep in weighed.floors if keep > now", "for rule, keep in weighed.floors"),
    ("matching", "return facts.last_activity if now >= counts_as_ended else UNKNOWN", "return facts.last_activity"),
    ("matching", "return facts.last_activity if now >= counts_as_ended else UNKNOWN", "return UNKNOWN"),
    ("matching", "facts.last_activity if now >=", "facts.last_activity if now >"),
    ("matching", "return UNKNOWN if start == UNKNOWN else", "return 0 if start == UNKNOWN else"),
    ("matching", "facts.kind in (select.kind or KINDS)", "(not select.kind or facts.kind in select.kind)"),
    ("matching", "name in tags and fnmatchcase", "fnmatchcase"),
    ("matching", "tagged = all(", "tagged = any("),
    ("matching", "and (not select.role or facts.role in select.role)", ""),
    ("matching", "and _globs(select.tool, facts.tool)", ""),
    ("matching", "return tagged and of_tenant(rule, tenant)", "return tagged"),
    ("matching", 'if rule.action == "redact" and facts.redacted:', "if facts.redacted:"),
    ("matching", 'if rule.action == "redact" and facts.redacted:', "if False:"),
]


@contextmanager
def mutated(name: str, old: str, new: str) -> Iterator[ModuleType]:
    """The resolver with one place of one of its modules changed, beside the one that is imported."""
    real = {part: sys.modules[f"secure_memory.policy.{part}"] for part in ("matching", "retention")}
    try:
        for part in real:
            spec = find_spec(real[part].__name__)
            assert spec is not None
            assert spec.origin is not None
            source = Path(spec.origin).read_text("utf-8")
            if part == name:
                assert 1 == source.count(old)
                source = source.replace(old, new)
            module = ModuleType(spec.name)
            sys.modules[spec.name] = module
            exec(compile(source, f"{part} mutated", "exec"), module.__dict__)
        yield module
    finally:
        sys.modules.update({module.__name__: module for module in real.values()})


@lru_cache
def examples(name: str) -> list[Any]:
    """Draw examples of a property, once for all mutants."""
    found: list[Any] = []

    @given(PROPERTIES[name].drawn)
    @settings(database=None, max_examples=500, phases=[Phase.generate])
    def keep(example: Any) -> None:
        found.append(example)

    keep()
    return found


def survives(module: ModuleType) -> bool:
    """Whether every property holds of the resolver, as far as the examples show."""
    try:
        for name, (check, _) in PROPERTIES.items():
            for example in examples(name):
                check(module, *example)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("number", range(len(MUTANTS)))
def test_a_mutant_dies(number: int) -> None:
    """A resolver with one thing wrong is found out by a property."""
    with mutated(*MUTANTS[number]) as module:
        assert not survives(module)


def test_what_is_not_mutated_survives() -> None:
    """The copy that mutants are made from is right, so that a mutant dies of its mutation."""
    with mutated("retention", "def resolve(", "def resolve(") as module:
        assert survives(module)


# ---- by example -----------------------------------------------------------------------------------------------------


def rule(id: str, **fields: Any) -> RetentionRule:
    """Make a rule."""
    return RetentionRule(id=id, **fields)


def item(**fields: Any) -> Facts:
    """Make a message of noon."""
    return Facts(
        **{"kind": "message", "tenant": "eu-bank"}
        | dict.fromkeys(("created", "session_created", "last_activity"), NOON)
        | fields
    )


SEC = Basis(law="17 CFR 240.17a-4(b)(4)", binding="law", jurisdiction="US")
BROKER = rule("broker", basis=SEC, min="P3Y", max="P3Y6M", action="archive")
CHATS = rule("chats", basis=Basis(law="GDPR 5(1)(e)"), max="P30D")


def test_a_ceiling_waits_for_another_rules_floor_and_then_archives() -> None:
    """Chats that are to go after 30 days and to be kept for three years go into the archive after three years."""
    outcome = retention.resolve(Retention(rules=(CHATS, BROKER)), item(), NOON + 31 * DAY)
    three_years = durations.parse("P3Y").after(NOON)
    assert ("deferred", "archive", three_years) == (outcome.state, outcome.action, outcome.at)
    assert (NOON + 30 * DAY, three_years) == (outcome.due, outcome.keep_until)
    assert "archive is due, and broker (17 CFR 240.17a-4(b)(4)) keeps it until 2029-11-18T11:06:40.000000Z" == outcome.why


def test_an_erasure_meets_a_law_of_another_jurisdiction() -> None:
    """Under a European policy an American floor makes a conflict for a person; under an American one it defers."""
    found, asked = Retention(rules=(BROKER,)), item(erasure=NOON)
    assert "conflict" == retention.resolve(found, asked, NOON, "EU").state
    assert "a person decides" in retention.resolve(found, asked, NOON, "EU").why
    assert "deferred" == retention.resolve(found, asked, NOON, "US").state
    assert "due" == retention.resolve(found, asked, NOON + 1100 * DAY, "EU").state


def test_an_erasure_needs_no_rule() -> None:
    """What no rule is about is deleted when its subject asked for it."""
    outcome = retention.resolve(Retention(), item(erasure=NOON), NOON)
    assert ("due", "delete", "its subject asked to be erased") == (
        outcome.state,
        outcome.action,
        outcome.why,
    )


def test_what_was_redacted_is_still_deleted() -> None:
    """A redaction that is done is not due again, and the later deletion is."""
    found = Retention(rules=(rule("facts", max="P10D", action="redact"), rule("rest", max="P30D")))
    assert "redact" == retention.resolve(found, item(), NOON + 11 * DAY).action
    assert "kept" == retention.resolve(found, item(redacted=True), NOON + 11 * DAY).state
    assert "delete" == retention.resolve(found, item(), NOON + 30 * DAY).action
    assert "due" == retention.resolve(found, item(redacted=True), NOON + 30 * DAY).state


def test_a_session_that_nobody_ended() -> None:
    """Until it has been idle for long enough its rule is open; then its time counts from the last activity."""
    found = Retention(rules=(rule("after", trigger="session.ended", max="P40D", idle="P30D"),))
    waits = retention.resolve(found, item(), NOON + 29 * DAY)
    assert ("open", None) == (waits.state, waits.at)
    assert "the session has not ended, with which the time of after begins" == waits.why
    assert ("kept", NOON + 40 * DAY) == (lambda o: (o.state, o.at))(retention.resolve(found, item(), NOON + 30 * DAY))
    assert NOON + 45 * DAY == retention.resolve(found, item(ended=NOON + 5 * DAY), NOON + 6 * DAY).at


def test_a_floor_that_has_not_begun_keeps() -> None:
    """What is due waits for a session that has not ended, whose floor begins then."""
    found = Retention(rules=(CHATS, rule("after", trigger="session.ended", min="P1Y", idle="P1Y")))
    outcome = retention.resolve(found, item(), NOON + 60 * DAY)
    assert ("deferred", None, None) == (outcome.state, outcome.at, outcome.keep_until)
    assert "until the session ends" in outcome.why
    early = retention.resolve(found, item(), NOON)
    assert ("kept", "delete", None) == (early.state, early.action, early.at)


def test_a_floor_alone_keeps_for_ever() -> None:
    """What has a floor and no ceiling is never due, also when the floor has passed."""
    outcome = retention.resolve(Retention(rules=(rule("log", min="P1D"),)), item(), NOON + 900 * DAY)
    assert ("kept", None, None, "log keeps it, and no rule ends that") == (
        outcome.state, outcome.action, outcome.at, outcome.why,
    )  # fmt: skip


def test_months_are_those_of_the_policys_time_zone() -> None:
    """Half past midnight on 1 March in Berlin is February in UTC: a month later is another day."""
    first_of_march = 1_772_321_400_000_000  # 2026-02-28T23:30:00Z
    month = (rule("month", max="P1M"),)
    utc, berlin = (
        retention.resolve(Retention(rules=month, timezone=zone), item(created=first_of_march), NOON).due
        for zone in ("UTC", "Europe/Berlin")
    )
    assert 1_774_740_600_000_000 == utc  # 2026-03-28T23:30:00Z
    assert 1_774_996_200_000_000 == berlin  # 2026-03-31T22:30:00Z, 00:30 in summer time


def test_what_the_agent_deleted_waits_for_floors_alone() -> None:
    """What is only withheld is due at once, by no rule; a floor defers it, a hold keeps it, and a record is archived."""
    gone = item(discarded=True)
    nothing = retention.resolve(Retention(), gone, NOON)
    assert ("due", "delete", "the agent deleted it") == (nothing.state, nothing.action, nothing.why)
    year = Retention(rules=(rule("year", min="P1Y"), rule("later", max="P3Y")))
    assert ("deferred", "delete") == (lambda o: (o.state, o.action))(retention.resolve(year, gone, NOON + 300 * DAY))
    assert "due" == retention.resolve(year, gone, NOON + 366 * DAY).state
    assert "held" == retention.resolve(year, item(discarded=True, holds=("M-1",)), NOON + 366 * DAY).state
    assert "archive" == retention.resolve(Retention(rules=(BROKER,)), gone, NOON + 1200 * DAY).action
