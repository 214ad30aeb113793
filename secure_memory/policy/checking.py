"""What a whole policy can't mean, though each of its parts is well-formed; and what it probably doesn't mean. Pure.

Problems stop a policy from being loaded; warnings stand beside it. Each names the part that it is about, so that `load` can
say the file and the line. The list below is the order in which a policy is read: redaction, retention, access, the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from secure_memory.policy.conflicts import contradictions
from secure_memory.policy.entities import BUILT_IN, PRESIDIO
from secure_memory.policy.matching import KINDS
from secure_memory.policy.model import Policy, RetentionRule
from secure_memory.policy.parts import Key
from secure_memory.policy.weakening import surely_not_shorter

CheckPattern = Callable[[str], None]
"""Raises ValueError, which says why, where a pattern does not compile or could run without end."""
_NEVER_BARE = {"CARD_CVV", "CARD_NUMBER", "CARD_TRACK", "SECRET"}
"""What the baseline does not store as it is. A policy of one's own that forgets it is told so."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a part of a policy. `inside` are the keys in that part; a `warning` does not stop it."""

    key: Key
    inside: tuple[str | int, ...]
    problem: str
    hint: str | None = None
    warning: bool = False


def findings(policy: Policy, check_pattern: CheckPattern, today: date) -> list[Finding]:
    """All that is to be said about the policy, in the order in which it is read."""
    return [
        *_redaction(policy),
        *_patterns(policy, check_pattern),
        *_retention(policy),
        *_access(policy),
        *_metadata(policy, today),
    ]


# ---- redaction ------------------------------------------------------------------------------------------------------


def _redaction(policy: Policy) -> Iterator[Finding]:
    own = {pattern.entity for pattern in policy.redaction.patterns}
    names = BUILT_IN if "presidio" not in policy.redaction.detectors else BUILT_IN | PRESIDIO
    first: dict[str, str] = {}
    for rule in policy.redaction.rules:
        key = "redaction", "rules", rule.id
        if rule.entity in first:
            yield Finding(
                key,
                ("entity",),
                f"is {rule.entity}, which rule {first[rule.entity]} is about already",
                f"one entity has one rule: give this one the id {first[rule.entity]}",
            )
        first.setdefault(rule.entity, rule.id)
        if rule.entity in names | own:
            continue
        if rule.entity in PRESIDIO:
            hint = "write `detectors: [builtin, presidio]`, which needs the extra secure-memory[presidio]"
            yield Finding(key, ("entity",), f"is {rule.entity}, which only Presidio finds", hint)
        else:
            close = get_close_matches(rule.entity, sorted(names | own), 1, 0.6)
            hint = f"did you mean `{close[0]}`?" if close else "declare it under `redaction.patterns`, or see docs/policy.md"
            yield Finding(key, ("entity",), f"is {rule.entity}, which nothing finds", hint)
    if bare := sorted(_NEVER_BARE - first.keys()):
        hint = "write `extends: [baseline]`, or rules for them"
        yield Finding(("redaction",), (), f"has no rule about {', '.join(bare)}: written as they are", hint, warning=True)
    if "presidio" in policy.redaction.detectors:
        for entity in sorted(PRESIDIO - first.keys()):
            yield Finding(("redaction", "detectors"), (), f"has presidio, but no rule is about {entity}", warning=True)


def _patterns(policy: Policy, check_pattern: CheckPattern) -> Iterator[Finding]:
    ruled = {rule.entity for rule in policy.redaction.rules}
    seen: dict[str, int] = {}
    for pattern in policy.redaction.patterns:
        key = "redaction", "patterns", pattern.entity
        number = seen[pattern.entity] = seen.get(pattern.entity, -1) + 1
        if pattern.entity in BUILT_IN | PRESIDIO:
            yield Finding(key, ("entity",), f"is {pattern.entity}, which is built in", "give yours another name")
        elif pattern.entity not in ruled and number == 0:
            yield Finding(key, (), "finds what no rule is about: it is kept everywhere", warning=True)
        try:
            check_pattern(pattern.pattern)
        except ValueError as error:
            problem, _, hint = str(error).partition(": ")
            yield Finding(key, ("pattern",), problem, hint or "see docs/policy.md for what patterns can be")


# ---- retention ------------------------------------------------------------------------------------------------------


def _retention(policy: Policy) -> Iterator[Finding]:
    retention = policy.retention
    try:
        ZoneInfo(retention.timezone)
    except (ValueError, OSError, LookupError):  # ZoneInfoNotFoundError is a KeyError
        hint = "name it as in the IANA database: UTC, Europe/Berlin"
        yield Finding(("retention", "timezone"), (), f"is {retention.timezone!r}, which is no time zone", hint)
    for rule in retention.rules:
        yield from _rule(rule, policy.metadata.jurisdiction)
    yield from _on_the_spot(retention.rules)
    yield from _audit_entries(retention.rules)
    for keeping, ending, surely in contradictions(retention.rules):
        fails = retention.on_conflict == "fail"
        how = "keeps" if surely else "may keep"
        yield Finding(
            ("retention", "rules", keeping.id),
            ("min",),
            f"{how} what rule {ending.id} ends: at least {keeping.min}, but at most {ending.max}",
            "select different items, or write `on_conflict: retain`" if fails else "the floor counts: it is kept",
            warning=not fails,
        )


def _rule(rule: RetentionRule, jurisdiction: str | None) -> Iterator[Finding]:
    key, basis = ("retention", "rules", rule.id), rule.basis
    if rule.min is None and rule.max is None:
        yield Finding(key, (), "says neither min nor max", "write how long at least (`min`), at most (`max`), or both")
    if rule.floor and rule.ceiling and not surely_not_shorter(rule.ceiling, rule.floor):
        yield Finding(key, ("min",), f"may exceed max: {rule.min} and {rule.max}", "make min shorter, or max longer")
    if problem := _selects_nothing(rule):
        yield Finding(key, ("select",), f"selects nothing: {problem}", "leave one of them out")
    if "audit_entry" in rule.select.kind:
        if rule.trigger != "item.created":
            yield Finding(
                key, ("trigger",), f"is {rule.trigger}, but an audit entry only has item.created", "write item.created"
            )
        if rule.action == "redact":
            yield Finding(
                key, ("action",), "is redact, but the ledger can't be redacted: it holds no content", "write delete"
            )
    if basis and basis.binding == "law" and basis.law is None:
        yield Finding(key, ("basis", "binding"), "is law, but no law is named", "write `law:` with its clause")
    if basis and basis.binding == "law" and rule.min and jurisdiction and basis.jurisdiction is None:
        yield Finding(key, ("basis",), "does not say its jurisdiction, so it counts as the policy's own", warning=True)
    if basis and basis.mark == "floor" and rule.min is None:
        yield Finding(key, ("basis", "mark"), "is floor, but the rule has no min", "write `min:`, or another mark")
    if basis and basis.mark == "ceiling" and rule.max is None:
        yield Finding(key, ("basis", "mark"), "is ceiling, but the rule has no max", "write `max:`, or another mark")
    if "idle" in rule.model_fields_set and rule.trigger != "session.ended" and rule.idle != "P30D":
        yield Finding(key, ("idle",), "has no effect: only `trigger: session.ended` waits for it", warning=True)


def _selects_nothing(rule: RetentionRule) -> str | None:
    select, kinds = rule.select, set(rule.select.kind)
    if kinds == {"audit_entry"} and (select.tag or select.role or select.tool):
        return "an audit entry has no tag, role or tool"
    if select.role and select.tool:
        return "only messages have a role, and they have no tool"
    if select.role and kinds and "message" not in kinds:
        return "only messages have a role"
    if select.tool and kinds and not kinds & {"tool_call", "tool_output", "approval", "other"}:
        return f"a {' or a '.join(sorted(kinds))} has no tool"
    return None


def _on_the_spot(rules: tuple[RetentionRule, ...]) -> Iterator[Finding]:
    """A policy that leaves no memory at all is refused: the agent would have forgotten what it was just told."""
    gone: set[str] = set()
    for rule in rules:
        select = rule.select
        zero = rule.ceiling is not None and rule.ceiling.zero and rule.action != "redact" and rule.trigger != "session.ended"
        if zero and not (select.tenant or select.tag or select.role or select.tool):
            gone |= set(select.kind or KINDS) - {"audit_entry"}
            if "message" in gone:
                hint = "give messages some time, such as `max: P1D`, or use SecureStore.in_memory()"
                yield Finding(("retention", "rules", rule.id), ("max",), "deletes every message on the spot", hint)
                return


def _audit_entries(rules: tuple[RetentionRule, ...]) -> Iterator[Finding]:
    if not any("audit_entry" in rule.select.kind and rule.min for rule in rules):
        yield Finding(("retention",), (), "says nothing of how long audit entries are kept at least", warning=True)


# ---- access, metadata -----------------------------------------------------------------------------------------------


def _access(policy: Policy) -> Iterator[Finding]:
    roles, applying = policy.access.roles, False
    for member, names in policy.access.members.items():
        for number, name in enumerate(names):
            if name not in roles:
                close = get_close_matches(name, sorted(roles), 1, 0.6)
                hint = f"did you mean `{close[0]}`?" if close else "declare it under `access.roles`"
                yield Finding(("access", "members", member), (number,), f"is {name}, which is no role", hint)
            elif {"*", "policy.*", "policy.apply"} & set(roles[name].allow):
                applying = True
    if not applying:
        yield Finding(("access",), (), "lets nobody apply a later policy (policy.apply)", warning=True)


def _metadata(policy: Policy, today: date) -> Iterator[Finding]:
    review = policy.metadata.review_by
    if review is not None and review < today:
        yield Finding(("metadata", "review_by"), (), f"was {review}: somebody has to read this policy again", warning=True)
