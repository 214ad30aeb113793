"""`lifecycle/purge/purges.py`: what is due goes, all of it and nothing else, in every branch and every page."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import RunContextWrapper, Usage
from agents.run_internal.items import drop_orphan_function_calls

from secure_memory import clock
from secure_memory.errors import (
    AccessDeniedError,
    DiskFullError,
    SafetyLimitError,
    StalePlanError,
    StoreBusyError,
    TamperedError,
)
from secure_memory.lifecycle.purge import archive, purging
from secure_memory.lifecycle.purge.purge_plan import PlanLine
from secure_memory.lifecycle.purge.safety import Limit, only_one
from secure_memory.policy.model import Access, Basis, Retention, RetentionRule, Role, Select
from secure_memory.store import SecureStore

DAY = 86_400_000_000
CHATS = RetentionRule(id="chats", basis=Basis(law="GDPR 5(1)(e)"), max="P30D")


def govern(store: SecureStore, *rules: RetentionRule, **sections: Any) -> None:
    """Put a policy in force that is the baseline with these retention rules."""
    retention = Retention(rules=rules)
    policy = store.policy_in_force().model_copy(update={"retention": retention, **sections})
    store.policy_apply(policy, confirm_shorten=True)


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def call(name: str, id: str) -> list[Any]:
    """A tool call with its reasoning, and its output."""
    return [
        {"type": "reasoning", "id": f"rs_{id}", "summary": [{"type": "summary_text", "text": f"think {name}"}]},
        {"type": "function_call", "name": name, "call_id": id, "arguments": f'{{"of": "{name}"}}', "id": f"fc_{id}"},
        {"type": "function_call_output", "call_id": id, "output": f"result {name}"},
    ]


def texts(store: SecureStore, session: str, tenant: str = "default", branch: str | None = None) -> list[Any]:
    items = store.session(session, tenant=tenant).blocking.get_items(branch_id=branch)
    return [item.get("content", item.get("output", item.get("arguments", item.get("type")))) for item in items]


def counts(plan: Any) -> dict[str, int]:
    return {line.state: line.items for one in plan.tenants for line in one.lines}


@pytest.fixture
def old(store: SecureStore, noon: Any) -> SecureStore:
    """A store with a chat of 40 days ago, one of today, and one that has both."""
    noon.now -= 40 * DAY
    for name in ("old", "both"):
        store.session(name).blocking.add_items(said(f"{name} 1", f"{name} 2"))
    noon.now += 40 * DAY
    for name in ("new", "both"):
        store.session(name).blocking.add_items(said(f"{name} 3"))
    return store


def test_a_plan_changes_nothing(old: SecureStore) -> None:
    """Planning says what is due, by which rule and law, and leaves every item; it is an entry."""
    govern(old, CHATS)
    plan = old.purge()
    (one,) = plan.tenants
    assert (PlanLine("delete", "chats", "GDPR 5(1)(e)", 4, 2),) == one.lines
    assert (6, 3, 4, None) == (one.items, one.sessions, plan.overdue, plan.done)
    assert ["old 1", "old 2"] == texts(old, "old")
    entry = old.audit_log(tenant="default", action="retention.plan")[-1]
    assert (4, 0) == (entry.entry.detail["delete"], entry.entry.detail["held"])


def test_what_is_due_goes(old: SecureStore) -> None:
    """Applied, the old items are gone, of a whole session and of a part of one; the rest is proven."""
    govern(old, CHATS)
    done = old.purge(apply=True).done
    assert (4, 0, 0, 2, 0) == (done.deleted, done.redacted, done.archived, done.sessions, done.passed_over)
    assert [[], ["both 3"], ["new 3"]] == [texts(old, name) for name in ("old", "both", "new")]
    entries = old.audit_log(tenant="default", action="retention.purge")
    assert [2, 2] == [record.entry.items for record in entries]
    assert ["chats"] == entries[0].entry.detail["rules"]
    old.audit_verify()
    assert "old" not in json.dumps([record.entry.detail for record in entries])


def test_a_second_run_changes_nothing(old: SecureStore, insider: Callable[..., Any]) -> None:
    """What was purged is not due again, and no row is written."""
    govern(old, CHATS)
    old.purge(apply=True)
    before = insider().sql("SELECT * FROM items ORDER BY id")
    again = old.purge(apply=True)
    assert ({}, 0) == (counts(again), again.done.deleted)
    assert before == insider().sql("SELECT * FROM items ORDER BY id")
    assert 2 == len(old.audit_log(tenant="default", action="retention.purge"))


def test_a_session_goes_on_after_it(old: SecureStore) -> None:
    """What was purged empty is written to, read, popped and forked as before; turns are not counted anew."""
    govern(old, CHATS)
    old.purge(apply=True)
    session = old.session("old").blocking
    session.add_items(said("again", "and again"))
    assert [3, 4] == [turn["turn"] for turn in session.get_conversation_turns()]
    session.create_branch_from_turn(4, "try")
    assert ["again"] == texts(old, "old", branch="try")
    session.switch_to_branch("main")
    assert "and again" == session.pop_item()["content"]
    old.audit_verify()


def test_every_copy_goes(old: SecureStore, noon: Any) -> None:
    """Forked items go in every branch, and what only one branch has stays there."""
    session = old.session("both").blocking
    session.create_branch_from_turn(3, "try")
    session.add_items(said("tried"))
    session.switch_to_branch("main")
    govern(old, CHATS)
    assert 4 == counts(old.purge())["delete"]  # "both 1" and "both 2" are two items, in four rows
    old.purge(apply=True)
    assert (["both 3"], ["tried"]) == (texts(old, "both"), texts(old, "both", branch="try"))
    old.audit_verify()


def test_other_tenants_are_bit_identical(old: SecureStore, insider: Callable[..., Any]) -> None:
    """A purge of one tenant writes nothing to another one's vault."""
    old.session("s", tenant="other").blocking.add_items(said("other"))
    govern(old, CHATS)
    tables = ("control", "sessions", "branches", "items", "usage", "ledger", "holds")
    before = {table: insider("other").sql(f"SELECT * FROM {table}") for table in tables}
    old.purge(tenant="default", apply=True)
    assert before == {table: insider("other").sql(f"SELECT * FROM {table}") for table in tables}


# ---- what belongs together ------------------------------------------------------------------------------------------


def test_a_pair_is_not_split(store: SecureStore, noon: Any) -> None:
    """Where an output has to stay, its call and the reasoning before it are blanked in place; the SDK drops nothing."""
    noon.now -= 40 * DAY
    session = store.session("s").blocking
    session.add_items([*said("hello"), *call("lookup", "c1")[:2]])
    noon.now += 40 * DAY
    session.add_items([*call("lookup", "c1")[2:], *said("thanks"), *call("refund", "c2")])
    govern(store, CHATS)
    plan = store.purge()
    assert [("delete", 1, 0), ("redact", 2, 2)] == [(line.state, line.items, line.paired) for line in plan.tenants[0].lines]
    done = store.purge(apply=True).done
    assert (1, 2) == (done.deleted, done.redacted)
    items = session.get_items()
    assert items == drop_orphan_function_calls(list(items), output_pruning_indexes=set(range(len(items))))
    assert [{"type": "summary_text", "text": "[redacted by retention rule chats]"}] == items[0]["summary"]
    assert ("lookup", "c1", "{}", "result lookup") == (
        items[1]["name"], items[1]["call_id"], items[1]["arguments"], items[2]["output"],
    )  # fmt: skip
    store.audit_verify()
    assert {} == counts(store.purge(apply=True))  # what is blanked waits for what it belongs to, and is not due again
    noon.now += 40 * DAY
    assert 7 == store.purge(apply=True, max_clock_jump="any").done.deleted  # then the unit goes whole
    store.audit_verify()


def test_a_unit_goes_whole(store: SecureStore, noon: Any) -> None:
    """A call, its output and its reasoning that are all due go together, and what is newer stays."""
    noon.now -= 40 * DAY
    session = store.session("s").blocking
    session.add_items([*said("hello"), *call("lookup", "c1")])
    noon.now += 40 * DAY
    session.add_items(call("refund", "c2"))
    govern(store, CHATS)
    assert 4 == store.purge(apply=True).done.deleted
    assert ["c2", "c2"] == [item["call_id"] for item in session.get_items() if "call_id" in item]


def test_a_rule_that_redacts(old: SecureStore) -> None:
    """Redaction by a rule keeps the item's shape and turns, and is done once; a later rule deletes what is left."""
    govern(old, RetentionRule(id="facts", max="P30D", action="redact"), RetentionRule(id="rest", max="P60D"))
    done = old.purge(apply=True).done
    assert (0, 4) == (done.deleted, done.redacted)
    notice = "[redacted by retention rule facts]"
    assert [notice, notice, "both 3"] == texts(old, "both")
    assert 3 == len(old.session("both").blocking.get_conversation_turns())
    assert {} == counts(old.purge(apply=True))
    old.audit_verify()


def test_a_rule_about_one_kind(store: SecureStore, noon: Any) -> None:
    """Items in the middle of a branch go, and those around them move together, in order and proven."""
    session = store.session("s").blocking
    session.add_items([{"role": role, "content": f"{role} {n}"} for n in range(4) for role in ("user", "assistant")])
    govern(store, RetentionRule(id="answers", max="P30D", select=Select(role=("assistant",))))
    noon.now += 31 * DAY
    plan = store.purge(apply=True, max_clock_jump="any")
    assert {"delete": 4, "unmatched": 4} == counts(plan)
    assert [f"user {n}" for n in range(4)] == texts(store, "s")
    assert [f"user {n}" for n in range(4)] == texts(SecureStore.open(store.path), "s")  # type: ignore[arg-type]
    store.audit_verify()


# ---- holds, floors, erasures ----------------------------------------------------------------------------------------


def test_a_hold_wins(old: SecureStore) -> None:
    """What is held is not deleted; released, the next purge deletes it."""
    govern(old, CHATS)
    hold = old.hold_place("M-14", session="old")
    plan = old.purge(apply=True)
    assert ({"delete": 2, "held": 2}, ["old 1", "old 2"]) == (counts(plan), texts(old, "old"))
    assert "matter M-14" == plan.tenants[0].lines[1].by
    old.hold_release(hold.id)
    assert 2 == old.purge(apply=True).done.deleted


def test_a_hold_about_a_time(old: SecureStore, noon: Any) -> None:
    """Of one session what was said in that time stays, and the rest goes."""
    govern(old, RetentionRule(id="all", max="P1D"))
    old.hold_place("M-15", session="both", since=noon.now - 50 * DAY, until=noon.now - 30 * DAY)
    noon.now += 2 * DAY
    old.purge(apply=True)
    assert ([], ["both 1", "both 2"]) == (texts(old, "old"), texts(old, "both"))


def test_a_hold_that_comes_after_the_plan(old: SecureStore, tmp_path: Path) -> None:
    """What was planned and is held by then is passed over; the rest of the plan is done."""
    govern(old, CHATS)
    old.purge(out=tmp_path / "plan")
    old.hold_place("M-14", session="old")
    done = old.purge(apply=True, plan=tmp_path / "plan").done
    assert (2, 1, ["old 1", "old 2"]) == (done.deleted, done.passed_over, texts(old, "old"))


def test_a_hold_that_comes_in_the_last_moment(old: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds are looked at once more in the transaction that deletes: one that came after everything was planned still
    wins."""
    govern(old, CHATS)
    perform_all = purging.perform_all

    def late(vault: Any, operations: Any) -> None:
        old.hold_place("M-14", session="old")
        perform_all(vault, operations)

    monkeypatch.setattr(purging, "perform_all", late)
    done = old.purge(apply=True).done
    assert (2, 1, ["old 1", "old 2"]) == (done.deleted, done.passed_over, texts(old, "old"))


def test_another_policy_in_the_last_moment(old: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was planned under a policy that is no longer in force is not done."""
    govern(old, CHATS)
    perform_all = purging.perform_all

    def late(vault: Any, operations: Any) -> None:
        govern(old, RetentionRule(id="forever", min="P9Y"))
        perform_all(vault, operations)

    monkeypatch.setattr(purging, "perform_all", late)
    with pytest.raises(StalePlanError, match="another policy was put in force"):
        old.purge(apply=True)
    assert ["old 1", "old 2"] == texts(old, "old")


def test_a_floor_defers(old: SecureStore) -> None:
    """Nothing is deleted before another rule's floor; the plan says by which law, and until when."""
    broker = RetentionRule(id="broker", basis=Basis(law="17 CFR 240.17a-4(b)(4)", binding="law"), min="P3Y")
    govern(old, CHATS, broker)
    plan = old.purge(apply=True)
    (line,) = plan.tenants[0].lines
    assert ("deferred", "broker", "17 CFR 240.17a-4(b)(4)", 4) == (line.state, line.by, line.law, line.items)
    assert "2029-10-09" == clock.rfc3339(line.until)[:10]
    assert ["old 1", "old 2"] == texts(old, "old")


def test_what_the_agent_deleted_goes_when_it_may(old: SecureStore, noon: Any, insider: Callable[..., Any]) -> None:
    """Withheld items are out of the agent's sight, and are deleted once no floor keeps them."""
    govern(old, RetentionRule(id="a-year", min="P1Y"))
    old.session("new").blocking.clear_session()
    assert 7 - 1 == insider().sql("SELECT count(*) FROM items")[0][0]
    assert 0 == old.purge(apply=True).done.deleted
    noon.now += 366 * DAY
    plan = old.purge(apply=True, max_clock_jump="any")
    assert (1, "deleted by the agent") == (plan.done.deleted, plan.tenants[0].lines[0].by)
    assert ["old 1", "old 2"] == texts(old, "old")
    old.audit_verify()


# ---- plans ----------------------------------------------------------------------------------------------------------


def test_a_plan_is_what_is_done(old: SecureStore, tmp_path: Path, noon: Any) -> None:
    """A kept plan does exactly what it said, although more has come to be due since, and conversations went on."""
    govern(old, CHATS)
    plan = old.purge(out=tmp_path / "plan")
    noon.now += DAY
    old.session("both").blocking.add_items(said("later"))
    done = old.purge(apply=True, plan=tmp_path / "plan").done
    assert plan.count("delete") == done.deleted == 4
    assert ["both 3", "later"] == texts(old, "both")


@pytest.mark.parametrize("what", ["policy", "age", "edit", "mac", "nonsense", "twice", "missing"])
def test_a_stale_plan_is_refused(old: SecureStore, tmp_path: Path, noon: Any, what: str) -> None:
    """A plan of another policy, that is too old, edited, or none, deletes nothing."""
    govern(old, CHATS)
    file = tmp_path / "plan"
    old.purge(out=file)
    if what == "policy":
        govern(old, CHATS, RetentionRule(id="more", max="P90D"))
    if what == "age":
        noon.now += 8 * DAY
    if what == "edit":
        file.write_text(file.read_text().replace('"items":4', '"items":3', 1))
    if what == "mac":
        found = json.loads(file.read_text())
        file.write_text(json.dumps({**found, "mac": "0" * 64}))
    if what in ("nonsense", "twice"):
        file.write_text({"nonsense": "{}", "twice": "[1]"}[what])
    if what == "missing":
        file.unlink()
    with pytest.raises(Exception, match="plan") as caught:
        old.purge(apply=True, plan=file)
    assert isinstance(caught.value, StalePlanError) or what == "missing"
    assert ["old 1", "old 2"] == texts(old, "old")


def test_a_plan_of_another_store(old: SecureStore, tmp_path: Path) -> None:
    """A plan's MAC is under its own store's key."""
    with SecureStore.create(tmp_path / "another") as another:
        another.purge(out=tmp_path / "plan")
    with pytest.raises(StalePlanError, match="another store"):
        old.purge(apply=True, plan=tmp_path / "plan")


# ---- what stops it --------------------------------------------------------------------------------------------------


def test_a_limit_stops_one_tenant(old: SecureStore, noon: Any) -> None:
    """Where more than the limit would go nothing goes, and the other tenants are done."""
    noon.now -= 40 * DAY
    old.session("s", tenant="other").blocking.add_items(said("one"))
    noon.now += 40 * DAY
    old.session("s", tenant="other").blocking.add_items(said(*map(str, range(9))))
    govern(old, CHATS)
    with pytest.raises(SafetyLimitError, match=r"tenant 'default': 4 of 6 items would go, more than 3: .* others? .*done"):
        old.purge(apply=True, max_delete="50%")
    assert (2, 9) == (len(texts(old, "old")), len(texts(old, "s", "other")))
    assert 4 == old.purge(apply=True, max_delete="4").done.deleted


@pytest.mark.parametrize("text", ["5 %", "-1", "101%", "1.5", "", "all"])
def test_what_is_no_limit(text: str) -> None:
    """A limit is a share or a number; anything else is refused before anything is asked."""
    with pytest.raises(ValueError, match="share such as 5%"):
        Limit.parse(text, "P30D")


@pytest.mark.parametrize(
    ("moved", "why"), [(-DAY, "its ledger's last entry is of"), (31 * DAY, "stands more than P30D past")]
)
def test_a_clock_that_jumped(old: SecureStore, noon: Any, moved: int, why: str) -> None:
    """A clock that went backwards, or far ahead, deletes nothing unless somebody says so."""
    govern(old, CHATS)
    noon.now += moved
    with pytest.raises(SafetyLimitError, match=why):
        old.purge(apply=True)
    assert 6 == sum(len(texts(old, name)) for name in ("old", "both", "new"))
    noon.now = max(noon.now, clock.now())
    assert old.purge(apply=True, max_clock_jump="any").done.deleted >= 4


def test_two_purges_at_once(old: SecureStore) -> None:
    """The second one is told that another is at it, and has deleted nothing."""
    govern(old, CHATS)
    vault = old._shared.tenant("default").vault.identity.path
    with only_one(vault, "tenant 'default'"), pytest.raises(StoreBusyError, match="another purge is at it"):
        old.purge(apply=True)
    assert 4 == old.purge(apply=True).done.deleted


def test_nobody_may_who_may_not(old: SecureStore) -> None:
    """Planning and purging are actions that the policy allows, and a denial is an entry."""
    roles = {"planner": Role(allow=("retention.plan", "session.read")), "owner": Role(allow=("*",))}
    govern(old, CHATS, access=Access(roles=roles, members={"*": ("planner",), "user:owner": ("owner",)}))
    assert 4 == old.purge().count("delete")
    with pytest.raises(AccessDeniedError):
        old.purge(apply=True)
    assert ["old 1", "old 2"] == texts(old, "old")


def test_what_was_tampered_with_is_kept(old: SecureStore, insider: Callable[..., Any]) -> None:
    """A branch that does not prove is evidence: nothing of it is deleted, and the purge says so."""
    govern(old, CHATS)
    insider().sql("UPDATE items SET uid = randomblob(16) WHERE id & 2147483647 = 2")
    with pytest.raises(TamperedError):
        old.purge(apply=True)
    assert insider().sql("SELECT count(*) FROM items")[0][0] >= 4
    assert old.audit_log(tenant="default", action="session.tampered")


def test_bad_arguments(store: SecureStore, tmp_path: Path) -> None:
    """A plan is applied as it is, and a limit has to be one."""
    with pytest.raises(ValueError, match="applied as it is"):
        store.purge(plan=tmp_path / "plan")
    with pytest.raises(ValueError, match="not a duration"):
        store.purge(max_clock_jump="a month")


def test_an_archive_that_has_no_room(old: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the archive can't be written nothing leaves the vault, and no part of a file stays; with room it is done."""
    govern(old, RetentionRule(id="records", max="P30D", action="archive"))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(archive.os, "fsync", full)
        with pytest.raises(DiskFullError, match="nothing of it was deleted"):
            old.purge(apply=True)
    assert ["old 1", "old 2"] == texts(old, "old")
    assert old.path is not None
    assert [] == list((old.path / "archives").iterdir())
    done = old.purge(apply=True).done
    assert (0, 4, 1) == (done.deleted, done.archived, len(done.archives))
    found = old.archive_read(done.archives[0])
    assert ["both 1", "both 2", "old 1", "old 2"] == sorted(one.item["content"] for one in found)
    assert {"default"} == {one.tenant for one in found}


def test_tokens_go_with_the_last_item(store: SecureStore, noon: Any, insider: Callable[..., Any]) -> None:
    """What a token stands for is kept as long as its subject has an item that may hold it, and no longer."""
    card = "my card is 4111 1111 1111 1111"
    store.session("a", subject="ana").blocking.add_items(said(card))
    store.session("b", subject="ben").blocking.add_items(said(card))
    noon.now += 40 * DAY
    store.session("b2", subject="ben").blocking.add_items(said("hello"))
    assert 2 == insider().sql("SELECT count(*) FROM tokens")[0][0]
    govern(store, CHATS)
    store.purge(apply=True, max_clock_jump="any")
    assert 1 == insider().sql("SELECT count(*) FROM tokens")[0][0]
    assert {"tokens": 1}.items() <= store.audit_log(tenant="default", action="retention.purge")[-1].entry.detail.items()
    store.audit_verify()


# ---- nothing is left, whatever dies ---------------------------------------------------------------------------------

SEARCH = """
import sys
from pathlib import Path
from secure_memory.vault.pages import found_in
path, key, *traces = sys.argv[1:]
pages, found = found_in(Path(path), bytes.fromhex(key), [bytes.fromhex(trace) for trace in traces])
print(pages, len(found))
"""


def test_no_deleted_byte_is_left(store: SecureStore, noon: Any, insider: Callable[..., Any], elsewhere: Any) -> None:
    """Neither a page in use, nor a free one, nor the WAL holds a piece of what was deleted or blanked; before, they did."""
    for number in range(30):
        session = store.session(f"s{number}").blocking
        session.add_items([*said("x" * 300), *call("lookup", "c")[:2]])
    noon.now += 20 * DAY
    for number in range(15):
        store.session(f"s{number}").blocking.add_items(call("lookup", "c")[2:])
    govern(store, CHATS)
    noon.now += 20 * DAY
    who = insider()
    traces = [sealed[3:35].hex() for (sealed,) in who.sql("SELECT sealed FROM items WHERE created < ?", noon.now - 30 * DAY)]
    where = str(who.path), who.keys.vault_key.bytes.hex()
    assert len(traces) == 90
    assert f" {len(traces)}\n" in elsewhere(SEARCH, *where, *traces) + "\n"
    done = store.purge(apply=True).done
    assert (60, 30) == (done.deleted, done.redacted)
    assert done.freed > 0
    assert " 0\n" in elsewhere(SEARCH, *where, *traces) + "\n"
    store.audit_verify()


KILLED = """
import os, sys
from secure_memory import SecureStore, clock
from secure_memory.vault import sqlcipher, pruning, wal
from secure_memory.lifecycle.purge import archive, archiving, disposing, purging
place, now, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
clock.now = lambda: now
left = [step]
def tripped(function):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        return function(*args, **kwargs)
    return call
archiving.write = tripped(archiving.write)
archive.os.replace = tripped(os.replace)
disposing.pruning.prune = tripped(pruning.prune)
disposing.pruning.clear = tripped(pruning.clear)
purging.dispose = tripped(purging.dispose)
purging.perform_all = tripped(purging.perform_all)
purging.wal.truncate = tripped(wal.truncate)
with SecureStore.open(place) as store:
    store.purge(apply=True)
print("done")
"""


def test_killed_at_each_step(store: SecureStore, noon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge that is killed, wherever, and run again ends like one that was not: nothing is lost, nothing is left over."""
    monkeypatch.setattr(purging, "SESSIONS_AT_ONCE", 1)
    noon.now -= 40 * DAY
    for name in ("a", "b", "c"):
        session = store.session(name).blocking
        session.add_items([*said(f"{name} old"), *call("lookup", "c1")[:2]])
        session.set_tags(record="kept" if name == "b" else "no")
    noon.now += 40 * DAY
    store.session("c").blocking.add_items(call("lookup", "c1")[2:])
    kept = RetentionRule(id="kept", select=Select(tag={"record": "kept"}), max="P30D", action="archive")
    govern(store, CHATS, kept)
    place = str(store.path)
    store.close()
    steps = 0
    for step in range(1, 200):
        command = [sys.executable, "-c", KILLED, place, str(noon.now), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if "done" in done.stdout:
            break
        assert -9 == done.returncode, done.stderr
        steps += 1
        with SecureStore.open(place) as again:
            again.audit_verify()
    assert steps >= 4
    with SecureStore.open(place) as again:
        assert ([], [], 3) == (texts(again, "a"), texts(again, "b"), len(texts(again, "c")))
        assert {} == counts(again.purge())
        again.audit_verify()
        files = sorted((Path(place) / "archives").glob("*"))
        found = [one.item for file in files for one in again.archive_read(file)]
        assert ["b old"] == [item["content"] for item in found if "content" in item]


def test_agents_go_on_meanwhile(old: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is appended and read while a purge runs is kept and proven, and what is due goes nevertheless."""
    govern(old, CHATS)
    stop, wrote = threading.Event(), []

    def talk() -> None:
        session = old.session("busy").blocking
        while not stop.is_set():
            session.add_items(said(str(len(wrote))))
            wrote.append(len(session.get_items()))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        done = old.purge(apply=True).done
    finally:
        stop.set()
        thread.join()
    assert 4 == done.deleted
    assert list(range(1, len(wrote) + 1)) == wrote
    old.audit_verify()


# ---- the ledger's own entries ---------------------------------------------------------------------------------------

AUDIT = RetentionRule(id="audit", select=Select(kind=("audit_entry",)), min="P30D", max="P60D")


def test_old_entries_lose_their_bodies(old: SecureStore, noon: Any, insider: Callable[..., Any]) -> None:
    """Reads of long ago go from every ledger, the store's own among them; all still verifies, reads and is searched."""
    for _ in range(5):
        texts(old, "old")
    govern(old, AUDIT)
    noon.now += 61 * DAY
    plan = old.purge(max_clock_jump="any")
    lines = {one.tenant: one.lines[-1] for one in plan.tenants if one.lines and one.lines[-1].state == "prune"}
    assert ("audit", True) == (lines["default"].by, lines["default"].items >= 6)
    assert 0 == len(insider().sql("SELECT seq FROM ledger WHERE length(entry) = 0"))
    done = old.purge(apply=True, max_clock_jump="any").done
    assert sum(line.items for line in lines.values()) == done.pruned
    assert lines["default"].items == len(insider().sql("SELECT seq FROM ledger WHERE length(entry) = 0"))
    assert [2, 3, 1] == [len(texts(old, name)) for name in ("old", "both", "new")]
    assert "session.append" in {record.entry.action for record in old.audit_log(tenant="default")}
    old.audit_verify()
    assert 0 == old.purge(apply=True, max_clock_jump="any").done.pruned
    with SecureStore.open(old.path) as again:  # type: ignore[arg-type]
        again.session("old").blocking.add_items(said("on"))
        again.audit_verify()
    noon.now += 61 * DAY
    assert old.purge(apply=True, max_clock_jump="any").done.pruned
    old.audit_verify()


def test_a_hold_keeps_every_entry(old: SecureStore, noon: Any) -> None:
    """Where a matter is open, who saw what is evidence."""
    govern(old, AUDIT)
    hold = old.hold_place("M-14", session="old")
    noon.now += 61 * DAY
    kept = old.purge(tenant="default", apply=True, max_clock_jump="any")
    assert (0, 0) == (kept.count("prune"), kept.done.pruned)
    old.hold_release(hold.id)
    assert old.purge(tenant="default", apply=True, max_clock_jump="any").done.pruned
    old.audit_verify()


def test_what_rows_are_checked_against_stays(store: SecureStore, noon: Any) -> None:
    """Pops and tags of long ago still verify when reads and older appends are pruned."""
    session = store.session("s").blocking
    for number in range(4):
        session.add_items(said(str(number)))
    session.pop_item()
    session.set_tags(record="phi")
    govern(store, AUDIT)
    noon.now += 61 * DAY
    assert store.purge(apply=True, max_clock_jump="any").done.pruned
    store.audit_verify()
    assert ["0", "1", "2"] == texts(store, "s")


def test_what_was_spent_stays_spent(store: SecureStore, noon: Any) -> None:
    """Usage outlives the items that it was spent on, is billed to the turns that it was, and verifies, also after pops."""
    session = store.session("s").blocking

    def turn(tokens: int) -> None:
        spent = Usage(requests=1, input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1)
        session.add_items(said(f"costs {tokens}"), wrapper=RunContextWrapper(None, usage=spent))

    turn(10)
    turn(20)
    govern(store, CHATS)
    noon.now += 40 * DAY
    assert 2 == store.purge(apply=True, max_clock_jump="any").done.deleted
    assert 32 == store.usage(tenant="default")[0].total_tokens
    turn(30)
    assert 31 == session.get_turn_usage(3)["total_tokens"]
    session.pop_item()
    assert 63 == store.usage(tenant="default")[0].total_tokens
    store.audit_verify()
