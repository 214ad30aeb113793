"""Who may do what. Pure.

- What no role allows is denied.
- An actor's roles are those that `members` gives to any of its identities: its id, and the groups that the program says it
  is in (asserted roles that begin with `group:`). Besides, the asserted roles that the policy declares and that `members`
  gives to nobody: a role that is given to somebody can't be claimed by anybody else.
- A role that requires a purpose or a reason allows nothing without. What is seen is masked where every role that allows the
  action is masked.

It restrains honest programs: who asks, and in which groups, is what the program says (see SECURITY.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from secure_memory.policy.model import Access, Role

GROUP = "group:"
"""What an asserted role begins with that says which group the actor is in."""
REMEMBERED = 4096
"""Decisions that a `Gate` remembers, so that the hot path costs one look-up."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action is allowed: by which role, and how what it reads is seen. Where it is denied, `needed` says what
    would be enough. `why` is one sentence."""

    allowed: bool
    role: str | None
    view: Literal["clear", "masked"]
    needed: str | None
    why: str


class Gate:
    """Decides by one policy, and remembers what it decided. Safe to use from several threads: at worst one decides twice."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._known: dict[tuple[str, tuple[str, ...], str, bool, bool], Decision] = {}

    def decide(
        self, actor: str, asserted: tuple[str, ...], purpose: str | None, reason: str | None, action: str
    ) -> Decision:
        """As `decide`."""
        asked = actor, asserted, action, purpose is None, reason is None
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[asked] = decide(self.access, actor, asserted, purpose, reason, action)
        return known


def decide(
    access: Access, actor: str, asserted: Iterable[str], purpose: str | None, reason: str | None, action: str
) -> Decision:
    """Whether the actor may. Nothing of `purpose` and `reason` but whether they are given decides."""
    held = roles_of(access, actor, asserted)
    allowing = [name for name in held if allows(access.roles[name], action)]
    if not allowing:
        able = sorted(name for name, role in access.roles.items() if allows(role, action))
        needed = f"a role that allows {action}: {', '.join(able) or 'the policy has none'}"
        has = f"its roles ({', '.join(held)}) do not allow" if held else "it has no role that allows"
        return Decision(False, None, "masked", needed, f"{has} {action}")
    given = {"purpose": purpose is not None, "reason": reason is not None}
    ready = [name for name in allowing if all(given[one] for one in access.roles[name].require)]
    if not ready:
        missing = {name: [one for one in sorted(access.roles[name].require) if not given[one]] for name in allowing}
        name = min(allowing, key=lambda name: (len(missing[name]), name))
        needed = " and ".join(f"a {one}" for one in missing[name])
        return Decision(False, None, "masked", needed, f"role {name} allows {action}, and requires {needed}")
    clear = [name for name in ready if access.roles[name].view == "clear"]
    role = (clear or ready)[0]
    return Decision(True, role, "clear" if clear else "masked", None, f"role {role} allows {action}")


def roles_of(access: Access, actor: str, asserted: Iterable[str]) -> list[str]:
    """The roles that the actor has, by name."""
    said = set(asserted)
    identities = {actor, *(role for role in said if role.startswith(GROUP))}
    given = {role for roles in access.members.values() for role in roles}
    held = said - given
    for member, roles in access.members.items():
        if any(fnmatchcase(identity, member) for identity in identities):
            held.update(roles)
    return sorted(held & access.roles.keys())


def allows(role: Role, action: str) -> bool:
    """Whether the role allows the action: by its name, by its noun (`session.*`), or as everything (`*`)."""
    noun = action.partition(".")[0]
    return not {action, f"{noun}.*", "*"}.isdisjoint(role.allow)
