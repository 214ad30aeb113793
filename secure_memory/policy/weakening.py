"""What weakening a part of a policy is: the table that `weakens: true` is asked by. Pure.

A file may replace what it extends. Where the new part protects less than the old one, it has to say that this is meant. What
is weaker, and why:

| part | weaker is | because |
|---|---|---|
| redaction: an operator | further right in block, redact, tokenise, pseudonymise, mask, keep | see `OPERATORS` |
| redaction: `entity` | another one | the old one is then kept as it is |
| redaction: `detectors` | one fewer | what it finds is no longer found |
| retention: `min` | one that may be shorter, or none | what the law keeps could go before its day |
| retention: `max` | one that may be longer, or none | data stays longer than was promised |
| retention: `action` | delete → redact or archive, archive → redact; archive → delete with a floor | see `_action` |
| retention: `trigger` | later under a ceiling, earlier under a floor | the same period then ends later, or sooner |
| retention: `select` | one that leaves out what was selected | the rule is no longer about it |
| retention: `basis` | `binding: law` dropped, another jurisdiction | an erasure request then goes before the floor |
| retention: `on_conflict` | fail → retain | a contradiction is no longer refused |
| access: a role | allows more, sees clear what was masked, has to say less | |
| audit: `durability` | full → normal | a power cut can cost the last read's entry |

Adding is never weakening: of several retention rules the latest floor and the earliest ceiling count, and two redaction
rules for one entity are refused. Neither are `members`, `allow` and `patterns`: whom and what they name is a file's own
business, and `secmem policy diff` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from secure_memory.actions import GRANTED
from secure_memory.policy.durations import Duration, parse
from secure_memory.policy.matching import KINDS
from secure_memory.policy.model import RedactionRule, RetentionRule, Role, Select
from secure_memory.policy.parts import Key

OPERATORS = ("keep", "mask", "pseudonymise", "tokenise", "redact", "block")
"""From the weakest. Masked text shows some of it. A pseudonym shows none, and is the same for the same person in every
conversation of a tenant; a token only in those of one subject, though it can be revealed until that subject's key is gone.
What is redacted nobody gets back. What is blocked was never accepted."""
_TRIGGERS = ("session.created", "item.created", "session.last_activity")
"""From the earliest. `session.ended` has no place: a session may be ended, and go on."""
UNDECIDED = {("redaction", "patterns"), ("redaction", "region"), ("access", "members"), ("retention", "timezone")}
"""Parts of which nobody can tell whether one is stricter than another."""


def as_strict(key: Key, old: Any, new: Any) -> bool:
    """Whether the new part is sure to protect as much as the old one."""
    return bool(old == new) or (key[:2] not in UNDECIDED and not weakenings(key, old, new))


def weakenings(key: Key, old: Any, new: Any) -> list[str]:
    """In what the new part is weaker than the old one, in words; nothing where it isn't."""
    if isinstance(old, RedactionRule):
        return list(_redaction(old, new))
    if isinstance(old, RetentionRule):
        return list(_retention(old, new))
    if isinstance(old, Role):
        return list(_role(old, new))
    if key == ("redaction", "detectors") and not set(old) <= set(new):
        return [f"detectors no longer has {', '.join(sorted(set(old) - set(new)))}"]
    if key == ("retention", "on_conflict") and (old, new) == ("fail", "retain"):
        return ["on_conflict is retain, was fail"]
    if key == ("audit", "durability") and (old, new) == ("full", "normal"):
        return ["durability is normal, was full"]
    return []


def _redaction(old: RedactionRule, new: RedactionRule) -> Iterable[str]:
    if old.entity != new.entity:
        yield f"it is about {new.entity}, was about {old.entity}"
    for surface in ("store", "model", "view"):
        before, after = getattr(old, surface), getattr(new, surface)
        if OPERATORS.index(after) < OPERATORS.index(before):
            yield f"{surface} is {after}, was {before}"


def _role(old: Role, new: Role) -> Iterable[str]:
    if more := sorted(_allowed(new.allow) - _allowed(old.allow)):
        yield f"it allows more: {', '.join(more[:3])}{' and others' if len(more) > 3 else ''}"
    if (old.view, new.view) == ("masked", "clear"):
        yield "view is clear, was masked"
    if fewer := sorted(set(old.require) - set(new.require)):
        yield f"it no longer requires a {' and a '.join(fewer)}"


def _allowed(allow: Iterable[str]) -> set[str]:
    return {action for action in GRANTED for each in allow if each in ("*", action, f"{action.partition('.')[0]}.*")}


# ---- retention ------------------------------------------------------------------------------------------------------


def _retention(old: RetentionRule, new: RetentionRule) -> Iterable[str]:
    if old.floor and not (new.floor and surely_not_shorter(new.floor, old.floor)):
        yield _period("min", "shorter", old.min, new.min)
    if old.ceiling and not (new.ceiling and surely_not_shorter(old.ceiling, new.ceiling)):
        yield _period("max", "longer", old.max, new.max)
    yield from _action(old, new)
    yield from _trigger(old, new)
    yield from _select(old.select, new.select)
    law, now = old.basis, new.basis
    if law and law.binding == "law":
        if not now or now.binding != "law":
            yield "basis is no longer binding law"
        elif now.jurisdiction != law.jurisdiction:
            yield f"basis has jurisdiction {now.jurisdiction or 'none'}, was {law.jurisdiction or 'none'}"


def surely_not_shorter(one: Duration, other: Duration) -> bool:
    """Whether a duration is at least as long as another, wherever in the calendar they begin."""
    if one.months >= other.months and one.us >= other.us:
        return True
    return one.shortest >= other.longest


def _period(name: str, how: str, old: str | None, new: str | None) -> str:
    return f"{name} is gone, was {old}" if new is None else f"{name} may be {how}: it is {new}, was {old}"


def _action(old: RetentionRule, new: RetentionRule) -> Iterable[str]:
    """Deleting leaves nothing, archiving leaves all of it elsewhere, redacting leaves the rest of it where it is. And what a
    floor keeps for the law is not kept for it any more where an archive becomes a deletion."""
    stays = {"delete": 0, "archive": 1, "redact": 2}
    if old.action == "redact" and new.action == "archive":
        yield "action is archive, was redact"
    elif stays[new.action] > stays[old.action] or (old.action == "archive" != new.action and old.min):
        yield f"action is {new.action}, was {old.action}"


def _trigger(old: RetentionRule, new: RetentionRule) -> Iterable[str]:
    if old.trigger == new.trigger:
        if old.trigger == "session.ended" and old.idle != new.idle:
            before, after = parse(old.idle), parse(new.idle)
            longer, shorter = not surely_not_shorter(before, after), not surely_not_shorter(after, before)
            if (old.max and longer) or (old.min and shorter):
                yield f"idle is {new.idle}, was {old.idle}"
        return
    known = old.trigger in _TRIGGERS and new.trigger in _TRIGGERS
    later = known and _TRIGGERS.index(new.trigger) > _TRIGGERS.index(old.trigger)
    if not known or (old.max and later) or (old.min and not later):
        yield f"trigger is {new.trigger}, was {old.trigger}"


def _select(old: Select, new: Select) -> Iterable[str]:
    """Names of what the new selection asks for and the old one did not, or not so narrowly."""
    if not set(old.kind or KINDS) <= set(new.kind or KINDS):
        yield "select.kind leaves out what was selected"
    for name in ("tenant", "role", "tool"):
        if not _covers(getattr(old, name), getattr(new, name)):
            yield f"select.{name} leaves out what was selected"
    for tag, value in new.tag.items():
        if not (tag in old.tag and covers_glob(value, old.tag[tag])):
            yield f"select.tag asks for {tag}: {value}"


def _covers(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Whether all that one list selects is selected by the other; an empty list selects everything."""
    return not new or (bool(old) and all(any(covers_glob(glob, each) for glob in new) for each in old))


def covers_glob(glob: str, other: str) -> bool:
    """Whether a glob is sure to match all that another does. Where its only wildcard is `*`, it does so if it matches the
    other's text, whose own wildcards must then fall on a `*` of its."""
    return glob == other or (not set(glob) & {"?", "["} and fnmatchcase(other, glob))
