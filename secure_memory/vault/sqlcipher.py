"""Opens SQLCipher databases: the only module that imports the driver.

What is guarded here, each trap with a test:

- The key is 32 raw bytes and a 16-byte salt, given by `set_key(bytearray)` and then zeroed. Never as the text of a
  `PRAGMA key`, which leaves copies, and never as a passphrase, which costs 129 ms an open where a raw key costs 0.4.
- SQLCipher takes a raw key of any other length silently as a passphrase, so the length is checked here.
- A driver built on plain SQLite ignores keys without a word: `cipher_version` must answer, and a file that starts with
  `SQLite format 3` is refused.
- Connections never commit on their own (`isolation_level=None`), and never wait inside the engine: waiting for another
  process is done in `begin`, where it can be bounded.
- Errors of the driver become ours (`translate`).
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as driver

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

Connection = Any
"""A connection of the driver, which ships no types."""
DriverError: type[Exception] = driver.Error

PAGE_SIZE = 4096
BUSY_TIMEOUT = 10.0
"""Seconds that we wait for another process's transaction."""
DAMAGED_HINT = "keep a copy of the files for the investigation, then restore from a backup"
PLAINTEXT_MAGIC = b"SQLite format 3\x00"
MIGRATIONS: tuple[str, ...] = tuple(
    files("secure_memory.vault").joinpath(name).read_text() for name in ("schema.sql", "schema_2.sql")
)
"""Scripts that bring a vault from version n to n + 1; the first one makes it."""

_RAW = 48  # bytes: a 32-byte key and a 16-byte salt


def connect(path: Path | None, raw: bytes | bytearray, *, create: bool = False) -> Connection:
    """A keyed connection to the database at `path`, or to a new one in memory where `path` is None.

    `raw` is 48 bytes, key and salt. Raises ValueError for another length, StorageError where the file is missing or
    can't be opened (a new one is made only with `create`), NotAStoreError for a plaintext database, TamperedError where
    the key does not open it, CipherUnavailableError where the driver is not SQLCipher.
    """
    length = len(raw)
    # Zeroed below. From here on no frame that raises has the key in a variable: error reporters print them.
    secret = secret_of(raw)
    del raw
    if length != _RAW:
        secret[:] = bytes(len(secret))
        raise ValueError(f"a raw SQLCipher key and salt are {_RAW} bytes, not {length}")
    target = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    try:
        if path is not None and not create:
            _refuse_missing(path)
        if create and path is not None:
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # the WAL and the -shm get its mode
        connection = driver.connect(
            target,
            uri=path is not None,
            isolation_level=None,
            check_same_thread=False,
            timeout=0,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA cipher_log_level = NONE")  # it would write to standard error
            connection.set_key(secret)
            _configure(connection, in_memory=path is None)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise StorageError(f"could not make a database: {error.strerror}", hint="can this user write there?") from None
    except DriverError as error:
        if path is not None and _code(error) == 26:
            refuse_plaintext(path)
        raise translate(error, f"could not open {path.name if path else 'memory'}") from None
    finally:
        secret[:] = bytes(len(secret))
    return connection


def secret_of(raw: bytes | bytearray) -> bytearray:
    """SQLite's text of a key and salt, made without an intermediate str: to be zeroed by whoever asked."""
    return bytearray(b"x'") + bytearray(_hex(raw)) + bytearray(b"'")


def _hex(raw: bytes | bytearray) -> bytes:
    digits = b"0123456789abcdef"
    return bytes(digits[n] for byte in raw for n in (byte >> 4, byte & 15))


def _configure(connection: Connection, *, in_memory: bool) -> None:
    version = connection.execute("PRAGMA cipher_version").fetchone()
    if not version or not version[0]:
        raise CipherUnavailableError(
            "the SQLite library that answers is not SQLCipher: nothing would be encrypted",
            hint="reinstall the package sqlcipher3, whose wheels bring SQLCipher along",
        )
    connection.execute(f"PRAGMA cipher_page_size = {PAGE_SIZE}")
    # The key is first used here. Another process may hold the file for a moment: it makes it, recovers it or closes it last.
    wait_for(lambda: connection.execute("SELECT count(*) FROM sqlite_master").fetchone())
    if not in_memory:
        # Switching to WAL needs the lock for a moment; it is already set on all but the first opening.
        wait_for(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # the worker checkpoints; a read never meets an fsync
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # only macOS knows the difference
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # no temporary file in plaintext
    connection.execute("PRAGMA trusted_schema = OFF")


def _refuse_missing(path: Path) -> None:
    try:
        path.stat()
    except OSError as error:
        raise StorageError(
            f"could not read {path.name}: {error.strerror}", hint="restore it from its newest backup if it is gone"
        ) from None


def refuse_plaintext(path: Path) -> None:
    """Raise NotAStoreError where the file is a plaintext SQLite database, StorageError where it can't be read.

    Only for a file that no key opens: closing a file takes away the locks that this process has on it, those of a live
    connection too (sqlite.org/howtocorrupt.html 2.2), and then another process that closes takes the WAL away.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except OSError as error:
        raise StorageError(f"could not read {path.name}: {error.strerror}") from None
    if magic == PLAINTEXT_MAGIC:
        raise NotAStoreError(
            f"{path.name} is a plaintext SQLite database, not a vault",
            hint="secmem import brings an SDK session database into a store",
        )


def migrate(connection: Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring the schema to the newest version, in one transaction.

    Raises StoreVersionError where the database is of a version that this code doesn't know, StorageError.
    """
    try:
        _migrate(connection, migrations)
    except DriverError as error:
        raise translate(error, "could not bring the schema up to date") from None


def _migrate(connection: Connection, migrations: tuple[str, ...]) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise StoreVersionError(
            f"schema version {version} is newer than the {len(migrations)} that this secure-memory knows",
            hint="upgrade the package secure-memory on this machine",
        )
    if version == len(migrations):
        return
    begin(connection)
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])  # another process may have been first
        for script in migrations[version:]:
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        rollback(connection)
        raise


def begin(connection: Connection, timeout: float = BUSY_TIMEOUT) -> None:
    """BEGIN IMMEDIATE; waits for another process up to `timeout` seconds. Raises StoreBusyError, StorageError."""
    wait_for(lambda: connection.execute("BEGIN IMMEDIATE"), timeout)


def wait_for(attempt: Any, timeout: float = BUSY_TIMEOUT) -> Any:
    """What `attempt()` returns, tried again while the database is busy. Raises StoreBusyError after `timeout` s."""
    deadline = None
    while True:
        try:
            return attempt()
        except DriverError as error:
            if not is_busy(error):
                raise
            now = time.monotonic()
            deadline = deadline or now + timeout
            if now >= deadline:
                raise StoreBusyError(
                    f"another process held the store for more than {timeout:g} s",
                    hint="look for a long-running secmem command or a stopped process that holds the store open",
                ) from None
            time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - spreads waiting processes, is no secret


def try_begin(connection: Connection) -> bool:
    """BEGIN IMMEDIATE without waiting: False where another process is writing, or the file has to be opened anew. Raises
    StorageError."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except DriverError as error:
        if is_busy(error) or is_stale(error):
            return False
        raise translate(error, "could not begin") from None
    return True


def rollback(connection: Connection) -> None:
    """ROLLBACK where a transaction is still open: the engine ends some on its own (a full disk does)."""
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except DriverError as error:
            raise translate(error, "could not roll back") from None


def is_busy(error: Exception) -> bool:
    """Whether another connection's lock is the only trouble (SQLITE_BUSY or SQLITE_LOCKED, extended codes too)."""
    return _code(error) in (5, 6)


def is_stale(error: Exception) -> bool:
    """Whether the file may be under another key by now: its first page does not open (SQLITE_NOTADB, SQLITE_CORRUPT), or the
    connection takes it for read-only (SQLITE_READONLY), which it does once it has failed so. Open it anew before raising."""
    return _code(error) in (8, 11, 26)


def is_taken(error: Exception) -> bool:
    """Whether there is a row already where one was to be inserted (SQLITE_CONSTRAINT)."""
    return _code(error) == 19


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def translate(error: Exception, doing: str) -> SecureMemoryError:
    """Our error for one of the driver's, by its result code (sqlite.org/rescode.html); its words are not repeated."""
    code, name = _code(error), getattr(error, "sqlite_errorname", None) or type(error).__name__
    if code in (5, 6):
        return StoreBusyError(f"{doing}: another process holds the store", hint="try again in a moment")
    if code == 13:
        return DiskFullError(f"{doing}: the disk is full", hint="free some room; nothing was lost and nothing was kept")
    if code in (11, 26) or (not code and isinstance(error, driver.OperationalError)):  # the driver's own: text that is none
        return TamperedError(
            f"{doing}: a page is not what was written ({name})",
            hint=DAMAGED_HINT,
        )
    if code == 8:
        return StorageError(
            f"{doing}: the store is read-only", hint="mount the store's volume read-write: reads are audited"
        )
    return StorageError(f"{doing}: the database engine refused ({name})", hint="`secmem doctor` checks disk and modes")
