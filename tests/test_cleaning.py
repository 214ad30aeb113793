"""`cleaning.py`, `revealing.py`: what the baseline keeps out of a store, what a reviewer sees, and what tokens become."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from agents import SQLiteSession

from secure_memory import AccessDeniedError, Actor, PolicyError, RedactionError, SecureStore, inforce
from secure_memory.cleaning import MUCH
from secure_memory.policy.model import Policy
from secure_memory.redaction import pipeline
from secure_memory.redaction.detect import Finding
from secure_memory.redaction.walk import MAX_DEPTH, Segment

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


def test_what_is_blocked_is_taken_out_of_an_import(store: SecureStore, tmp_path: Path) -> None:
    """Nobody is there to take a blocked message back: it is imported without what the policy refuses; and a reviewer whose
    surface blocks is shown nothing."""
    theirs = SQLiteSession("old", tmp_path / "old.db")
    do(theirs.add_items([{"role": "user", "content": TALK}, {"role": "user", "content": "hello"}]))
    theirs.close()
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    rules = [{"id": "s", "entity": "SECRET", "store": "block"}, {"id": "m", "entity": "EMAIL", "view": "block"}]
    store.policy_apply(Policy.model_validate({"metadata": {"name": "t"}, "redaction": {"rules": rules}, "access": everyone}))
    store.import_sessions(tmp_path / "old.db")
    stored = [item["content"] for item in do(store.session("old").get_items())]
    assert [f"card {CARD}, cvv 123, mail {MAIL}, key [SECRET]", "hello"] == stored
    with pytest.raises(RedactionError) as refused:
        store.review("old", purpose="quality")
    assert MAIL not in str(refused.value)


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


# ---- bad input -------------------------------------------------------------------------------------------------------


class Other:
    """A detector that is not ours: it hangs, raises or answers, as it is told."""

    name = "other"

    def __init__(self, does: str) -> None:
        self.does = does
        self.go = threading.Event()

    def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
        if self.does == "hangs":
            self.go.wait()
        if self.does == "raises":
            raise ValueError(segments[0].text)
        nonsense = [Finding("EMAIL", 0, 10**6, 1.0, None, None, self.name)]
        return [nonsense if self.does == "answers nonsense" else [] for _ in segments]


@pytest.fixture
def other(store: SecureStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Other]:
    """The detector, asked beside the builtin one, with a twentieth of a second to answer."""
    detector = Other(request.param)
    monkeypatch.setattr(inforce, "slow", lambda policy: [detector])
    monkeypatch.setattr(inforce, "Redactor", partial(pipeline.Redactor, seconds=0.05))
    rules = [{"id": "email", "entity": "EMAIL", "store": "redact", "model": "redact", "view": "mask"}]
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    redaction = {"rules": rules, "detectors": ["builtin", "presidio"]}
    # By a name of its own: what is in force is kept by its text, detectors included.
    named = {"metadata": {"name": request.param.replace(" ", "-")}}
    store.policy_apply(Policy.model_validate({**named, "redaction": redaction, "access": everyone}))
    yield detector
    detector.go.set()


@pytest.mark.parametrize("other", ["hangs", "raises", "answers nonsense"], indirect=True)
def test_a_detector_that_cannot_be_trusted_lets_nothing_through(store: SecureStore, other: Other) -> None:
    """Where a detector hangs, raises or answers what can't be, nothing is stored, sent or shown, and no word is told; once
    it answers, all goes on."""
    session = store.session("s")
    for attempt in (
        lambda: do(session.add_items([{"role": "user", "content": MAIL}])),
        lambda: do(session._conversation.redact([{"role": "user", "content": MAIL}], "model")),
    ):
        with pytest.raises(RedactionError, match="other") as failed:
            attempt()
        assert MAIL not in str(failed.value)
    assert [] == do(session.get_items())
    other.does = "answers"
    assert "[EMAIL]" == say(session, MAIL)
    other.does = "raises"
    with pytest.raises(RedactionError):
        store.review("s", purpose="quality")


@pytest.mark.parametrize("other", ["is quick"], indirect=True)
def test_slow_detectors_are_asked_aside(store: SecureStore, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a detector that may be slow, even a short message is redacted off the event loop."""
    assert [False] == where_redaction_runs(store, "hello", monkeypatch)


def where_redaction_runs(store: SecureStore, text: str, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether it ran in the thread of the event loop, each time that it ran."""
    redact, seen = pipeline.Redactor.redact, []

    def watched(*arguments: Any) -> Any:
        seen.append(threading.current_thread() is threading.main_thread())
        return redact(*arguments)

    monkeypatch.setattr(pipeline.Redactor, "redact", watched)
    say(store.session("s"), text)
    return seen


def test_five_megabytes_do_not_block_the_loop(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long message is redacted in a thread, to its last word, while the loop goes on with others; a short one is redacted
    where it is, which is faster."""
    assert [True] == where_redaction_runs(store, "hello", monkeypatch)
    assert [False] == where_redaction_runs(store, "x " * MUCH, monkeypatch)
    monkeypatch.undo()
    text = "The parcel has not arrived yet, please look where it is. " * 90_000
    session = store.session("long")
    turns = 0

    async def write() -> None:
        nonlocal turns
        writing = asyncio.ensure_future(session.add_items([{"role": "user", "content": f"{text}{CARD}"}]))
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        await writing

    do(write())
    assert turns > 100
    stored = do(session.get_items())[0]["content"]
    assert text == stored[: len(text)]
    assert stored[len(text) :].startswith("CARD_NUMBER_")


def test_five_megabytes_of_json(store: SecureStore) -> None:
    """Of a tool's long answer each leaf is looked at, and what is found is replaced in its place."""
    rows = [{"n": number, "note": "call me at twelve"} for number in range(100_000)]
    text = json.dumps([*rows, {"card": CARD}])
    session = store.session("s")
    do(session.add_items([{"type": "function_call_output", "call_id": "c", "output": text}]))
    found = json.loads(do(session.get_items())[0]["output"])
    assert rows == found[:-1]
    assert found[-1]["card"].startswith("CARD_NUMBER_")


def test_json_that_is_nested_deep(store: SecureStore) -> None:
    """A card number a hundred deep is found, in objects, in JSON texts, however deep these are; an item nested deeper than
    can be looked through is refused, and nothing of its batch is stored."""
    session = store.session("s")
    deep: Any = {"card": CARD}
    for _ in range(100):
        deep = {"in": [deep]}
    texts = (json.dumps(deep), '{"in":' * 5000 + json.dumps({"card": CARD}) + "}" * 5000)
    for arguments in texts:
        call: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
        do(session.add_items([call, {"type": "function_call_output", "call_id": "c", "output": [deep]}]))
    stored = do(session.get_items())
    assert [1, 1, 1, 1] == [json.dumps(item).count("CARD_NUMBER_") for item in stored]
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(RedactionError, match="nested"):
        do(session.add_items([{"role": "user", "content": "hello"}, {"type": "new", "output": deep}]))
    assert stored == do(session.get_items())


@pytest.mark.parametrize(
    "hidden",
    [
        f"\ud800 {CARD} \udfff",
        base64.b64encode(f"card {CARD}".encode()).decode(),
        quote(f"card={CARD}"),
        "".join(f"%{ord(char):02x}" for char in CARD),
        "\u200b".join(CARD.split()),
    ],
    ids=["lone surrogates", "base64", "percent-encoding", "all of it percent-encoded", "zero-width spaces"],
)
def test_what_is_hidden_is_not_stored(store: SecureStore, hidden: str) -> None:
    """Beside lone surrogates, in base64, percent-encoded or with what nobody sees in it: a token stands there."""
    stored = say(store.session("s"), f"see {hidden} please")
    assert "CARD_NUMBER_" in stored
    assert hidden not in stored
    assert CARD.split()[0] not in stored


def test_what_is_split_over_parts_is_not_stored(store: SecureStore) -> None:
    """A number that begins in one part of a message and ends in the next goes from both."""
    parts = [{"type": "input_text", "text": text} for text in ("my card: 4111 1111 ", "1111 1111 thanks")]
    stored = say(store.session("s"), parts)  # type: ignore[arg-type]
    assert "1111" not in stored
    assert "thanks" in stored


def test_a_forged_token_is_plain_text(store: SecureStore) -> None:
    """A text that looks like a token stays, is nobody's, and does not keep what stands beside it from being found."""
    forged = "CARD_NUMBER_aaaaaaaaaaaaaaaa"
    session = store.session("s")
    stored = say(session, f"{forged} {CARD}")
    assert stored.startswith(f"{forged} CARD_NUMBER_")
    with pytest.raises(ValueError, match="no token"):
        do(session.reveal(forged, actor=MARIA))


def test_a_policy_whose_pattern_never_ends_is_refused(store: SecureStore) -> None:
    """A pattern that is none, and one that could take for ever, never come into force."""
    before = store.policy_in_force()
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    for pattern in ("(a+)+$", "(", "(a|aa)*b", "x*"):
        redaction = {"patterns": [{"entity": "OWN", "pattern": pattern}]}
        with pytest.raises(PolicyError, match="pattern"):
            store.policy_apply(
                Policy.model_validate({"metadata": {"name": "t"}, "redaction": redaction, "access": everyone})
            )
    assert before == store.policy_in_force()


# ---- retention that acts on write -------------------------------------------------------------------------------------


def at_once(*rules: dict[str, Any]) -> Policy:
    everyone = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
    return Policy.model_validate({"metadata": {"name": "t"}, "retention": {"rules": list(rules)}, "access": everyone})


def test_a_rule_of_no_time_acts_on_write(store: SecureStore) -> None:
    """With `max: PT0S` a message is never stored, what belongs to a pair is stored without its words, and the rest stays."""
    store.policy_apply(
        at_once(
            {"id": "no-notes", "select": {"kind": ["message"], "role": ["developer"]}, "max": "PT0S"},
            {"id": "no-thoughts", "select": {"kind": ["reasoning"]}, "max": "PT0S"},
            {
                "id": "no-answers",
                "select": {"kind": ["tool_output"], "tag": {"record": "phi"}},
                "max": "PT0S",
                "action": "redact",
            },
        )
    )
    items: list[Any] = [
        {"role": "user", "content": "hello"},
        {"role": "developer", "content": "he is a doctor"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a doctor"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a doctor"},
    ]
    session, tagged = store.session("s"), store.session("t")
    do(tagged.set_tags(record="phi"))
    for one in (session, tagged):
        do(one.add_items(items))
    stored, of_tagged = do(session.get_items()), do(tagged.get_items())
    assert ["hello", None, None, None] == [item.get("content") for item in stored]
    assert "doctor" not in str(stored[:3])
    assert "a doctor" == stored[3]["output"]
    assert "doctor" not in str(of_tagged)
    assert stored == do(store.session("s", cache=False).get_items())
    store.audit_verify()


def test_a_floor_keeps_what_would_go_on_write(store: SecureStore) -> None:
    """Where another rule keeps an item for a time, it is stored as it is."""
    floor = {"id": "keep", "select": {"kind": ["message"]}, "min": "P1D"}
    store.policy_apply(at_once({"id": "none", "select": {"kind": ["message"], "role": ["user"]}, "max": "PT0S"}, floor))
    assert "hello" == say(store.session("s"), "hello")
