"""`directory.py`: what is a store, what is none, and what a killed creation leaves behind."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Any

import pytest

from secure_memory import directory
from secure_memory.directory import KEYS, MANIFEST, RESERVE, SYSTEM, VAULTS
from secure_memory.errors import NotAStoreError, StorageError, StoreVersionError, WrongKeyError
from secure_memory.keys.local import MemoryKeyProvider
from secure_memory.store import SecureStore


def change_manifest(path: Path, **fields: Any) -> None:
    manifest = path / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **fields}))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so for a while we are not root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


# ---- what a store is


def test_a_store_is_a_directory_of_five(store: SecureStore, place: Path) -> None:
    """A new store holds what the module says, and no mark of its making."""
    assert {MANIFEST, KEYS, SYSTEM, VAULTS, RESERVE} == {path.name for path in place.iterdir() if "-" not in path.name}


def test_nobody_else_may_read_a_store(store: SecureStore, place: Path) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    store.tenant_create("acme")
    for path in [place, *place.rglob("*")]:
        assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode), path


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    """What was written to store.json is read from it, and its root opens with the key that wrapped it."""
    keys, roots = MemoryKeyProvider(), []
    made = directory.make(tmp_path / "s", keys, lambda _, root: roots.append(root.bytes))
    assert made == directory.read(tmp_path / "s")
    assert roots == [made.root(keys).bytes]


def test_the_root_opens_with_its_key_alone(tmp_path: Path) -> None:
    """Another key is said to be another key."""
    made = directory.make(tmp_path / "s", MemoryKeyProvider(), lambda _, __: None)
    with pytest.raises(WrongKeyError):
        made.root(MemoryKeyProvider())


def test_the_root_is_bound_to_its_store(tmp_path: Path) -> None:
    """A wrapped root doesn't open in another store's manifest, under the same key."""
    keys = MemoryKeyProvider()
    one = directory.make(tmp_path / "one", keys, lambda _, __: None)
    other = directory.make(tmp_path / "other", keys, lambda _, __: None)
    change_manifest(one.path, root=json.loads((other.path / MANIFEST).read_text())["root"])
    with pytest.raises(WrongKeyError):
        directory.read(one.path).root(keys)


# ---- what is none


def test_nothing_there(tmp_path: Path) -> None:
    """Where there is nothing there is no store, and reading it says how one is made."""
    assert not directory.exists(tmp_path / "s")
    with pytest.raises(NotAStoreError, match="there is no store at") as raised:
        directory.read(tmp_path / "s")
    assert "secmem init" in str(raised.value.hint)


@pytest.mark.parametrize("names", [[], ["lost+found"]])
def test_an_empty_directory_may_become_a_store(place: Path, names: list[str]) -> None:
    """A directory that was just made, or a volume that was just formatted, is no store yet and may become one."""
    place.mkdir()
    for name in names:
        (place / name).mkdir()
    assert not directory.exists(place)
    SecureStore.create(place).close()
    assert directory.exists(place)


def test_someone_else_s_directory(place: Path) -> None:
    """A directory with other things in it is left alone."""
    place.mkdir()
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(NotAStoreError, match="not empty and not a store"):
        SecureStore.create(place)
    assert ["thesis.tex"] == os.listdir(place)


def test_a_plaintext_database(place: Path) -> None:
    """An SDK session database is recognised, and the hint says how to bring it in."""
    with closing(sqlite3.connect(place)) as plain:
        plain.execute("CREATE TABLE agent_sessions (x)")
    with pytest.raises(NotAStoreError, match="plaintext SQLite database") as raised:
        directory.read(place)
    assert "secmem import" in str(raised.value.hint)


@pytest.mark.parametrize("content", [b"", b"garbage", os.urandom(8192)])
def test_another_file(place: Path, content: bytes) -> None:
    """Any other file is said to be one."""
    place.write_bytes(content)
    with pytest.raises(NotAStoreError, match="is a file, not a store"):
        directory.read(place)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"format": 1}',
        b'{"format": "1", "store": "00", "created": "2026-11-18", "root": ""}',
        b'{"format": 1, "store": "xyz", "created": "2026-11-18", "root": ""}',
        b'{"format": 1, "store": "00", "created": "yesterday", "root": ""}',
        b'{"format": 1, "store": "00", "created": "2026-11-18", "root": "%%%"}',
        b'{"format": 1, "store": 7, "created": "2026-11-18", "root": ""}',
    ],
)
def test_a_damaged_manifest(store: SecureStore, place: Path, content: bytes) -> None:
    """Whatever is wrong with store.json, it is called damaged, and is to be restored."""
    (place / MANIFEST).write_bytes(content)
    with pytest.raises(NotAStoreError, match="damaged") as raised:
        directory.read(place)
    assert "backup" in str(raised.value.hint)


def test_a_manifest_that_is_gone(store: SecureStore, place: Path) -> None:
    """A store that lost store.json is neither made anew nor called something else."""
    (place / MANIFEST).unlink()
    for act in (SecureStore.open, SecureStore.create):
        with pytest.raises(NotAStoreError, match=f"without its {MANIFEST}"):
            act(place)


def test_a_newer_format(store: SecureStore, place: Path) -> None:
    """A store of tomorrow's format is not touched by today's code."""
    change_manifest(place, format=directory.FORMAT + 1)
    with pytest.raises(StoreVersionError, match="newer than the 1"):
        directory.read(place)


def test_a_manifest_that_is_no_file(store: SecureStore, place: Path) -> None:
    """What the operating system says of store.json is passed on in words."""
    (place / MANIFEST).unlink()
    (place / MANIFEST).mkdir()
    with pytest.raises(StorageError, match=f"could not read {MANIFEST}: is a directory"):
        directory.read(place)


def test_a_directory_that_may_not_be_read(store: SecureStore, place: Path) -> None:
    """A store in a directory of someone else's is an error of ours, not of the operating system's."""
    with as_nobody(), pytest.raises(StorageError, match="permission denied"):
        directory.read(place)


def test_a_place_that_may_not_be_written(tmp_path: Path) -> None:
    """Where no directory can be made, it is said where and why."""
    with as_nobody(), pytest.raises(StorageError, match="could not make a store"):
        directory.make(tmp_path / "s", MemoryKeyProvider(), lambda _, __: None)


# ---- making one, and being killed


def test_a_killed_creation_is_begun_again(place: Path) -> None:
    """Whatever a killed creation had written is swept away, and the store is then made as if for the first time."""

    class KilledError(Exception):
        pass

    def fill(manifest: directory.Manifest, root: object) -> None:
        for name in (KEYS, f"{KEYS}-wal", SYSTEM, f"{VAULTS}/00.db", f"{VAULTS}/00.db-shm"):
            (manifest.path / name).write_bytes(b"half of it")
        raise KilledError

    with pytest.raises(KilledError):
        directory.make(place, MemoryKeyProvider(), fill)
    assert not directory.exists(place)
    with SecureStore.create(place) as store:
        store.tenant_create("acme")
        assert ["acme"] == [info.name for info in store.tenant_list()]
    assert not (place / ".creating").exists()


KILLED = """
import os, signal, sys
from secure_memory import directory
from secure_memory.store import SecureStore
real = directory._write
def write(*arguments):
    if sys.argv[2] == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
directory._write = write
SecureStore.create(sys.argv[1])
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_creation_killed_at_its_end(place: Path, moment: str) -> None:
    """Killed before the manifest stands, there is no store; killed behind it, there is one; either way it can be used."""
    killed = Popen([executable, "-c", KILLED, str(place), moment])
    assert -9 == killed.wait(30)
    assert (moment == "after") == directory.exists(place)
    with (SecureStore.open if moment == "after" else SecureStore.create)(place) as store:
        store.tenant_create("acme")
        assert 2 == len(store.audit_verify())


RACING = """
import sys
from secure_memory import directory
from secure_memory.keys.local import MemoryKeyProvider, EnvKeyProvider
from pathlib import Path
print("ready", flush=True)
sys.stdin.readline()
made = []
manifest = directory.make(Path(sys.argv[1]), EnvKeyProvider(), lambda manifest, root: made.append(1))
print(manifest.uid.hex(), len(made))
"""


def test_two_processes_make_one_store(place: Path) -> None:
    """Of several processes that make one store at once, one makes it and all have it."""
    racing = [Popen([executable, "-c", RACING, str(place)], stdin=-1, stdout=-1, text=True) for _ in range(4)]
    for one in racing:
        assert one.stdout is not None
        assert "ready\n" == one.stdout.readline()
    answers = [one.communicate("go\n", timeout=30)[0].split() for one in racing]
    assert 1 == len({uid for uid, _ in answers})
    assert 1 == sum(int(made) for _, made in answers)


def test_a_store_is_not_made_over_another(store: SecureStore, place: Path) -> None:
    """Where a store stands, `make` gives it back and fills nothing."""
    filled: list[Callable[..., None]] = []
    again = directory.make(place, MemoryKeyProvider(), lambda *_: filled.append(directory.make))  # type: ignore[arg-type]
    assert ([], directory.read(place)) == (filled, again)
