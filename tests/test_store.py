"""`store.py`: what `secmem` prints is what a method returned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.actor import acting_as
from secure_memory.errors import AccessDeniedError, ConfigurationError, PolicyError, TamperedError
from secure_memory.store import SecureStore


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def add(store: SecureStore, name: str, *contents: Any, tenant: str = "default", subject: str | None = None) -> None:
    """Append user messages to a session."""
    with store.session(name, tenant=tenant, subject=subject) as session:
        asyncio.run(session.add_items([user(content) for content in contents]))


def newest(store: SecureStore, tenant: str = "default") -> Any:
    """The newest entry of a tenant that is not of reading the log."""
    return next(
        r.entry for r in reversed(store.audit_log(tenant=tenant)) if r.entry.detail or r.entry.action != "audit.read"
    )


# ---- handles


def test_a_store_says_where_it_is(store: SecureStore, place: Path) -> None:
    """Path and key are told in words; the key itself is not."""
    assert place == store.path
    assert f"<SecureStore {place}>" == repr(store)
    assert "environment variable SECMEM_KEY" == store.key_place
    assert not store.key_made
    store.close()
    assert f"<SecureStore {place}, closed>" == repr(store)


def test_a_home_in_a_path(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with SecureStore.create("~/mine") as store:
        assert tmp_path / "mine" == store.path
    SecureStore.open("~/mine").close()


def test_a_closed_store_answers_nothing(store: SecureStore) -> None:
    """Every method of a closed store raises RuntimeError, also where another handle is open."""
    assert store.path is not None
    with SecureStore.open(store.path):
        store.close()
        asks: list[Callable[[], object]] = [
            lambda: store.session("u"),
            lambda: store.sessions(),
            lambda: store.session_show("u"),
            lambda: store.tenant_list(),
            lambda: store.tenant_create("acme"),
            lambda: store.audit_log(),
            lambda: store.audit_verify(),
            lambda: store.audit_anchor(),
            lambda: next(store.audit_follow()),
        ]
        for ask in asks:
            with pytest.raises(RuntimeError, match="the store is closed"):
                ask()


@pytest.mark.parametrize("actor", [7, ""])
def test_a_bad_actor(place: Path, actor: Any) -> None:
    """A bad actor is refused before anything is made or opened."""
    with pytest.raises(ValueError, match="actor"):
        SecureStore.create(place, actor=actor)
    assert not place.exists()
    with pytest.raises(ValueError, match="actor"):
        SecureStore.in_memory(actor=actor)


# ---- tenants


def test_a_store_that_wants_to_know_who_asks(place: Path) -> None:
    """With `require_actor` the store's own questions are refused to nobody, too, and the denial is an entry."""
    with SecureStore.create(place, require_actor=True) as store:
        for question in (store.audit_log, store.audit_verify, store.audit_anchor, lambda: store.tenant_create("acme")):
            with pytest.raises(AccessDeniedError):
                question()
        with acting_as("user:eva"):
            assert 4 == len(store.audit_log(action="access.denied"))


def test_who_begins_a_tenant_is_recorded(place: Path) -> None:
    """A tenant that a session begins is begun by whoever the session is for."""
    with SecureStore.create(place) as store, store.session("u", tenant="acme", actor="user:maria") as session:
        asyncio.run(session.get_items())
        entries = [record.entry for record in store.audit_log(action="tenant.create")]
        assert ["user:maria", "user:maria"] == [entry.actor for entry in entries]


def test_tenants_are_listed_by_name(store: SecureStore, noon: Any) -> None:
    """Each with its uid, its state and when it was made; the system vault is none of them."""
    made = [store.tenant_create(name) for name in ("globex", "acme")]
    assert ["acme", "globex"] == [info.name for info in store.tenant_list()]
    assert sorted(made, key=lambda info: info.name) == store.tenant_list()
    assert {("active", noon.now)} == {(info.state, info.created) for info in made}
    assert 32 == len(made[0].uid)


def test_a_tenant_is_made_once(store: SecureStore) -> None:
    """A name that is taken is refused, and a bad one is."""
    store.tenant_create("acme")
    with pytest.raises(ConfigurationError, match="there is a tenant 'acme' already"):
        store.tenant_create("acme")
    with pytest.raises(ValueError, match="a tenant's name"):
        store.tenant_create("(system)")


def test_a_tenant_that_was_begun_is_made(store: SecureStore) -> None:
    """A tenant whose creation was killed can be made."""
    store._shared.keyring.create_tenant("acme")
    assert ["creating"] == [info.state for info in store.tenant_list()]
    assert "active" == store.tenant_create("acme").state


# ---- sessions


def test_sessions_are_listed_newest_first(store: SecureStore, noon: Any) -> None:
    """Each with its names, its times, and how many items and turns it has."""
    add(store, "a", 1, 2, subject="maria")
    noon.now += 1_000_000
    add(store, "b", 1)
    noon.now += 1_000_000
    add(store, "a", 3)
    listed = store.sessions()
    assert [("b", "b", 1, 1), ("a", "maria", 3, 3)] == [(i.name, i.subject, i.items, i.turns) for i in listed]
    assert [(1, 1), (0, 2)] == [
        ((i.created - noon.now + 2_000_000) // 10**6, (i.last_activity - noon.now + 2_000_000) // 10**6) for i in listed
    ]
    assert ["b"] == [info.name for info in store.sessions(limit=1)]


def test_a_read_is_no_activity(store: SecureStore, noon: Any) -> None:
    """When a session was last active is when it was last written."""
    add(store, "u", 1)
    noon.now += 1_000_000
    with store.session("u") as session:
        asyncio.run(session.get_items())
    assert [noon.now - 1_000_000] == [info.last_activity for info in store.sessions()]


def test_popped_and_cleared_items_are_not_counted(store: SecureStore) -> None:
    """What is counted is what is there."""
    add(store, "u", 1, 2, 3)
    with store.session("u") as session:
        asyncio.run(session.pop_item())
        assert [2] == [info.items for info in store.sessions()]
        asyncio.run(session.clear_session())
    assert [(0, 0)] == [(info.items, info.turns) for info in store.sessions()]


def test_names_whose_keys_are_gone(store: SecureStore) -> None:
    """A session whose subject's key was destroyed is listed without a name."""
    add(store, "u", 1)
    tenant = store._shared.tenant("default")
    keys = store._shared.keyring.session(tenant.keys, tenant.keys.name_mac("session", "u"))
    assert keys is not None
    store._shared.keyring.destroy(keys.subject, "subject")
    (info,) = store.sessions()
    assert (None, None, keys.uid.hex(), 1) == (info.name, info.subject, info.uid, info.items)


def test_listing_is_audited(store: SecureStore) -> None:
    """Who listed the sessions stands in the ledger."""
    add(store, "u", 1)
    with acting_as("user:maria"):
        store.sessions()
    entry = newest(store)
    assert ("audit.read", "user:maria", {"list": "sessions"}) == (entry.action, entry.actor, entry.detail)


def test_there_is_no_such_tenant(store: SecureStore) -> None:
    """Asking about a tenant that isn't there makes none."""
    asks: list[Callable[[], object]] = [
        lambda: store.sessions(tenant="acme"),
        lambda: store.session_show("u", tenant="acme"),
        lambda: store.audit_log(tenant="acme"),
        lambda: store.audit_verify(tenant="acme"),
        lambda: store.audit_anchor(tenant="acme"),
    ]
    for ask in asks:
        with pytest.raises(ConfigurationError, match="there is no tenant 'acme'") as raised:
            ask()
        assert "secmem tenant list" in str(raised.value.hint)
    assert [] == store.tenant_list()


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE sessions SET name = zeroblob(32)",
        "UPDATE sessions SET created = -1",
        "UPDATE sessions SET sealed = x''",
        "UPDATE ledger SET branch = NULL WHERE branch IS NOT NULL",
        "UPDATE ledger SET entry = x'7b7d' WHERE branch IS NOT NULL",
    ],
)
def test_a_listing_is_checked(store: SecureStore, insider: Callable[..., Any], attack: str) -> None:
    """Rows that are not ours are not listed."""
    add(store, "u", 1)
    with store.session("u") as session:
        asyncio.run(session.get_items())
    insider().sql(attack)
    with pytest.raises(TamperedError):
        store.sessions()


def test_a_session_is_shown(store: SecureStore) -> None:
    """Its items, or the newest few; and that is a read like any other."""
    add(store, "u", 1, 2, 3)
    with acting_as("user:maria", reason="ticket 7"):
        assert [user(1), user(2), user(3)] == store.session_show("u")
        assert [user(3)] == store.session_show("u", limit=1)
        assert [] == store.session_show("u", limit=0)
    reads = [r.entry for r in store.audit_log(tenant="default", action="session.read")]
    assert [("user:maria", "ticket 7", 3), ("user:maria", "ticket 7", 1), ("user:maria", "ticket 7", 0)] == [
        (entry.actor, entry.reason, entry.items) for entry in reads
    ]


def test_a_session_that_is_not_there_is_not_shown(store: SecureStore) -> None:
    """Nothing is not shown for a session that never was; that somebody asked is recorded."""
    store.tenant_create("acme")
    with pytest.raises(ConfigurationError, match="no such session"):
        store.session_show("u", tenant="acme")
    assert "unknown_session" in newest(store, "acme").detail


def test_showing_may_need_an_actor(place: Path) -> None:
    """Where an actor is required, showing a conversation requires one."""
    with SecureStore.create(place, require_actor=True) as store:
        with acting_as("user:maria"):
            add(store, "u", 1)
        with pytest.raises(AccessDeniedError):
            store.session_show("u")
        with acting_as("user:maria"):
            assert [user(1)] == store.session_show("u")


def test_what_is_shown_is_proven(store: SecureStore, insider: Callable[..., Any]) -> None:
    """An edited conversation is not shown, and that is an entry."""
    add(store, "u", 1, 2)
    insider().sql("UPDATE items SET sealed = zeroblob(99)")
    with pytest.raises(TamperedError):
        store.session_show("u")
    assert "session.tampered" == newest(store).action


def test_a_store_is_made_with_its_policy(place: Path) -> None:
    """A new store is governed by the policy that is named, and a policy that is none makes no store."""
    with pytest.raises(PolicyError):
        SecureStore.create(place, policy="gdrp")
    assert not place.exists()
    with SecureStore.create(place, policy="gdpr") as store:
        assert "gdpr" == store.policy_in_force().metadata.name
    with SecureStore.open(place) as store:
        assert "gdpr" == store.policy_in_force().metadata.name
