"""`cleaning.py`, `revealing.py`: what the baseline keeps out of a store, what a reviewer sees, and what tokens become."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession

from secure_memory import AccessDeniedError, Actor, RedactionError, SecureStore
from secure_memory.policy.model import Policy
from secure_memory.redaction import pipeline

CARD, MAIL = "4111 1111 1111 1111", "jane.doe@example.com"
KEY = "sk-proj-" + "a1B2c3D4e5" * 5
TALK = f"card {CARD}, cvv 123, mail {MAIL}, key {KEY}"
MARIA = Actor("user:maria", reason="refund")


def do(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def say(session: Any, text: str = TALK) -> str:
    """Store a message; returns what is stored of it."""
    do(session.add_items([{"role": "user", "content": text}]))
    return str(do(session.get_items())[-1]["content"])


def token_in(text: str) -> str:
    return next(word.strip(",") for word in text.split() if word.startswith("CARD_NUMBER_"))


def test_the_baseline(store: SecureStore) -> None:
    """Nobody declared anything: cards are tokens, verification codes and secrets are gone, and all else stays."""
    stored = say(store.session("s"))
    assert f"card {token_in(stored)}, cvv [CARD_CVV], mail {MAIL}, key [SECRET]" == stored


def test_an_ordinary_conversation_stays_as_it_is(store: SecureStore) -> None:
    """The baseline changes no byte of what has none of these."""
    items: list[Any] = [
        {"role": "user", "content": "order 12345678, ref 9f86d081884c7d65, 2026-11-22T03:00:00Z, 49.90 EUR"},
        {"type": "function_call", "call_id": "call_4111111111111111", "name": "f", "arguments": '{"id": 1795751092805515}'},
        {"type": "function_call_output", "call_id": "call_4111111111111111", "output": '{"ok": true,  "n": 1.0}'},
    ]
    session = store.session("s")
    do(session.add_items(items))
    assert items == do(session.get_items())


def test_a_reviewer_sees_it_masked(store: SecureStore) -> None:
    """`review` shows the `view` surface; whoever takes part reads what is stored."""
    say(store.session("s"))
    (seen,) = store.review("s", purpose="quality")
    assert MAIL not in str(seen)
    assert "j***@***.com" in str(seen)
    assert MAIL in str(store.session_show("s"))


def test_a_masked_role_sees_no_more_by_other_doors(store: SecureStore) -> None:
    """A role whose view is masked reads masked, by any read, and so does a pop."""
    say(store.session("s"))
    roles = {"owner": {"allow": ["*"]}, "trainee": {"allow": ["session.*"], "view": "masked"}}
    rules = [{"id": "email", "entity": "EMAIL", "view": "mask"}]
    members = {"user:root": ["owner"], "user:tim": ["trainee"], "service:*": ["owner"]}
    access = {"roles": roles, "members": members}
    store.policy_apply(Policy.model_validate({"metadata": {"name": "t"}, "access": access, "redaction": {"rules": rules}}))
    tim = store.session("s", actor="user:tim")
    seen = [do(tim.get_items()), do(tim.get_items(branch_id="main")), do(tim.get_conversation_turns()), do(tim.pop_item())]
    assert [False] * 4 == [MAIL in str(one) for one in seen]


def test_a_token_is_told_by_the_store(store: SecureStore) -> None:
    """`reveal` finds whose token it is; without a reason, and for what was never issued, it tells nothing."""
    token = token_in(say(store.session("s", subject="jane")))
    from secure_memory import acting_as

    with acting_as(MARIA):
        assert CARD == store.reveal(token)
        with pytest.raises(ValueError, match="no token"):
            store.reveal("CARD_NUMBER_" + "b" * 16)
    with pytest.raises(AccessDeniedError, match="reason"):
        store.reveal(token)
    assert ["user:maria"] == [one.entry.actor for one in store.audit_log(action="session.reveal")]


def test_a_token_is_one_subjects_own(store: SecureStore) -> None:
    """The same card of one person is the same token in each of their sessions, and another one of another person."""
    one, two = (token_in(say(store.session(name, subject="jane"))) for name in ("s1", "s2"))
    other = token_in(say(store.session("s3", subject="ben")))
    assert one == two != other


def test_tokens_go_along_when_a_session_is_assigned(store: SecureStore) -> None:
    """After `assign_subject` the new subject's session reveals its token, and nothing is left under the old subject."""
    session = store.session("s", subject="nobody yet")
    token = token_in(say(session))
    do(session.assign_subject("jane"))
    assert CARD == do(session.reveal(token, actor=MARIA))
    with store._shared.tenant("default").vault.database.snapshot() as execute:
        assert 1 == execute("SELECT count(*) FROM tokens").fetchone()[0]
    store.audit_verify()


def test_an_import_is_redacted_too(store: SecureStore, tmp_path: Path) -> None:
    """What comes from an SDK database is stored as if it had been said here, and its tokens can be revealed."""
    theirs = SQLiteSession("old", tmp_path / "old.db")
    do(theirs.add_items([{"role": "user", "content": TALK}]))
    theirs.close()
    assert 1 == sqlite3.connect(tmp_path / "old.db").execute("SELECT count(*) FROM agent_messages").fetchone()[0]
    store.import_sessions(tmp_path / "old.db")
    session = store.session("old")
    stored = do(session.get_items())[0]["content"]
    assert CARD not in stored
    assert KEY not in stored
    assert CARD == do(session.reveal(token_in(stored), actor=MARIA))


def test_an_export_is_masked_unless_it_is_exact(store: SecureStore) -> None:
    """`export_sessions` writes the `view` surface; `exact=True` writes what is stored."""
    stored = say(store.session("s"))
    masked, exact = io.BytesIO(), io.BytesIO()
    store.export_sessions(masked)
    store.export_sessions(exact, exact=True)
    assert MAIL not in masked.getvalue().decode()
    assert stored == json.loads(exact.getvalue())["item"]["content"]


def test_what_cannot_be_redacted_is_not_stored(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a detector fails, nothing of the batch is stored."""

    def broken(*_: Any) -> Any:
        raise RedactionError("a detector failed")

    monkeypatch.setattr(pipeline.Redactor, "redact", broken)
    session = store.session("s")
    with pytest.raises(RedactionError):
        do(session.add_items([{"role": "user", "content": "hello"}]))
    assert [] == do(session.get_items())


def test_a_policy_of_another_process_redacts_at_once(store: SecureStore) -> None:
    """An operation that was built under an older policy is built again: what it stores is redacted by the newer one."""
    session = store.session("s")
    say(session)
    before = store._shared.policy
    rules = [{"id": "email", "entity": "EMAIL", "store": "redact"}]
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    store.policy_apply(Policy.model_validate({"metadata": {"name": "t"}, "redaction": {"rules": rules}, "access": everyone}))
    store._shared._policy = before  # as a process that has not looked since
    assert MAIL not in say(session)


def test_log_events_are_scrubbed(store: SecureStore) -> None:
    """structlog's chain gets no personal data from events, fields, nested values or the repr of an object."""
    scrub = store.log_processor()
    event = {"event": f"mail from {MAIL}", "user": {"card": CARD, "name": MAIL}, "error": ValueError(MAIL), "count": 3}
    shown = scrub(None, "info", event)
    assert MAIL not in str(shown)
    assert CARD not in str(shown)
    assert 3 == shown["count"]
    assert "mail from [EMAIL]" == shown["event"]


def test_a_closed_stores_log_processor_lets_nothing_through() -> None:
    """Where nobody can tell what is personal data, a field is withheld."""
    store = SecureStore.in_memory()
    scrub = store.log_processor()
    store._shared.abandon()
    store._shared._policy = None
    assert {"event": "[withheld]"} == dict(scrub(None, "info", {"event": MAIL}))
