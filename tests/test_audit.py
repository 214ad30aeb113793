"""`audit.py`: the log, by whatever an auditor asks for, and that they asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from secure_memory import audit, clock
from secure_memory.actor import Actor, acting_as
from secure_memory.audit import LogFilter, LogRecord
from secure_memory.errors import TamperedError
from secure_memory.ledger.entry import Entry
from secure_memory.store import SecureStore

SYSTEM = "(system)"


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


@pytest.fixture
def busy(noon: Any, store: SecureStore) -> SecureStore:
    """Two tenants; maria's two sessions and otto's in the first, a second apart; a denial and a tampering of sorts."""

    def work(name: str, subject: str, tenant: str, actor: str) -> None:
        noon.now += 1_000_000
        with store.session(name, tenant=tenant, subject=subject) as session:
            asyncio.run(session.add_items([user(1)], actor=actor))
            asyncio.run(session.get_items(actor=actor))

    work("chat", "maria", "acme", "agent")
    work("mail", "maria", "acme", "maria")
    work("chat 2", "otto", "acme", "agent")
    work("chat", "otto", "globex", "robot")
    noon.now += 1_000_000
    return store


def found(records: list[LogRecord]) -> list[tuple[str, str | None]]:
    """Action and session's name of each record, reading the log left out."""
    return [(r.entry.action, r.session_name) for r in records if r.entry.action != "audit.read"]


def begun(name: str) -> list[tuple[str, str | None]]:
    return [("session.create", name), ("session.append", name), ("session.read", name)]


# ---- the log


def test_everything_in_order_of_time(busy: SecureStore) -> None:
    """Without a filter every ledger's entries come, the oldest first, with the names that people know."""
    records = busy.audit_log()
    assert sorted(r.entry.time for r in records) == [r.entry.time for r in records]
    assert {SYSTEM, "acme", "globex"} == {r.tenant_name for r in records}
    of_acme = found([r for r in records if r.tenant_name == "acme"])
    assert [("tenant.create", None), *begun("chat"), *begun("mail"), *begun("chat 2")] == of_acme
    assert {"maria", "otto", None} == {r.subject_name for r in records}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"session": "mail"}, begun("mail")),
        ({"subject": "maria"}, begun("chat") + begun("mail")),
        ({"subject": "otto"}, begun("chat 2")),
        ({"actor": "agent"}, begun("chat") + begun("chat 2")),
        ({"actor": "nobody"}, []),
        ({"action": "session.append"}, [("session.append", name) for name in ("chat", "mail", "chat 2")]),
        ({"action": "tenant.*"}, [("tenant.create", None)]),
        ({"action": "session"}, []),
        ({"outcome": "denied"}, []),
        ({"session": "mail", "action": "session.read"}, [("session.read", "mail")]),
        ({"session": "no such"}, []),
        ({"subject": "no such"}, []),
    ],
    ids=str,
)
def test_filters(busy: SecureStore, wanted: dict[str, str], expected: list[Any]) -> None:
    """Whatever is given must match, names as people know them."""
    assert expected == found(busy.audit_log(tenant="acme", **wanted))


def test_the_subject_as_an_actor_is_found_by_name(busy: SecureStore) -> None:
    """Who asked as the person that the session is about is in the ledger by uid, and is found by name."""
    assert begun("mail") == found(busy.audit_log(tenant="acme", actor="maria"))


def test_names_are_looked_up_in_each_tenant(busy: SecureStore) -> None:
    """One name means in each tenant what it means there."""
    records = busy.audit_log(session="chat", action="session.append")
    assert [("acme", "maria"), ("globex", "otto")] == [(r.tenant_name, r.subject_name) for r in records]


def test_uids_are_names_too(busy: SecureStore) -> None:
    """What a record names by uid can be asked for by uid."""
    record = busy.audit_log(tenant="acme", session="mail")[0]
    assert begun("mail") == found(busy.audit_log(tenant="acme", session=record.entry.session))
    assert begun("chat") + begun("mail") == found(busy.audit_log(tenant="acme", subject=record.entry.subject))


def test_a_stretch_of_time(busy: SecureStore, noon: Any) -> None:
    """`since` counts the moment itself, `until` does not."""
    times = [r.entry.time for r in busy.audit_log(tenant="acme", action="session.append")]
    assert begun("mail") == found(busy.audit_log(tenant="acme", since=times[1], until=times[2]))
    assert begun("chat 2") == found(busy.audit_log(tenant="acme", since=times[2], until=noon.now))


def test_the_newest_few(busy: SecureStore) -> None:
    """A limit counts what matches, over all ledgers together, and keeps the order."""
    assert [("session.append", "chat 2"), ("session.append", "chat")] == found(
        busy.audit_log(action="session.append", limit=2)
    )
    assert [] == busy.audit_log(limit=0)
    assert 4 == len(busy.audit_log(action="session.append", limit=99))


def test_reading_the_log_is_an_entry(busy: SecureStore) -> None:
    """Of each ledger that was read, by whoever read it, with what they gave as their reason."""
    with acting_as(Actor("auditor", reason="yearly", on_behalf_of="the board")):
        busy.audit_log(tenant="acme")
    reads = busy.audit_log(action="audit.read", actor="auditor")
    assert [("acme", "yearly", {"on_behalf_of": "the board"})] == [
        (r.tenant_name, r.entry.reason, dict(r.entry.detail)) for r in reads
    ]


def test_names_that_are_gone(busy: SecureStore) -> None:
    """Without the subject's key an entry is shown without names."""
    tenant = busy._shared.tenant("acme")
    keys = busy._shared.keyring.session(tenant.keys, tenant.keys.name_mac("session", "mail"))
    assert keys is not None
    busy._shared.keyring.destroy(keys.subject, "subject")
    records = busy.audit_log(tenant="acme", action="session.append")
    assert [(None, None), (None, None), ("chat 2", "otto")] == [(r.session_name, r.subject_name) for r in records]


def test_what_failed_is_named(busy: SecureStore, insider: Callable[..., Any]) -> None:
    """An entry of tampering names the session that it was found in, and the log is read though rows were edited."""
    insider("acme").sql("UPDATE items SET sealed = zeroblob(99)")
    with busy.session("mail", tenant="acme", cache=False) as session, pytest.raises(TamperedError):
        asyncio.run(session.get_items())
    assert [("session.tampered", "mail")] == found(busy.audit_log(outcome="failed"))
    insider("acme").sql("UPDATE sessions SET sealed = zeroblob(99)")
    assert [("session.tampered", None)] == found(busy.audit_log(outcome="failed"))


def test_an_entry_that_is_not_ours_ends_the_log(busy: SecureStore, insider: Callable[..., Any]) -> None:
    """A log with a forged entry is not shown as if it were one."""
    insider("acme").sql("UPDATE ledger SET mac = zeroblob(32) WHERE seq = 2")
    with pytest.raises(TamperedError, match="entry 2 was not written by this vault"):
        busy.audit_log()
    assert 3 == len(busy.audit_log(tenant="acme", limit=3))  # the newest are read from the end


def test_a_malformed_entry_is_an_incident(busy: SecureStore, insider: Callable[..., Any]) -> None:
    """Under a right MAC too, what is no entry is none."""
    attacker = insider("acme")
    attacker.put(attacker.row(2)._replace(entry=b"{}"))
    with pytest.raises(TamperedError, match="entry 2 is malformed"):
        busy.audit_log()


# ---- a record


def test_a_record_as_json(busy: SecureStore) -> None:
    """Every field that applies, as JSON, times as text."""
    (record,) = busy.audit_log(tenant="acme", session="mail", action="session.append")
    shown = json.loads(json.dumps(record.to_json()))
    assert ("mail", "maria", "acme") == (shown["session_name"], shown["subject_name"], shown["tenant_name"])
    assert clock.rfc3339(record.entry.time) == shown["time"]
    assert 1 == shown["head"]["position"] == shown["items"]
    assert {"purpose", "reason", "roles", "detail", "run"}.isdisjoint(shown)


def test_nought_is_not_nothing() -> None:
    """A field that is 0 is shown; one that is empty is not."""
    entry = Entry(0, 0, "00", "session.read", "ok", "maria", items=0)
    shown = LogRecord(entry, "acme").to_json()
    assert (0, 0) == (shown["seq"], shown["items"])
    assert "salt" not in shown


def test_an_empty_filter_wants_everything() -> None:
    """What is not asked for is not asked for."""
    assert LogFilter().matches(Entry(0, 0, "00", "session.read", "ok", "maria"))


# ---- following


def between_polls(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Do one thing each time a followed log waits; it never waits longer."""
    waiting = iter(steps)
    monkeypatch.setattr(audit, "time", SimpleNamespace(sleep=lambda _: next(waiting)()))


def writes(store: SecureStore, name: str, tenant: str) -> Callable[[], None]:
    def write() -> None:
        with store.session(name, tenant=tenant) as session:
            asyncio.run(session.add_items([user(2)]))

    return write


def test_entries_are_followed_as_they_come(busy: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written from then on comes, once, in order, where it matches; a new tenant's from its beginning."""
    some = [("chat", "acme"), ("new", "acme"), ("chat", "globex"), ("first", "initech"), ("chat", "acme")]
    steps = [writes(busy, name, tenant) for name, tenant in some]
    between_polls(monkeypatch, lambda: None, *steps[:2], lambda: [step() for step in steps[2:4]], lambda: None, steps[4])
    follower = busy.audit_follow(action="session.append")
    followed = [next(follower) for _ in range(5)]
    assert some == [(record.session_name, record.tenant_name) for record in followed]
    with pytest.raises(RuntimeError):  # as far as our steps go
        next(follower)


def test_one_tenant_is_followed(busy: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tenant is named no other's entries come, and filters go by its names."""
    some = [("chat", "globex"), ("chat", "acme"), ("mail", "acme")]
    between_polls(monkeypatch, *(writes(busy, name, tenant) for name, tenant in some))
    follower = busy.audit_follow(tenant="acme", session="mail")
    assert [("session.append", "mail")] == found([next(follower)])


def test_following_is_an_entry_once(busy: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a log is followed, each ledger says once that it is, and by whom."""
    between_polls(monkeypatch, *(writes(busy, f"user {n}", "acme") for n in range(3)))
    with acting_as("auditor"):
        follower = busy.audit_follow(action="session.append")
        for _ in range(3):
            next(follower)
    reads = [r for r in busy.audit_log(action="audit.read", actor="auditor") if r.entry.detail == {"follow": True}]
    assert [SYSTEM, "acme", "globex"] == sorted(r.tenant_name for r in reads)
