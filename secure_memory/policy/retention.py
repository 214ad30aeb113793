"""What is due, when, and why: retention resolved for one item. Pure.

- Order never matters and there are no priorities: all that comes out is a minimum, a maximum or a set over the rules that
  match. So no rule can be hidden behind another one.
- A hold keeps, whatever else is true. Nothing lossy, redaction included, happens before every floor (`min`) has passed.
- `due` is the earliest ceiling (`max`); what happens is decided at `max(due, keep_until)` by the rules that are due then:
  the strongest action, redact < delete < archive. A delete archives where any rule that matches says archive: else what has
  to be archived would be gone before its day, because another rule was due earlier. Archiving leaves nothing in the vault
  either, and keeping more is what a floor is for. An erasure deletes, and never archives.
- An erasure request is due when it was made, and drops every floor that is not law. A law of another jurisdiction than the
  policy's defers no erasure by itself, and is not broken either: `conflict`, which a person decides.
- What the agent deleted, and is only withheld, is due, and waits for holds and floors.
- Where the session has not ended that a rule begins with, a ceiling is open, and a floor is unmet.

`lifecycle` finds what is due by SQL; a property test holds the two together. `explain` tells what this says of one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from secure_memory import clock
from secure_memory.policy.matching import UNKNOWN, Facts, Reading, floored_kinds, has_floors, readings
from secure_memory.policy.model import Retention, RetentionRule

__all__ = ["STRENGTH", "Cited", "Facts", "Outcome", "floored_kinds", "has_floors", "keeps", "resolve"]

State = Literal["held", "conflict", "deferred", "due", "kept", "open", "unmatched"]
Action = Literal["delete", "redact", "archive"]

STRENGTH: tuple[Action, ...] = ("redact", "delete", "archive")


class Cited(NamedTuple):
    """A rule, and the law that it cites, if any."""

    id: str
    law: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happens to an item. `action` happens at `at`; both are None where nothing does, or nobody can say yet when.

    `due` is the earliest ceiling and `keep_until` the latest floor, in a conflict the latest one that a person weighs; None
    where there is none or it has not begun. `rules` are those that decide, `matters` the holds.
    """

    state: State
    action: Action | None
    at: int | None
    due: int | None
    keep_until: int | None
    rules: tuple[Cited, ...]
    matters: tuple[str, ...]
    why: str


def resolve(retention: Retention, facts: Facts, now: int, home: str | None = None) -> Outcome:
    """What happens to the item, as of `now`. `home` is the policy's jurisdiction."""
    weighed = _weigh(readings(retention, facts, now), facts, now, home)
    state = _state(weighed, facts, now)
    when = max([now, *(time for time in (weighed.due, weighed.keep_until) if time != UNKNOWN)])
    action = _action(weighed, when) if state in ("due", "deferred", "kept") and weighed.due != UNKNOWN else None
    at = max(weighed.due, weighed.keep_until) if action is not None else UNKNOWN
    rules = _deciding(weighed, state, action, now, when)
    cited = tuple(sorted({Cited(rule.id, rule.basis.law if rule.basis else None) for rule in rules}, key=str))
    matters = tuple(sorted(set(facts.holds)))
    until = {"conflict": weighed.disputed, "kept": at}.get(state, weighed.keep_until)
    return Outcome(
        state,
        action,
        _known(at),
        _known(weighed.due),
        _known(weighed.disputed if state == "conflict" else weighed.keep_until) or None,
        cited,
        matters,
        _why(state, action, cited, matters, _known(until), asked=weighed.asked),
    )


def keeps(retention: Retention, facts: Facts, now: int) -> bool:
    """Whether a hold or an unmet floor keeps the item, so that what the agent deletes is withheld."""
    weighed = _weigh(readings(retention, facts, now), facts, now, None)
    return bool(facts.holds) or max(weighed.keep_until, weighed.disputed) > now


# ---- deciding -------------------------------------------------------------------------------------------------------

Floor = tuple[RetentionRule, int]


class _Weighed(NamedTuple):
    """The rules that match, weighed: `floors` keep; `foreign` are those that only a person can weigh against the erasure
    that was `asked` for; `discarded` is what the agent deleted. `due`, `keep_until` and `disputed` are the earliest ceiling
    and the latest of either (0: none)."""

    found: list[Reading]
    floors: list[Floor]
    foreign: list[Floor]
    asked: bool
    discarded: bool
    due: int
    keep_until: int
    disputed: int


def _weigh(found: list[Reading], facts: Facts, now: int, home: str | None) -> _Weighed:
    asked = facts.erasure is not None and facts.erasure <= now
    ceilings = [one.due for one in found if one.due is not None]
    if facts.erasure is not None and asked:
        ceilings.append(facts.erasure)
    if facts.discarded:
        ceilings.append(facts.created)
    floors = [(one.rule, one.keep) for one in found if one.keep is not None and not (asked and not _is_law(one.rule))]
    foreign = [floor for floor in floors if asked and _is_foreign(floor[0], home)]
    ours = [floor for floor in floors if floor not in foreign]
    latest, disputed = (max((keep for _, keep in some), default=0) for some in (ours, foreign))
    return _Weighed(found, ours, foreign, asked, facts.discarded, min(ceilings, default=UNKNOWN), latest, disputed)


def _is_law(rule: RetentionRule) -> bool:
    return rule.basis is not None and rule.basis.binding == "law"


def _is_foreign(rule: RetentionRule, home: str | None) -> bool:
    return rule.basis is not None and rule.basis.jurisdiction is not None and rule.basis.jurisdiction != home


def _state(weighed: _Weighed, facts: Facts, now: int) -> State:
    if facts.holds:
        return "held"
    if not weighed.found and not weighed.asked and not weighed.discarded:
        return "unmatched"
    if weighed.due > now:
        waits = weighed.due == UNKNOWN and any(one.due == UNKNOWN for one in weighed.found)
        return "open" if waits else "kept"
    if weighed.keep_until > now:
        return "deferred"
    return "conflict" if weighed.disputed > now else "due"


def _action(weighed: _Weighed, when: int) -> Action:
    """What is done to the item then, once no floor keeps it any more."""
    if weighed.asked:
        return "delete"
    actions = [one.rule.action for one in weighed.found if one.due is not None and one.due <= when]
    if weighed.discarded:
        actions.append("delete")
    strongest = max(actions, key=STRENGTH.index)
    if strongest == "delete" and any(one.rule.action == "archive" for one in weighed.found):
        return "archive"
    return strongest


def _deciding(weighed: _Weighed, state: State, action: Action | None, now: int, when: int) -> list[RetentionRule]:
    """The rules by which it is so."""
    if state == "deferred":
        return [rule for rule, keep in weighed.floors if keep > now]
    if state == "conflict":
        return [rule for rule, keep in weighed.foreign if keep > now]
    if state == "open":
        return [one.rule for one in weighed.found if one.due == UNKNOWN]
    if state == "kept" and action is None:
        return [one.rule for one in weighed.found]
    if state == "held" or weighed.asked:
        return []
    acting = [one.rule for one in weighed.found if one.due is not None and one.due <= when]
    return [rule for rule in acting if rule.action == action] or acting  # a delete that archives is due by the delete


def _known(us: int) -> int | None:
    return None if us == UNKNOWN else us


def _why(
    state: State, action: Action | None, rules: Sequence[Cited], matters: Sequence[str], until: int | None, *, asked: bool
) -> str:
    """One sentence for a person."""
    by = ", ".join(f"{rule.id} ({rule.law})" if rule.law else rule.id for rule in rules)
    then = "the session ends" if until is None else clock.rfc3339(until)
    if state == "held":
        return f"held by matter {', '.join(matters)}"
    if state == "unmatched":
        return "no rule is about it"
    if state == "open":
        return f"the session has not ended, with which the time of {by} begins"
    if state == "deferred":
        return f"{action} is due, and {by} keeps it until {then}"
    if state == "conflict":
        return f"erasure was asked for, and {by}, a law of another jurisdiction, keeps it until {then}: a person decides"
    if state == "due":
        return f"{action} is due by {by}" if by else "its subject asked to be erased" if asked else "the agent deleted it"
    return f"kept until {then}, then {action} by {by}" if action else f"{by} keeps it, and no rule ends that"
