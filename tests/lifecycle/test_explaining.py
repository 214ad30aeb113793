"""`lifecycle/explaining.py`: what happens to a conversation is told as the purge would do it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from secure_memory import clock
from secure_memory.errors import AccessDeniedError, ConfigurationError
from secure_memory.policy.model import Policy
from secure_memory.store import SecureStore

DAY = 86_400_000_000
ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "book me in"},
    {"type": "function_call", "name": "book", "call_id": "c1", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "booked"},
]
OWNER = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}


def policy(*rules: dict[str, Any], access: dict[str, Any] = OWNER) -> Policy:
    """A policy with these retention rules."""
    return Policy.model_validate({"metadata": {"name": "a"}, "access": access, "retention": {"rules": list(rules)}})


@pytest.fixture
def asked(store: SecureStore) -> SecureStore:
    """A store with a conversation of acme's, of three items."""

    async def talk() -> None:
        session = store.session("chat", tenant="acme")
        await session.add_items(ITEMS)
        await session.set_tags(record="phi")
        session.close()

    asyncio.run(talk())
    return store


def told(store: SecureStore, after: int) -> list[tuple[str, int, str, str | None]]:
    """Of each group of items: kind, how many, state, and what a purge would do so many days from now."""
    found = store.policy_explain("chat", tenant="acme", as_of=clock.now() + after * DAY)
    return [(each.kind, each.items, each.state, each.done) for each in found.items]


def test_what_is_due_and_what_is_kept(asked: SecureStore) -> None:
    """Items of one kind are told together, with the rule and the law that decide, and the day."""
    asked.policy_apply(policy({"id": "chat", "max": "P30D", "basis": {"law": "Art. 5"}}))
    assert {("message", 1, "kept", None), ("tool_call", 1, "kept", None), ("tool_output", 1, "kept", None)} == set(
        told(asked, 1)
    )
    assert {"delete"} == {done for _, _, _, done in told(asked, 31)}
    first = asked.policy_explain("chat", tenant="acme").items[0]
    assert first.at == first.first + 30 * DAY
    assert [("chat", "Art. 5")] == [tuple(rule) for rule in first.rules]
    assert "then delete by chat (Art. 5)" in first.why


def test_what_belongs_together(asked: SecureStore) -> None:
    """Where a rule is about a tool's output alone, its call stays, and it is told what the purge would do instead."""
    asked.policy_apply(policy({"id": "outputs", "max": "P1D", "select": {"kind": ["tool_output"]}}))
    found = {each.kind: each for each in asked.policy_explain("chat", tenant="acme", as_of=clock.now() + 2 * DAY).items}
    assert ("due", "redact") == (found["tool_output"].state, found["tool_output"].done)
    assert found["tool_output"].why.endswith("it stays with what it belongs to")
    assert ("unmatched", None) == (found["tool_call"].state, found["tool_call"].done)


def test_it_is_what_the_purge_plans(asked: SecureStore) -> None:
    """The explanation counts as many items to delete as the purge's plan does."""
    asked.policy_apply(
        policy({"id": "chat", "max": "PT0S", "trigger": "session.last_activity", "select": {"tag": {"record": "phi"}}})
    )
    explained = sum(each.items for each in asked.policy_explain("chat", tenant="acme").items if each.done == "delete")
    (plan,) = (one for one in asked.purge(tenant="acme").tenants if one.tenant == "acme")
    assert explained == plan.count("delete") == 3


def test_a_hold_and_its_matter(asked: SecureStore) -> None:
    """A hold is told with its matter; nothing would be done."""
    asked.policy_apply(policy({"id": "chat", "max": "P1D"}))
    asked.hold_place("M-14", tenant="acme", session="chat")
    assert {("held", None)} == {(state, done) for _, _, state, done in told(asked, 9)}
    assert {("M-14",)} == {each.matters for each in asked.policy_explain("chat", tenant="acme").items}


def test_who_asked_is_in_the_ledger(asked: SecureStore) -> None:
    """Asking is a `retention.plan` entry about the session; nobody who may not plan may ask."""
    asked.policy_explain("chat", tenant="acme")
    (entry,) = (record.entry for record in asked.audit_log(tenant="acme", action="retention.plan"))
    assert ({"explained": True}, True) == (dict(entry.detail), entry.session is not None)
    nobody = {"roles": {"clerk": {"allow": ["session.read", "policy.apply"]}}, "members": {"*": ["clerk"]}}
    asked.policy_apply(policy(access=nobody))
    with pytest.raises(AccessDeniedError):
        asked.policy_explain("chat", tenant="acme")


def test_no_such_session(asked: SecureStore) -> None:
    """A session that isn't there is told as such."""
    with pytest.raises(ConfigurationError, match="has no such session"):
        asked.policy_explain("nobody", tenant="acme")


def test_nothing_is_changed(asked: SecureStore, tmp_path: Path) -> None:
    """Explaining deletes nothing, whatever is due."""
    asked.policy_apply(policy({"id": "chat", "max": "P1D"}))
    told(asked, 900)
    assert 3 == len(asked.session_show("chat", tenant="acme"))
