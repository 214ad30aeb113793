"""Restoring: the store is as it was, what was erased stays erased, and nothing goes back without being said."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from secure_memory import clock
from secure_memory.errors import (
    ConfigurationError,
    IntegrityError,
    KeyDestroyedError,
    NotAStoreError,
    RollbackError,
    StorageError,
    StoreBusyError,
    TamperedError,
    WrongKeyError,
)
from secure_memory.ledger.anchor import Anchor
from secure_memory.lifecycle.backup import replacing
from secure_memory.lifecycle.backup.restores import RestoreReport
from secure_memory.store import SecureStore

HOLDING = """
import sys
from secure_memory import SecureStore

with SecureStore.open(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.readline()
"""

RESTORING = """
import os, sys
from secure_memory import SecureStore
from secure_memory.lifecycle.backup import replacing, restores as restore

into, path, at = sys.argv[1:4]

def die(*_):
    os.kill(os.getpid(), 9)

if at == "aside":  # the store is put aside, and the restored one is in its place
    sync = replacing.sync
    replacing.sync = lambda place: die() if place == replacing.Path(path).parent else sync(place)
elif at == "anchors":
    restore._begin_anchors = die
SecureStore.restore(into, path, accept_rollback=True, reason="test", progress=die if at == "copying" else None)
"""


def add(store: SecureStore, *texts: str, session: str = "s", tenant: str = "acme", **how: Any) -> None:
    with store.session(session, tenant=tenant, **how) as one:
        asyncio.run(one.add_items([{"role": "user", "content": text} for text in texts]))


def texts(store: SecureStore, session: str = "s", tenant: str = "acme") -> list[str]:
    with store.session(session, tenant=tenant) as one:
        read: Any = asyncio.run(one.get_items())
    return [item["content"] for item in read]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Where backups go."""
    return tmp_path / "backups"


@pytest.fixture
def backed_up(place: Path, into: Path) -> Path:
    """A store that is closed, backed up with one item, and has two."""
    with SecureStore.create(place) as store:
        add(store, "before")
        store.backup(into)
        add(store, "after")
    return place


def restored(into: Path, path: Path, **how: Any) -> RestoreReport:
    return SecureStore.restore(into, path, accept_rollback=True, reason="INC-1", **how)


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# ---- to a new place, and back -----------------------------------------------------------------------------------------


def test_to_another_path(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """A restore to a place where nothing is gives the store as it was; it opens, verifies with anchors, and goes on."""
    report = SecureStore.restore(into, tmp_path / "drill" / "store")
    assert ([], None) == ([vault.tenant for vault in report.vaults if vault.superseded or vault.anew], report.replaced)
    with SecureStore.open(tmp_path / "drill" / "store", anchor_required=True) as store:
        assert ["before"] == texts(store)
        add(store, "more")
        assert ["ok", "ok"] == [found.anchor for found in store.audit_verify()]
    with SecureStore.open(backed_up) as store:
        assert ["before", "after"] == texts(store)
        store.audit_verify()


def test_a_store_without_tenants(store: SecureStore, into: Path, tmp_path: Path) -> None:
    """A store that has no tenant yet is backed up and restored like any other, and can get one."""
    store.backup(into)
    SecureStore.restore(into, tmp_path / "new")
    with SecureStore.open(tmp_path / "new") as other:
        add(other, "first")
        assert ["first"] == texts(other)


def test_a_rollback_is_refused(backed_up: Path, into: Path) -> None:
    """Over a store that went on since, a restore is refused, and changes nothing."""
    before = snapshot(backed_up)
    with pytest.raises(RollbackError, match="older than what is known") as error:
        SecureStore.restore(into, backed_up)
    assert "--accept-rollback" in (error.value.hint or "")
    assert before == snapshot(backed_up)
    assert {backed_up.name, "anchors", "backups"} == set(os.listdir(backed_up.parent))


def test_a_rollback_that_is_declared(backed_up: Path, into: Path) -> None:
    """A declared one is done: an entry in each ledger names the heads it supersedes, and the anchors begin again there."""
    report = restored(into, backed_up)
    assert report.rollback
    with SecureStore.open(backed_up, anchor_required=True) as store:
        assert ["before"] == texts(store)
        assert ["ok", "ok"] == [found.anchor for found in store.audit_verify()]
        entries = [record for record in store.audit_log(action="store.restore")]
    assert {"(system)", "acme"} == {record.tenant_name for record in entries}
    assert {"INC-1"} == {record.entry.reason for record in entries}
    acme = next(record.entry for record in entries if record.tenant_name == "acme")
    known = next(vault.superseded for vault in report.vaults if vault.tenant == "acme")
    assert known == acme.detail["superseded"]["seen"]["size"] > acme.detail["restored"]["size"] == acme.seq


def test_a_rollback_needs_a_reason(backed_up: Path, into: Path) -> None:
    """Nobody accepts a rollback without saying why."""
    with pytest.raises(ValueError, match="reason"):
        SecureStore.restore(into, backed_up, accept_rollback=True)


def test_what_was_there_is_kept(backed_up: Path, into: Path) -> None:
    """The store that is replaced stays beside it, as it was, or is deleted where that is asked for."""
    before = snapshot(backed_up)
    report = restored(into, backed_up)
    assert before == snapshot(Path(report.replaced or ""))
    again = restored(into, backed_up, keep_replaced=False)
    assert again.replaced is None
    assert 4 == len(os.listdir(backed_up.parent))


def test_what_was_replaced_is_not_believed(backed_up: Path, into: Path) -> None:
    """Whoever puts the replaced store back is noticed: its ledger is not the one that the anchors know."""
    report = restored(into, backed_up)
    shutil.rmtree(backed_up)
    Path(report.replaced or "").rename(backed_up)
    with pytest.raises(RollbackError):
        SecureStore.open(backed_up)


def test_a_damaged_store_is_replaced(backed_up: Path, into: Path) -> None:
    """A store that lost its store.json, or a vault, is still known as this store, and is restored."""
    (backed_up / "store.json").unlink()
    with pytest.raises(NotAStoreError):
        SecureStore.open(backed_up)
    restored(into, backed_up)
    next(backed_up.glob("vaults/*.db")).unlink()
    restored(into, backed_up)
    with SecureStore.open(backed_up) as store:
        assert ["before"] == texts(store)


# ---- who is in the way ------------------------------------------------------------------------------------------------


@contextmanager
def held_open(path: Path) -> Iterator[None]:
    """Another process that has the store open and does nothing."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert "open\n" == child.stdout.readline()
        yield
    finally:
        child.communicate("\n")


def test_a_live_store_is_left_alone(backed_up: Path, into: Path) -> None:
    """A store that this process or another one has open, idle as it may be, is not replaced."""
    with SecureStore.open(backed_up), pytest.raises(StoreBusyError, match=r"has the store .* open"):
        restored(into, backed_up)
    with held_open(backed_up), pytest.raises(StoreBusyError, match=r"has the store .* open"):
        restored(into, backed_up)
    restored(into, backed_up)


def test_what_is_not_this_store_is_left_alone(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Another store, a directory with other things, and a file are not replaced."""
    SecureStore.create(tmp_path / "other").close()
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "letter").write_text("dear")
    (tmp_path / "file").write_text("text")
    for name in ("other", "things", "file"):
        with pytest.raises(ConfigurationError):
            restored(into, tmp_path / name)
    assert "dear" == (tmp_path / "things" / "letter").read_text()


def test_an_empty_directory_is_a_place(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """A store is restored into a directory that is there and empty."""
    (tmp_path / "new").mkdir()
    SecureStore.restore(into, tmp_path / "new")
    SecureStore.open(tmp_path / "new").close()


@pytest.fixture
def mounted(backed_up: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's directory, taken for one where a volume is mounted; tests/faults has a real one."""
    real = os.path.ismount
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == backed_up or real(path))
    return backed_up


def test_where_a_volume_is_mounted(mounted: Path, into: Path) -> None:
    """Inside a mount point the files are replaced, what was there is kept in it, and another restore goes the same way."""
    (mounted / "lost+found").mkdir()
    inode = mounted.stat().st_ino
    for _ in range(2):
        report = restored(into, mounted)
        assert (inode, mounted) == (mounted.stat().st_ino, Path(report.replaced or "").parent)
        assert {"store.json", "keys.db", "system.db", "vaults"} <= set(os.listdir(report.replaced or ""))
        with SecureStore.open(mounted) as store:
            assert ["before"] == texts(store)
            store.audit_verify()
    assert (mounted / "lost+found").is_dir()
    assert restored(into, mounted, keep_replaced=False).replaced is None
    assert 2 == len([name for name in os.listdir(mounted) if name.startswith("replaced-")])


@pytest.mark.parametrize("moves", range(9))
def test_a_swap_inside_that_dies(mounted: Path, into: Path, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever moving the files dies, nothing opens that is neither the old store nor the new; another restore is done."""
    real, left = Path.rename, moves

    def rename(path: Path, target: Path) -> Path:
        nonlocal left
        if not left:
            raise MemoryError  # as good as a death: nothing of ours handles it
        left -= 1
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with suppress(MemoryError):
            restored(into, mounted)
    with suppress(RollbackError, NotAStoreError), SecureStore.open(mounted) as store:
        assert texts(store) in (["before"], ["before", "after"])
        store.audit_verify()
    restored(into, mounted)
    with SecureStore.open(mounted) as store:
        assert ["before"] == texts(store)


def test_the_wrong_key(backed_up: Path, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the store's key there is no way back, and nothing is left."""
    monkeypatch.setenv("SECMEM_KEY", base64.b64encode(bytes(32)).decode())
    with pytest.raises(WrongKeyError):
        SecureStore.restore(into, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_swap_that_fails_changes_nothing(backed_up: Path, tmp_path: Path) -> None:
    """Where the restored store can't be moved to its place, what was there is put back."""
    before = snapshot(backed_up)
    gone = tmp_path / "gone"
    (gone / "vaults").mkdir(parents=True)

    class Gone(type(gone)):  # type: ignore[misc]
        def rename(self, target: Any) -> Any:
            raise OSError(5, "Input/output error")

    with pytest.raises(StorageError, match="input/output error"):
        replacing.swap(Gone(gone), backed_up, occupied=True)
    assert before == snapshot(backed_up)


@pytest.mark.parametrize("at", ["copying", "aside", "anchors"])
def test_a_killed_restore(backed_up: Path, into: Path, at: str) -> None:
    """A restore that is killed, wherever, leaves the store as it was, or one that can't be opened; run again, it is done."""
    done = subprocess.run([sys.executable, "-c", RESTORING, str(into), str(backed_up), at], check=False)
    assert -signal.SIGKILL == done.returncode
    if at == "copying":
        with SecureStore.open(backed_up) as store:
            assert ["before", "after"] == texts(store)
    else:
        with pytest.raises(RollbackError):
            SecureStore.open(backed_up)
    restored(into, backed_up)
    with SecureStore.open(backed_up) as store:
        assert ["before"] == texts(store)
        store.audit_verify()
    assert [] == [name for name in os.listdir(backed_up.parent) if name.startswith(".")]


# ---- which sets -------------------------------------------------------------------------------------------------------


def test_sets_of_two_stores(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Vaults of one store and keys of another don't go together."""
    with SecureStore.create(tmp_path / "other") as other:
        other.backup(tmp_path / "others")
    with pytest.raises(ConfigurationError, match="two stores"):
        SecureStore.restore(into, tmp_path / "new", keys_in=tmp_path / "others")


def test_older_keys(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Keys that are older than the vaults are refused: sessions of the vaults would have none, and erased ones would."""
    old = tmp_path / "old"
    (keys,) = into.glob("*-keys")
    old.mkdir()
    keys.rename(old / keys.name)
    with SecureStore.open(backed_up) as store:
        store.backup(into, only="vaults")
    with pytest.raises(RollbackError, match="older than the vaults"):
        restored(into, backed_up, keys_in=old)


def test_keys_of_meanwhile(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Keys that were copied while the vaults were being copied are older than what came into the vaults last: refused."""

    def progress(what: str, done: int, total: int) -> None:
        if what == "tenant (system)":
            store.backup(tmp_path / "keys", only="keys")

    with SecureStore.open(backed_up) as store:
        store.backup(tmp_path / "vaults", only="vaults", progress=progress)
    with pytest.raises(RollbackError, match="older than the vaults"):
        SecureStore.restore(tmp_path / "vaults", tmp_path / "new", keys_in=tmp_path / "keys")


def test_a_clock_that_goes_back(store: SecureStore, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is put back while a backup is made does not make its own keys too old for its vaults."""
    add(store, "one")
    with monkeypatch.context() as patch:

        def progress(what: str, done: int, total: int) -> None:
            if what == "tenant (system)":
                patch.setattr(clock, "now", lambda: 1_000_000)

        store.backup(into, progress=progress)
    assert [1] == [vault.items for vault in SecureStore.backup_verify(into).vaults if vault.tenant == "acme"]


def test_newer_keys(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Older vaults with newer keys are restored: a tenant that is younger than the vaults has an empty one, declared."""
    with SecureStore.open(backed_up) as store:
        add(store, "new here", tenant="young")
        store.backup(into, only="keys")
    with pytest.raises(RollbackError, match="young"):
        SecureStore.restore(into, tmp_path / "new")
    report = restored(into, tmp_path / "new")
    assert ["young"] == [vault.tenant for vault in report.vaults if vault.anew]
    with SecureStore.open(tmp_path / "new", anchor_required=True) as store:
        assert ["before"] == texts(store)
        assert [] == texts(store, tenant="young")
        add(store, "again", tenant="young")
        store.audit_verify()


def test_nothing_to_restore(tmp_path: Path, place: Path) -> None:
    """A directory without sets, and one that isn't there, are named."""
    with pytest.raises(ConfigurationError, match="no set of vaults"):
        SecureStore.restore(tmp_path, tmp_path / "new", keys=_any_key(tmp_path))
    with pytest.raises(StorageError, match="could not look"):
        SecureStore.restore(tmp_path / "nowhere", tmp_path / "new", keys=_any_key(tmp_path))


def _any_key(tmp_path: Path) -> Path:
    from secure_memory.keys.local import create_key_file

    path = tmp_path / "key"
    if not path.exists():
        create_key_file(path, made_at=0)
    return path


# ---- what was erased --------------------------------------------------------------------------------------------------


@pytest.fixture
def erased(place: Path, into: Path) -> Path:
    """A store that was backed up with ana's session and bob's, and then erased ana."""
    with SecureStore.create(place) as store:
        add(store, "about ana", session="a", subject="ana")
        add(store, "about bob", session="b", subject="bob")
        store.backup(into)
        store.subject_erase("ana", tenant="acme")
    return place


def test_an_anchor_that_is_damaged(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """What a damaged anchor knew nobody can say: that nothing is lost is not believed, unless it is declared."""
    for file in (tmp_path / "anchors").glob("*/*.anchor"):
        file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(TamperedError, match="anchor"):
        SecureStore.restore(into, backed_up)
    restored(into, backed_up)
    with SecureStore.open(backed_up, anchor_required=True) as store:
        store.audit_verify()


def test_the_erased_stay_erased(erased: Path, into: Path, tmp_path: Path) -> None:
    """A backup from before an erasure, of both sets, is restored with the subject erased: her key is gone, and her items."""
    for path in (erased, tmp_path / "new"):
        report = restored(into, path)
        assert (True, 1) == (report.destroyed > 0, sum(vault.forgotten for vault in report.vaults))
        with SecureStore.open(path) as store:
            assert ["about bob"] == texts(store, "b")
            assert [] == texts(store, "a")
            assert ["b"] == [info.name for info in store.sessions(tenant="acme")]
            assert [] == store.sessions(tenant="acme", subject="ana")
            store.audit_verify()


def test_a_check_of_a_backup_erases_too(erased: Path, into: Path) -> None:
    """`backup verify` says what a restore would erase, and leaves the backup as it is."""
    before = snapshot(into)
    report = SecureStore.backup_verify(into)
    assert [1] == [vault.forgotten for vault in report.vaults if vault.tenant == "acme"]
    assert before == snapshot(into)


def test_without_the_list_nothing_is_restored(erased: Path, into: Path, tmp_path: Path) -> None:
    """Where the list of what was erased is gone, or is shorter than at the time of the backup, nothing is restored."""
    with SecureStore.open(erased) as store:
        store.backup(into)
    (place,) = (tmp_path / "anchors").glob("*/tombstones")
    whole = place.read_bytes()
    place.write_bytes(whole[: whole.index(b"\n") + 1])
    with pytest.raises(RollbackError, match="older than the backup"):
        restored(into, tmp_path / "new")
    place.write_bytes(whole.replace(b"session", b"sassion", 1))
    with pytest.raises(IntegrityError):
        restored(into, tmp_path / "new")
    place.unlink()
    with pytest.raises(ConfigurationError, match="list of what was erased"):
        restored(into, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "brought").write_bytes(whole)
    restored(into, tmp_path / "new", tombstones=tmp_path / "brought")


def test_a_newer_set_of_keys_is_enough(erased: Path, into: Path, tmp_path: Path) -> None:
    """Vaults from before an erasure with keys from after it hold nothing of the subject, whoever has both."""
    with SecureStore.open(erased) as store:
        store.backup(into, only="keys")
    old = sorted(into.glob("*-keys"))[0]
    shutil.rmtree(old)
    restored(into, tmp_path / "new")
    with SecureStore.open(tmp_path / "new") as store:
        assert [] == texts(store, "a")
        assert ["about bob"] == texts(store, "b")


def test_a_session_that_was_sealed_anew(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Assigned to another subject since, a session is in the backup's own keys, and is lost with newer ones; both verify."""
    with SecureStore.open(backed_up) as store, store.session("s", tenant="acme") as session:
        asyncio.run(session.assign_subject("someone"))
    restored(into, tmp_path / "own")
    with SecureStore.open(tmp_path / "own") as store:
        assert ["before"] == texts(store)
    with SecureStore.open(backed_up) as store:
        store.backup(into, only="keys")
    report = restored(into, tmp_path / "newer")
    assert [1] == [vault.forgotten for vault in report.vaults if vault.tenant == "acme"]
    with SecureStore.open(tmp_path / "newer") as store:
        store.audit_verify()


def test_an_erased_tenant(place: Path, into: Path, tmp_path: Path) -> None:
    """A tenant that was erased since is restored as erased: no vault, no name for another, and everything verifies."""
    with SecureStore.create(place) as store:
        add(store, "one")
        add(store, "two", tenant="gone")
        store.backup(into)
        store.tenant_erase("gone")
    report = restored(into, tmp_path / "new")
    assert {"(system)", "acme"} == {vault.tenant for vault in report.vaults}
    assert 1 == len(list((tmp_path / "new" / "vaults").glob("*.db")))
    with SecureStore.open(tmp_path / "new") as store:
        assert ["one"] == texts(store)
        with pytest.raises(KeyDestroyedError):
            texts(store, tenant="gone")
        store.audit_verify()


# ---- keys that were replaced ------------------------------------------------------------------------------------------


def test_a_vault_key_that_was_replaced(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """Vaults from before their key was replaced open with the keys of their time, and are refused with later ones."""
    with SecureStore.open(backed_up) as store:
        store.key_rotate(vault="acme")
    restored(into, tmp_path / "own")
    with SecureStore.open(tmp_path / "own") as store:
        assert ["before"] == texts(store)
        store.audit_verify()
    with SecureStore.open(backed_up) as store:
        store.backup(into, only="keys")
    with pytest.raises(KeyDestroyedError, match="'acme': the key of its vault was replaced"):
        restored(into, tmp_path / "later")
    assert not (tmp_path / "later").exists()


def test_a_key_that_is_replaced_while_copying(backed_up: Path, into: Path, tmp_path: Path) -> None:
    """A vault whose key is replaced between the vaults and the keys is copied again: the backup opens."""
    shutil.rmtree(into)
    done = False

    def progress(what: str, *_: object) -> None:
        nonlocal done
        if what == "tenant (system)" and not done:
            done = True
            store.key_rotate(vault="acme")

    with SecureStore.open(backed_up) as store:
        store.backup(into, progress=progress)
    SecureStore.restore(into, tmp_path / "new")
    with SecureStore.open(tmp_path / "new") as store:
        assert ["before", "after"] == texts(store)


def test_an_epoch_turn(place: Path, tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an epoch turn the keys from before it are dark; the vaults are restored with the keys from after it."""
    monkeypatch.delenv("SECMEM_KEY")
    key = _any_key(tmp_path)
    with SecureStore.create(place, keys=key) as store:
        add(store, "before")
        store.backup(into)
        store.key_rotate(epoch=True, new_key=True)
    with pytest.raises(WrongKeyError):
        restored(into, tmp_path / "new", keys=key)
    with SecureStore.open(place, keys=key) as store:
        store.backup(into, only="keys")
    restored(into, tmp_path / "new", keys=key)
    with SecureStore.open(tmp_path / "new", keys=key) as store:
        assert ["before"] == texts(store)
        store.audit_verify()


# ---- the anchors ------------------------------------------------------------------------------------------------------


def test_anchors_that_cannot_be_written(backed_up: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the anchors can't begin again it is said, and the store stays shut until they can."""

    def refuse(self: Anchor, head: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Anchor, "reset", refuse)
        with pytest.raises(StorageError, match="anchors can't be begun anew"):
            restored(into, backed_up)
    with pytest.raises(RollbackError):
        SecureStore.open(backed_up)
    restored(into, backed_up)
    SecureStore.open(backed_up).close()


def test_no_data_of_the_erased_is_exported(erased: Path, into: Path, tmp_path: Path) -> None:
    """Whoever asks the restored store for the erased subject's data gets none."""
    restored(into, tmp_path / "new")
    with SecureStore.open(tmp_path / "new") as store, pytest.raises((KeyDestroyedError, ConfigurationError)):
        store.subject_export("ana", tmp_path / "out", tenant="acme")
