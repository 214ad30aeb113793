"""Which retention rules are about an item, and when their floors and ceilings are for it. Pure.

- A rule is about an item where everything is so that it selects by. One that names no kind is about every kind of item, and
  not about the ledger's entries.
- `session.ended` begins with the end of the session; where nobody said it, with its last activity, once the rule's `idle`
  has passed since. Until then it has not begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone, tzinfo
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, get_args
from zoneinfo import ZoneInfo

from secure_memory.policy import durations
from secure_memory.policy.durations import Duration
from secure_memory.policy.model import Kind, Retention, RetentionRule

KINDS = frozenset(get_args(Kind)) - {"audit_entry"}
"""The kinds of items; the ledger's entries are none."""
UNKNOWN = 2**63 - 1
"""A time that nobody knows yet: later than any."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be known of one item. Times are in microseconds; `last_activity` is the session's newest append. `holds`
    are the matters that hold it, `erasure` is when its subject asked to be erased, `redacted` that a retention rule has
    redacted it, `discarded` that the agent deleted it and it is only withheld."""

    kind: str
    tenant: str
    created: int
    session_created: int
    last_activity: int
    role: str = ""
    tool: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    ended: int | None = None
    holds: tuple[str, ...] = ()
    erasure: int | None = None
    redacted: bool = False
    discarded: bool = False


class Reading(NamedTuple):
    """One rule that matches, read for one item: when its floor and its ceiling are; UNKNOWN where they have not begun, None
    where it has none."""

    rule: RetentionRule
    keep: int | None
    due: int | None


def readings(retention: Retention, facts: Facts, now: int) -> list[Reading]:
    """The rules that match the item, read."""
    zone = zone_of(retention.timezone)
    return [reading(rule, facts, now, zone) for rule in retention.rules if matches(rule, facts)]


def matches(rule: RetentionRule, facts: Facts) -> bool:
    """Whether the rule is about the item: all that it selects by is so."""
    select = rule.select
    return (
        facts.kind in (select.kind or KINDS)
        and (not select.role or facts.role in select.role)
        and _globs(select.tool, facts.tool)
        and of_session(rule, facts.tenant, facts.tags)
    )


def of_session(rule: RetentionRule, tenant: str, tags: Mapping[str, str]) -> bool:
    """Whether the rule can be about items of a session with those tags: what it selects by tenant and tag is so."""
    tagged = all(name in tags and fnmatchcase(tags[name], glob) for name, glob in rule.select.tag.items())
    return tagged and of_tenant(rule, tenant)


def of_tenant(rule: RetentionRule, tenant: str) -> bool:
    """Whether the rule can be about anything of that tenant's."""
    return _globs(rule.select.tenant, tenant)


def _globs(globs: Sequence[str], text: str) -> bool:
    return not globs or any(fnmatchcase(text, glob) for glob in globs)


def reading(rule: RetentionRule, facts: Facts, now: int, zone: tzinfo) -> Reading:
    """The rule, which matches, read for the item."""
    start = start_of(rule, facts, now, zone)
    return Reading(rule, _end(rule.floor, start, zone), _ceiling(rule, facts, start, zone))


def start_of(rule: RetentionRule, facts: Facts, now: int, zone: tzinfo) -> int:
    """When the rule's time begins; UNKNOWN where it has not."""
    if rule.trigger == "item.created":
        return facts.created
    if rule.trigger == "session.created":
        return facts.session_created
    if rule.trigger == "session.last_activity":
        return facts.last_activity
    if facts.ended is not None:
        return facts.ended
    counts_as_ended = durations.parse(rule.idle).after(facts.last_activity, zone)
    return facts.last_activity if now >= counts_as_ended else UNKNOWN


def _ceiling(rule: RetentionRule, facts: Facts, start: int, zone: tzinfo) -> int | None:
    if rule.action == "redact" and facts.redacted:
        return None  # it has done what it could; another rule may still delete what is left
    return _end(rule.ceiling, start, zone)


def _end(duration: Duration | None, start: int, zone: tzinfo) -> int | None:
    if duration is None:
        return None
    return UNKNOWN if start == UNKNOWN else duration.after(start, zone)


@lru_cache(maxsize=16)
def zone_of(name: str) -> tzinfo:
    """The time zone in which months are counted. Raises ZoneInfoNotFoundError, which loading a policy has checked."""
    return timezone.utc if name == "UTC" else ZoneInfo(name)


def floored_kinds(retention: Retention, tenant: str) -> frozenset[str]:
    """The kinds of items that a floor of that tenant can be about, whatever their tags are."""
    kinds: set[str] = set()
    for rule in retention.rules:
        if rule.min is not None and of_tenant(rule, tenant):
            kinds.update(rule.select.kind or KINDS)
    return frozenset(kinds) & KINDS


def has_floors(retention: Retention, tenant: str) -> bool:
    """Whether anything of that tenant can have a floor: what each pop, clear and rewind asks first."""
    return bool(floored_kinds(retention, tenant))
