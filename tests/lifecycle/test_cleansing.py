"""`lifecycle/cleansing.py`, `lifecycle/scanning.py`: what is stored already is counted, and redacted in place."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from secure_memory import AccessDeniedError, Actor, acting_as
from secure_memory.errors import ConfigurationError, StoreBusyError, TamperedError
from secure_memory.lifecycle import cleansing
from secure_memory.lifecycle.cleansing import Cleansed, InPlace
from secure_memory.lifecycle.scanning import Found
from secure_memory.policy.model import Policy
from secure_memory.store import SecureStore
from secure_memory.vault import wal

CARD, MAIL = "4111 1111 1111 1111", "jane.doe@example.com"
KEY = "sk-proj-" + "a1B2c3D4e5" * 5
MARIA = Actor("user:maria", reason="refund")
EVERYONE = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
RULES = [
    {"id": "card", "entity": "CARD_NUMBER", "store": "tokenise", "view": "mask"},
    {"id": "email", "entity": "EMAIL", "view": "mask"},
    {"id": "secret", "entity": "SECRET", "store": "block"},
]


def govern(store: SecureStore, *rules: dict[str, str], **sections: Any) -> None:
    policy = {"metadata": {"name": "test"}, "access": EVERYONE, "redaction": {"rules": rules}, **sections}
    store.policy_apply(Policy.model_validate(policy))


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def texts(store: SecureStore, session: str, branch: str | None = None) -> list[Any]:
    return [item["content"] for item in store.session(session).blocking.get_items(branch_id=branch)]


def token_in(text: str) -> str:
    return next(word.strip(",") for word in text.split() if word.startswith("CARD_NUMBER_"))


@pytest.fixture
def loose(store: SecureStore) -> SecureStore:
    """A store whose policy has taken nothing out yet, with two conversations of jane's and one of ben's."""
    govern(store)
    store.session("one", subject="jane").blocking.add_items(said(f"card {CARD}", "hello", f"write to {MAIL} and {MAIL}"))
    store.session("two", subject="jane").blocking.add_items(said(f"again {CARD}", f"key {KEY}"))
    store.session("three", subject="ben").blocking.add_items(said("nothing here"))
    return store


# ---- scan ------------------------------------------------------------------------------------------------------------


def test_a_scan_counts(loose: SecureStore) -> None:
    """By session and entity: how often, in how many items, and what the policy stores of it now; no value is in it."""
    govern(loose, *RULES)
    steps: list[tuple[int, int]] = []
    report = loose.redact_scan(progress=lambda done, total: steps.append((done, total)))
    assert (
        Found("one", "CARD_NUMBER", 1, 1),
        Found("one", "EMAIL", 2, 1),
        Found("two", "CARD_NUMBER", 1, 1),
        Found("two", "SECRET", 1, 1),
    ) == report.found
    assert ("tenant default", 3, 6, 0) == (report.place, report.sessions, report.items, report.unreadable)
    assert {"CARD_NUMBER": "tokenise", "EMAIL": "keep", "SECRET": "block"} == report.stored_as
    assert [(1, 3), (2, 3), (3, 3)] == steps
    assert not any(value in repr(asdict(report)) + repr(report) for value in (CARD, MAIL, KEY, CARD[:4]))


def test_a_scan_is_in_the_ledger(loose: SecureStore) -> None:
    """Each session that was looked at is a read by who asked, and who may not read may not scan."""
    with acting_as(MARIA):
        loose.redact_scan()
    reads = [one.entry for one in loose.audit_log(action="session.read")]
    assert [("user:maria", "refund")] * 3 == [(entry.actor, entry.reason) for entry in reads]
    members = {"user:root": ["owner"], "service:*": ["owner"]}
    govern(loose, access={**EVERYONE, "members": members})
    with acting_as("user:eve"), pytest.raises(AccessDeniedError):
        loose.redact_scan()


def test_a_fork_is_counted_once(loose: SecureStore) -> None:
    """What two branches share is one item to a scan."""
    session = loose.session("one")
    asyncio.run(session.create_branch_from_turn(3))
    asyncio.run(session.add_items(said(f"and {MAIL}")))
    found = {(one.session, one.entity): one for one in loose.redact_scan().found}
    assert Found("one", "CARD_NUMBER", 1, 1) == found["one", "CARD_NUMBER"]
    assert Found("one", "EMAIL", 3, 2) == found["one", "EMAIL"]


def test_what_is_said_again_is_counted_again(loose: SecureStore) -> None:
    """The same words in another place are another item; and what an agent deleted under a hold is stored, and counted."""
    loose.hold_place("M-14")
    session = loose.session("three").blocking
    session.add_items(said(MAIL, MAIL))
    session.pop_item()
    found = [one for one in loose.redact_scan().found if one.session == "three"]
    assert [Found("three", "EMAIL", 2, 2)] == found


def test_a_database_of_the_sdk_is_only_read(store: SecureStore, chat: Any) -> None:
    """Each kind of database of the SDK is counted, encrypted ones with their key; what can't be read is counted as that, and
    not a byte of the file changes."""
    chat.plain("plain", said(f"card {CARD}"))
    chat.encrypted("sealed", said(f"write to {MAIL}"))
    chat.sql("INSERT INTO agent_messages (session_id, message_data) VALUES ('plain', 'no JSON')")
    before = chat.path.read_bytes()
    report = store.redact_scan(chat.path, encryption_key=chat.KEY)
    assert (Found("plain", "CARD_NUMBER", 1, 1), Found("sealed", "EMAIL", 1, 1)) == report.found
    assert (2, 2, 1) == (report.sessions, report.items, report.unreadable)
    blind = store.redact_scan(chat.path)
    assert (["CARD_NUMBER"], 2) == ([one.entity for one in blind.found], blind.unreadable)
    assert before == chat.path.read_bytes()


def test_branches_of_the_sdk_are_counted_once(store: SecureStore, chat: Any) -> None:
    """A message that stands in several branches of an AdvancedSQLiteSession is one item."""

    async def forked(session: Any) -> None:
        await session.add_items([*said(f"card {CARD}"), {"role": "assistant", "content": "yes"}, *said("next")])
        await session.create_branch_from_turn(2)
        await session.add_items(said(f"write to {MAIL}"))

    chat.advanced("forked", forked)
    report = store.redact_scan(chat.path)
    assert (Found("forked", "CARD_NUMBER", 1, 1), Found("forked", "EMAIL", 1, 1)) == report.found


def test_what_is_no_database_is_told(store: SecureStore, tmp_path: Path) -> None:
    """A file that is something else, and a tenant that is not there, are errors."""
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigurationError):
        store.redact_scan(tmp_path / "notes.txt")
    with pytest.raises(ConfigurationError):
        store.redact_scan(tenant="nobody")


# ---- apply -----------------------------------------------------------------------------------------------------------


def test_what_is_stored_becomes_what_would_be_stored(loose: SecureStore) -> None:
    """Items are as if they were written now; what is blocked is taken out; places, turns and all else stay."""
    govern(loose, *RULES)
    before = loose.session("one").blocking.get_conversation_turns()
    done = loose.redact_apply()
    assert Cleansed("default", 3, 2, 3, 0, {"CARD_NUMBER": 2, "SECRET": 1}) == done
    card, hello, mail = texts(loose, "one")
    assert ("hello", f"write to {MAIL} and {MAIL}") == (hello, mail)
    assert f"card {token_in(card)}" == card
    assert [f"again {token_in(card)}", "key [SECRET]"] == texts(loose, "two")
    assert [one["turn"] for one in before] == [one["turn"] for one in loose.session("one").blocking.get_conversation_turns()]
    loose.audit_verify()


def test_the_tokens_can_be_revealed(loose: SecureStore) -> None:
    """The original of each token that was made is kept in the same transaction."""
    govern(loose, *RULES)
    loose.redact_apply()
    token = token_in(texts(loose, "two")[0])
    with acting_as(MARIA):
        assert CARD == loose.reveal(token)


def test_a_second_run_changes_nothing(loose: SecureStore, insider: Callable[..., Any]) -> None:
    """Run again, not a row of any item is written, and nothing is counted."""
    govern(loose, *RULES)
    loose.redact_apply()
    rows = insider().sql("SELECT * FROM items ORDER BY id")
    assert Cleansed("default", 3, 0, 0, 0, {}) == loose.redact_apply()
    assert rows == insider().sql("SELECT * FROM items ORDER BY id")


def test_each_branch_that_changes_is_an_entry(loose: SecureStore) -> None:
    """The ledger says who had what redacted, how many items, by which policy; sessions that were looked at are there too."""
    govern(loose, *RULES)
    with acting_as(MARIA):
        loose.redact_apply(session_id="one")
    looked, wrote = (one.entry for one in loose.audit_log(action="session.redact"))
    assert ({"looked": True}, 3, None) == (looked.detail, looked.items, looked.head)
    assert ("user:maria", 1) == (wrote.actor, wrote.items)
    assert ["policy"] == list(wrote.detail)
    assert wrote.head is not None


def test_forks_share_what_takes_its_place(loose: SecureStore, insider: Callable[..., Any]) -> None:
    """An item that stands in several branches is redacted in each of them, and is one item still."""
    session = loose.session("one")
    asyncio.run(session.create_branch_from_turn(3, "other"))
    asyncio.run(session.add_items(said(f"more {CARD}")))
    govern(loose, *RULES)
    done = loose.redact_apply(session_id="one")
    assert (1, 2, {"CARD_NUMBER": 2}) == (done.changed, done.items, done.entities)
    main, other = texts(loose, "one", "main"), texts(loose, "one", "other")
    assert CARD not in str(main + other)
    assert main[:2] == other[:2]
    uids = insider().sql("SELECT uid, count(*) FROM items GROUP BY uid HAVING count(*) > 1")
    assert 2 == len(uids)
    loose.audit_verify()


def test_a_session_that_is_open_reads_what_took_its_place(loose: SecureStore) -> None:
    """What a live session remembers of its items is not served any more."""
    session = loose.session("one")
    assert CARD in str(asyncio.run(session.get_items()))
    govern(loose, *RULES)
    loose.redact_apply()
    assert CARD not in str(asyncio.run(session.get_items()))
    asyncio.run(session.add_items(said("go on")))
    assert 4 == len(asyncio.run(session.get_items()))


@pytest.mark.parametrize("kept_by", ["hold", "floor"])
def test_what_has_to_be_kept_stays_and_is_counted(loose: SecureStore, kept_by: str) -> None:
    """Under a hold or a floor items stay as they are; once it is gone they are redacted."""
    floor = [{"id": "floor", "trigger": "item.created", "min": "P1Y", "basis": {"law": "a law", "binding": "law"}}]
    govern(loose, *RULES, **({"retention": {"rules": floor}} if kept_by == "floor" else {}))
    hold = loose.hold_place("M-14") if kept_by == "hold" else None
    assert Cleansed("default", 3, 0, 0, 3, {}) == loose.redact_apply()
    assert f"card {CARD}" == texts(loose, "one")[0]
    if hold is not None:
        loose.hold_release(hold.id)
        assert (3, 0) == (loose.redact_apply().items, loose.redact_apply().kept)


def test_a_hold_on_one_session_keeps_no_other(loose: SecureStore) -> None:
    """Only what the hold is about stays."""
    govern(loose, *RULES)
    loose.hold_place("M-14", session="one")
    assert Cleansed("default", 3, 1, 2, 1, {"CARD_NUMBER": 1, "SECRET": 1}) == loose.redact_apply()
    assert f"card {CARD}" == texts(loose, "one")[0]


def test_what_is_withheld_is_redacted_too(loose: SecureStore, insider: Callable[..., Any]) -> None:
    """What an agent deleted and a hold kept is stored nevertheless: it is redacted once the hold is gone."""
    hold = loose.hold_place("M-14")
    asyncio.run(loose.session("one").clear_session())
    govern(loose, *RULES)
    assert 3 == loose.redact_apply().kept
    loose.hold_release(hold.id)
    assert 3 == loose.redact_apply().items
    assert 0 == loose.redact_apply().items
    loose.audit_verify()


def test_a_paused_run_stays_as_it_is(loose: SecureStore) -> None:
    """A run state that was kept opens as it was: changed, the SDK could not go on with it."""
    state = {"original_input": f"card {CARD}"}
    asyncio.run(loose.session("one").save_run_state(state))
    govern(loose, *RULES)
    loose.redact_apply()
    assert state == asyncio.run(loose.session("one").load_run_state())


def test_one_session_alone(loose: SecureStore) -> None:
    """With a session named, no other one changes; one that is not there is an error."""
    govern(loose, *RULES)
    assert Cleansed("default", 1, 1, 1, 0, {"CARD_NUMBER": 1}) == loose.redact_apply(session_id="one")
    assert f"again {CARD}" == texts(loose, "two")[0]
    with pytest.raises(ConfigurationError):
        loose.redact_apply(session_id="nobody")


def test_who_may_not_redact_is_denied(loose: SecureStore) -> None:
    """`session.redact` is an action of its own; a denied one changes nothing."""
    roles = {"owner": {"allow": ["*"]}, "agent": {"allow": ["session.read", "session.append"]}}
    members = {"user:root": ["owner"], "service:*": ["owner"], "user:tim": ["agent"]}
    govern(loose, *RULES, access={"roles": roles, "members": members})
    with acting_as("user:tim"), pytest.raises(AccessDeniedError):
        loose.redact_apply()
    assert f"card {CARD}" == texts(loose, "one")[0]


def test_what_was_tampered_with_stays(loose: SecureStore, insider: Callable[..., Any]) -> None:
    """A branch is proven before anything of it is written anew."""
    govern(loose, *RULES)
    insider().sql("UPDATE items SET link = zeroblob(32) WHERE id = (SELECT max(id) FROM items)")
    with pytest.raises(TamperedError):
        loose.redact_apply()


# ---- at once, killed, and nothing left -------------------------------------------------------------------------------


def test_what_is_written_meanwhile_is_redacted_too(loose: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who appends between the look and the writing is not undone: it is looked at again."""
    govern(loose, *RULES)
    session, anew, looks = loose.session("one"), InPlace._anew, []

    async def meanwhile(self: InPlace, opened: Any, seen: Any) -> Any:
        looks.append(len(seen.rows))
        if len(looks) == 1:
            await session.add_items(said("meanwhile"))
        return await anew(self, opened, seen)

    monkeypatch.setattr(cleansing.InPlace, "_anew", meanwhile)
    assert 1 == loose.redact_apply(session_id="one").items
    assert [3, 4] == looks
    assert "meanwhile" == texts(loose, "one")[-1]
    loose.audit_verify()


def test_agents_go_on_meanwhile(loose: SecureStore) -> None:
    """A process that appends all the while loses nothing, and the ledger verifies."""
    govern(loose, *RULES)
    for number in range(20):
        loose.session(f"more {number}").blocking.add_items(said("hello"))
    writer = subprocess.Popen(
        [sys.executable, "-c", APPENDS, str(loose.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert "ready\n" == writer.stdout.readline()
    done = loose.redact_apply()
    told, _ = writer.communicate("stop\n", timeout=60)
    assert 0 == writer.returncode
    assert 3 == done.items
    found = texts(loose, "one")
    assert [f"from outside {n}" for n in range(int(told))] == found[3:]
    assert CARD not in str(found)
    loose.audit_verify()


APPENDS = """
import asyncio, sys, threading
from secure_memory import SecureSession
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
async def main():
    session, number = SecureSession("one", sys.argv[1]), 0
    while not stop.is_set():
        await session.add_items([{"role": "user", "content": f"from outside {number}"}])
        if not number:
            print("ready", flush=True)
        number += 1
    print(number)
asyncio.run(main())
"""

KILLED = """
import os, sys
from secure_memory import SecureStore
from secure_memory.lifecycle import cleansing
place, step = sys.argv[1], int(sys.argv[2])
left = [step]
def tripped(function):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        return function(*args, **kwargs)
    return call
cleansing.pruning.prune = tripped(cleansing.pruning.prune)
cleansing.InPlace._keep_originals = tripped(cleansing.InPlace._keep_originals)
cleansing.wal.truncate = tripped(cleansing.wal.truncate)
with SecureStore.open(place) as store:
    store.redact_apply()
print("done")
"""


def test_killed_at_each_step(loose: SecureStore) -> None:
    """A run that is killed, wherever, and run again ends like one that was not; after each kill all of it is proven."""
    asyncio.run(loose.session("one").create_branch_from_turn(3))
    govern(loose, *RULES)
    place = str(loose.path)
    loose.close()
    killed = 0
    for step in range(1, 50):
        command = [sys.executable, "-c", KILLED, place, str(step)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if "done" in done.stdout:
            break
        assert -9 == done.returncode, done.stderr
        killed += 1
        with SecureStore.open(place) as again:
            again.audit_verify()
    assert killed >= 4
    with SecureStore.open(place) as again:
        assert Cleansed("default", 3, 0, 0, 0, {}) == again.redact_apply()
        card = texts(again, "one")[0]
        with acting_as(MARIA):
            assert CARD == again.reveal(token_in(card))
        again.audit_verify()


SEARCH = """
import sys
from pathlib import Path
from secure_memory.vault.pages import found_in
path, key, *traces = sys.argv[1:]
print(len(found_in(Path(path), bytes.fromhex(key), [bytes.fromhex(trace) for trace in traces])[1]))
"""


def test_no_old_byte_is_left(loose: SecureStore, insider: Callable[..., Any], elsewhere: Callable[..., str]) -> None:
    """Neither a page, nor a free one, nor the WAL has a piece of what was there before, though it would be sealed."""
    for number in range(20):
        loose.session(f"s{number}").blocking.add_items(said(f"{number} card {CARD} " + "x" * 300))
    govern(loose, *RULES)
    who = insider()
    traces = [sealed[3:35].hex() for (sealed,) in who.sql("SELECT sealed FROM items WHERE length(sealed) > 300")]
    where = who.path, who.keys.vault_key.bytes.hex()
    assert 20 == len(traces)
    assert "20\n" == elsewhere(SEARCH, *where, *traces)
    assert 23 == loose.redact_apply().items
    assert "0\n" == elsewhere(SEARCH, *where, *traces)


def test_a_reader_that_stays_is_told_of(loose: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the WAL can't be emptied, for another process reads it, that is an error; all is redacted, and run again it
    only empties it."""
    govern(loose, *RULES)
    monkeypatch.setattr(wal, "TRUNCATE_SECONDS", 0)
    reader = subprocess.Popen(
        [sys.executable, "-c", READS, str(loose.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert "reads\n" == reader.stdout.readline()
    with pytest.raises(StoreBusyError, match="WAL"):
        loose.redact_apply()
    reader.communicate("stop\n", timeout=60)
    assert Cleansed("default", 3, 0, 0, 0, {}) == loose.redact_apply()


READS = """
import sys
from secure_memory import SecureStore
with SecureStore.open(sys.argv[1]) as store, store._shared.tenant("default").vault.database.snapshot() as execute:
    execute("SELECT count(*) FROM items").fetchone()
    print("reads", flush=True)
    sys.stdin.readline()
"""
