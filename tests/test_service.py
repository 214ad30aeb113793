"""`service.py`, `conversation.py` and `tenancy.py`: each access has its one entry, and no access is done with other keys
than the session's."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.actor import Actor, acting_as
from secure_memory.errors import (
    AccessDeniedError,
    ConfigurationError,
    KeyManagementError,
    KeyNotFoundError,
    SerializationError,
    TamperedError,
)
from secure_memory.ledger.entry import Entry
from secure_memory.store import SecureStore
from secure_memory.vault import sessions

FOUR: dict[str, Callable[[Any], Any]] = {
    "session.append": lambda session: session.add_items([user(1), user(2)]),
    "session.read": lambda session: session.get_items(),
    "session.pop": lambda session: session.pop_item(),
    "session.clear": lambda session: session.clear_session(),
}


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def do(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def entries(store: SecureStore, tenant: str = "default") -> list[Entry]:
    """A tenant's ledger, those entries left out that reading it leaves."""
    found = [record.entry for record in store.audit_log(tenant=tenant)]
    return [entry for entry in found if entry.action != "audit.read"]


# ---- each access has exactly one entry


@pytest.mark.parametrize("action", FOUR)
def test_each_access_is_one_entry(store: SecureStore, action: str) -> None:
    """Whichever of the four, and however often: one entry a call, with how many items it was about."""
    with store.session("u") as session:
        do(session.add_items([user(0), user(0), user(0)]))
        before = entries(store)
        for _ in range(3):
            do(FOUR[action](session))
    new = entries(store)[len(before) :]
    assert [action] * 3 == [entry.action for entry in new]
    counts = {"session.append": [2, 2, 2], "session.read": [3, 3, 3], "session.pop": [1, 1, 1], "session.clear": [3, 0, 0]}
    assert counts[action] == [entry.items for entry in new]
    assert {"ok"} == {entry.outcome for entry in new}
    assert 1 == len({(entry.session, entry.subject, entry.control) for entry in new})


def test_nothing_asked_is_nothing_recorded(store: SecureStore) -> None:
    """An empty batch and a session that is only opened leave no entry."""
    with store.session("u") as session:
        do(session.get_items())
        before = entries(store)
        do(session.add_items([]))
    store.session("other").close()
    assert before == entries(store)


def test_remembered_items_are_audited_all_the_same(store: SecureStore) -> None:
    """A read that needs no row of the items is an entry like any other."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
        before = len(entries(store))
        for _ in range(5):
            do(session.get_items())
    assert before + 5 == len(entries(store))


@pytest.mark.parametrize("action", ["session.read", "session.pop", "session.clear"])
def test_an_unknown_session_is_recorded_and_not_made(store: SecureStore, insider: Any, action: str) -> None:
    """Asking for a session that never was is an entry, which tells one name from another, and leaves nothing else."""
    with store.session("nobody") as one, store.session("no one") as other:
        for session in (one, one, other):
            assert do(FOUR[action](session)) in ([], None)
    new = [entry for entry in entries(store) if entry.action == action]
    assert [0, 0, 0] == [entry.items for entry in new]
    assert [None] * 3 == [entry.session for entry in new]
    first, again, second = (entry.detail["unknown_session"] for entry in new)
    assert first == again != second
    assert "nobody" not in repr(new)
    assert [] == insider().sql("SELECT * FROM sessions")


def test_an_empty_session_is_recorded(store: SecureStore) -> None:
    """Reading, popping and clearing what has no items are entries of that session."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
        do(session.clear_session())
        before = len(entries(store))
        for action in ("session.read", "session.pop", "session.clear"):
            do(FOUR[action](session))
    new = entries(store)[before:]
    assert [("session.read", 0), ("session.pop", 0), ("session.clear", 0)] == [(e.action, e.items) for e in new]
    assert 1 == len({entry.session for entry in new})
    assert new[0].session is not None


def test_a_first_write_begins_the_session(store: SecureStore) -> None:
    """The first append is two entries of one commit, which name the same session, branch and subject."""
    with store.session("u", subject="maria") as session:
        do(session.add_items([user(1), user(2)]))
    create, append = [entry for entry in entries(store) if entry.session is not None]
    assert ("session.create", "session.append") == (create.action, append.action)
    assert (create.session, create.branch, create.subject) == (append.session, append.branch, append.subject)
    assert create.head is not None
    assert append.head is not None
    assert (0, 2) == (create.head.position, append.head.position)


def test_only_writes_move_a_head(store: SecureStore) -> None:
    """A write's entry has the new head, a read's has none."""
    with store.session("u") as session:
        for action in ("session.append", "session.read", "session.pop", "session.clear", "session.append"):
            do(FOUR[action](session))
    heads = [(e.action, e.head and e.head.position) for e in entries(store) if e.session is not None]
    expected = [("session.create", 0), ("session.append", 2), ("session.read", None), ("session.pop", 1)]
    assert [*expected, ("session.clear", 1), ("session.append", 3)] == heads


def test_what_was_not_kept_was_not_recorded(store: SecureStore) -> None:
    """A batch that is refused before it is written leaves no entry, and no session."""
    store.tenant_create("acme")
    with store.session("u", tenant="acme") as session, pytest.raises(SerializationError):
        do(session.add_items(["text"]))
    assert ["tenant.create"] == [entry.action for entry in entries(store, "acme")]


def test_no_entry_says_what_was_said(store: SecureStore, insider: Any) -> None:
    """No column of the ledger holds content, a session's name or a subject's."""
    with store.session("the session maria", subject="the subject maria") as session:
        do(session.add_items([{"role": "user", "content": "the words maria", "name": "the tool maria"}]))
        do(session.get_items(actor="the subject maria"))
        do(session.pop_item())
    assert b"maria" not in b"".join(entry for (entry,) in insider().sql("SELECT entry FROM ledger"))


# ---- one subject, one session


def test_a_session_keeps_its_subject(store: SecureStore) -> None:
    """A session that was begun for one person is opened for that person, or for whoever names none."""
    with store.session("u", subject="maria") as session:
        do(session.add_items([user(1)]))
    for subject in ("maria", None):
        with store.session("u", subject=subject) as session:
            assert [user(1)] == do(session.get_items())
    for operation in FOUR.values():
        with store.session("u", subject="otto") as session, pytest.raises(ConfigurationError, match="another subject"):
            do(operation(session))


def test_without_a_subject_the_session_is_its_own(store: SecureStore) -> None:
    """Where no person is named, the session's name is."""
    with store.session("maria") as session:
        do(session.add_items([user(1)]))
    with store.session("maria", subject="maria") as session:
        do(session.get_items(actor="maria"))
    assert entries(store)[-1].actor == f"subject:{entries(store)[-1].subject}"


def test_sessions_of_one_person_name_one_subject(store: SecureStore) -> None:
    """Two sessions of a person are two sessions of one subject; another tenant's person is another."""
    for name, tenant in (("a", "default"), ("b", "default"), ("a", "acme")):
        with store.session(name, subject="maria", tenant=tenant) as session:
            do(session.add_items([user(1)]))
    one, other = [entry for entry in entries(store) if entry.action == "session.create"]
    (third,) = [entry for entry in entries(store, "acme") if entry.action == "session.create"]
    assert one.subject == other.subject != third.subject
    assert 3 == len({one.session, other.session, third.session})


def test_tenants_are_apart(store: SecureStore) -> None:
    """One name in two tenants is two sessions, whose ledgers know nothing of each other."""
    for tenant in ("acme", "globex"):
        with store.session("u", tenant=tenant) as session:
            do(session.add_items([user(tenant)]))
    for tenant in ("acme", "globex"):
        with store.session("u", tenant=tenant) as session:
            assert [user(tenant)] == do(session.get_items())
    assert {entry.tenant for entry in entries(store, "acme")}.isdisjoint({e.tenant for e in entries(store, "globex")})


def test_an_actor_is_not_the_subject_of_another_session(store: SecureStore) -> None:
    """The name of one session's person is only hidden in that session."""
    for name in ("maria", "otto"):
        with store.session(name) as session:
            do(session.add_items([user(1)], actor="maria"))
    appends = [entry for entry in entries(store) if entry.action == "session.append"]
    assert [f"subject:{appends[0].subject}", "maria"] == [entry.actor for entry in appends]


# ---- the session's keys and no others


def older_keys(store: SecureStore, place: Path) -> None:
    """Write to a session, and put a copy of keys.db from before that in its place."""
    store.tenant_create("acme")
    store.close()
    shutil.copy(place / "keys.db", place.parent)
    with SecureStore.open(place) as again, again.session("u", tenant="acme") as session:
        do(session.add_items([user(1)]))
    shutil.copy(place.parent / "keys.db", place)


@pytest.mark.parametrize("action", FOUR)
def test_an_older_copy_of_the_keyring(store: SecureStore, place: Path, action: str) -> None:
    """A vault that knows a session whose key the keyring lacks says so, for each of the four, and writes nothing."""
    older_keys(store, place)
    with SecureStore.open(place) as again, again.session("u", tenant="acme") as session:
        for _ in range(2):
            with pytest.raises(KeyNotFoundError, match="the vault has a session whose key is not in the keyring") as raised:
                do(FOUR[action](session))
            assert "older copy" in str(raised.value.hint)
        assert [] == [entry for entry in entries(again, "acme") if entry.action == action][1:]


def test_a_session_s_key_that_was_destroyed(store: SecureStore) -> None:
    """What a destroyed key sealed is not read again: not with a new key of that name, and not as nothing."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
    tenant = store._shared.tenant("default")
    keys = store._shared.keyring.session(tenant.keys, tenant.keys.name_mac("session", "u"))
    assert keys is not None
    store._shared.keyring.destroy(keys.uid, "session")
    for operation in FOUR.values():
        with store.session("u") as session, pytest.raises(KeyManagementError):
            do(operation(session))


def test_a_key_of_another_version(store: SecureStore, insider: Any) -> None:
    """A row that was sealed with a newer key than the keyring has is not opened with the older one."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
    attacker = insider()
    row = sessions.SessionRow(*attacker.sql("SELECT * FROM sessions")[0])._replace(key_version=2)
    mac = sessions.row_mac(attacker.keys.ledger, attacker.keys.uid, row)
    attacker.sql("UPDATE sessions SET key_version = 2, mac = ?", mac)
    with store.session("u") as session, pytest.raises(KeyManagementError):
        do(session.get_items())


def test_another_process_begins_the_session_first(store: SecureStore, place: Path, elsewhere: Any) -> None:
    """A session that was not there when it was first asked for, and that another process has begun since, is found."""
    with store.session("u") as session:
        assert [] == do(session.get_items())
        elsewhere(
            "import asyncio, sys; from secure_memory import SecureSession\n"
            "with SecureSession('u', sys.argv[1]) as s: asyncio.run(s.add_items([{'role': 'user', 'content': 1}]))",
            place,
        )
        assert [user(1)] == do(session.get_items())
        do(session.add_items([user(2)]))
        assert [user(1), user(2)] == do(session.get_items())


def test_a_denied_first_write_begins_nothing(place: Path) -> None:
    """Who may not write does not begin a session; who may finds it unbegun and not tampered with."""
    with SecureStore.create(place, require_actor=True) as store, store.session("u") as session:
        with pytest.raises(AccessDeniedError):
            do(session.add_items([user(1)]))
        assert [] == do(session.get_items(actor="maria"))
        do(session.add_items([user(2)], actor="maria"))
        assert [user(2)] == do(session.get_items(actor="maria"))
        with acting_as("auditor"):
            found = [entry.action for entry in entries(store)[1:]]
        assert ["access.denied", "session.read", "session.create", "session.append", "session.read"] == found


def test_a_session_whose_row_is_gone(store: SecureStore, insider: Any, place: Path) -> None:
    """A session that the ledger knows and no row does is not begun again."""
    with store.session("u") as session:
        do(session.add_items([user(1)]))
    insider().sql("DELETE FROM sessions")
    store.close()
    for operation in FOUR.values():
        with (
            SecureStore.open(place) as again,
            again.session("u") as session,
            pytest.raises(TamperedError, match="row is gone"),
        ):
            do(operation(session))


def test_a_session_is_not_led_to_another_s_branch(store: SecureStore, insider: Any, place: Path) -> None:
    """Someone with the ledger key too, who points a session's row at an empty branch of another session, is found."""
    for name in ("maria", "otto"):
        with store.session(name) as session:
            do(session.add_items([user(1)]))
            if name == "otto":
                do(session.clear_session())
    attacker = insider()
    maria, otto = (sessions.SessionRow(*row) for row in attacker.sql("SELECT * FROM sessions ORDER BY id"))
    mac = sessions.row_mac(attacker.keys.ledger, attacker.keys.uid, maria._replace(branch=otto.branch))
    attacker.sql("UPDATE sessions SET branch = ?, mac = ? WHERE id = ?", otto.branch, mac, maria.id)
    store.close()
    message = "a branch belongs to another session"
    with SecureStore.open(place) as again, again.session("maria") as session, pytest.raises(TamperedError, match=message):
        do(session.get_items())


# ---- labels


def test_items_are_labelled_beside_their_seal(store: SecureStore, insider: Any, noon: Any) -> None:
    """Kind, role, tool, turn and time stand beside the sealed item, as policies will select by them."""
    items = [
        user("hi"),
        {"type": "function_call", "name": "refund", "namespace": "crm", "call_id": "1", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "done"},
        {"role": "assistant", "content": "done"},
        user("thanks"),
    ]
    with store.session("u") as session:
        do(session.add_items(items))
    rows = insider().sql("SELECT kind, role, tool, turn, created FROM items ORDER BY id")
    assert [
        ("message", "user", "", 1, noon.now),
        ("tool_call", "", "crm.refund", 1, noon.now),
        ("tool_output", "", "", 1, noon.now),
        ("message", "assistant", "", 1, noon.now),
        ("message", "user", "", 2, noon.now),
    ] == rows


def test_an_actor_of_the_store_is_every_session_s(place: Path) -> None:
    """Who opened the store asks where nobody nearer does, in its sessions and in its own commands."""
    with SecureStore.create(place, actor=Actor("svc:desk", purpose="support")) as store:
        with store.session("u") as one, store.session("v", actor="other") as other:
            do(one.add_items([user(1)]))
            do(other.add_items([user(1)]))
        appends = [(e.actor, e.purpose) for e in entries(store) if e.action == "session.append"]
        assert [("svc:desk", "support"), ("other", None)] == appends
        assert ["svc:desk"] == [e.actor for e in entries(store, "(system)") if e.action == "store.open"]
