"""Who may do what: default deny, roles that can't be claimed, what has to be said, and what is seen masked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.actions import GRANTED
from secure_memory.policy import access
from secure_memory.policy.access import Gate, decide
from secure_memory.policy.model import Access, Role

DESK = Access(
    roles={
        "agent": Role(allow=("session.read", "session.append")),
        "supervisor": Role(allow=("session.review",), view="masked", require=("purpose",)),
        "chief": Role(allow=("session.review",), require=("purpose", "reason")),
        "auditor": Role(allow=("audit.*",)),
        "owner": Role(allow=("*",)),
    },
    members={
        "user:maria@example.com": ("supervisor",),
        "group:dpo": ("auditor",),
        "service:desk-*": ("agent",),
        "user:root": ("owner", "chief"),
    },
)


def may(actor: str, action: str, *roles: str, purpose: str | None = None, reason: str | None = None) -> Any:
    """Decide by the desk's policy."""
    return decide(DESK, actor, roles, purpose, reason, action)


def test_what_no_role_allows_is_denied() -> None:
    """Nobody without a role may do anything, and a role allows what it names and nothing else."""
    nobody = may("user:eve", "session.read")
    assert (False, None, "masked") == (nobody.allowed, nobody.role, nobody.view)
    assert "a role that allows session.read: agent, owner" == nobody.needed
    assert "it has no role that allows session.read" == nobody.why
    agent = may("service:desk-1", "session.clear")
    assert (False, "its roles (agent) do not allow session.clear") == (agent.allowed, agent.why)


def test_an_empty_policy_denies_everything() -> None:
    """Where no role is declared, none can be had."""
    denied = decide(Access(), "user:root", ("owner",), "p", "r", "session.read")
    assert (False, "a role that allows session.read: the policy has none") == (denied.allowed, denied.needed)


def test_members_have_their_roles() -> None:
    """By their id, by a glob, and by a group that the program says they are in."""
    assert "agent" == may("service:desk-1", "session.read").role
    assert "auditor" == may("user:sam", "audit.export", "group:dpo").role
    assert not may("user:sam", "audit.export", "group:sales").allowed


def test_a_role_that_is_given_to_somebody_cannot_be_claimed() -> None:
    """Saying that one is an auditor does not make one; a role that is given to nobody is the program's to say."""
    assert not may("user:eve", "audit.read", "auditor").allowed
    open_desk = Access(roles=DESK.roles, members={"user:root": ("owner",)})
    assert decide(open_desk, "user:eve", ("auditor",), None, None, "audit.read").allowed
    assert not decide(open_desk, "user:eve", ("owner",), None, None, "audit.read").allowed


def test_an_id_is_no_group() -> None:
    """A role asserted under an actor's name makes nobody that actor."""
    assert not may("user:eve", "session.read", "user:root").allowed


def test_what_a_role_requires_has_to_be_said() -> None:
    """A supervisor says for which purpose; a chief says why as well; the denial names what is missing."""
    silent = may("user:maria@example.com", "session.review")
    assert (False, "a purpose") == (silent.allowed, silent.needed)
    assert "role supervisor allows session.review, and requires a purpose" == silent.why
    assert may("user:maria@example.com", "session.review", purpose="quality").allowed


def test_the_view_is_masked_where_every_role_is() -> None:
    """A second role that sees clearly, and whose demands are met, makes it clear."""
    both = Access(roles=DESK.roles, members={"user:maria": ("supervisor", "chief")})
    once = decide(both, "user:maria", (), "quality", None, "session.review")
    assert ("supervisor", "masked") == (once.role, once.view)
    told = decide(both, "user:maria", (), "quality", "complaint 7", "session.review")
    assert ("chief", "clear") == (told.role, told.view)
    nearest = decide(both, "user:maria", (), None, None, "session.review")
    assert "a purpose" == nearest.needed


@pytest.mark.parametrize(("allow", "allowed"), [("audit.*", True), ("*", True), ("audit.read", True), ("session.*", False)])
def test_what_a_role_allows(allow: str, allowed: bool) -> None:
    """An action by its name, all of a noun's, or everything."""
    assert allowed == access.allows(Role(allow=(allow,)), "audit.read")


names = st.sampled_from(["agent", "auditor", "owner", "group:dpo", "group:all", "user:maria", "service:x", "x"])
accesses = st.builds(
    Access,
    roles=st.dictionaries(
        st.sampled_from(["agent", "auditor", "owner"]),
        st.builds(
            Role,
            allow=st.lists(st.sampled_from(["*", "session.*", "session.read", "audit.read"]), max_size=2).map(tuple),
            view=st.sampled_from(["clear", "masked"]),
            require=st.lists(st.sampled_from(["purpose", "reason"]), unique=True).map(tuple),
        ),
    ),
    members=st.dictionaries(
        st.sampled_from(["user:*", "user:maria", "group:dpo", "*"]),
        st.lists(st.sampled_from(["agent", "auditor", "owner"]), max_size=2).map(tuple),
    ),
)
asked = st.tuples(
    names, st.lists(names, max_size=3).map(tuple), st.none() | st.just("p"), st.none() | st.just("r"),
    st.sampled_from(["session.read", "session.pop", "audit.read"]),
)  # fmt: skip


@given(accesses, asked)
def test_whoever_is_allowed_has_a_role_that_allows(found: Access, question: Any) -> None:
    """No decision allows what none of the actor's roles allows with what was said; and each such role is enough."""
    actor, roles, purpose, reason, action = question
    said = {"purpose": purpose, "reason": reason}
    held = access.roles_of(found, actor, roles)
    enough = {
        name for name in held
        if access.allows(found.roles[name], action) and all(said[one] for one in found.roles[name].require)
    }  # fmt: skip
    decision = decide(found, actor, roles, purpose, reason, action)
    assert bool(enough) == decision.allowed == (decision.needed is None)
    assert decision.role is None if not enough else decision.role in enough
    assert (decision.view == "clear") == any(found.roles[name].view == "clear" for name in enough)


@given(accesses, asked)
def test_more_roles_never_take_anything_away(found: Access, question: Any) -> None:
    """What is allowed stays allowed with one more asserted role, and no claim gains a role that members give."""
    actor, roles, purpose, reason, action = question
    more = decide(found, actor, (*roles, "owner"), purpose, reason, action)
    assert more.allowed or not decide(found, actor, roles, purpose, reason, action).allowed
    given_away = {role for given in found.members.values() for role in given}
    gained = set(access.roles_of(found, actor, (*roles, "owner"))) - set(access.roles_of(found, actor, roles))
    assert not gained & given_away


@given(accesses, st.lists(asked, max_size=8))
def test_a_gate_remembers_rightly(found: Access, questions: list[Any]) -> None:
    """What a gate remembers is what would be decided anew, whoever asked before."""
    gate = Gate(found)
    for question in questions * 2:
        assert decide(found, *question) == gate.decide(*question)


def test_a_gate_forgets_rather_than_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many actors don't fill the memory."""
    monkeypatch.setattr(access, "REMEMBERED", 10)
    gate = Gate(DESK)
    for number in range(100):
        gate.decide(f"user:{number}", (), None, None, "session.read")
    assert 10 >= len(gate._known)


def test_actions_that_roles_allow_are_those_of_entries() -> None:
    """The actions that are decided here are the policy language's."""
    assert {"session.read", "audit.read", "retention.purge"} <= GRANTED
