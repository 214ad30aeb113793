"""`actor.py`: who asks, and which of those who could be named it is."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import pytest

from secure_memory.actor import MAX_TEXT, Actor, acting_as, actor_of_context, as_actor, program, resolve

CALL, CONTEXT, BLOCK, DEFAULT = (Actor(name) for name in ("call", "context", "block", "default"))


def test_a_string_is_an_actor_without_roles() -> None:
    """Whoever needs no more than an id writes a string."""
    assert Actor("user:maria") == as_actor("user:maria")
    assert () == as_actor("user:maria").roles


def test_an_actor_does_not_change() -> None:
    """Who asked is settled when it is said."""
    with pytest.raises(FrozenInstanceError):
        CALL.id = "someone else"  # type: ignore[misc]


def test_roles_are_kept_as_a_tuple() -> None:
    """A list of roles that changes later does not change the actor."""
    roles = ["agent"]
    actor = Actor("user:maria", roles=roles)  # type: ignore[arg-type]
    roles.append("admin")
    assert ("agent",) == actor.roles


@pytest.mark.parametrize("value", ["", "  ", None, 7, "x" * (MAX_TEXT + 1), "\ud800"])
@pytest.mark.parametrize("field", ["id", "roles", "purpose", "reason", "on_behalf_of"])
def test_a_field_is_text_that_can_be_kept(field: str, value: Any) -> None:
    """Empty, endless or invalid text is refused in every field, and so is what is no text."""
    if value is None and field in ("purpose", "reason", "on_behalf_of"):
        return  # which is how these three are left away
    fields = {"id": "user:maria", field: (value,) if field == "roles" else value}
    with pytest.raises(ValueError, match="an actor's"):
        Actor(**fields)


def test_text_may_be_as_long_as_the_bound() -> None:
    """The bound itself is allowed."""
    assert MAX_TEXT == len(Actor("x" * MAX_TEXT).id)


def test_one_string_is_no_list_of_roles() -> None:
    """`roles="admin"` is the mistake that would give five roles of one letter."""
    with pytest.raises(ValueError, match="not one string"):
        Actor("user:maria", roles="admin")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 7, b"user:maria", {"id": "user:maria"}])
def test_nothing_else_is_an_actor(value: object) -> None:
    """What is neither an Actor nor a string is a bad argument, whose value is not repeated."""
    with pytest.raises(ValueError, match=f"not {type(value).__name__}"):
        as_actor(value)


@pytest.mark.parametrize(
    ("expected", "call", "context", "block", "default"),
    [
        (CALL, CALL, CONTEXT, BLOCK, DEFAULT),
        (CONTEXT, None, CONTEXT, BLOCK, DEFAULT),
        (BLOCK, None, None, BLOCK, DEFAULT),
        (DEFAULT, None, None, None, DEFAULT),
        (None, None, None, None, None),
    ],
)
def test_the_nearest_actor_counts(
    expected: Actor | None, call: Actor | None, context: Actor | None, block: Actor | None, default: Actor | None
) -> None:
    """The call's argument, then the run's context, then the block, then the default; then nobody."""
    named = None if context is None else SimpleNamespace(actor=context)
    if block is None:
        assert expected == resolve(call, named, default)
    else:
        with acting_as(block):
            assert expected == resolve(call, named, default)


@pytest.mark.parametrize("context", [{"actor": "user:maria"}, SimpleNamespace(actor="user:maria")])
def test_a_context_names_its_actor(context: object) -> None:
    """A run's context may be a mapping or an object."""
    assert Actor("user:maria") == actor_of_context(context)


@pytest.mark.parametrize("context", [{}, {"actor": None}, SimpleNamespace(), SimpleNamespace(actor=None), 7])
def test_a_context_may_name_nobody(context: object) -> None:
    """A context without an actor is no mistake."""
    assert actor_of_context(context) is None


def test_a_context_with_another_kind_of_actor() -> None:
    """A context whose `actor` is something else is refused: nobody must pass for the program unawares."""
    with pytest.raises(ValueError, match="must be an Actor or a string"):
        resolve(None, SimpleNamespace(actor=7), DEFAULT)


def test_blocks_nest() -> None:
    """Inside a block the innermost actor asks; behind it the one before, even where it ended in an error."""
    with acting_as("outer"):
        with suppress(KeyError), acting_as("inner", purpose="support"):
            assert Actor("inner", purpose="support") == resolve(None, None, None)
            raise KeyError
        assert Actor("outer") == resolve(None, None, None)
    assert resolve(None, None, None) is None


def test_a_block_adds_to_an_actor() -> None:
    """What a block says besides an Actor is not lost."""
    with acting_as(Actor("user:maria", roles=("agent",)), reason="ticket 7") as who:
        assert Actor("user:maria", roles=("agent",), reason="ticket 7") == who


def test_a_block_takes_the_fields_of_an_actor_only() -> None:
    """A misspelt field is refused, with an id as with an Actor."""
    for actor in ("user:maria", Actor("user:maria")):
        with pytest.raises(TypeError, match="purpos"), acting_as(actor, purpos="support"):
            pass


def test_a_block_is_its_task_s_alone() -> None:
    """Two tasks that take turns keep each their own actor."""

    async def ask(name: str) -> list[Actor | None]:
        seen = []
        with acting_as(name):
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(resolve(None, None, None))
        return seen

    async def both() -> list[list[Actor | None]]:
        return await asyncio.gather(ask("a"), ask("b"))

    assert [[Actor("a")] * 3, [Actor("b")] * 3] == asyncio.run(both())


def test_a_block_is_its_thread_s_alone() -> None:
    """A new thread does not ask in the name of the one that started it."""
    seen: list[Actor | None] = []
    with acting_as("user:maria"):
        thread = threading.Thread(target=lambda: seen.append(resolve(None, None, None)))
        thread.start()
        thread.join()
    assert [None] == seen


@pytest.mark.parametrize(
    ("expected", "argv"),
    [
        ("service:desk", ["/srv/desk.py", "--port", "80"]),
        ("service:python", ["-c"]),
        ("service:python", [""]),
        ("service:python", []),
        (f"service:{'x' * 100}", ["x" * 600]),
    ],
)
def test_the_program_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, expected: str, argv: list[str]) -> None:
    """The program is named by its script, shortly, and by nothing else of its command line."""
    monkeypatch.setattr(sys, "argv", argv)
    assert expected == program().id
