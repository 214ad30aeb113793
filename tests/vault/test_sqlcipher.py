"""`vault/sqlcipher.py`: each trap of SQLCipher, sprung."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secure_memory.errors import (
    CipherUnavailableError,
    DiskFullError,
    NotAStoreError,
    SecureMemoryError,
    StorageError,
    StoreBusyError,
    StoreVersionError,
    TamperedError,
)
from secure_memory.vault import sqlcipher
from secure_memory.vault.sqlcipher import begin, connect, driver, migrate, rollback, translate, try_begin, wait_for

RAW = bytes(range(48))
OTHER = bytes(48)
CANARY = "the canary sings"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A vault with one row in it, shut."""
    path = tmp_path / "vault.db"
    with closing(connect(path, RAW, create=True)) as made:
        made.execute("CREATE TABLE t (x TEXT)")
        made.execute("INSERT INTO t VALUES (?)", (CANARY,))
    return path


@pytest.fixture
def open_vault(path: Path) -> Iterator[Callable[[], Any]]:
    """Open the vault as often as asked, as other processes would."""
    opened: list[Any] = []

    def open_vault() -> Any:
        opened.append(connect(path, RAW))
        return opened[-1]

    yield open_vault
    for one in opened:
        one.close()


# ---- the key


@pytest.mark.parametrize("length", [0, 16, 32, 47, 49, 64, 96])
def test_a_key_of_another_length_never_reaches_sqlcipher(tmp_path: Path, length: int) -> None:
    """SQLCipher would take it for a passphrase without a word: it is refused before a file is made."""
    with pytest.raises(ValueError, match=f"48 bytes, not {length}"):
        connect(tmp_path / "vault.db", bytes(length), create=True)
    assert [] == os.listdir(tmp_path)


def test_the_key_is_raw(path: Path) -> None:
    """The file opens with the 32 bytes as they are, and its first 16 are the salt: no passphrase was derived from them."""
    assert RAW[32:] == path.read_bytes()[:16]
    with closing(driver.connect(path)) as by_hand:
        by_hand.execute(f"PRAGMA key = \"x'{RAW.hex()}'\"")
        assert [(CANARY,)] == by_hand.execute("SELECT x FROM t").fetchall()


@pytest.mark.parametrize("raw", [RAW, OTHER])
def test_the_text_of_the_key_is_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    """What was handed to the driver is zeros afterwards, whether the key opened the vault or not."""
    given: list[bytearray] = []

    class Watched(driver.Connection):  # type: ignore[misc, name-defined]
        def set_key(self, key: bytearray) -> None:
            assert f"x'{raw.hex()}'".encode() == bytes(key)
            given.append(key)
            super().set_key(key)

    real = driver.connect
    monkeypatch.setattr(driver, "connect", lambda *a, **k: real(*a, factory=Watched, **k))
    if raw == RAW:
        connect(path, raw).close()
    else:
        with pytest.raises(TamperedError):
            connect(path, raw)
    assert [bytearray(99)] == given


def test_another_key_opens_nothing(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong key is told from a damaged file by nobody, and SQLCipher's own words stay off standard error."""
    with pytest.raises(TamperedError, match=r"could not open vault\.db"):
        connect(path, OTHER)
    assert ("", "") == capfd.readouterr()


def test_no_error_shows_the_key(path: Path) -> None:
    """Neither the error nor what it was raised from repeats the key."""
    with pytest.raises(TamperedError) as raised:
        connect(path, bytes([1]) * 48)
    assert "0101" not in f"{raised.value!r}{raised.value.hint}{raised.value.__cause__!r}"


# ---- is it SQLCipher, is it encrypted


class PlainConnection(sqlite3.Connection):
    """A driver that takes a key and does nothing with it, as one would that was built on plain SQLite."""

    def set_key(self, key: bytearray) -> None:
        pass


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_driver_without_sqlcipher_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    """Where `cipher_version` does not answer, nothing is written."""
    plain = SimpleNamespace(connect=lambda *a, **k: sqlite3.connect(*a, factory=PlainConnection, **k))
    monkeypatch.setattr(sqlcipher, "driver", plain)
    monkeypatch.setattr(sqlcipher, "DriverError", sqlite3.Error)
    with pytest.raises(CipherUnavailableError, match="nothing would be encrypted"):
        connect(None if in_memory else tmp_path / "vault.db", RAW, create=True)
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size]


def test_sqlcipher_answers(open_vault: Callable[[], Any]) -> None:
    """The installed driver is built on SQLCipher 4."""
    assert open_vault().execute("PRAGMA cipher_version").fetchone()[0].startswith("4.")


@pytest.mark.parametrize("create", [True, False])
def test_a_plaintext_database_is_refused(tmp_path: Path, create: bool) -> None:
    """A file that starts as plain SQLite does is named as such, and left as it was."""
    plain = tmp_path / "vault.db"
    with closing(sqlite3.connect(plain)) as made:
        made.execute("CREATE TABLE t (x)")
    before = plain.read_bytes()
    with pytest.raises(NotAStoreError, match="plaintext SQLite database") as raised:
        connect(plain, RAW, create=create)
    assert "secmem import" in str(raised.value.hint)
    assert before == plain.read_bytes()


@pytest.mark.parametrize("content", [b"garbage", os.urandom(4096), os.urandom(20_000), b"\x00" * 8192])
def test_garbage_is_refused(path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """What is no database under this key is not what was written."""
    path.write_bytes(content)
    with pytest.raises(TamperedError):
        connect(path, RAW)
    assert ("", "") == capfd.readouterr()


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    """Only `create` makes a file: a vault that vanished is not silently made anew."""
    with pytest.raises(StorageError, match=r"vault\.db"):
        connect(tmp_path / "vault.db", RAW)
    assert [] == os.listdir(tmp_path)


def test_a_new_file_is_private(tmp_path: Path) -> None:
    """A new vault, its WAL and its shared memory are 0600 under any umask."""
    before = os.umask(0)
    try:
        with closing(connect(tmp_path / "vault.db", RAW, create=True)) as made:
            made.execute("CREATE TABLE t (x)")
            assert [0o600] * 3 == [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()]
    finally:
        os.umask(before)


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    """Where no file can be made, the operating system's reason is passed on."""
    with pytest.raises(StorageError, match="could not make a database"):
        connect(tmp_path / "nowhere" / "vault.db", RAW, create=True)


@pytest.mark.parametrize("name", ["what?.db", "100%.db", "a#b.db", "żółw .db"])
def test_a_path_is_a_path(tmp_path: Path, name: str) -> None:
    """No character of a path is taken for a part of the URI that carries it."""
    with closing(connect(tmp_path / name, RAW, create=True)) as made:
        made.execute("CREATE TABLE t (x)")
    connect(tmp_path / name, RAW).close()
    assert [name] == os.listdir(tmp_path)


def test_content_is_not_in_the_file(path: Path) -> None:
    """What was stored is in no file of the vault, the WAL included."""
    with closing(connect(path, RAW)) as opened:
        opened.execute("INSERT INTO t VALUES (?)", (CANARY,))
        for file in path.parent.iterdir():
            assert CANARY.encode() not in file.read_bytes()


# ---- how it is set up


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [
        ("cipher_page_size", "4096"),
        ("page_size", "4096"),
        ("journal_mode", "wal"),
        ("wal_autocheckpoint", 0),
        ("synchronous", 2),
        ("fullfsync", 1),
        ("secure_delete", 1),
        ("foreign_keys", 1),
        ("temp_store", 2),
        ("trusted_schema", 0),
        ("busy_timeout", 0),
        ("cipher_memory_security", "0"),
        ("cipher_use_hmac", "1"),
    ],
)
def test_settings(open_vault: Callable[[], Any], pragma: str, expected: object) -> None:
    """Each setting that the design names is the one that the engine says it has."""
    assert expected == open_vault().execute(f"PRAGMA {pragma}").fetchone()[0]


def test_the_wal_is_not_checkpointed_by_a_commit(open_vault: Callable[[], Any], path: Path) -> None:
    """However long the WAL gets, the database file changes only when it is told to."""
    vault, size = open_vault(), path.stat().st_size
    for _ in range(30):
        vault.execute("INSERT INTO t VALUES (hex(zeroblob(200000)))")
    assert path.with_name("vault.db-wal").stat().st_size > 1000 * 4096
    assert size == path.stat().st_size
    vault.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert size < path.stat().st_size


def test_foreign_keys_hold(open_vault: Callable[[], Any]) -> None:
    """A row that names another one needs it to be there."""
    vault = open_vault()
    vault.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    vault.execute("CREATE TABLE children (parent INTEGER REFERENCES parents)")
    with pytest.raises(driver.IntegrityError):
        vault.execute("INSERT INTO children VALUES (7)")


def test_nothing_is_committed_unasked(open_vault: Callable[[], Any]) -> None:
    """A transaction ends by COMMIT or not at all."""
    one, other = open_vault(), open_vault()
    begin(one)
    one.execute("INSERT INTO t VALUES ('draft')")
    assert one.in_transaction
    assert [(1,)] == other.execute("SELECT count(*) FROM t").fetchall()
    rollback(one)
    rollback(one)
    assert [(1,)] == one.execute("SELECT count(*) FROM t").fetchall()


# ---- tampering


@pytest.mark.parametrize("offset", [16, 100, 2000, 4015, 4016, 4095])
def test_a_changed_byte_of_the_first_page_is_found(path: Path, offset: int) -> None:
    """One bit of the page, its IV or its MAC, and the vault does not open; the salt before it is not read from the file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(TamperedError, match="a page is not what was written") as raised:
        connect(path, RAW)
    assert "keep a copy of the files" in str(raised.value.hint)


def test_a_changed_byte_of_a_later_page_is_found(path: Path) -> None:
    """A page further on is found when it is read."""
    data = bytearray(path.read_bytes())
    data[4096 + 1000] ^= 1
    path.write_bytes(data)
    with closing(connect(path, RAW)) as opened:
        with pytest.raises(driver.Error) as raised:
            opened.execute("SELECT x FROM t").fetchall()
        assert isinstance(translate(raised.value, "reading"), TamperedError)


def test_pages_can_t_change_places(path: Path) -> None:
    """A page's MAC binds its number."""
    with closing(connect(path, RAW)) as opened:
        opened.execute("INSERT INTO t VALUES (hex(zeroblob(20000)))")
    data = path.read_bytes()
    pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    pages[2], pages[3] = pages[3], pages[2]
    path.write_bytes(b"".join(pages))
    with closing(connect(path, RAW)) as opened, pytest.raises(driver.Error) as raised:
        opened.execute("SELECT sum(length(x)) FROM t").fetchall()
    assert isinstance(translate(raised.value, "reading"), TamperedError)


# ---- the schema


def test_a_new_vault_is_migrated_from_nothing(tmp_path: Path) -> None:
    """The first migration makes the tables, all STRICT, and says its version; again it does nothing."""
    with closing(connect(tmp_path / "vault.db", RAW, create=True)) as made:
        migrate(made)
        migrate(made)
        tables = made.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall()
        names = {"control", "sessions", "branches", "items", "usage", "ledger", "holds", "tokens", "erasures"}
        assert names == {name for name, strict in tables if strict}
        assert [(len(sqlcipher.MIGRATIONS),)] == made.execute("PRAGMA user_version").fetchall()


def test_a_migration_brings_an_older_vault_up(open_vault: Callable[[], Any]) -> None:
    """Only the scripts that are missing run, in order."""
    vault = open_vault()
    first, second = "CREATE TABLE one (x)", "CREATE TABLE two (x);\nINSERT INTO two SELECT 1 FROM one"
    migrate(vault, (first,))
    vault.execute("INSERT INTO one VALUES (1)")
    migrate(vault, (first, second))
    assert [(1,)] == vault.execute("SELECT x FROM two").fetchall()
    assert [(2,)] == vault.execute("PRAGMA user_version").fetchall()


def test_a_migration_that_fails_leaves_nothing(open_vault: Callable[[], Any]) -> None:
    """A script that breaks off halfway is as if it had never begun."""
    vault = open_vault()
    with pytest.raises(StorageError, match="could not bring the schema up to date"):
        migrate(vault, ("CREATE TABLE one (x);\nCREATE TABLE t (x)",))
    assert not vault.in_transaction
    assert [(0,)] == vault.execute("PRAGMA user_version").fetchall()
    assert [] == vault.execute("SELECT * FROM sqlite_master WHERE name = 'one'").fetchall()


def test_two_that_migrate_at_once_migrate_once(open_vault: Callable[[], Any]) -> None:
    """Who comes second sees, once it has the lock, that nothing is left to do."""
    vaults, errors = [open_vault() for _ in range(4)], []

    def work(vault: Any) -> None:
        try:
            migrate(vault, ("CREATE TABLE one (x)",))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(vault,)) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors


def test_a_newer_schema_is_refused(open_vault: Callable[[], Any]) -> None:
    """A vault of tomorrow's schema is not touched by today's code."""
    vault = open_vault()
    vault.execute(f"PRAGMA user_version = {len(sqlcipher.MIGRATIONS) + 1}")
    with pytest.raises(StoreVersionError, match=f"newer than the {len(sqlcipher.MIGRATIONS)}"):
        migrate(vault)
    assert not vault.in_transaction


# ---- waiting


def test_waiting_ends(open_vault: Callable[[], Any]) -> None:
    """A process that keeps the lock is waited for as long as was said, and then named as the reason."""
    holder, waiter = open_vault(), open_vault()
    begin(holder)
    started = time.monotonic()
    with pytest.raises(StoreBusyError, match=r"more than 0.05 s"):
        begin(waiter, 0.05)
    assert 0.05 <= time.monotonic() - started < 5
    assert not waiter.in_transaction


def test_waiting_is_rewarded(open_vault: Callable[[], Any]) -> None:
    """Who waits gets the lock as soon as it is free."""
    holder, waiter = open_vault(), open_vault()
    begin(holder)
    free = threading.Timer(0.05, rollback, (holder,))
    free.start()
    begin(waiter, 10)
    assert waiter.in_transaction
    free.join()


def test_trying_does_not_wait(open_vault: Callable[[], Any]) -> None:
    """`try_begin` answers at once: no where another process writes, yes where none does."""
    holder, other = open_vault(), open_vault()
    assert try_begin(holder)
    started = time.monotonic()
    assert not try_begin(other)
    assert time.monotonic() - started < 1
    rollback(holder)
    assert try_begin(other)


def test_only_busy_is_waited_for(open_vault: Callable[[], Any]) -> None:
    """Another error is raised at once."""
    vault, attempts = open_vault(), []

    def attempt() -> None:
        attempts.append(1)
        vault.execute("SELECT * FROM nowhere")

    with pytest.raises(driver.Error):
        wait_for(attempt)
    assert [1] == attempts


def test_opening_waits_for_another_process(path: Path, open_vault: Callable[[], Any]) -> None:
    """A vault that another process has locked whole, as it does for a moment when it closes, opens when it is free."""
    holder = open_vault()
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("PRAGMA journal_mode = DELETE").fetchone()
    begin(holder)
    holder.execute("INSERT INTO t VALUES ('x')")
    holder.execute("COMMIT")  # in this mode the lock stays

    def let_go() -> None:
        holder.close()

    free = threading.Timer(0.05, let_go)
    free.start()
    connect(path, RAW).close()
    free.join()


ALONE = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 2**30 + 2)
        print("alone")
    except OSError:
        print("not alone")
"""


def test_beside_a_live_connection_the_file_is_not_touched_by_hand(
    path: Path, open_vault: Callable[[], Any], elsewhere: Callable[..., str]
) -> None:
    """Opening a second connection leaves the locks of the first, which closing any descriptor of the file takes away.

    The lock is SQLite's shared one (sqlite.org/lockingv3.html). A process that gets it alone takes itself for the last
    one and removes the WAL.
    """
    open_vault().execute("SELECT * FROM t").fetchall()
    connect(path, RAW).close()
    assert "not alone\n" == elsewhere(ALONE, path)
    path.open("rb").close()
    assert "alone\n" == elsewhere(ALONE, path)  # so the check above can fail


# ---- errors


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (5, StoreBusyError),  # SQLITE_BUSY
        (5 | 1 << 8, StoreBusyError),  # SQLITE_BUSY_RECOVERY
        (6, StoreBusyError),  # SQLITE_LOCKED
        (7, StorageError),  # SQLITE_NOMEM
        (8, StorageError),  # SQLITE_READONLY
        (10, StorageError),  # SQLITE_IOERR
        (11, TamperedError),  # SQLITE_CORRUPT
        (13, DiskFullError),  # SQLITE_FULL
        (14, StorageError),  # SQLITE_CANTOPEN
        (26, TamperedError),  # SQLITE_NOTADB
    ],
)
def test_every_error_becomes_one_of_ours(code: int | None, expected: type[SecureMemoryError]) -> None:
    """Each result code has its class and a hint, and the engine's words, which may quote SQL, are not repeated."""
    error = driver.OperationalError(CANARY)
    error.sqlite_errorcode = code
    ours = translate(error, "tenant 'acme'")
    assert expected is type(ours)
    assert str(ours).startswith("tenant 'acme': ")
    assert ours.hint
    assert CANARY not in f"{ours}{ours.hint}"


def test_an_error_without_a_code(open_vault: Callable[[], Any]) -> None:
    """What the driver itself refuses is a StorageError too."""
    vault = open_vault()
    vault.close()
    with pytest.raises(driver.Error) as raised:
        vault.execute("SELECT 1")
    assert "the database engine refused" in str(translate(raised.value, "reading"))


def test_text_that_is_none_was_not_written_by_us(open_vault: Callable[[], Any]) -> None:
    """Bytes in a column of text that no text is made of are somebody's edit."""
    with pytest.raises(driver.Error) as raised:
        open_vault().execute("SELECT CAST(x'ff' AS TEXT)").fetchall()
    assert isinstance(translate(raised.value, "reading"), TamperedError)


def test_a_real_full_disk_is_told(open_vault: Callable[[], Any]) -> None:
    """What the engine says when there is no room left is a DiskFullError."""
    vault = open_vault()
    vault.execute("PRAGMA max_page_count = 3")
    with pytest.raises(driver.Error) as raised:
        vault.execute("INSERT INTO t VALUES (hex(zeroblob(100000)))")
    assert isinstance(translate(raised.value, "writing"), DiskFullError)


def test_a_real_read_only_vault_is_told(path: Path) -> None:
    """A vault that can't be written is told apart: reads are audited, so they need to write."""
    vault = connect(path, RAW)
    vault.execute("PRAGMA query_only = ON")
    with closing(vault), pytest.raises(driver.Error) as raised:
        vault.execute("INSERT INTO t VALUES (1)")
    assert "read-only" in str(translate(raised.value, "writing"))
