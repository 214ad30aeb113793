"""What changes from one policy to another, part by part, and whether it protects less. Pure.

A rule that is in both is told by the fields that differ. What is weaker is `weakening`'s table; a part that is gone is
weaker too, unless it allowed something.

- A role or a member that is new is weaker only where it lets somebody do more, or see more, than the other policy let them:
  who could do everything before is granted nothing by a role that names some of it.
- Called by `rulebook`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from secure_memory.policy.model import Access, Policy, RedactionRule, RetentionRule, Role
from secure_memory.policy.parts import Key, named, values_of
from secure_memory.policy.weakening import UNDECIDED, covers_glob, weakenings

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
        for change in _changes(key, before.get(key), after.get(key), old.access, new.access)
    )


def _changes(key: Key, old: Any, new: Any, was: Access, will: Access) -> Iterator[Change]:
    part = named(key)
    if old is None or new is None:
        yield Change(part, shown(old), shown(new), _of_one_only(key, new is None, was, will))
    elif isinstance(old, BaseModel):
        effect = _effect(key, old, new)
        for field in type(old).model_fields:
            before, now = getattr(old, field), getattr(new, field)
            if before != now:
                yield Change(f"{part}.{field}", shown(before), shown(now), effect)
    elif key[:2] == ("access", "members"):
        more, fewer = _grants_more(key[1], key[2], will, was), _grants_more(key[1], key[2], was, will)
        yield Change(part, shown(old), shown(new), "weaker" if more else "stricter" if fewer else "other")
    else:
        yield Change(part, shown(old), shown(new), _effect(key, old, new))


def _of_one_only(key: Key, gone: bool, was: Access, will: Access) -> Effect:
    """What a part does that only one of the policies has: it is `gone`, or it is new."""
    if key[0] == "access" and len(key) == 3:
        more = _grants_more(key[1], key[2], was, will) if gone else _grants_more(key[1], key[2], will, was)
        if not more:
            return "other"
        return "stricter" if gone else "weaker"
    return "weaker" if gone != (key[:2] == ("redaction", "allow")) else "stricter"


def _grants_more(what: str, name: str, has: Access, other: Access) -> bool:
    """Whether the member or role `name` that one access has lets somebody do or see what the other does not.

    A role that `members` gives to somebody grants by them alone; one that they give to nobody can be claimed by anybody.
    """
    if what == "members":
        return any(not _held(has.roles[role], name, other) for role in has.members[name] if role in has.roles)
    if any(name in roles for roles in has.members.values()):
        return False
    return not _held(has.roles[name], "*", other)


def _held(role: Role, member: str, access: Access) -> bool:
    """Whether somebody with that role does nothing that `access` does not let them, by one role that they have there."""
    theirs = [name for glob, roles in access.members.items() if covers_glob(glob, member) for name in roles]
    return any(not weakenings(("access", "roles", ""), access.roles[one], role) for one in theirs if one in access.roles)


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
