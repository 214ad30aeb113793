"""The connection to keys.db: one of a process, one transaction at a time.

The driver is not imported here: whoever opens a store says how the database is reached (`Driver`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from secure_memory import fork
from secure_memory.errors import SecureMemoryError, StoreBusyError, TamperedError
from secure_memory.keys.key import Key

SCHEMA = files("secure_memory.keys").joinpath("schema.sql").read_text()

CHECKPOINT_AFTER = 250
"""Commits after which the WAL's pages are moved into the database: it does not do that by itself (see `sqlcipher`)."""

TRUNCATE_SECONDS = 10.0
"""How long destroying a key waits for other processes to leave the WAL."""

Connection = Any
Progress = Callable[[int, int], None]
"""Called now and then with the bytes that were copied, and how many there are."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How keys.db is reached.

    `connect(key, salt)` opens it with its schema, under a key of 32 bytes and a salt of 16; `begin(connection)` begins a
    write, waiting for other processes; `check(connection)` checks every page; `copy(connection, raw, path, progress)` copies
    it to a new file under the same key and salt (`raw`); `rekey(old, new, salt)` writes the file, which is under one of the
    old keys, under the new one; `translate(error, doing)` is our error for one of the driver's, whose class is `error`. An
    `in_memory` database is its connection, which a forked child then shares no file with and keeps.
    """

    connect: Callable[[bytes, bytes], Connection]
    begin: Callable[[Connection], None]
    check: Callable[[Any], None]
    copy: Callable[[Connection, memoryview, Path, Progress | None], None]
    rekey: Callable[[Sequence[Key], Key, bytes], None]
    translate: Callable[[Exception, str], SecureMemoryError]
    error: type[Exception]
    in_memory: bool


class KeysDatabase:
    """keys.db, open. Safe to use from any thread."""

    fork_last = True

    def __init__(self, driver: Driver, key: Key, salt: bytes, ask: Callable[[], Sequence[Key]]) -> None:
        """`ask` gives the keys that the file may be under, where it is no longer under this one."""
        self._driver = driver
        self._key = key
        self._salt = salt
        self._ask = ask
        self._connection: Connection | None = self._connected()
        self._closed = False
        self._since_checkpoint = 0
        self.lock = threading.Lock()
        fork.guard(self)

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[Connection]:
        """A transaction that commits at its end and is rolled back by an error. Errors of the driver become ours."""
        with self.lock:
            db = self._begun(write)
            try:
                yield db
                if write or db.in_transaction:  # a copy ends what it read in
                    db.execute("COMMIT")
                if write:
                    self._checkpoint_now_and_then(db)
            except self._driver.error as error:
                raise self._driver.translate(error, "keys.db") from None
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def _begun(self, write: bool) -> Connection:
        """The connection, in a transaction that sees the file as it is now: another process may have changed its key."""
        for attempt in (1, 2):
            db = self._opened()
            try:
                if write:
                    self._driver.begin(db)
                else:
                    db.execute("BEGIN")
                db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
                return db
            except self._driver.error as error:
                ours = self._driver.translate(error, "keys.db")
                if attempt == 2 or not isinstance(ours, TamperedError) or self._driver.in_memory:
                    raise ours from None
                self._forget_connection()
        raise AssertionError("unreachable")  # pragma: no cover

    def _connected(self) -> Connection:
        """A new connection, under the key that opens the file. Raises as the driver's `connect`."""
        try:
            return self._driver.connect(self._key.bytes, self._salt)
        except TamperedError:
            for key in self._ask():
                with suppress(TamperedError):
                    connection = self._driver.connect(key.bytes, self._salt)
                    self._key = key
                    return connection
            raise

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def rekey(self, new: Key) -> None:
        """Write every page under the `new` key, in one transaction; does nothing where it is under it. Other processes find
        out (see `_begun`). Raises StoreBusyError, StorageError."""
        with self.lock:
            self._forget_connection()
            self._driver.rekey([self._key, *self._ask()], new, self._salt)

    def _checkpoint_now_and_then(self, db: Connection) -> None:
        self._since_checkpoint += 1
        if self._since_checkpoint >= CHECKPOINT_AFTER:
            self._since_checkpoint = 0
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def truncate_wal(self) -> None:
        """Leave nothing of deleted rows in the WAL. Raises StoreBusyError where another process reads it for too long."""
        give_up = time.monotonic() + TRUNCATE_SECONDS
        while self._truncate_wal():
            if time.monotonic() > give_up:
                raise StoreBusyError(
                    "keys.db: the key is destroyed, but another process still reads the WAL, which keeps it",
                    hint="look for a long-running secmem command, then destroy the key again",
                )
            time.sleep(0.01)

    def _truncate_wal(self) -> bool:
        """Whether something is left."""
        with self.lock:
            try:
                return bool(self._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            except self._driver.error as error:
                raise self._driver.translate(error, "keys.db") from None

    def check(self) -> None:
        """Check every page of the file. Raises TamperedError, StoreBusyError, StorageError."""
        with self.lock:
            try:
                self._driver.check(self._opened())
            except self._driver.error as error:
                raise self._driver.translate(error, "keys.db") from None

    @property
    def key(self) -> Key:
        """The key of the file itself."""
        return self._key

    def copy_to(self, db: Connection, path: Path, progress: Progress | None) -> None:
        """Copy the database, as the transaction of `db` sees it, to a new file under the same key. Ends it."""
        raw = memoryview(self._key.bytes + self._salt)  # which prints as an address
        self._driver.copy(db, raw, path, progress)

    def _opened(self) -> Connection:
        if self._closed:
            raise RuntimeError("the store is closed")
        if self._connection is None:
            self._connection = self._connected()
        return self._connection

    def before_fork(self) -> None:
        """Close the connection, unless the database is in memory: each side opens its own when one is needed."""
        if not self._driver.in_memory:
            self._forget_connection()

    def forked(self) -> None:
        """In the child of a fork: nothing was inherited."""

    def close(self) -> None:
        """Close the connection and overwrite the key. Closing twice is harmless."""
        with self.lock:
            if not self._closed:
                self._closed = True
                if self._connection is not None:
                    self._connection.close()
                self._key.zero()
