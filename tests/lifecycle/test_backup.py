"""Backups: whole, encrypted, of one moment, whatever goes on meanwhile; or not there at all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_memory import clock
from secure_memory.errors import (
    AccessDeniedError,
    ConfigurationError,
    DiskFullError,
    RollbackError,
    StorageError,
    StoreBusyError,
    TamperedError,
)
from secure_memory.keys.key import Key
from secure_memory.lifecycle.backup import backup_set
from secure_memory.lifecycle.backup import backups as backups
from secure_memory.store import SecureStore
from secure_memory.vault import copying

WRITING = """
import asyncio, sys
from secure_memory import SecureStore

async def main():
    with SecureStore.open(sys.argv[1]) as store:
        sessions = [store.session(f"busy-{n}", tenant="acme") for n in range(3)]
        number = 0
        while True:
            await sessions[number % 3].add_items([{"role": "user", "content": str(number)}])
            if number % 40 == 0:
                store.session(f"new-{number}", tenant=f"tenant-{number}")
                await store.session(f"new-{number}", tenant=f"tenant-{number}").add_items([{"role": "user", "content": "x"}])
            number += 1
            print(number, flush=True)

asyncio.run(main())
"""

BACKING_UP = """
import os, sys
from secure_memory import SecureStore
from secure_memory.lifecycle.backup import backups as backup, backup_set

path, into, at = sys.argv[1:4]

def die(*_):
    os.kill(os.getpid(), 9)

if at == "vaults":
    progress = lambda what, done, total: die() if what == "tenant acme" else None
elif at == "keys":
    progress = lambda what, done, total: die() if what == "keys" else None
else:
    progress = None
    backup_set.keep = die
with SecureStore.open(path) as store:
    store.backup(into, progress=progress)
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


@contextmanager
def writer(place: Path) -> Iterator[Callable[[int], None]]:
    """Another process that goes on writing; call with how many writes to wait for."""
    child = subprocess.Popen([sys.executable, "-c", WRITING, str(place)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None

    def wait(count: int) -> None:
        assert child.stdout is not None
        for _ in range(count):
            assert child.stdout.readline(), "the writer ended"

    try:
        yield wait
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()


def names(into: Path) -> list[str]:
    return sorted(os.listdir(into)) if into.exists() else []


# ---- what a backup is -------------------------------------------------------------------------------------------------


def test_two_sets(store: SecureStore, into: Path) -> None:
    """A backup is a set of vaults and a set of keys, each with its manifest; nobody else can read a file of it."""
    add(store, "a secret thing")
    report = store.backup(into)
    vaults, keys = (Path(kept.path) for kept in report.sets)
    assert [vaults.name, keys.name] == sorted(names(into), reverse=True)
    vault = next((store.path or Path()).glob("vaults/*.db")).name
    assert {"manifest.json", "store.json", "system.db", f"vaults/{vault}"} == files(vaults)
    assert {"manifest.json", "store.json", "keys.db"} == files(keys)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (into, *into.rglob("*")) if path.is_dir()}
    assert ({0o700}, {0o600}) == (modes, {stat.S_IMODE(p.stat().st_mode) for p in into.rglob("*") if p.is_file()})
    assert not any(b"a secret thing" in path.read_bytes() for path in into.rglob("*") if path.is_file())
    assert (2, 0) == tuple(kept.vaults for kept in report.sets)


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_the_manifest_says_what_is_there(store: SecureStore, into: Path) -> None:
    """The manifest names the store, the moment, each file's length and digest, and the head of each ledger."""
    add(store, "one")
    report = store.backup(into)
    made = backup_set.read(Path(report.sets[0].path))
    made.check_files()
    made.check_mac(store._shared.keyring.store_key("backup"))
    assert (report.store, report.created, "vaults") == (made.store, made.created, made.kind)
    tenant = store._shared.tenant("acme")
    said = made.vaults[tenant.keys.vault.hex()]
    tail = tenant.vault.database.tail
    assert (tenant.keys.uid.hex(), tail.size, tail.root.hex()) == (said.tenant, said.size, said.root)


def test_a_backup_is_an_entry(store: SecureStore, into: Path) -> None:
    """The store's ledger says who made a backup, and which: by the digest of its manifest."""
    report = store.backup(into)
    entry = next(record.entry for record in store.audit_log() if record.entry.action == "store.backup")
    assert [kept.manifest for kept in report.sets] == [one["manifest"] for one in entry.detail["sets"]]


@pytest.mark.parametrize(("only", "kinds"), [("vaults", ["vaults"]), ("keys", ["keys"])])
def test_one_set(store: SecureStore, into: Path, only: Any, kinds: list[str]) -> None:
    """Each set can be made alone: keys more often than vaults."""
    assert kinds == [kept.kind for kept in store.backup(into, only=only).sets]
    assert kinds == [name.rpartition("-")[2] for name in names(into)]


def test_progress_is_told(store: SecureStore, into: Path) -> None:
    """Whoever waits is told of each vault and of the keys, up to the end of each."""
    add(store, *map(str, range(2000)))
    told: list[tuple[str, int, int]] = []
    store.backup(into, progress=lambda *said: told.append(said))
    assert ["tenant acme", "tenant (system)", "keys"] == list(dict.fromkeys(what for what, _, _ in told))
    assert all(done == total for what, done, total in {one[0]: one for one in told}.values())
    assert [one[1] for one in told if one[0] == "keys"] == sorted(one[1] for one in told if one[0] == "keys")


def test_arguments(store: SecureStore, into: Path) -> None:
    """A backup inside the store, or of a store in memory, is refused; so is half a set of a kind there is none of."""
    assert store.path is not None
    with pytest.raises(ConfigurationError, match="inside the store"):
        store.backup(store.path / "vaults" / "backups")
    with pytest.raises(ValueError, match="only is"):
        store.backup(into, only="everything")  # type: ignore[arg-type]
    with SecureStore.in_memory() as other, pytest.raises(ConfigurationError, match="memory"):
        other.backup(into)


def test_who_may_not_gets_nothing(place: Path, into: Path) -> None:
    """A backup that nobody asks for, where somebody has to, is denied, with an entry, before anything is copied."""
    SecureStore.create(place).close()
    with SecureStore.open(place, require_actor=True) as store, pytest.raises(AccessDeniedError):
        store.backup(into)
    assert [] == names(into)


def test_archives_come_along(store: SecureStore, into: Path, tmp_path: Path) -> None:
    """Archives that lie in the store are in the set of vaults and are restored; one that is being written is not."""
    add(store, "one")
    assert store.path is not None
    (store.path / "archives").mkdir()
    (store.path / "archives" / "a.secmem-archive").write_bytes(b"sealed")
    (store.path / "archives" / ".b.secmem-archive.partial").write_bytes(b"half")
    store.backup(into)
    (vaults,) = into.glob("*-vaults")
    assert ["archives/a.secmem-archive"] == [name for name in files(vaults) if name.startswith("archives")]
    SecureStore.restore(into, tmp_path / "new")
    assert b"sealed" == (tmp_path / "new" / "archives" / "a.secmem-archive").read_bytes()
    assert ["a.secmem-archive"] == os.listdir(tmp_path / "new" / "archives")


# ---- while the store is in use ----------------------------------------------------------------------------------------


def test_others_go_on_writing(store: SecureStore, place: Path, into: Path) -> None:
    """While another process writes and begins tenants, a backup is of moments that were, and verifies; nobody notices."""
    add(store, "before")
    with writer(place) as wait:
        wait(5)
        for _ in range(3):
            store.backup(into)
            wait(5)
    report = SecureStore.backup_verify(into)
    assert {"(system)", "acme"} <= {vault.tenant for vault in report.vaults}
    assert not any(vault.anew for vault in report.vaults)
    store.audit_verify()


def test_a_copy_is_of_one_moment(store: SecureStore, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed while a vault is being copied is not in the copy, and does not make the copying begin again."""
    add(store, *map(str, range(500)))
    monkeypatch.setattr(copying, "PAGES", 10)
    calls = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal calls
        if what == "tenant acme":
            calls += 1
            add(store, "meanwhile")

    store.backup(into, progress=progress)
    assert 3 < calls < 200
    report = SecureStore.backup_verify(into)
    assert [500] == [vault.items for vault in report.vaults if vault.tenant == "acme"]
    assert 500 + calls == len(texts(store))


def test_a_tenant_that_begins_meanwhile(store: SecureStore, into: Path) -> None:
    """A tenant that is made between the vaults and the keys is in the backup with its vault."""

    def progress(what: str, done: int, total: int) -> None:
        if what == "tenant (system)" and "late" not in [tenant.name for tenant in store.tenant_list()]:
            add(store, "late", tenant="late")

    store.backup(into, progress=progress)
    report = SecureStore.backup_verify(into)
    assert {"(system)": False, "late": False} == {vault.tenant: vault.anew for vault in report.vaults}


def test_a_key_that_is_replaced_meanwhile(store: SecureStore, into: Path) -> None:
    """A session that goes to another subject between the vaults and the keys is in the backup, readable."""
    add(store, "mine", subject="before")
    assigned = False

    def progress(what: str, done: int, total: int) -> None:
        nonlocal assigned
        if what == "tenant (system)" and not assigned:
            assigned = True
            with store.session("s", tenant="acme") as session:
                asyncio.run(session.assign_subject("after"))

    store.backup(into, progress=progress)
    report = SecureStore.backup_verify(into)
    assert [(1, 0)] == [(vault.items, vault.forgotten) for vault in report.vaults if vault.tenant == "acme"]


def test_tenants_without_end(store: SecureStore, into: Path) -> None:
    """Where tenants are made faster than they are copied the newest is younger than the backup, which has all others."""
    made = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal made
        if what == "tenant (system)":
            made += 1
            add(store, "late", tenant=f"late-{made}")

    store.backup(into, progress=progress)
    report = SecureStore.backup_verify(into)
    assert [f"late-{made}"] == [vault.tenant for vault in report.vaults if vault.anew]
    assert backups.ROUNDS == made


def test_keys_replaced_without_end(store: SecureStore, into: Path) -> None:
    """Where keys are replaced faster than vaults are copied the backup gives up: it would lack sessions. Nothing is left."""
    add(store, "mine", subject="0")
    turns = 0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal turns
        if what == "tenant (system)":
            turns += 1
            with store.session("s", tenant="acme") as session:
                asyncio.run(session.assign_subject(str(turns)))

    with pytest.raises(StoreBusyError, match="faster"):
        store.backup(into, progress=progress)
    assert [] == names(into)


# ---- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["vaults", "keys", "end"])
def test_a_killed_backup_is_none(store: SecureStore, place: Path, into: Path, at: str) -> None:
    """What a backup that was killed leaves is never taken for a backup, and the next one sweeps it."""
    add(store, "one")
    done = subprocess.run([sys.executable, "-c", BACKING_UP, str(place), str(into), at], check=False)
    assert -signal.SIGKILL == done.returncode
    assert names(into) != []
    assert all(name.startswith(".") for name in names(into))
    with pytest.raises(ConfigurationError, match="no set"):
        SecureStore.backup_verify(into)
    store.backup(into)
    assert ["keys", "vaults"] == [name.rpartition("-")[2] for name in names(into)]
    SecureStore.backup_verify(into)


def test_two_backups_at_once(store: SecureStore, into: Path) -> None:
    """A backup that is being written is not swept by another one, which is made beside it."""
    add(store, "one")
    inside: list[Any] = []

    def progress(what: str, done: int, total: int) -> None:
        if not inside:
            inside.append(None)
            inside.append(store.backup(into))

    store.backup(into, progress=progress)
    assert 4 == len(names(into))


def test_a_place_that_cannot_be_written(store: SecureStore, tmp_path: Path) -> None:
    """Where the directory is a file the backup says so, and the store is as it was."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not write"):
        store.backup(tmp_path / "file")
    store.audit_verify()


def test_a_damaged_page_is_not_copied(store: SecureStore, into: Path) -> None:
    """A vault with a page that was changed on disk can't be backed up as if nothing were wrong."""
    add(store, *map(str, range(2000)))
    tenant = store._shared.tenant("acme")
    file = tenant.vault.identity.path
    assert file is not None
    with tenant.vault.database.lock:
        tenant.vault.database._shut()  # the WAL is in the database then
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size - 2000)
        opened.write(b"\0" * 16)
    with pytest.raises(TamperedError):
        store.backup(into)
    assert [] == names(into)


def test_one_byte_anywhere(store: SecureStore, into: Path, tmp_path: Path) -> None:
    """One byte of a backup that is changed, wherever it is, is found; so is a file too many, and one too few."""
    add(store, "one")
    store.backup(into)
    for file in sorted(path for path in into.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        step = max(1, len(whole) // 12)
        for place in [*range(0, len(whole), step), len(whole) - 1]:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            # Of the manifest, one that says another store or an earlier time than its fellow is told so first.
            kinds = (TamperedError, ConfigurationError, RollbackError) if file.name == "manifest.json" else TamperedError
            with pytest.raises(kinds):
                SecureStore.backup_verify(into)
        file.write_bytes(whole)
    SecureStore.backup_verify(into)
    extra = Path(sorted(into.glob("*-vaults"))[0], "vaults", "extra.db")
    extra.write_text("")
    with pytest.raises(TamperedError, match=r"extra.db is in no manifest"):
        SecureStore.backup_verify(into)
    extra.unlink()
    next(into.glob("*-keys/keys.db")).unlink()
    with pytest.raises(TamperedError, match=r"keys.db is missing"):
        SecureStore.backup_verify(into)


def test_a_manifest_of_another_hand(store: SecureStore, into: Path) -> None:
    """Whoever rewrites a manifest so that its digests fit lacks the store's key for its MAC."""
    add(store, "one")
    store.backup(into)
    (path,) = into.glob("*-vaults")
    made = backup_set.read(path)
    forged = json.loads(made.text())
    forged["created"] = clock.rfc3339(made.created - 1)
    (path / "manifest.json").write_bytes(json.dumps(forged, indent=2, sort_keys=True).encode() + b"\n")
    with pytest.raises(TamperedError, match="not written by this store"):
        SecureStore.backup_verify(into)
    with pytest.raises(TamperedError, match="not written by this store"):
        made.check_mac(Key.random())


# ---- a full disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk(store: SecureStore, into: Path) -> None:
    """Where the backup's disk is full it says so, and nothing of it is left; the store goes on."""
    add(store, *map(str, range(3000)))
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", FILLING, str(store.path), str(into)], capture_output=True, text=True
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("needs root or user namespaces")
    assert ("DiskFullError []\n", "") == (done.stdout, done.stderr)
    add(store, "after")
    store.audit_verify()


FILLING = """
import os, subprocess, sys
from secure_memory import DiskFullError, SecureStore

path, into = sys.argv[1:3]
os.mkdir(into)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", into], check=True)
with SecureStore.open(path) as store:
    try:
        store.backup(into)
    except DiskFullError as error:
        print(type(error).__name__, os.listdir(into))
"""


def test_full_is_disk_full(tmp_path: Path) -> None:
    """What the system calls no space is DiskFullError, and anything else StorageError."""
    with pytest.raises(DiskFullError, match="could not write it"), backup_set.told("write it"):
        raise OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="permission denied"), backup_set.told("write it"):
        raise OSError(13, "Permission denied")
