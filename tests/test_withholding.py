"""`withholding.py`: what a hold or a floor keeps is gone for the agent, and for nobody else."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from secure_memory import clock
from secure_memory.errors import LegalHoldError, TamperedError
from secure_memory.lifecycle.holding import HoldInfo
from secure_memory.policy.model import Policy
from secure_memory.store import SecureStore
from secure_memory.vault import branches, history, sessions

NOON = 1_795_000_000_000_000
HOUR, DAY = 3_600_000_000, 86_400_000_000
EVERYONE = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}


@pytest.fixture
def store(store: SecureStore) -> SecureStore:
    """A new store on disk, with its tenant, so that there can be a hold before there is a conversation."""
    store.tenant_create("default")
    return store


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def texts(items: Any) -> list[str]:
    return [item["content"] for item in items]


def floor(*kinds: str) -> Policy:
    """A policy that keeps items of these kinds, all where none is named, for a day."""
    rules = [{"id": "floor", "min": "P1D", "select": {"kind": list(kinds)}}]
    return Policy.model_validate({"metadata": {"name": "floor"}, "access": EVERYONE, "retention": {"rules": rules}})


def no_floor() -> Policy:
    """A policy that keeps nothing."""
    return Policy.model_validate({"metadata": {"name": "none"}, "access": EVERYONE})


def withheld(store: SecureStore, name: str = "s") -> list[Any]:
    """What is withheld of a session of the tenant `default`: proven and opened, in order."""
    tenant = store._shared.tenant("default")
    with tenant.vault.database.snapshot() as execute:
        row = sessions.find(execute, tenant.keys.name_mac("session", name))
        assert row is not None
        hidden = branches.find(execute, row.id, branches.withheld_mac(tenant.keys, row.uid))
        if hidden is None:
            return []
        branches.check(tenant.keys.ledger, row.uid, hidden)
        head = tenant.vault.ledger.head(execute, hidden.id).head
        rows = history.rows(execute, hidden.id)
        history.prove(rows, hidden.id, head.base_position, head.base_link, head)
        keys = store._shared.keyring.session(tenant.keys, row.name, row.key_version)
        assert keys is not None
        return [json.loads(text) for text in history.unsealed(rows, keys.key.aead, tenant.keys.uid, keys.uid)]


def kinds(store: SecureStore) -> list[str]:
    """The actions of the session's writes, without those that made it."""
    found = [record.entry for record in store.audit_log(tenant="default") if record.entry.head is not None]
    return [entry.action for entry in found]


# ---- whatever the agent deletes with

DELETES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "pop": (lambda s: s.pop_item(), ["four"]),
    "rewind": (lambda s: s.rewind_to_turn(2), ["three", "four"]),
    "clear": (lambda s: s.clear_session(), ["one", "two", "alt", "three", "four"]),
    "delete_branch": (lambda s: s.delete_branch("other"), ["one", "two", "alt"]),
    "replace": (lambda s: s._atomic_replace_items([user("short")]), ["one", "two", "three", "four"]),
}
"""What deletes, and what of the conversation `talk` begins it deletes."""


def talk(store: SecureStore, **how: Any) -> Any:
    """A conversation of four turns with a branch that has the first two, and a turn of its own."""
    session = store.session("s", **how)
    session.blocking.add_items([user(text) for text in ("one", "two", "three", "four")])
    session.blocking.create_branch_from_turn(3, "other")
    session.blocking.add_items([user("alt")])
    session.blocking.switch_to_branch("main")
    return session


def seen(session: Any) -> Any:
    """Everything that an agent can find out about its conversation, but when it was."""
    mine = session.blocking
    names = [found["branch_id"] for found in mine.list_branches()]
    return (
        mine.get_items(),
        mine.get_items(2),
        [(found["branch_id"], found["message_count"], found["user_turns"]) for found in mine.list_branches()],
        {name: mine.get_items(branch_id=name) for name in names},
        [[turn["content"] for turn in mine.get_conversation_turns(name)] for name in names],
        [mine.find_turns_by_content(text, name) == [] for text in ("three", "alt") for name in names],
        mine.get_conversation_by_turns(),
        mine.load_run_state(),
    )


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize("because", ["hold", "floor"])
def test_what_has_to_be_kept_is_kept_and_out_of_sight(store: SecureStore, how: str, because: str) -> None:
    """However an agent deletes: what a hold or a floor keeps is withheld, in order, once; what the agent sees is what it
    would see if nothing were kept; the ledger says what was withheld before it says what was deleted; the vault is whole."""
    delete, gone = DELETES[how]
    with SecureStore.in_memory() as plain:
        reference = talk(plain)
        asyncio.run(delete(reference))
        expected = seen(reference)
    if because == "hold":
        store.hold_place("M-1")
    else:
        store.policy_apply(floor())
    session = talk(store)
    before = len(kinds(store))
    asyncio.run(delete(session))
    assert expected == seen(session)
    assert sorted(gone) == sorted(texts(withheld(store)))
    actions = kinds(store)[before:]
    assert "session.withhold" == actions[0]
    assert actions.count("session.withhold") == (2 if how == "clear" else 1)
    store.audit_verify()


@pytest.mark.parametrize("how", DELETES)
def test_what_nothing_keeps_is_deleted(store: SecureStore, how: str, noon: Any) -> None:
    """Without a hold, under one that is released, of another session or of another time, and after a floor has passed:
    nothing is withheld, and no hidden branch is made."""
    delete, _ = DELETES[how]
    store.policy_apply(floor())
    session = talk(store)
    store.hold_place("M-1")
    store.hold_release(1)
    store.session("another").blocking.add_items([user("hello")])
    store.hold_place("M-2", session="another")
    store.hold_place("M-3", until=noon.now)
    store.hold_place("M-4", tags={"record": "phi"})
    noon.now += DAY
    asyncio.run(delete(session))
    assert [] == withheld(store)
    assert "session.withhold" not in kinds(store)


def test_only_what_is_held_is_kept(store: SecureStore, noon: Any) -> None:
    """Of what is deleted in one step, that is kept which the hold is about."""
    with store.session("s") as session:
        for text in ("one", "two", "three", "four"):
            session.blocking.add_items([user(text)])
            noon.now += HOUR
        store.hold_place("M-1", since=NOON + HOUR, until=NOON + 3 * HOUR)
        session.blocking.clear_session()
    assert ["two", "three"] == texts(withheld(store))


def test_a_floor_is_about_kinds(store: SecureStore) -> None:
    """Of what is deleted in one step, that is kept which has a floor."""
    store.policy_apply(floor("tool_call"))
    call = {"type": "function_call", "name": "look", "call_id": "c", "arguments": "{}"}
    with store.session("s") as session:
        session.blocking.add_items([user("one"), call, user("two")])
        session.blocking.clear_session()
    assert [call] == withheld(store)


# ---- the same item in several branches, twice, or under another key


def test_copies_are_kept_once(store: SecureStore) -> None:
    """An item that stands in several branches is withheld when the first of them loses it, once, however often it goes."""
    store.hold_place("M-1")
    with talk(store) as session:
        session.blocking.rewind_to_turn(1)
        assert ["two", "three", "four"] == texts(withheld(store))
        assert ["one", "two", "alt"] == texts(session.blocking.get_items(branch_id="other"))
        session.blocking.delete_branch("other")
        session.blocking.clear_session()
        session.blocking.clear_session()
    assert ["two", "three", "four", "one", "alt"] == texts(withheld(store))
    store.audit_verify()


def test_what_is_written_after_is_another_item(store: SecureStore) -> None:
    """The same words said again are kept again: they were said twice."""
    store.hold_place("M-1")
    with store.session("s") as session:
        for _ in range(3):
            session.blocking.add_items([user("again")])
            assert user("again") == session.blocking.pop_item()
        assert [] == session.blocking.get_items()
    assert ["again"] * 3 == texts(withheld(store))


def test_another_subjects_keys(store: SecureStore) -> None:
    """A session that is given to another subject takes along what is withheld of it, under the new keys; the old one is
    destroyed, and a copy that goes afterwards is known to be there."""
    store.hold_place("M-1")
    with talk(store, subject="ana") as session:
        session.blocking.rewind_to_turn(1)
        session.blocking.assign_subject("ben")
        assert ["two", "three", "four"] == texts(withheld(store))
        session.blocking.delete_branch("other")
        session.blocking.clear_session()
    assert ["two", "three", "four", "one", "alt"] == texts(withheld(store))
    store.audit_verify()


def test_a_paused_run_is_kept_too(store: SecureStore) -> None:
    """A paused run that is resumed, replaced or cleared away holds the conversation, and calls that stand nowhere else."""
    with store.session("s") as session:
        mine = session.blocking
        mine.add_items([user("one")])
        mine.save_run_state({"$schemaVersion": "1.0", "n": 1})
        store.hold_place("M-1")
        mine.save_run_state({"$schemaVersion": "1.0", "n": 2})
        mine.save_run_state(None)
        assert mine.load_run_state() is None
        mine.save_run_state({"$schemaVersion": "1.0", "n": 3})
        mine.clear_session()
        assert mine.load_run_state() is None
    assert [1, 2, 3] == [item["n"] for item in withheld(store) if "n" in item]
    store.audit_verify()


# ---- nothing leads back


def test_nothing_brings_it_back(store: SecureStore) -> None:
    """No name is the hidden branch's, forks and compaction do not reach it, and no list, export or review has it."""
    store.hold_place("M-1")
    with talk(store) as session:
        mine = session.blocking
        mine.clear_session()
        mine.add_items([user("new")])
        for name in ("", "withheld", "s", "other"):
            with pytest.raises(ValueError, match="does not exist"):
                mine.get_items(branch_id=name) if name else mine.switch_to_branch(name)
        assert "next" == mine.create_branch_from_turn(1, "next")
        mine.switch_to_branch("main")
        assert [] == mine.find_turns_by_content("three")
        snapshot = asyncio.run(session._get_compaction_snapshot(100))
        assert snapshot is None or [user("new")] == snapshot.items
        assert ["main", "next"] == [found["branch_id"] for found in mine.list_branches()]
    assert [user("new")] == store.session_show("s") == store.review("s", purpose="quality")
    assert [1] == [info.items for info in store.sessions()]
    out = io.BytesIO()
    store.export_sessions(out)
    assert b"new" in out.getvalue()
    for text in ("one", "two", "three", "four", "alt"):
        assert b'"' + text.encode() + b'"' not in out.getvalue()


def test_a_session_elsewhere_in_a_branch_that_is_gone_goes_on_in_main(store: SecureStore) -> None:
    """A live session whose current branch was deleted by another, and withheld, works in main, as without a hold."""
    store.hold_place("M-1")
    with talk(store) as one, store.session("s") as other:
        other.blocking.switch_to_branch("other")
        one.blocking.delete_branch("other")
        assert ["one", "two", "three", "four"] == texts(other.blocking.get_items())
        other.blocking.add_items([user("five")])
        assert "five" == one.blocking.pop_item()["content"]
    assert ["one", "two", "alt", "five"] == texts(withheld(store))


def test_a_forged_item_is_not_kept_as_a_true_one(store: SecureStore, insider: Callable[..., Any]) -> None:
    """What would be withheld is proven first: an edited item raises, and stays where it is, as evidence."""
    store.hold_place("M-1")
    with talk(store) as session:
        insider().sql("UPDATE items SET uid = zeroblob(16) WHERE id % 4294967296 = 4")
        insider().sql("UPDATE items SET uid = zeroblob(16) WHERE role = 'user'")
        for delete, _ in DELETES.values():
            with pytest.raises(TamperedError):
                asyncio.run(delete(session))
    assert "session.withhold" not in kinds(store)


# ---- holds come from elsewhere

PLACE = """
import sys
from secure_memory import SecureStore
place, what = sys.argv[1:]
with SecureStore.open(place) as store:
    store.hold_place("M-1") if what == "place" else store.hold_release(1)
"""


def test_a_hold_of_another_process_holds_at_once(store: SecureStore, place: Path, elsewhere: Callable[..., str]) -> None:
    """A session that is open meets a hold that another process places or releases with its next operation."""
    with store.session("s") as session:
        session.blocking.add_items([user("one"), user("two"), user("three")])
        session.blocking.pop_item()
        elsewhere(PLACE, place, "place")
        session.blocking.pop_item()
        elsewhere(PLACE, place, "release")
        session.blocking.pop_item()
    assert ["two"] == texts(withheld(store))


def test_a_hold_amid_deletions(store: SecureStore, place: Path, elsewhere: Callable[..., str]) -> None:
    """While one process deletes item after item, another places a hold: what was deleted before it is gone, and all that is
    deleted after it is withheld. The ledger knows which is which."""
    other = threading.Thread(target=elsewhere, args=(PLACE, place, "place"))
    other.start()
    deleted: list[str] = []
    with store.session("s") as session:
        last = 3
        while last:
            last -= not other.is_alive()
            deleted.append(str(len(deleted)))
            session.blocking.add_items([user(deleted[-1])])
            session.blocking.pop_item()
    log = [record.entry.action for record in store.audit_log(tenant="default")]
    found = [action for action in log if action in ("hold.place", "session.withhold", "session.pop")]
    before, after = found[: found.index("hold.place")], found[found.index("hold.place") + 1 :]
    assert ["session.pop"] * len(before) == before
    assert ["session.withhold", "session.pop"] * (len(deleted) - len(before)) == after
    assert deleted[len(before) :] == texts(withheld(store))


def test_nobody_gets_out_of_a_hold(store: SecureStore, noon: Any) -> None:
    """Who may tag a session, or give it to another subject, may not take it out of a hold by that, until it is released;
    other tags and subjects are none of the hold's business."""
    with store.session("s", subject="ana") as session:
        mine = session.blocking
        mine.add_items([user("one")])
        mine.set_tags(record="phi", region="eu")
        store.hold_place("M-1", tags={"record": "phi"})
        store.hold_place("M-2", subject="ana")
        escapes: list[Callable[[], Any]] = [
            lambda: mine.set_tags(record=None),
            lambda: mine.set_tags(record="none"),
            lambda: mine.assign_subject("ben"),
        ]
        for escape in escapes:
            with pytest.raises(LegalHoldError, match="by its subject or its tags"):
                escape()
        mine.set_tags(region=None, desk="2")
        mine.set_metadata(note="x")
        mine.end("done")
        assert {"record": "phi", "desk": "2"} == mine.get_tags()
        for number in (1, 2):
            store.hold_release(number)
        mine.set_tags(record=None)
        mine.assign_subject("ben")
        assert [user("one")] == mine.get_items()
    store.audit_verify()


# ---- anything, in any order

ROLES = st.sampled_from(["user", "assistant"])


class Withholdings(RuleBasedStateMachine):
    """One conversation of a store with holds and floors, and the same one of a store without, through the same steps."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.clock = NOON, clock.now
        clock.now = lambda: self.now
        self.store, self.plain = SecureStore.in_memory(), SecureStore.in_memory()
        self.sessions = [store.session("s", subject="ana") for store in (self.plain, self.store)]
        self.theirs, self.ours = (session.blocking for session in self.sessions)
        for session in (self.ours, self.theirs):
            session.set_tags(record="phi")
        self.created: dict[str, int] = {}
        self.holds: list[tuple[HoldInfo, bool]] = []
        self.floored = False
        self.made = 0
        self.kept: list[str] = []

    # what the model knows

    def everywhere(self) -> dict[str, list[str]]:
        names = [found["branch_id"] for found in self.theirs.list_branches()]
        return {name: texts(self.theirs.get_items(branch_id=name)) for name in {"main", *names}} if self.created else {}

    def has_to_be_kept(self, text: str) -> bool:
        created = self.created[text]
        held = any(
            ours and (hold.since is None or hold.since <= created) and (hold.until is None or created < hold.until)
            for hold, ours in self.holds
        )
        return held or (self.floored and self.now < created + DAY)

    def both(self, step: Callable[[Any], Any]) -> Any:
        """Take a step in both, which comes to the same, and note what has to be withheld by it."""
        before = self.everywhere()
        expected, found = (step(session) for session in self.sessions)
        assert expected == found
        after = self.everywhere()
        for name, had in before.items():
            for text in had:
                if text not in after.get(name, ()) and text not in self.kept and self.has_to_be_kept(text):
                    self.kept.append(text)
        return expected

    # steps

    @rule(roles=st.lists(ROLES, min_size=1, max_size=4))
    def append(self, roles: list[str]) -> None:
        items = [{"role": role, "content": f"item {len(self.created) + n}"} for n, role in enumerate(roles)]
        self.both(lambda session: session.blocking.add_items(items))
        self.created.update((item["content"], self.now) for item in items)

    @rule()
    def pop(self) -> None:
        self.both(lambda session: session.blocking.pop_item())

    @rule()
    def clear(self) -> None:
        self.both(lambda session: session.blocking.clear_session())

    @precondition(lambda self: self.created)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        turns = [found["turn"] for found in self.theirs.get_conversation_turns()]
        if turns:
            turn = data.draw(st.sampled_from(turns))
            self.both(lambda session: session.blocking.rewind_to_turn(turn))

    @precondition(lambda self: self.created)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        turns = [found["turn"] for found in self.theirs.get_conversation_turns()]
        if turns:
            turn, self.made = data.draw(st.sampled_from(turns)), self.made + 1
            self.both(lambda session: session.blocking.create_branch_from_turn(turn, f"branch {self.made}"))

    @precondition(lambda self: self.created)
    @rule(data=st.data(), delete=st.booleans())
    def switch_or_delete(self, data: st.DataObject, delete: bool) -> None:
        names = [found["branch_id"] for found in self.theirs.list_branches()]
        if delete:
            names = [name for name in names if name != "main"]
        if names:
            name = data.draw(st.sampled_from(names))
            self.both(
                lambda session: (
                    session.blocking.delete_branch(name, True) if delete else session.blocking.switch_to_branch(name)
                )
            )

    @precondition(lambda self: self.created)
    @rule(keep=st.integers(0, 2))
    def compact(self, keep: int) -> None:
        items = [user(f"item {len(self.created)}"), *self.theirs.get_items()[:keep]][: keep + 1]
        fresh = [user(f"item {len(self.created) + n}") for n, _ in enumerate(items)]

        def replace(session: Any) -> Any:
            return asyncio.run(session._atomic_replace_items(fresh))

        self.both(replace)
        self.created.update((item["content"], self.now) for item in fresh)

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.now += hours * HOUR

    @precondition(lambda self: self.created)
    @rule(
        scope=st.sampled_from([{}, {"session": "s"}, {"subject": "ana"}, {"tags": {"record": "phi"}}, {"tags": {"a": "b"}}]),
        hours=st.none() | st.tuples(st.integers(-30, -1), st.integers(0, 30)),
    )
    def hold(self, scope: Any, hours: tuple[int, int] | None) -> None:
        since, until = (None, None) if hours is None else (self.now + hours[0] * HOUR, self.now + hours[1] * HOUR)
        placed = self.store.hold_place("M", since=since, until=until, **scope)
        self.holds.append((placed, scope.get("tags") != {"a": "b"}))

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.holds))
        self.store.hold_release(hold[0].id)
        self.holds.remove(hold)

    @rule()
    def change_the_policy(self) -> None:
        self.floored = not self.floored
        self.store.policy_apply(floor() if self.floored else no_floor(), confirm_shorten=True)

    # what is true then

    @invariant()
    def the_agent_sees_what_it_would_see(self) -> None:
        """The current branch and every other one, as without holds and floors."""
        assert self.theirs.get_items() == self.ours.get_items()
        for name, found in self.everywhere().items():
            assert found == texts(self.ours.get_items(branch_id=name))

    @precondition(lambda self: self.created)
    @invariant()
    def what_had_to_be_kept_is_kept(self) -> None:
        """Whatever went while a hold or a floor kept it is withheld, once; nothing else is."""
        assert sorted(self.kept) == sorted(texts(withheld(self.store)))

    def teardown(self) -> None:
        self.store.audit_verify()
        assert [] == texts(withheld(self.plain)) if self.created else True
        self.store.close()
        self.plain.close()
        clock.now = self.clock


TestWithholdings = Withholdings.TestCase
TestWithholdings.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
