"""One vault's file, open: its connection, and where its ledger ends.

- `lock` is held by whoever uses the connection: a transaction, a checkpoint, opening, closing, a fork.
- The connection is opened when an operation needs it, and may be shut when many vaults are open (`shut`): where the ledger
  ended stays known, so that a vault that went back while it was shut is found.
- Opening proves, before anything else is done: the ledger continues what this process knew, the control state is this
  vault's and what the newest entry says, and the anchor does not know more than the ledger has.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from secure_memory import fork
from secure_memory.errors import IntegrityError, RollbackError, StorageError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.ledger import VERIFY_HINT, Ledger, Tail
from secure_memory.ledger.merkle import Head
from secure_memory.log import get_logger
from secure_memory.vault import copying, open_ones, sqlcipher
from secure_memory.vault.anchoring import Anchored, Identity
from secure_memory.vault.control import UNKNOWN, Control
from secure_memory.vault.file_key import Ask, FileKey

_forked_amid_scans: set[Path] = set()
"""Vaults that this process must not open: it inherited a connection to them, whose locks SQLite takes for its own."""

log = get_logger(__name__)


class Database(Anchored):
    """One tenant's database file, as this process has it. Everything but `snapshot` and `close` wants `lock` held."""

    def __init__(
        self,
        identity: Identity,
        key: Key,
        ledger_key: Key,
        anchor: Anchor | None,
        *,
        anchor_required: bool = False,
        ask: Ask | None = None,
    ) -> None:
        """`ask` gives the keys that the file may be under, where another process has given it another one."""
        super().__init__(identity, anchor, anchor_required=anchor_required)
        self.ledger = Ledger(ledger_key.bytes, identity.tenant)
        self.ledger_key = ledger_key
        self.control = UNKNOWN
        self.connection: Any = None
        self.synchronous = "FULL"
        self.lock = threading.Lock()
        self._key = FileKey(key, identity.vault, ask)
        self._scans = 0
        self._file: tuple[int, int] | None = None
        fork.guard(self)

    # ---- opening, shutting, closing -----------------------------------------------------------------------------

    def open(self) -> Any:
        """The connection, opened and checked where there is none. Called with the lock held."""
        if self.connection is not None:
            if self._file is not None and self._file != self._existing()[1]:
                raise RollbackError(
                    f"{self.where()}: another file took the place of its vault, which is open",
                    hint="treat it as an incident; stop every process that uses the store before you restore it",
                )
            return self.connection
        path, file = self._existing()
        if path in _forked_amid_scans:
            raise StorageError(
                f"{self.where()}: this process was forked while another thread of its parent was scanning the vault",
                hint="fork before the scan begins or after it has ended, or start processes with spawn",
            )
        known = self.tail
        # First the anchor, then the ledger: the other way round, another process's commit would look like a rollback.
        state = self.read_anchor()
        connection = None
        try:
            connection = self._key.writing(path)
            self.synchronous = "FULL"
            try:
                self.control = UNKNOWN  # nothing that was known before saves the check
                self.tail = self.ledger.catch_up(connection.execute, self.tail)
                self.control = self._checked_control(connection.execute, self.tail)
                gap = self.check_anchor(state, connection.execute)
                if gap is not None:
                    self.gap = gap
                    fields = {"action": "audit.gap", "actor": "secure-memory", "outcome": "ok", "detail": {"why": gap}}
                    fields["control"] = self.control.digest
                    self.tail = self.ledger.append(connection.execute, self.tail, fields)
                connection.execute("COMMIT")
            finally:
                sqlcipher.rollback(connection)
        except BaseException as error:
            self.tail = known
            if connection is not None:
                connection.close()
            if isinstance(error, sqlcipher.DriverError):
                raise sqlcipher.translate(error, self.where()) from None
            if isinstance(error, IntegrityError):
                said = str(error).removeprefix(f"{self.where()}: ")
                raise type(error)(f"{self.where()}: {said}", hint=error.hint) from None
            raise
        self.connection, self._file = connection, file
        self.move_anchor(durable=gap is not None)
        open_ones.add(self)
        return connection

    def is_in_place(self) -> bool:
        """Whether the vault is open, and its file still where it was: else opening it says what is wrong."""
        if self.connection is None or self.identity.path is None:
            return self.connection is not None
        try:
            status = os.stat(self.identity.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def _existing(self) -> tuple[Path, tuple[int, int]]:
        """The vault's path, and which file is there: what is written to one that no longer is, nobody would ever read.

        Raises RollbackError where nothing is there, StorageError where that can't be told.
        """
        path = self.identity.path
        try:
            if path is not None:
                status = path.stat()
                return path, (status.st_dev, status.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            self._key.ask()  # says so where the tenant was erased
        except OSError as error:
            why = (error.strerror or "unknown error").lower()
            raise StorageError(f"{self.where()}: could not look for its vault: {why}", hint="check modes") from None
        raise RollbackError(
            f"{self.where()}: its vault is missing",
            hint="treat it as an incident; restore it from a backup: it is never silently made anew",
        )

    def catch_up(self, execute: Callable[..., Any]) -> tuple[Tail, Control]:
        """The ledger's end and the control state inside a transaction, as they are now: another process may have written.

        Raises RollbackError, TamperedError.
        """
        tail = self.ledger.catch_up(execute, self.tail)
        return tail, self.control if tail is self.tail else self._checked_control(execute, tail)

    def _checked_control(self, execute: Callable[..., Any], tail: Tail) -> Control:
        """The control state: this vault's, and what the newest entry says of it. Raises TamperedError."""
        control = Control.read(execute)
        known = control.digest == self.control.digest
        if not known and (control.rows.get("vault"), control.rows.get("tenant")) != (
            self.identity.vault,
            self.identity.tenant,
        ):
            raise TamperedError(f"{self.where()}: this is another vault than its name says", hint=VERIFY_HINT)
        # Asked of what we know, too: somebody may have put it back after another process had changed it.
        newest = next(self.ledger.entries(execute, tail.size - 1), None)
        if newest is None or newest.control != control.digest:
            raise TamperedError(f"{self.where()}: the vault's control state was edited", hint=VERIFY_HINT)
        return self.control if known else control

    def create(self, fields: Mapping[str, Any], control: Mapping[str, bytes] | None = None) -> None:
        """Make the vault, with its first entry and what `control` adds to its control state. Begun by two processes, or
        begun again after a crash, it is made once."""
        with self.lock:
            if self.connection is not None:
                return
            connection = self._key.connect(self.identity.path, create=True)
            try:
                sqlcipher.migrate(connection)
                sqlcipher.begin(connection)
                self.tail = self.ledger.catch_up(connection.execute, Tail())
                if self.tail.size == 0:
                    rows = {"tenant": self.identity.tenant, "vault": self.identity.vault, **(control or {})}
                    for row in rows.items():
                        connection.execute("INSERT INTO control VALUES (?, ?)", row)
                    entry = {"outcome": "ok", "control": Control.of(rows).digest, **fields}
                    self.tail = self.ledger.append(connection.execute, self.tail, entry)
                self.control = self._checked_control(connection.execute, self.tail)
                connection.execute("COMMIT")
            except BaseException as error:
                connection.close()
                if isinstance(error, sqlcipher.DriverError):
                    raise sqlcipher.translate(error, self.where()) from None
                raise
            self.connection = connection
            self.move_anchor(durable=True)
            if self.identity.path is not None:
                self._file = self._existing()[1]
                open_ones.add(self)

    def shut(self) -> bool:
        """Close the connection if nobody uses it; the next operation opens it again. False where it is in use."""
        if self.identity.path is None or not self.lock.acquire(blocking=False):
            return False
        try:
            self._shut()
            return True
        finally:
            self.lock.release()

    def reopen(self) -> None:
        """Close the connection, whose pages no longer open: the file may be under another key by now. Called with the lock
        held; the next operation opens the file, and raises what is wrong with it if that was not all."""
        if self.identity.path is not None:
            self._shut()

    def _shut(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.anchor is not None:
            self.anchor.close()

    @contextmanager
    def snapshot(self) -> Iterator[Callable[..., Any]]:
        """The `execute` of a read transaction beside the writer's, so that a long scan holds up nobody.

        A vault in memory has one connection only, which is held. Raises as opening does.
        """
        with self.beside() as connection:
            yield connection.execute

    def copy_to(self, path: Path, progress: copying.Progress | None = None) -> Head:
        """Copy the vault as it is now to a new file, under the same key; returns the head of the ledger in it.

        Others go on writing meanwhile. Raises as opening does, DiskFullError, and TamperedError for a damaged page.
        """
        with self.beside() as connection:
            tail = self.ledger.catch_up(connection.execute, self.tail)
            target = self._key.connect(path, create=True)
            copying.copy(connection, target, progress)
        return Head(tail.size, tail.root)

    @contextmanager
    def beside(self) -> Iterator[Any]:
        """A connection of its own in a read transaction; the only one, held, where the vault is in memory."""
        with self.lock:
            connection = self.open()
            if self.identity.path is None:
                yield connection
                return
            beside = self._key.reading(self.identity.path)
            self._scans += 1
        try:
            yield beside
        except sqlcipher.DriverError as error:
            raise sqlcipher.translate(error, self.where()) from None
        finally:
            beside.close()
            with self.lock:
                self._scans -= 1

    def checkpoint(self) -> None:
        """Move the WAL's pages into the database. Another process's reader may hold some back; the next one gets them."""
        if self.connection is None or self.identity.path is None:
            return
        try:
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlcipher.DriverError as error:
            # The WAL still holds everything, and the next commit or checkpoint meets the same trouble aloud.
            log.warning("checkpoint failed", error=type(sqlcipher.translate(error, "")).__name__)

    @property
    def key(self) -> Key:
        """The key of the file itself."""
        return self._key.key

    def set_synchronous(self, mode: str) -> None:
        if mode != self.synchronous:
            self.connection.execute(f"PRAGMA synchronous = {mode}")
            self.synchronous = mode

    def close(self) -> None:
        """Close the connection and overwrite the keys."""
        with self.lock:
            self._shut()
            self._key.zero()
            self.ledger_key.zero()
            open_ones.forget(self)

    def before_fork(self) -> None:
        """Close the connection, unless the vault is in memory: each side opens its own when one is needed."""
        if self.identity.path is not None:
            self._shut()

    def forked(self) -> None:
        """In the child of a fork: a connection is inherited only where another thread was scanning."""
        if self._scans and self.identity.path is not None:
            _forked_amid_scans.add(self.identity.path)
        if self.anchor is not None:
            self.anchor.after_fork()
