"""Replacing keys while the store is in use: what the new ones open, what the old ones don't, and every crash between."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_memory import doctor
from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import (
    ConfigurationError,
    KeyDestroyedError,
    SecureMemoryError,
    StoreBusyError,
    TamperedError,
    WrongKeyError,
)
from secure_memory.keys import key_file
from secure_memory.keys.local import FileKeyProvider
from secure_memory.keys.provider import wrapped_by
from secure_memory.keys.tombstones import FILE
from secure_memory.store import SecureStore
from secure_memory.vault import pages, sqlcipher

HI: Any = {"role": "user", "content": "hi"}
KEKS = [base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]


def say(store: SecureStore, session: str, *texts: str, subject: str | None = "ana") -> SecureSession:
    """Append to a conversation, and return it."""
    one = store.session(session, subject=subject)
    asyncio.run(one.add_items([{"role": "user", "content": text} for text in texts]))
    return one


def texts(store: SecureStore, session: str) -> list[Any]:
    return [item["content"] for item in store.session_show(session)]


def details(store: SecureStore, action: str) -> list[dict[str, Any]]:
    return [dict(record.entry.detail) for record in store.audit_log(action=action)]


@pytest.fixture
def filed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecureStore]:
    """A store whose key is in a key file, with two conversations in it."""
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path / "anchors"))
    monkeypatch.setenv("SECMEM_KEY_FILE", str(tmp_path / "key"))
    with SecureStore.create(tmp_path / "store") as store:
        say(store, "one", "a", "b")
        say(store, "two", "c", subject="bob")
        yield store


@pytest.fixture
def other(place: Path) -> Iterator[Callable[[str], str]]:
    """Another process that has the store open: it is told what to do with `store` and `talk`, and answers."""
    yield from _other(place)


@pytest.fixture
def other_filed(filed: SecureStore) -> Iterator[Callable[[str], str]]:
    """The same, of the store whose key is in a file."""
    yield from _other(filed.path)


def _other(place: Path | None) -> Iterator[Callable[[str], str]]:
    source = (
        "import asyncio, sys\nfrom secure_memory import SecureStore\n"
        "store = SecureStore.open(sys.argv[1]); talk = store.session('one', subject='ana')\n"
        "go = asyncio.run\nprint(len(go(talk.get_items())), flush=True)\n"
        "for line in sys.stdin:\n"
        "    try: print(repr(eval(line)), flush=True)\n"
        "    except Exception as e: print(type(e).__name__, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert child.stdin is not None
    assert child.stdout is not None
    stdin, stdout = child.stdin, child.stdout
    assert stdout.readline().strip().isdigit()

    def ask(line: str) -> str:
        stdin.write(line + "\n")
        stdin.flush()
        return stdout.readline().strip()

    yield ask
    stdin.close()
    assert 0 == child.wait(30)
    stdout.close()


# ---- the KEK --------------------------------------------------------------------------------------------------------


def test_the_root_is_wrapped_by_the_newest_kek(filed: SecureStore, tmp_path: Path) -> None:
    """A new key is made in the file, wraps the root, and is the only one after the old one is destroyed."""
    old = FileKeyProvider(tmp_path / "key").versions()
    report = filed.key_rotate(new_key=True, destroy_old=True)
    new = FileKeyProvider(tmp_path / "key").versions()
    assert ("kek", new[0], old) == (report.what, report.kek, report.destroyed)
    assert 1 == len(new)
    filed.close()
    with SecureStore.open(tmp_path / "store") as store:
        assert ["a", "b"] == texts(store, "one")
        assert ["begun", "done"] == [one["stage"] for one in details(store, "key.rotate")]
        assert [old[0]] == [one["kek"] for one in details(store, "key.destroy")]


def test_the_old_kek_opens_nothing_after_it(filed: SecureStore, tmp_path: Path) -> None:
    """Whoever has the old key and the store of today is told that it is another key."""
    shutil.copy(tmp_path / "key", tmp_path / "old")
    filed.key_rotate(new_key=True, destroy_old=True)
    filed.close()
    with pytest.raises(WrongKeyError):
        SecureStore.open(tmp_path / "store", keys=tmp_path / "old")


def test_a_kek_in_the_environment_is_rotated_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable has the new key before the old one; afterwards it needs the new one alone. Destroying is its keeper's."""
    monkeypatch.setenv("SECMEM_KEY", KEKS[0])
    with SecureStore.create(place) as store:
        say(store, "one", "a")
        with pytest.raises(ConfigurationError, match="wraps the store root already"):
            store.key_rotate()
        with pytest.raises(ConfigurationError, match="no key can be made there"):
            store.key_rotate(new_key=True)
    monkeypatch.setenv("SECMEM_KEY", f"{KEKS[1]} {KEKS[0]}")
    with SecureStore.open(place) as store:
        store.key_rotate()
        with pytest.raises(ConfigurationError, match="can't be destroyed from here"):
            store.key_rotate(destroy_old=True)
    monkeypatch.setenv("SECMEM_KEY", KEKS[1])
    with SecureStore.open(place) as store:
        assert ["a"] == texts(store, "one")


def test_a_store_in_memory_has_no_key_to_rotate() -> None:
    """What ends with the process needs no rotation, and says so."""
    with SecureStore.in_memory() as store:
        for what in ({}, {"epoch": True}, {"vault": "(system)"}):
            with pytest.raises(ConfigurationError, match="in memory"):
                store.key_rotate(**what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "what", [{"epoch": True, "vault": "x"}, {"subject": "a", "vault": "x"}, {"vault": "x", "new_key": True}]
)
def test_one_key_is_rotated_at_a_time(store: SecureStore, what: dict[str, Any]) -> None:
    """What does not go together is a bad argument."""
    with pytest.raises(ValueError):  # noqa: PT011 - there are two, both said in words
        store.key_rotate(**what)


def test_a_new_key_stands_before_the_others(tmp_path: Path) -> None:
    """Adding a key keeps the old ones and the file's mode."""
    key_file.create(tmp_path / "key", made_at=0)
    (old,) = FileKeyProvider(tmp_path / "key").versions()
    provider = FileKeyProvider(tmp_path / "key")
    new = provider.add(made_at=0)
    assert (new, old) == provider.versions() == FileKeyProvider(tmp_path / "key").versions()
    assert 0o600 == (tmp_path / "key").stat().st_mode & 0o777


# ---- an epoch turn --------------------------------------------------------------------------------------------------


def test_an_epoch_turn_makes_older_keyrings_dark(filed: SecureStore, tmp_path: Path) -> None:
    """After it a copy of the whole store from before opens with no key that is left; the store itself goes on."""
    filed.close()
    shutil.copytree(tmp_path / "store", tmp_path / "before")
    with SecureStore.open(tmp_path / "store") as store:
        root = store._shared.manifest.wrapped_root
        report = store.key_rotate(epoch=True, new_key=True)
        assert (wrapped_by(root),) == report.destroyed
        assert ["a", "b"] == texts(store, "one")
        say(store, "three", "d")
    with SecureStore.open(tmp_path / "store") as store:
        assert ["d"] == texts(store, "three")
        assert {"ok"} == {one.anchor for one in store.audit_verify()}
    with pytest.raises(WrongKeyError):
        SecureStore.open(tmp_path / "before", anchor=tmp_path / "elsewhere")


def test_keys_db_is_not_under_the_old_root_any_more(filed: SecureStore, tmp_path: Path) -> None:
    """Neither its pages nor the keys in them open with what came from the old root."""
    keyring = filed._shared.keyring
    old, wrapped = keyring.file_key(), [key.wrapped for key in keyring.held(tenant=filed._shared.tenant("default").keys.uid)]
    roots = [wrapped_key for wrapped_key in wrapped if wrapped_key]
    filed.key_rotate(epoch=True, new_key=True)
    new = keyring.file_key()
    assert old != new
    path = tmp_path / "store" / "keys.db"
    with pytest.raises(TamperedError):
        sqlcipher.connect(path, old + filed._shared.manifest.uid)
    filed.close()
    assert set() == pages.found_in(path, old, [b"CREATE TABLE keys"])[1]
    assert {0} == pages.found_in(path, new, [b"CREATE TABLE keys"])[1]
    assert roots


def test_an_epoch_turn_destroys_every_older_kek(filed: SecureStore) -> None:
    """A KEK that was rotated away before wrapped the same root: it would open older sets of keys, so it goes as well."""
    (first,) = filed._shared.provider.versions()
    second = filed.key_rotate(new_key=True).kek
    report = filed.key_rotate(epoch=True, new_key=True)
    left = FileKeyProvider(filed._shared.provider.path).versions()  # type: ignore[attr-defined]
    assert ({first, second}, (report.kek,)) == (set(report.destroyed), left)
    filed.audit_verify()


def test_an_epoch_needs_a_newer_kek(filed: SecureStore) -> None:
    """With one KEK alone nothing would go dark: it refuses, and changes nothing."""
    before = filed._shared.manifest
    with pytest.raises(ConfigurationError, match="wraps the store root already"):
        filed.key_rotate(epoch=True)
    assert before == filed._shared.manifest
    assert ["a", "b"] == texts(filed, "one")


def test_tombstones_survive_an_epoch_turn(filed: SecureStore, tmp_path: Path) -> None:
    """The list beside the anchors is read under the new root, and goes on."""
    filed.subject_erase("bob")
    filed.key_rotate(epoch=True, new_key=True)
    (place,) = tmp_path.glob(f"anchors/*/{FILE}")
    assert 2 == len(filed._shared.keyring.tombstones_at(place).read())
    filed.subject_erase("ana")
    assert 4 == len(filed._shared.keyring.tombstones_at(place).read())


def test_other_processes_live_through_an_epoch_turn(filed: SecureStore, other_filed: Callable[[str], str]) -> None:
    """A process that was open before makes keys, lists tombstones and opens tenants after it."""
    filed.key_rotate(epoch=True, new_key=True)
    assert "None" == other_filed("go(talk.add_items([{'role': 'user', 'content': 'e'}]))")
    assert "None" == other_filed("go(store.session('new', subject='eve').add_items([{'role': 'user', 'content': 'f'}]))")
    assert "'acme'" == other_filed("store.tenant_create('acme').name")
    assert "1" == other_filed("store.subject_erase('bob').sessions")
    assert ["a", "b", "e"] == texts(filed, "one")
    assert ["f"] == texts(filed, "new")
    assert 3 == len(filed.audit_verify())


KILLED = """
import os, signal, sys
from secure_memory import SecureStore
from secure_memory.keys.keyring import Keyring
from secure_memory.lifecycle.rotation import rotate

path, step, when = sys.argv[1:]
place = rotate if hasattr(rotate, step) else Keyring
real = getattr(place, step)

def dying(*arguments, **named):
    if when == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(place, step, dying)
with SecureStore.open(path) as store:
    store.key_rotate(epoch=True, new_key=True)
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["begin", "turn_file", "turn", "turn_list", "finish", "_destroyed"])
def test_an_epoch_turn_killed_at_any_step_is_finished(filed: SecureStore, tmp_path: Path, step: str, when: str) -> None:
    """The store opens and works in between, and turning again ends with one root and what was there."""
    filed.subject_erase("bob")
    filed.close()
    first = filed._shared.manifest.wrapped_root
    command = [sys.executable, "-c", KILLED, str(tmp_path / "store"), step, when]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert -9 == killed.returncode, killed.stderr
    with SecureStore.open(tmp_path / "store") as store:
        assert ["a", "b"] == texts(store, "one")
        say(store, "between", "x")
        store.session_erase("between")
    with SecureStore.open(tmp_path / "store") as store:
        done = store._shared.manifest.wrapped_next is None and store._shared.manifest.wrapped_root != first
        if not done:
            store.key_rotate(epoch=True)
        assert ["a", "b"] == texts(store, "one")
        assert 2 == len(store.audit_verify())
        (place,) = tmp_path.glob(f"anchors/*/{FILE}")
        assert 3 == len(store._shared.keyring.tombstones_at(place).read())
    manifest = store._shared.manifest
    assert manifest.wrapped_next is None
    assert manifest.wrapped_root != first


def test_an_interrupted_turn_is_finished_before_the_kek_is_rotated(
    filed: SecureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewrapping one of two roots would lose the other: it refuses, and says what to do."""

    def fail(*_: Any) -> None:
        raise SecureMemoryError("stopped here")

    monkeypatch.setattr("secure_memory.lifecycle.rotation.rotate.finish", fail)
    with pytest.raises(SecureMemoryError, match="stopped here"):
        filed.key_rotate(epoch=True, new_key=True)
    with pytest.raises(ConfigurationError, match="interrupted"):
        filed.key_rotate(new_key=True)
    assert filed.path is not None
    assert ["warn"] == [check.state for check in doctor.examine(filed.path).checks if check.name == "epoch"]


# ---- a vault's key --------------------------------------------------------------------------------------------------


def test_a_vault_gets_another_key_while_others_use_it(store: SecureStore, place: Path, other: Callable[[str], str]) -> None:
    """Another process reads and writes before, right after, and after a second time; nothing is lost, nothing raised."""
    say(store, "one", "a", "b")
    assert "2" == other("len(go(talk.get_items()))")
    for version in (2, 3):
        assert version == store.key_rotate(vault="default").version
        assert "None" == other(f"go(talk.add_items([{{'role': 'user', 'content': 'v{version}'}}]))")
        assert str(version + 1) == other("len(go(talk.get_items()))")
    assert ["a", "b", "v2", "v3"] == texts(store, "one")
    assert "'ok'" == other("store.audit_verify(tenant='default')[0].anchor")
    assert 4 == store.audit_verify(tenant="default")[0].items


def test_a_read_that_runs_where_it_is_asked_finds_the_new_key(store: SecureStore, other: Callable[[str], str]) -> None:
    """A process that only reads, without a hop to a worker, is not served from under the old key."""
    say(store, "one", "a")
    assert "1" == other("len(go(talk.get_items()))")
    store.key_rotate(vault="default")
    say(store, "one", "b")
    assert "2" == other("len(go(talk.get_items()))")
    assert "2" == other("len(store.session_show('one'))")
    assert "True" == other("len(store.audit_log(tenant='default')) > 3")


def test_the_old_key_opens_neither_file_nor_keyring(store: SecureStore, insider: Callable[..., Any]) -> None:
    """The file's pages are under the new key alone, and the old one is destroyed."""
    say(store, "one", "a")
    old, path, uid = insider().keys.vault_key.bytes, insider().path, insider().keys.vault
    store.key_rotate(vault="default")
    with pytest.raises(TamperedError):
        sqlcipher.connect(path, old + uid)
    assert set() == pages.found_in(path, old, [b"CREATE TABLE items"])[1]
    assert {0} == pages.found_in(path, insider().keys.vault_key.bytes, [b"CREATE TABLE items"])[1]
    keyring = store._shared.keyring
    assert [2] == [version for version, _ in keyring.vault_keys(insider().keys.uid)]
    assert [1] == [stone.version for stone in keyring.buried([insider().keys.uid])]
    assert 1 == len([one for one in details(store, "key.destroy") if one.get("what") == "vault"])


def test_the_system_vault_has_a_key_too(store: SecureStore) -> None:
    """The store's own vault is rotated by its reserved name."""
    assert 2 == store.key_rotate(vault="(system)").version
    assert 1 == len(store.audit_verify())


KILLED_VAULT = """
import os, signal, sys
from secure_memory import SecureStore
from secure_memory.keys.keyring import Keyring
from secure_memory.vault import file_key, wal

path, step, when = sys.argv[1:]
place = {"rekey": file_key, "truncate": wal}.get(step, Keyring)
real = getattr(place, step)

def dying(*arguments, **named):
    if when == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

with SecureStore.open(path) as store:
    store._shared.tenant("default")
    setattr(place, step, dying)
    store.key_rotate(vault="default")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["prepare_vault", "rekey", "truncate", "settle_vault"])
def test_a_rotation_killed_at_any_step_is_finished(store: SecureStore, place: Path, step: str, when: str) -> None:
    """The vault opens in between, under whichever key it is; rotating again ends with one."""
    say(store, "one", "a")
    store.close()
    killed = subprocess.run([sys.executable, "-c", KILLED_VAULT, str(place), step, when], capture_output=True, check=False)
    assert -9 == killed.returncode, killed.stderr
    with SecureStore.open(place) as again:
        assert ["a"] == texts(again, "one")
        again.key_rotate(vault="default")
        assert 1 == len(again._shared.keyring.vault_keys(again._shared.tenant("default").keys.uid))
        assert ["a"] == texts(again, "one")
        assert 1 == again.audit_verify(tenant="default")[0].items


def test_a_damaged_vault_is_still_tampered(store: SecureStore, insider: Callable[..., Any]) -> None:
    """That keys change does not hide damage: a first page that no key opens raises."""
    say(store, "one", "a")
    store.key_rotate(vault="default")
    path = insider().path
    store.close()
    data = bytearray(path.read_bytes())
    data[100:200] = bytes(100)
    path.write_bytes(data)
    with SecureStore.open(path.parents[1]) as again, pytest.raises(TamperedError):
        again.session_show("one")


def test_the_key_of_a_damaged_file_is_not_changed(store: SecureStore, place: Path, insider: Callable[..., Any]) -> None:
    """SQLCipher itself changes nothing then, and says nothing: the old key must not be destroyed."""
    say(store, "one", *("x" * 3000 for _ in range(40)))
    say(store, "two", "c")
    path = insider().path
    store.close()
    data = bytearray(path.read_bytes())
    data[20 * 4096 + 100 : 20 * 4096 + 150] = bytes(50)
    path.write_bytes(data)
    with SecureStore.open(place) as again:
        with pytest.raises(TamperedError, match="not what was written"):
            again.key_rotate(vault="default")
        assert ["c"] == texts(again, "two")
    with SecureStore.open(place) as again:
        assert ["c"] == texts(again, "two")


def test_a_rotation_waits_for_who_writes(store: SecureStore, insider: Callable[..., Any]) -> None:
    """A transaction of another process is waited for, and is not lost."""
    say(store, "one", "a")
    writer = sqlcipher.connect(insider().path, insider().keys.vault_key.bytes + insider().keys.vault)
    sqlcipher.begin(writer)
    timer = threading.Timer(0.2, lambda: (writer.execute("COMMIT"), writer.close()))
    timer.start()
    assert 2 == store.key_rotate(vault="default").version
    timer.join()
    assert ["a"] == texts(store, "one")


def test_a_rotation_waits_for_who_reads(
    store: SecureStore, insider: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process scans the vault it is not rotated, and it is afterwards."""
    say(store, "one", "a")
    monkeypatch.setattr("secure_memory.vault.wal.TRUNCATE_SECONDS", 0.05)
    reader = sqlcipher.connect(insider().path, insider().keys.vault_key.bytes + insider().keys.vault)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM items").fetchone()
    say(store, "one", "b")
    with pytest.raises(StoreBusyError):
        store.key_rotate(vault="default")
    assert [(1,)] == reader.execute("SELECT count(*) FROM items").fetchall()
    reader.close()
    store.key_rotate(vault="default")
    assert ["a", "b"] == texts(store, "one")


# ---- a person's keys ------------------------------------------------------------------------------------------------


def test_a_person_gets_new_keys(store: SecureStore, insider: Callable[..., Any]) -> None:
    """Everything of hers is sealed anew under new versions, hidden branches and deleted ones included; the old are gone."""
    talk = say(store, "one", "a", "b")
    asyncio.run(talk.set_tags(record="phi"))
    asyncio.run(talk.create_branch_from_turn(2, "other"))
    asyncio.run(talk.switch_to_branch("main"))
    asyncio.run(talk.create_branch_from_turn(2, "gone"))
    asyncio.run(talk.switch_to_branch("main"))
    asyncio.run(talk.delete_branch("gone"))
    say(store, "two", "c")
    before = dict(insider().sql("SELECT id, sealed FROM items"))
    report = store.key_rotate(subject="ana")
    assert (2, 4, 2) == (report.sessions, report.items, report.version)
    after = dict(insider().sql("SELECT id, sealed FROM items"))
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert ["a", "b"] == texts(store, "one")
    assert {"record": "phi"} == next(info.tags for info in store.sessions() if info.name == "one")
    asyncio.run(talk.switch_to_branch("other"))
    assert 1 == len(asyncio.run(talk.get_items()))
    keyring, keys = store._shared.keyring, insider().keys
    ana = keyring.subject(keys, keys.name_mac("subject", "ana"))
    assert ana is not None
    assert {("subject", 2), ("session", 2)} == {(key.purpose, key.version) for key in keyring.held(subject=ana)}
    assert 4 == store.audit_verify(tenant="default")[0].items


def test_a_person_is_erased_after_her_keys_were_replaced(store: SecureStore) -> None:
    """The erasure destroys the newest versions, and everything is gone."""
    say(store, "one", "a")
    store.key_rotate(subject="ana")
    store.key_rotate(subject="ana")
    assert {"message": 1} == store.subject_erase("ana").items
    assert [] == store.sessions()
    store.audit_verify()


def test_who_talks_on_is_given_the_new_keys(store: SecureStore, other: Callable[[str], str]) -> None:
    """Another process goes on with the conversation, and begins another one, below the new key."""
    say(store, "one", "a")
    assert "1" == other("len(go(talk.get_items()))")
    store.key_rotate(subject="ana")
    assert "1" == other("len(go(talk.get_items()))")
    assert "None" == other("go(talk.add_items([{'role': 'user', 'content': 'b'}]))")
    assert "None" == other("go(store.session('two', subject='ana').add_items([{'role': 'user', 'content': 'c'}]))")
    assert ["a", "b"] == texts(store, "one")
    assert ["c"] == texts(store, "two")


def test_keys_of_a_session_that_never_began_go_with_the_old_ones(store: SecureStore) -> None:
    """Whoever made them, and is only about to begin, makes others."""
    say(store, "one", "a")
    keyring, keys = store._shared.keyring, store._shared.tenant("default").keys
    keyring.create_session(keys, keys.name_mac("session", "orphan"), keys.name_mac("subject", "ana"))
    store.key_rotate(subject="ana")
    say(store, "orphan", "b")
    assert (["a"], ["b"]) == (texts(store, "one"), texts(store, "orphan"))
    store.audit_verify()


def test_a_session_that_begins_meanwhile_is_not_lost(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one began below the old key while the others were sealed anew, that key stays until the next rotation."""
    say(store, "one", "a")
    keyring, keys = store._shared.keyring, store._shared.tenant("default").keys
    keyring.create_session(keys, keys.name_mac("session", "late"), keys.name_mac("subject", "ana"))
    real = keyring.prepare_session

    def prepare(*arguments: Any) -> Any:
        say(store, "late", "b")
        return real(*arguments)

    monkeypatch.setattr(keyring, "prepare_session", prepare)
    with pytest.raises(StoreBusyError, match="began meanwhile"):
        store.key_rotate(subject="ana")
    assert ["b"] == texts(store, "late")
    monkeypatch.undo()
    assert 2 == store.key_rotate(subject="ana").sessions
    assert (["a"], ["b"]) == (texts(store, "one"), texts(store, "late"))
    store.audit_verify()


def test_a_session_is_not_given_to_somebody_who_is_erased(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never sealed under a key that was destroyed: it stays whose it was."""
    talk = say(store, "one", "a")
    say(store, "two", "b", subject="bob")
    keyring = store._shared.keyring
    real = keyring.prepare_session

    def prepare(*arguments: Any) -> Any:
        made = real(*arguments)
        store.subject_erase("bob")
        return made

    monkeypatch.setattr(keyring, "prepare_session", prepare)
    with pytest.raises(KeyDestroyedError):
        asyncio.run(talk.assign_subject("bob"))
    assert ["a"] == texts(store, "one")
    store.audit_verify()


def test_nobody_of_that_name_is_an_error(store: SecureStore) -> None:
    """A name that nobody has is said to be unknown."""
    say(store, "one", "a")
    with pytest.raises(ConfigurationError, match="no such subject"):
        store.key_rotate(subject="nobody")


KILLED_SUBJECT = KILLED_VAULT.replace('{"rekey": file_key, "truncate": wal}.get(step, Keyring)', "Keyring").replace(
    'vault="default")', 'subject="ana")'
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["prepare_subject", "prepare_session", "settle", "settle_subject"])
def test_resealing_killed_at_any_step_is_finished(store: SecureStore, place: Path, step: str, when: str) -> None:
    """Her sessions open in between, old and new ones, and rotating again ends with one version of each key."""
    say(store, "one", "a")
    say(store, "two", "b")
    store.close()
    killed = subprocess.run([sys.executable, "-c", KILLED_SUBJECT, str(place), step, when], capture_output=True, check=False)
    assert -9 == killed.returncode, killed.stderr
    with SecureStore.open(place) as again:
        assert (["a"], ["b"]) == (texts(again, "one"), texts(again, "two"))
        say(again, "three", "c")
        again.key_rotate(subject="ana")
        assert (["a"], ["b"], ["c"]) == (texts(again, "one"), texts(again, "two"), texts(again, "three"))
        keys = again._shared.tenant("default").keys
        ana = again._shared.keyring.subject(keys, keys.name_mac("subject", "ana"))
        assert 4 == len(again._shared.keyring.held(subject=ana))
        assert 3 == again.audit_verify(tenant="default")[0].items
        again.subject_erase("ana")


def test_an_older_vault_is_not_opened_by_the_new_keys(store: SecureStore, place: Path, tmp_path: Path) -> None:
    """A copy of the vault from before a person's keys were replaced is dark under today's keyring."""
    say(store, "one", "a")
    store.close()
    shutil.copytree(place, tmp_path / "copy")
    with SecureStore.open(place) as again:
        again.key_rotate(subject="ana")
    shutil.copy(place / "keys.db", tmp_path / "copy" / "keys.db")
    with SecureStore.open(tmp_path / "copy", anchor=tmp_path / "elsewhere") as old, pytest.raises(KeyDestroyedError):
        old.session_show("one")
