"""What changes from one policy to another, part by part, and whether it protects less. Pure.

A rule that is in both is told by the fields that differ. What is weaker is `weakening`'s table; a part that is gone is
weaker too, unless it allowed something. Called by `rulebook`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from secure_memory.policy.model import Policy, RedactionRule, RetentionRule
from secure_memory.policy.parts import MAPS, Key, named, values_of
from secure_memory.policy.weakening import UNDECIDED, weakenings

Effect = Literal["weaker", "stricter", "other"]


@dataclass(frozen=True, slots=True)
class Change:
    """A part that differs. `before` and `after` are what it says, None where it is not there; `effect` is how `after`
    protects, compared with `before`."""

    part: str
    before: str | None
    after: str | None
    effect: Effect


def difference(old: Policy, new: Policy) -> tuple[Change, ...]:
    """All parts in which two policies differ, by name. Two policies without any protect alike."""
    before, after = values_of(old, everything=True), values_of(new, everything=True)
    return tuple(
        change
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        for change in _changes(key, before.get(key), after.get(key))
    )


def _changes(key: Key, old: Any, new: Any) -> Iterator[Change]:
    part = named(key)
    if old is None or new is None:
        allows = key[:2] in MAPS or key[:2] == ("redaction", "allow")
        less = (new is None) != allows
        yield Change(part, shown(old), shown(new), "weaker" if less else "stricter")
    elif isinstance(old, BaseModel):
        effect = _effect(key, old, new)
        for field in type(old).model_fields:
            was, now = getattr(old, field), getattr(new, field)
            if was != now:
                yield Change(f"{part}.{field}", shown(was), shown(now), effect)
    else:
        yield Change(part, shown(old), shown(new), _effect(key, old, new))


def _effect(key: Key, old: Any, new: Any) -> Effect:
    if key[:2] in UNDECIDED:
        return "other"
    if weakenings(key, old, new):
        return "weaker"
    return "stricter" if weakenings(key, new, old) else "other"


def shown(value: Any) -> str | None:
    """A value on one line, as a policy file would have it, without what is the default anyway; of a rule what it does, and
    not why."""
    if value is None:
        return None
    if isinstance(value, RedactionRule | RetentionRule):
        fields = value.model_dump(mode="json", exclude_defaults=True, exclude={"id", "basis"})
        if isinstance(value, RetentionRule):
            fields["trigger"] = value.trigger
            if value.max is not None:
                fields["action"] = value.action
        return _inline(fields)[1:-1]
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, BaseModel):
        return _inline(value.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_inline(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
