"""`registry.py`: one open store a path and process, whoever has a handle of it; and a key only with a store that is new."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Any

import pytest

from secure_memory import registry
from secure_memory.errors import (
    ConfigurationError,
    KeyNotFoundError,
    NotAStoreError,
    RollbackError,
    StorageError,
    TamperedError,
    WrongKeyError,
)
from secure_memory.keys.local import FileKeyProvider, MemoryKeyProvider
from secure_memory.store import SecureStore


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


def actions(store: SecureStore) -> list[str]:
    """What is in the system ledger, in order, reading it left out."""
    entries = [record.entry.action for record in store.audit_log(tenant="(system)")]
    return [action for action in entries if action != "audit.read"]


# ---- sharing


def test_two_handles_share_one_store(store: SecureStore, place: Path) -> None:
    """Opened twice, by whatever path leads there, a store is open once."""
    (place.parent / "link").symlink_to(place)
    for path in (place, str(place), place / ".." / place.name, place.parent / "link"):
        with SecureStore.open(path) as again:
            assert store._shared is again._shared
    assert ["store.create", "store.open"] == actions(store)


def test_closing_one_handle_leaves_the_others(store: SecureStore, place: Path) -> None:
    """A store and its sessions are closed one by one, and whoever is left goes on; the last one closes it."""
    other = SecureStore.open(place)
    session = other.session("u")
    other.close()
    other.close()
    with pytest.raises(RuntimeError, match="the store is closed"):
        other.tenant_list()
    asyncio.run(session.add_items([user(1)]))
    store.close()
    assert [user(1)] == asyncio.run(session.get_items())
    shared = store._shared
    assert not shared.closed
    session.close()
    assert shared.closed
    assert place.resolve() not in registry._open_stores
    with SecureStore.open(place) as again:
        assert ["store.create", "store.open", "tenant.create", "store.close", "store.open"] == actions(again)


def test_handles_that_nobody_has_any_more(place: Path) -> None:
    """A handle that was dropped without a close is given back, and no store stays open for it."""
    store = SecureStore.create(place)
    store.session("u")
    shared = store._shared
    del store
    gc.collect()
    with SecureStore.open(place) as again:
        assert shared.closed
        assert 1 == again._shared.handles


def test_threads_take_and_give_back_handles(store: SecureStore, place: Path) -> None:
    """However many threads open and close at once, the count is right in the end and nobody's store was closed."""
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for _ in range(30):
                with SecureStore.open(place) as mine, mine.session(f"user {n}") as session:
                    asyncio.run(session.get_items())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    assert 1 == store._shared.handles


def test_a_store_in_memory_is_its_handle_s_alone() -> None:
    """Two stores in memory have nothing in common, and nothing is left of them on disk."""
    with SecureStore.in_memory() as one, SecureStore.in_memory() as other:
        one.tenant_create("acme")
        assert [] == other.tenant_list()
        assert one.path is None
        assert "memory" in one.key_place


def test_what_a_program_leaves_open_is_closed_at_its_end(place: Path, elsewhere: Callable[..., str]) -> None:
    """A program that ends without closing leaves its end in the ledger, and no WAL."""
    elsewhere("import sys; from secure_memory.store import SecureStore; s = SecureStore.create(sys.argv[1])", place)
    assert not list(place.rglob("*-wal"))
    with SecureStore.open(place) as store:
        assert ["store.create", "store.open", "store.close", "store.open"] == actions(store)


# ---- who gets a handle


def test_another_store_in_its_place(store: SecureStore, place: Path) -> None:
    """A store that took the place of one that is open is refused, rather than the open one handed out for it."""
    shutil.move(place, place.with_name("aside"))
    shutil.copytree(place.with_name("aside"), place)
    manifest = json.loads((place / "store.json").read_text())
    with SecureStore.create(place.with_name("other")):
        pass
    shutil.copy(place.with_name("other") / "store.json", place / "store.json")
    assert manifest["store"] != json.loads((place / "store.json").read_text())["store"]
    with pytest.raises(ConfigurationError, match="another store took the place"):
        SecureStore.open(place)


def test_a_wrong_key_opens_nothing(store: SecureStore, place: Path) -> None:
    """Another key is refused, by name, also where the store is open already in this process."""
    for _ in range(2):
        with pytest.raises(WrongKeyError) as raised:
            SecureStore.open(place, keys=MemoryKeyProvider())
        assert raised.value.hint
        store.close()


def test_no_key(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key an existing store is not opened, and no key is made for it."""
    SecureStore.create(place).close()
    monkeypatch.delenv("SECMEM_KEY")
    for path in (place.parent / "key", None):
        with pytest.raises(KeyNotFoundError):
            SecureStore.open(place, keys=path)
    assert not (place.parent / "key").exists()
    assert not list(Path(os.environ["HOME"]).rglob("*key*"))


def test_another_place_for_the_anchors(store: SecureStore, place: Path, tmp_path: Path) -> None:
    """An open store has one place for its anchors: another handle can't have another."""
    with pytest.raises(ConfigurationError, match="another place for its anchors"):
        SecureStore.open(place, anchor=tmp_path / "elsewhere")
    SecureStore.open(place, anchor=tmp_path / "anchors").close()
    assert 1 == store._shared.handles
    store.close()
    SecureStore.open(place, anchor=tmp_path / "elsewhere").close()


def test_a_handle_may_require_the_anchor_for_all(store: SecureStore, place: Path) -> None:
    """Where one handle requires anchors, they are required from then on."""
    store.tenant_create("acme")
    with SecureStore.open(place, anchor_required=True):
        assert store._shared.anchor_required
        assert all(tenant.vault.database.anchor_required for tenant in store._shared._tenants.values())


def test_a_key_inside_the_store(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that each copy of the store would carry is refused, for a new store and for one that is there."""
    monkeypatch.delenv("SECMEM_KEY")
    with pytest.raises(ConfigurationError, match="inside the store"):
        SecureStore.create(place, keys=place / "key")
    assert not place.exists()
    SecureStore.create(place, keys=place.parent / "key").close()
    (place / "key").write_bytes((place.parent / "key").read_bytes())
    (place / "key").chmod(0o600)
    with pytest.raises(ConfigurationError, match="inside the store"):
        SecureStore.open(place, keys=place / "key")


def test_nothing_is_open_after_a_refusal(store: SecureStore, place: Path) -> None:
    """An opening that fails leaves no connection, no handle and no lock behind."""
    store.close()
    (place / "system.db").rename(place / "moved.db")
    for _ in range(3):
        with pytest.raises(RollbackError, match="its vault is missing"):
            SecureStore.open(place)
    assert place.resolve() not in registry._open_stores
    (place / "moved.db").rename(place / "system.db")
    SecureStore.open(place).close()


# ---- what an opening finds


def test_a_system_vault_that_the_keyring_does_not_know(store: SecureStore, place: Path) -> None:
    """A keys.db that was begun anew is an older one, not a new store."""
    connection = store._shared.keyring._database._connection
    connection.execute("DELETE FROM keys")
    connection.execute("DELETE FROM tenants")
    store.close()
    with pytest.raises(RollbackError, match="does not know the system vault") as raised:
        SecureStore.open(place)
    assert "keys.db" in str(raised.value.hint)


def test_a_keys_db_that_is_missing(store: SecureStore, place: Path) -> None:
    """A vanished keys.db is never made anew."""
    store.close()
    (place / "keys.db").unlink()
    with pytest.raises(StorageError, match=r"keys\.db"):
        SecureStore.open(place)
    assert not (place / "keys.db").exists()


@pytest.mark.parametrize("file", ["keys.db", "system.db"])
@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\x00" + bytes(4080)])
def test_another_file_in_the_place_of_ours(store: SecureStore, place: Path, file: str, content: bytes) -> None:
    """Garbage or a plaintext database in the place of one of the store's files is not opened."""
    store.close()
    (place / file).write_bytes(content)
    with pytest.raises((TamperedError, NotAStoreError)):
        SecureStore.open(place)


def test_a_copied_store_goes_its_own_way(store: SecureStore, place: Path) -> None:
    """A copy of a whole store, somewhere else, is open beside it and has anchors of its own."""
    with store.session("u") as session:
        asyncio.run(session.add_items([user(1)]))
    store.close()
    shutil.copytree(place, place.parent / "copy")
    with SecureStore.open(place) as one, SecureStore.open(place.parent / "copy") as other:
        assert one._shared is not other._shared
        for here in (one, other):
            with here.session("u") as session:
                asyncio.run(session.add_items([user(2)]))
            assert ["(system)", "default"] == [report.tenant for report in here.audit_verify()]
        assert {report.path for report in one.audit_anchor()}.isdisjoint(report.path for report in other.audit_anchor())


# ---- making one


def test_a_store_is_not_made_where_one_is(store: SecureStore, place: Path) -> None:
    """`create` of a store that is there says so, and leaves it as it was."""
    with pytest.raises(ConfigurationError, match="there is a store at"):
        SecureStore.create(place)
    assert ["store.create", "store.open"] == actions(store)


@pytest.mark.parametrize("named", ["argument", "variable", "default"])
def test_a_key_is_made_only_with_a_new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Where the place that is named holds no key one is made there, private, together with the store, once."""
    key = {"argument": tmp_path / "k" / "key", "variable": tmp_path / "v" / "key", "default": None}[named]
    if named == "variable":
        monkeypatch.setenv("SECMEM_KEY_FILE", str(key))
    argument = key if named == "argument" else None
    with SecureStore.create(tmp_path / "one", keys=argument) as store:
        assert store.key_made
        made = Path(store.key_place.removeprefix("key file "))
        assert key in (made, None)
        assert 0o600 == stat.S_IMODE(made.stat().st_mode)
    before = made.read_bytes()
    with SecureStore.create(tmp_path / "two", keys=argument) as store:
        assert not store.key_made
    with SecureStore.open(tmp_path / "one", keys=argument) as store:
        assert not store.key_made
    assert before == made.read_bytes()


def test_no_key_is_made_where_the_store_can_t_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that holds something else is refused before a key is made for it."""
    monkeypatch.setenv("SECMEM_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("mine")
    with pytest.raises(NotAStoreError):
        SecureStore.create(tmp_path / "store")
    assert not (tmp_path / "key").exists()


def test_a_broken_key_is_not_replaced(tmp_path: Path) -> None:
    """A key file that can't be used is an error; no other key takes its place."""
    key = tmp_path / "key"
    key.write_text("not a key")
    key.chmod(0o600)
    with pytest.raises(ConfigurationError, match="line 1"):
        SecureStore.create(tmp_path / "store", keys=key)
    assert "not a key" == key.read_text()
    assert not (tmp_path / "store").exists()


def test_a_key_that_can_t_be_made(tmp_path: Path) -> None:
    """Where no key can be written, it is said where, and what else can be done."""
    (tmp_path / "file").write_text("")
    with pytest.raises((KeyNotFoundError, ConfigurationError)) as raised:
        SecureStore.create(tmp_path / "store", keys=tmp_path / "file" / "key")
    assert "SECMEM_KEY" in str(raised.value.hint)


def test_a_provider_may_be_given(tmp_path: Path) -> None:
    """Any key provider wraps and unwraps the store's root."""
    keys = MemoryKeyProvider()
    SecureStore.create(tmp_path / "store", keys=keys).close()
    with SecureStore.open(tmp_path / "store", keys=keys) as store:
        assert keys.describe() == store.key_place


RACING = """
import asyncio, sys, warnings
warnings.simplefilter("ignore")
from secure_memory import SecureSession
print("ready", flush=True)
sys.stdin.readline()
with SecureSession(sys.argv[2], sys.argv[1]) as session:
    asyncio.run(session.add_items([{"role": "user", "content": sys.argv[2]}]))
"""


def test_processes_that_open_or_make_one_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes whose first line is the same SecureSession, with no store and no key there, all work on one."""
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path / "anchors"))
    store = tmp_path / "store"
    racing = [Popen([executable, "-c", RACING, str(store), f"user {n}"], stdin=-1, stdout=-1, text=True) for n in range(3)]
    for one in racing:
        assert one.stdout is not None
        assert "ready\n" == one.stdout.readline()
    for one in racing:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [0, 0, 0] == [one.wait(30) for one in racing]
    for one in racing:
        one.communicate()
    with SecureStore.open(store) as found:
        assert {"user 0", "user 1", "user 2"} == {info.name for info in found.sessions()}
        found.audit_verify()


def test_the_file_provider_says_where_its_key_is(tmp_path: Path) -> None:
    """The place of the key that a store was made with is told, for whoever has to back it up."""
    with SecureStore.create(tmp_path / "store", keys=tmp_path / "key") as store:
        assert isinstance(store._shared.provider, FileKeyProvider)
        assert f"key file {tmp_path / 'key'}" == store.key_place
