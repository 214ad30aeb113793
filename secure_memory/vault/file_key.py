"""The key of a vault's file, as this process knows it; and how a file gets another one while it is in use.

- `rekey` writes every page under the new key in one transaction of the WAL. Killed before its COMMIT, nothing has happened;
  a reader that began before goes on with the old pages under the old key.
- Another process's connection then finds that the first page no longer opens ("file is not a database"). Before anything is
  raised, the keys are asked for again and the file is opened with one that opens it (`FileKey.connect`).
- Since the file stays the same file, no commit is lost: whoever writes next waits for the same lock as always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from secure_memory.errors import DiskFullError, StorageError, StoreBusyError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.vault import integrity, sqlcipher

_ATTEMPTS = 3
"""How often a file may get another key while it is being opened."""
Ask = Callable[[], Sequence[Key]]
"""What gives the keys that the file may be under, the newest first."""


class FileKey:
    """The key of one file. Called with the database's lock held."""

    def __init__(self, key: Key, salt: bytes, ask: Ask | None) -> None:
        """`ask` is None where no other key can come."""
        self.key = key
        self._salt = salt
        self._ask = ask

    def connect(self, path: Path | None, *, create: bool = False) -> sqlcipher.Connection:
        """A connection to the file, under the key that opens it. Raises as `sqlcipher.connect`."""
        try:
            return sqlcipher.connect(path, self.key.bytes + self._salt, create=create)
        except TamperedError:
            connection = None if create else self._another(path)
            if connection is None:
                raise
            return connection

    def writing(self, path: Path) -> sqlcipher.Connection:
        """A connection to the file, its schema the newest, in a write transaction. Raises as `connect`, StoreBusyError."""

        def begin(connection: sqlcipher.Connection) -> None:
            sqlcipher.migrate(connection)
            sqlcipher.begin(connection)

        return self._within(path, begin)

    def reading(self, path: Path) -> sqlcipher.Connection:
        """A connection to the file that can't write, in a read transaction. Raises as `connect`."""

        def begin(connection: sqlcipher.Connection) -> None:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()

        return self._within(path, begin)

    def _within(self, path: Path, begin: Callable[[sqlcipher.Connection], None]) -> sqlcipher.Connection:
        """A connection in a transaction. The file may get another key after it was opened and before: then tried again."""
        for attempt in range(_ATTEMPTS):
            connection = self.connect(path)
            try:
                begin(connection)
                return connection
            except BaseException as error:
                connection.close()
                stale = isinstance(error, sqlcipher.DriverError) and sqlcipher.is_stale(error)
                if attempt + 1 < _ATTEMPTS and (stale or isinstance(error, TamperedError)):
                    continue
                if isinstance(error, sqlcipher.DriverError):
                    raise sqlcipher.translate(error, f"could not open {path.name}") from None
                raise
        raise AssertionError("unreachable")  # pragma: no cover

    def ask(self) -> Sequence[Key]:
        """The keys that the file may be under. Raises KeyDestroyedError where the tenant was erased."""
        return () if self._ask is None else self._ask()

    def _another(self, path: Path | None) -> sqlcipher.Connection | None:
        for key in self.ask():
            try:
                connection = sqlcipher.connect(path, key.bytes + self._salt)
            except TamperedError:
                continue
            self.key = key
            return connection
        return None

    def zero(self) -> None:
        """Overwrite the key."""
        self.key.zero()


def rekey(path: Path, salt: bytes, keys: Sequence[Key], new: Key) -> bool:
    """Encrypt every page of the file under the `new` key, whichever of `keys` it is under; False where it is already.

    Waits for other processes' writes. It is under the new key when this returns, and not before: the driver says nothing
    where a page does not open, and changes nothing then. So every page is checked first, and the file is opened afterwards.
    Raises StoreBusyError, StorageError, DiskFullError, and TamperedError for a damaged page or where no key opens the file.
    """
    deadline = time.monotonic() + sqlcipher.BUSY_TIMEOUT
    checked = False
    while True:
        holder = FileKey(new, salt, lambda: keys)
        connection = holder.connect(path)
        try:
            if holder.key is new:
                return False
            if not checked:
                integrity.check(connection)
                checked = True
            if _change(connection, memoryview(new.bytes + salt)):
                break
        finally:
            connection.close()  # one whose change of key has failed would write under the new key
        if time.monotonic() > deadline:
            raise StoreBusyError(
                f"another process writes to {path.name} all the time",
                hint="look for a long-running secmem command, then rotate again",
            )
        time.sleep(0.002)
    try:
        sqlcipher.connect(path, new.bytes + salt).close()
    except TamperedError:
        raise StorageError(
            f"{path.name} is not under its new key", hint="nothing was destroyed: `secmem audit verify` checks its pages"
        ) from None
    return True


def _change(connection: sqlcipher.Connection, raw: memoryview) -> bool:
    """Write every page under another key (48 bytes, the salt as it was), in a transaction of the driver's own; False where
    another process is writing."""
    secret = sqlcipher.secret_of(bytes(raw))
    try:
        connection.reset_key(secret)
    except sqlcipher.DriverError as error:
        # Of this one call's errors the driver says no code: SQLite's words for it (sqlite3ErrStr) have to do.
        if str(error) == "database is locked":
            return False
        if str(error) == "database or disk is full":
            raise DiskFullError(
                "could not change the key of a file: the disk is full", hint="free as much room as the file has"
            ) from None
        raise sqlcipher.translate(error, "could not change the key of a file") from None
    finally:
        secret[:] = bytes(len(secret))
    return True
