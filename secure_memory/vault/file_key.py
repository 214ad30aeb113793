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

from secure_memory.errors import StoreBusyError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.vault import sqlcipher

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

    Waits for other processes' writes. Raises StoreBusyError, StorageError, and TamperedError where no key opens it.
    """
    deadline = time.monotonic() + sqlcipher.BUSY_TIMEOUT
    while True:
        holder = FileKey(new, salt, lambda: keys)
        connection = holder.connect(path)
        try:
            if holder.key is new:
                return False
            _change(connection, memoryview(new.bytes + salt))
            return True
        except StoreBusyError:
            if time.monotonic() > deadline:
                raise
        finally:
            connection.close()  # one whose change of key has failed would write under the new key


def _change(connection: sqlcipher.Connection, raw: memoryview) -> None:
    """Write every page under another key (48 bytes, the salt as it was), in a transaction of the driver's own."""
    secret = sqlcipher.secret_of(bytes(raw))
    try:
        connection.reset_key(secret)
    except sqlcipher.DriverError as error:
        raise sqlcipher.translate(error, "could not change the key of a file") from None
    finally:
        secret[:] = bytes(len(secret))
