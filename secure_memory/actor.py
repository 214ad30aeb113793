"""Who asks, and why.

An actor is asserted by the program and recorded as such: it restrains honest programs, and tells an auditor whom the
program said it was acting for. Precedence: the call's argument, the run context (`wrapper.context.actor`),
`acting_as(...)`, the session's default, then `service:<program>`, which `require_actor=True` refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any

MAX_TEXT = 500
"""Characters that an actor's id, role, purpose or reason may have: they stand in an entry that is kept for years."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, in which capacity, for which declared purpose, and the words they gave.

    Raises ValueError where a field is empty, too long or not text. `reason` and `purpose` are kept in the ledger as
    they are, for years: they are no place for personal data.
    """

    id: str
    roles: tuple[str, ...] = ()
    purpose: str | None = None
    reason: str | None = None
    on_behalf_of: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.roles, str):
            raise ValueError("an actor's roles are a sequence of names, not one string")
        object.__setattr__(self, "roles", tuple(self.roles))
        _check("id", self.id)
        for role in self.roles:
            _check("role", role)
        for name in ("purpose", "reason", "on_behalf_of"):
            value = getattr(self, name)
            if value is not None:
                _check(name, value)


def _check(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"an actor's {name} must be a text that is not empty")
    if len(value) > MAX_TEXT:
        raise ValueError(f"an actor's {name} is longer than {MAX_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"an actor's {name} is not valid Unicode") from None


_acting: ContextVar[Actor | None] = ContextVar("secure_memory_actor", default=None)


@contextmanager
def acting_as(actor: Actor | str, **fields: Any) -> Iterator[Actor]:
    """Everything inside the block is asked by `actor`, in this task or thread: ``with acting_as("user:maria"): ...``.

    A plain string is an id; `fields` are fields of `Actor` that it is to have besides. Raises ValueError as `Actor` does.
    """
    who = replace(as_actor(actor), **fields)
    token = _acting.set(who)
    try:
        yield who
    finally:
        _acting.reset(token)


def as_actor(value: object) -> Actor:
    """An Actor as it is, a string as an actor with no roles. Raises ValueError for anything else."""
    if isinstance(value, Actor):
        return value
    if isinstance(value, str):
        return Actor(value)
    raise ValueError(f"an actor must be an Actor or a string, not {type(value).__name__}")


def actor_of_context(context: object) -> Actor | None:
    """The actor that a run's context names: its attribute or key `actor`. None where it names none."""
    value = context.get("actor") if isinstance(context, Mapping) else getattr(context, "actor", None)
    return None if value is None else as_actor(value)


def resolve(call: Actor | str | None, context: object, default: Actor | None) -> Actor | None:
    """The actor by precedence, or None where only the program itself is left. Raises ValueError."""
    if call is not None:
        return as_actor(call)
    if context is not None and (found := actor_of_context(context)) is not None:
        return found
    return _acting.get() or default


def program() -> Actor:
    """The program itself, `service:<name of the script>`: the last resort."""
    return _program(sys.argv[0] if sys.argv else "")


@lru_cache(maxsize=4)
def _program(script: str) -> Actor:
    name = PurePath(script).stem if script not in ("", "-c", "-m") else "python"
    return Actor(f"service:{name[:100] or 'python'}")
