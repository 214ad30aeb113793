"""`particulars.py`: whose a session is, and that it moves to another subject whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import ConfigurationError, KeyDestroyedError, StoreBusyError, TamperedError
from secure_memory.service import run_blocking
from secure_memory.store import SecureStore
from secure_memory.tenancy import Asker

ASSIGN = """
import os, sys
from secure_memory import SecureStore
from secure_memory.keys.keyring import Keyring
from secure_memory.particulars import Particulars
place, where = sys.argv[1:]
if where == "before the vault":
    Particulars._assign = lambda *_: os._exit(9)
if where == "before keys.db":
    Keyring.settle = lambda *_: os._exit(9)
with SecureStore.open(place) as store:
    store.session("s").blocking.assign_subject("ben")
"""
WORDS = ["one", "two", "three"]


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def texts(session: Any, branch: str | None = None) -> list[str]:
    return [item["content"] for item in session.blocking.get_items(branch_id=branch)]


@pytest.fixture
def session(store: SecureStore) -> Any:
    """A session of ana's, with two branches, tags and an end."""
    session = store.session("s", subject="ana")
    session.blocking.add_items(said(*WORDS))
    session.blocking.create_branch_from_turn(3, "try")
    session.blocking.add_items(said("other"))
    session.blocking.switch_to_branch("main")
    session.blocking.set_tags(record="phi")
    return session


def versions(store: SecureStore) -> list[tuple[int, bool]]:
    """The versions of the session keys in the keyring, and whether each is found by a name."""
    with store._shared.keyring._database.transaction(write=False) as db:
        found = db.execute("SELECT version, name IS NOT NULL FROM keys WHERE purpose = 'session' ORDER BY version")
        return [(version, bool(named)) for version, named in found]


def whole(session: Any, store: SecureStore) -> None:
    """Everything is there, and stands the whole check."""
    assert WORDS == texts(session) == texts(store.session("s"))
    assert ["one", "two", "other"] == texts(session, "try")
    assert {"record": "phi"} == session.blocking.get_tags()
    store.audit_verify()


def test_everything_is_sealed_anew(store: SecureStore, session: Any, insider: Callable[..., Any]) -> None:
    """Under another subject every item has other bytes and another uid, and copies in branches are still copies."""

    def rows() -> list[Any]:
        return insider().sql("SELECT id, uid, sealed FROM items ORDER BY id")  # type: ignore[no-any-return]

    before = rows()
    session.blocking.assign_subject("ben")
    after = rows()
    assert [row[0] for row in before] == [row[0] for row in after]
    assert not {row[1] for row in before} & {row[1] for row in after}
    assert {2} == {int.from_bytes(row[2][1:3], "big") for row in after}
    assert [row[1:] for row in after[:2]] == [row[1:] for row in after[3:5]]
    assert [(2, True)] == versions(store)
    whole(session, store)


def test_the_session_goes_on(store: SecureStore, session: Any) -> None:
    """The handle that assigned, one that is older and one that is new: each reads, appends and pops."""
    older = store.session("s")
    assert WORDS == texts(older)
    session.blocking.assign_subject("ben")
    for handle in (older, session, store.session("s", subject="ben"), store.session("s")):
        handle.blocking.add_items(said("four"))
        assert [*WORDS, "four"] == texts(session) == texts(older)
        handle.blocking.pop_item()
    whole(session, store)
    with pytest.raises(ConfigurationError, match="another subject"):
        store.session("s", subject="ana").blocking.get_items()


def test_another_process_assigns(place: Path, store: SecureStore, session: Any, elsewhere: Callable[..., str]) -> None:
    """A handle that is open here with the old keys reads and writes after another process destroyed them."""
    assert WORDS == texts(session)
    plain = store.session("s")
    assert WORDS == texts(plain)
    elsewhere(ASSIGN, place, "")
    plain.blocking.add_items(said("four"))
    assert [*WORDS, "four"] == texts(plain)
    store.audit_verify()
    with pytest.raises(ConfigurationError, match="another subject"):
        session.blocking.get_items()  # it said that the session is ana's


@pytest.mark.parametrize(("where", "version", "subject"), [("before the vault", 1, "ana"), ("before keys.db", 2, "ben")])
@pytest.mark.parametrize("next_", ["read", "append", "list", "verify", "assign"])
def test_a_crash(place: Path, store: SecureStore, session: Any, where: str, version: int, subject: str, next_: str) -> None:
    """Killed before the vault's transaction nothing has happened; killed after it, whoever comes next finishes."""
    store.close()
    session.close()
    done = subprocess.run([sys.executable, "-c", ASSIGN, str(place), where], timeout=60, check=False)
    assert 9 == done.returncode
    with SecureStore.open(place) as again:
        assert [(1, True), (2, False)] == versions(again)
        if next_ == "verify":
            again.audit_verify()
        elif next_ == "list":
            assert [subject] == [info.subject for info in again.sessions()]
        elif next_ == "append":
            again.session("s").blocking.add_items(said("four"))
            again.session("s").blocking.pop_item()
        elif next_ == "assign":
            again.session("s").blocking.assign_subject("ben")
            assert [(3, True)] == versions(again)  # what was left behind is destroyed with the rest
        whole(again.session("s"), again)
        if next_ != "assign":
            assert ([(1, True), (2, False)] if version == 1 else [(2, True)]) == versions(again)


def test_two_at_once(store: SecureStore, session: Any) -> None:
    """However many assign a session at once, it is whole, and belongs to one of them."""

    def assign(name: str) -> str | None:
        try:
            store.session("s").blocking.assign_subject(name)
        except StoreBusyError:
            return None
        return name

    names = [f"subject {n}" for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(assign, names))
    (info,) = store.sessions()
    assert info.subject in done
    plain = store.session("s")
    assert WORDS == texts(plain)
    plain.blocking.assign_subject("ben")
    assert 1 == len(versions(store))
    whole(plain, store)


def test_one_is_refused(store: SecureStore, session: Any) -> None:
    """Who prepared a key before another's transaction came through does not get theirs through: that key may be gone."""
    door = session._conversation._door
    made = door.prepare("carl")
    store.session("s").blocking.assign_subject("ben")
    conversation = store.session("s")._conversation
    with pytest.raises(StoreBusyError, match="meanwhile"):
        run_blocking(
            conversation._perform(lambda opened: conversation._assign(opened, made, "carl", Asker(None)), create=False)
        )
    plain = store.session("s")
    assert WORDS == texts(plain)


def test_the_old_key_opens_nothing(store: SecureStore, session: Any) -> None:
    """The old key is destroyed, with a tombstone, and the keyring says so to who asks for it."""
    tenant = store._shared.tenant("default").keys
    name = tenant.name_mac("session", "s")
    session.blocking.assign_subject("ben")
    with store._shared.keyring._database.transaction(write=False) as db:
        assert [(1,)] == db.execute("SELECT version FROM tombstones").fetchall()
    with pytest.raises(KeyDestroyedError, match="resealed"):
        store._shared.keyring.session(tenant, name, 1)


def test_the_ledger_tells(store: SecureStore, session: Any) -> None:
    """Each branch has an entry that says how many items, from whom, to whom; never a name."""
    session.blocking.assign_subject("ben")
    records = store.audit_log(tenant="default", action="session.assign")
    assert [3, 3] == [record.entry.items for record in records]
    for record in records:
        assert record.entry.subject != record.entry.detail["to"]
        assert 2 == record.entry.detail["key_version"]
        assert "ben" not in str(record.entry)


def test_an_older_row_is_found(store: SecureStore, session: Any, insider: Callable[..., Any]) -> None:
    """An older copy of a session's row, under a MAC that was right, is found by the whole check."""
    columns = "SELECT subject, key_version, sealed, mac FROM sessions"
    (older,) = insider().sql(columns)
    session.blocking.set_tags(record="public")
    store.audit_verify()
    insider().sql("UPDATE sessions SET subject = ?, key_version = ?, sealed = ?, mac = ?", *older)
    with pytest.raises(TamperedError, match="older one"):
        store.audit_verify()


def test_a_row_put_back_after_a_move_opens_nothing(store: SecureStore, session: Any, insider: Callable[..., Any]) -> None:
    """The row of before names a key that is destroyed: nothing is served under it."""
    (older,) = insider().sql("SELECT subject, key_version, sealed, mac FROM sessions")
    session.blocking.assign_subject("ben")
    insider().sql("UPDATE sessions SET subject = ?, key_version = ?, sealed = ?, mac = ?", *older)
    for handle in (session, store.session("s")):
        with pytest.raises(KeyDestroyedError):
            texts(handle)


def test_tampering_stops_it(store: SecureStore, session: Any, insider: Callable[..., Any]) -> None:
    """What does not prove is not sealed anew: it raises, and all stays as it was."""
    insider().sql("UPDATE items SET sealed = zeroblob(80) WHERE id = (SELECT max(id) FROM items)")
    with pytest.raises(TamperedError):
        session.blocking.assign_subject("ben")
    assert WORDS == texts(session)
    assert [(1, True), (2, False)] == versions(store)


def test_in_memory() -> None:
    """A store in memory does the same."""
    with SecureStore.in_memory() as store:
        session = store.session("s")
        session.blocking.add_items(said(*WORDS))
        session.blocking.assign_subject("ben")
        assert WORDS == texts(session) == texts(store.session("s", subject="ben"))
