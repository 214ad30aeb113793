"""`secmem access`: why somebody may do something, or what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import SecureStore, acting_as
from secure_memory.policy.model import Policy

Run = Callable[..., Any]
ROLES = {
    "owner": {"allow": ["*"]},
    "agent": {"allow": ["session.read", "session.append"]},
    "supervisor": {"allow": ["session.review"], "view": "masked", "require": ["purpose"]},
}
MEMBERS = {"user:owner": ["owner"], "user:maria@example.com": ["supervisor"], "group:desk": ["supervisor"]}


@pytest.fixture
def house(desk: Path) -> Path:
    """The store under a policy with an owner, an agent and a supervisor."""
    policy = Policy.model_validate({"metadata": {"name": "house"}, "access": {"roles": ROLES, "members": MEMBERS}})
    with acting_as("user:owner"), SecureStore.open(desk) as store:
        store.policy_apply(policy)
    return desk


def test_the_baseline_lets_the_owner_of_the_machine_do_everything(run: Run, desk: Path) -> None:
    """Where nobody declared a policy, anybody may do anything, and is told by which role."""
    done = run("access", "check", "user:somebody", "subject.erase")
    assert (0, True) == (done.code, done.out.startswith("yes: role "))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ("user:maria@example.com", "session.review", "--purpose", "quality"),
            0,
            "yes: role supervisor allows session.review",
        ),
        (("user:maria@example.com", "session.review"), 6, "needed: a purpose"),
        (("user:maria@example.com", "session.read"), 6, "needed: a role that allows session.read: agent, owner"),
        (("service:api", "session.append", "--role", "agent"), 0, "yes: role agent allows session.append"),
        (("service:api", "session.append"), 6, "no: it has no role that allows session.append"),
        (("user:eve", "session.review", "--role", "owner"), 6, "no: it has no role"),
        (("user:eve", "session.review", "--role", "group:desk", "--purpose", "q"), 0, "and sees it masked"),
    ],
)
def test_it_is_explained(run: Run, house: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Who may is told by which role and how it is seen; who may not, what would be enough, with exit code 6."""
    done = run("access", "check", *arguments)
    assert code == done.code, done.err
    assert said in done.out


def test_whoever_was_denied_can_find_out_why(run: Run, house: Path) -> None:
    """Asking takes no role: the denial's hint is to ask. Nothing is done by asking, and nobody is denied in the ledger."""
    denied = run("session", "show", "user_123", "--tenant", "acme", "--actor", "user:eve")
    assert (6, "") == (denied.code, denied.out)
    assert "secmem access check" in denied.err
    asked = run("access", "check", "user:ann", "session.read", "--actor", "user:eve", "--json")
    assert (6, "user:ann", "") == (asked.code, json.loads(asked.out)["actor"], asked.err)
    found = run("audit", "log", "--action", "access.denied", "--json", "--actor", "user:owner").out.splitlines()
    assert [("user:eve", "session.read")] == [(e["actor"], e["detail"]["during"]) for e in map(json.loads, found)]


def test_as_json(run: Run, house: Path) -> None:
    """As JSON the decision is whole, and the exit code the same."""
    done = run("access", "check", "user:maria@example.com", "session.review", "--json")
    assert 6 == done.code
    assert {
        "actor": "user:maria@example.com",
        "action": "session.review",
        "allowed": False,
        "role": None,
        "view": "masked",
        "needed": "a purpose",
        "why": "role supervisor allows session.review, and requires a purpose",
    } == json.loads(done.out)


def test_an_action_that_there_is_not(run: Run, house: Path) -> None:
    """An action that no policy knows is a mistake, and those that there are are named."""
    done = run("access", "check", "user:maria@example.com", "session.look")
    assert (True, "") == (done.code in (1, 2), done.out)
    assert "there is no action 'session.look'" in done.err
    assert "session.review" in done.err


@pytest.mark.parametrize(
    "command",
    [
        ("tenant", "list"),
        ("session", "list", "--tenant", "acme"),
        ("session", "show", "user_123", "--tenant", "acme"),
        ("session", "review", "user_123", "--tenant", "acme", "--purpose", "quality"),
        ("export", "--tenant", "acme", "--out", "-"),
        ("usage",),
        ("hold", "list"),
        ("hold", "place", "M-1", "--tenant", "acme"),
        ("audit", "log"),
        ("audit", "verify"),
    ],
)
def test_who_has_no_role_gets_nothing_by_command_either(run: Run, house: Path, command: tuple[str, ...]) -> None:
    """What a library call is denied, a command is denied: exit code 6, nothing printed, an entry."""
    done = run(*command, "--actor", "user:eve")
    assert (6, "") == (done.code, done.out)
    assert "user:eve may not" in done.err
    found = run("audit", "log", "--action", "access.denied", "--json", "--actor", "user:owner").out.splitlines()
    assert {"user:eve"} == {json.loads(line)["actor"] for line in found}
