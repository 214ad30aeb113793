"""One tenant's database: transactions that carry their entries, and heads.

- Every transaction first checks that the ledger stands where this process last saw it, or further.
- What this process knows of the vault (`_tail`, the known heads) moves only after a COMMIT.
- `lock` is held by whoever uses the connection: a transaction, a checkpoint, closing, a fork. The small `_mutex` guards
  the queue and is never held while anything waits.
- The connection is opened when an operation needs it and may be shut when many vaults are open (`shut_idle`): what the
  vault knows stays, so that a vault that went back while it was shut is found.
- The anchor is moved after each COMMIT. Failing to move it never fails an operation that is already kept: the anchor is
  degraded then, and where it is required the next operation refuses.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from secure_memory import fork
from secure_memory.errors import (
    AccessDeniedError,
    IntegrityError,
    RollbackError,
    SecureMemoryError,
    StorageError,
    TamperedError,
)
from secure_memory.keys.key import Key, context
from secure_memory.ledger import anchor as anchors
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import VERIFY_HINT, HeadRow, Ledger, Tail, stored_nodes
from secure_memory.ledger.merkle import Head, root_at
from secure_memory.log import get_logger
from secure_memory.vault import sqlcipher
from secure_memory.vault.commits import MAX_BATCH, NotNow, Operation, deliver, workers

MAX_OPEN = 64
"""Vaults of this process that may have an open connection (3 files and 190 kB each)."""
CHECKPOINT_AFTER = 500
"""Operations after which the worker moves the WAL's pages into the database (an operation adds about 4 pages)."""
KNOWN_HEADS = 4096
"""Branches whose head is remembered, so that an unchanged one need not be read and checked again."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which vault this is. `path` is None for one in memory; uids are 16 bytes; `tenant_name` is for messages."""

    path: Path | None
    tenant: bytes
    tenant_name: str
    vault: bytes


class Transaction:
    """What an operation works with, inside its `run` only. `small`: it holds up whoever asked (see `NotNow`)."""

    __slots__ = ("_fields", "_heads", "_vault", "execute", "small", "tail")

    def __init__(self, vault: Vault, execute: Callable[..., Any], tail: Tail, *, small: bool) -> None:
        self._vault = vault
        self._heads: dict[int, HeadRow] = {}
        self._fields: Mapping[str, Any] = {}
        self.execute = execute
        self.tail = tail
        self.small = small

    def record(self, fields: Mapping[str, Any], *, session: int | None = None) -> None:
        """Append one entry: the operation's own fields (who asked), the control digest, and `fields` above them."""
        self._append(fields, None, session)

    def record_write(
        self, fields: Mapping[str, Any], *, branch: int, branch_uid: str, head: BranchHead, session: int, uid: str
    ) -> None:
        """Append the entry of a write to a branch, which is what moves the branch's head."""
        seq = self.tail.size
        self._append({"branch": branch_uid, "head": head.to_json(), "session": uid, **fields}, branch, session)
        self._heads[branch] = HeadRow(seq, head, uid, branch_uid)

    def _append(self, fields: Mapping[str, Any], branch: int | None, session: int | None) -> None:
        entry = {"outcome": "ok", "control": self._vault.control, **self._fields, **fields}
        self.tail = self._vault.ledger.append(self.execute, self.tail, entry, branch=branch, session=session)

    def head(self, branch: int) -> HeadRow:
        """The branch's head. Raises TamperedError; RollbackError where a newer one was seen before."""
        newest = self.execute("SELECT max(seq) FROM ledger WHERE branch = ?", (branch,)).fetchone()[0]
        known = self._heads.get(branch) or self._vault.known_head(branch)
        if known is not None:
            if newest == known.seq:
                return known
            if newest is None or newest < known.seq:
                raise RollbackError("a branch's newest ledger entry is gone", hint=VERIFY_HINT)
        self._heads[branch] = head = self._vault.ledger.head(self.execute, branch)
        return head


class Vault:
    """One tenant's database, as this process has it. Runs operations; see `commits`."""

    def __init__(
        self, identity: Identity, key: Key, ledger_key: Key, anchor: Anchor | None, *, anchor_required: bool = False
    ) -> None:
        self.identity = identity
        self.ledger = Ledger(ledger_key.bytes, identity.tenant)
        self.ledger_key = ledger_key
        self.anchor = anchor
        self.anchor_required = anchor_required
        self.anchor_degraded = False
        self.control = ""
        self.lock = threading.Lock()
        self._key = key
        self._mutex = threading.Lock()
        self._queue: deque[Operation[Any, Any]] = deque()
        self._scheduled = False
        self._closed = False
        self._connection: Any = None
        self._synchronous = "FULL"
        self._since_checkpoint = 0
        self._tail = Tail()
        self._heads: OrderedDict[int, HeadRow] = OrderedDict()
        fork.guard(self)

    # ---- running operations -------------------------------------------------------------------------------------

    def run_now(self, operation: Operation[Any, Any]) -> bool:
        """Run it in this thread if the vault is open and idle and the operation small; False where it has to queue."""
        if operation.durable or self._queue or not self.lock.acquire(blocking=False):
            return False
        try:
            if self._connection is None or self._closed or not self._anchor_allows():
                return False
            self._set_synchronous("NORMAL")
            if not sqlcipher.try_begin(self._connection):
                return False
            try:
                self._commit([operation], small=True)
            except NotNow:
                operation.error = None
                return False
            finally:
                sqlcipher.rollback(self._connection)
        except SecureMemoryError as error:
            operation.error = error
        except sqlcipher.DriverError as error:
            operation.error = sqlcipher.translate(error, self._where())
        finally:
            self.lock.release()
        self._finish(operation)
        if self._since_checkpoint >= CHECKPOINT_AFTER:
            self._schedule()
        return True

    def submit(self, operation: Operation[Any, Any]) -> None:
        """Put the operation into the queue. Raises RuntimeError where the vault is closed."""
        with self._mutex:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._queue.append(operation)
        self._schedule()

    def _schedule(self) -> None:
        with self._mutex:
            if self._scheduled or self._closed:
                return
            self._scheduled = True
        workers.schedule(self._drain)

    def _drain(self) -> None:
        """What a worker does for this vault: everything that waits, batch by batch."""
        while True:
            batch = self._take()
            if batch:
                self._run_batch(batch)
                for operation in batch:
                    self._finish(operation)
                deliver(batch)
            if self._since_checkpoint >= CHECKPOINT_AFTER:
                self.checkpoint()
            with self._mutex:
                if not self._queue:
                    self._scheduled = False
                    return

    def _take(self) -> list[Operation[Any, Any]]:
        with self._mutex:
            return [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]

    def _run_batch(self, batch: list[Operation[Any, Any]]) -> None:
        """Run the batch in one transaction; each operation's outcome or error is in it afterwards. Raises nothing."""
        with self.lock:
            try:
                connection = self._open()
                if not self._anchor_allows():
                    raise StorageError(
                        f"{self._where()}: the anchor can't be written, and it is required",
                        hint="`secmem doctor` says where it is and what is wrong with it",
                    )
                self._set_synchronous("FULL" if any(operation.durable for operation in batch) else "NORMAL")
                sqlcipher.begin(connection)
                try:
                    self._commit(batch)
                finally:
                    sqlcipher.rollback(connection)
            except sqlcipher.DriverError as error:
                _fail(batch, sqlcipher.translate(error, self._where()))
            except Exception as error:
                _fail(batch, error)

    def _commit(self, batch: list[Operation[Any, Any]], *, small: bool = False) -> None:
        """The inside of a transaction, up to COMMIT and what follows it: each operation under its own savepoint."""
        connection = self._connection
        execute = connection.execute
        transaction = Transaction(self, execute, self.ledger.catch_up(execute, self._tail), small=small)
        for operation in batch:
            tail = transaction.tail
            transaction._fields = operation.fields
            execute("SAVEPOINT operation")
            try:
                operation.outcome = operation.run(transaction)
            except Exception as error:
                if isinstance(error, NotNow) or not connection.in_transaction:
                    raise  # to run_now; or the engine has rolled back the whole batch
                if isinstance(error, sqlcipher.DriverError):
                    error = sqlcipher.translate(error, self._where())
                operation.error = error
                execute("ROLLBACK TO operation")
                transaction.tail = tail
                transaction._heads.clear()
                incident = _incident(error, operation.fields)
                if incident is not None:
                    transaction.record(incident)
            execute("RELEASE operation")
        execute("COMMIT")
        self._committed(transaction)

    def _committed(self, transaction: Transaction) -> None:
        self._since_checkpoint += transaction.tail.size - self._tail.size
        self._tail = transaction.tail
        for branch, head in transaction._heads.items():
            self._heads[branch] = head
        while len(self._heads) > KNOWN_HEADS:
            self._heads.popitem(last=False)
        self._move_anchor()

    def _finish(self, operation: Operation[Any, Any]) -> None:
        """The part after the commit. What fails the proof is recorded before anyone is told."""
        if operation.error is not None:
            if isinstance(operation.error, IntegrityError):
                log.error("integrity", error=type(operation.error).__name__, vault=self.identity.vault.hex())
            return
        try:
            operation.outcome = operation.finish(operation.outcome)
        except Exception as error:
            operation.error = error
            incident = _incident(error, operation.fields)
            if incident is not None:
                log.error("integrity", error=type(error).__name__, vault=self.identity.vault.hex())
                self._run_batch([Operation(lambda tx: tx.record(incident), lambda _: None, True, operation.fields)])

    # ---- what the vault knows -----------------------------------------------------------------------------------

    def known_head(self, branch: int) -> HeadRow | None:
        """The newest head of a branch that a committed transaction of this process saw."""
        return self._heads.get(branch)

    def checkpoint(self) -> None:
        """Move the WAL's pages into the database. Another process's reader may hold some back; the next one gets them."""
        with self.lock:
            self._since_checkpoint = 0
            if self._connection is None or self.identity.path is None:
                return
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlcipher.DriverError as error:
                # The WAL still holds everything, and the next commit or checkpoint meets the same trouble aloud.
                log.warning("checkpoint failed", error=type(sqlcipher.translate(error, "")).__name__)

    def _set_synchronous(self, mode: str) -> None:
        if mode != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def _where(self) -> str:
        return f"tenant {self.identity.tenant_name!r}"

    # ---- the anchor ---------------------------------------------------------------------------------------------

    def _move_anchor(self) -> None:
        if self.anchor is None:
            return
        try:
            self.anchor.advance(Head(self._tail.size, self._tail.root), durable=self._synchronous == "FULL")
            self.anchor_degraded = False
        except (OSError, SecureMemoryError) as error:
            if not self.anchor_degraded:
                log.warning("anchor degraded", error=type(error).__name__, vault=self.identity.vault.hex())
            self.anchor_degraded = True

    def _anchor_allows(self) -> bool:
        if self.anchor_degraded and self.anchor_required:
            self._move_anchor()  # it may be back
        return not (self.anchor_degraded and self.anchor_required)

    def _check_anchor(self, state: anchors.State | None, connection: Any) -> str | None:
        """Why an `audit.gap` is to be recorded, or None. Raises RollbackError, StorageError."""
        if self.anchor is None:
            return None
        if state is None:
            if self.anchor_required:
                raise StorageError(
                    f"{self._where()}: there is no anchor for this vault at this place, and one is required",
                    hint="`secmem audit anchor --init` begins one, once you have verified the store",
                )
            log.warning("anchor missing", vault=self.identity.vault.hex())
            return "anchor missing"
        node = stored_nodes(connection.execute)
        found = anchors.check(state, self._tail.size, lambda size: root_at(size, node))
        return "entries lost in a power cut" if found == "gap" else None

    # ---- opening, shutting, closing -----------------------------------------------------------------------------

    def _open(self) -> Any:
        """The connection, opened and checked where there is none. Called with the lock held."""
        if self._connection is not None:
            return self._connection
        path = self.identity.path
        if path is None or not path.exists():
            raise RollbackError(
                f"{self._where()}: its vault is missing",
                hint="treat it as an incident; restore it from a backup: it is never silently made anew",
            )
        # First the anchor, then the ledger: the other way round, another process's commit would look like a rollback.
        state = self._read_anchor()
        connection = sqlcipher.connect(path, self._key.bytes + self.identity.vault)
        try:
            sqlcipher.migrate(connection)
            self._synchronous = "FULL"
            sqlcipher.begin(connection)
            try:
                self._tail = self.ledger.catch_up(connection.execute, self._tail)
                self._check_control(connection)
                gap = self._check_anchor(state, connection)
                if gap is not None:
                    fields = {"action": "audit.gap", "actor": "secure-memory", "outcome": "ok", "detail": {"why": gap}}
                    fields["control"] = self.control
                    self._tail = self.ledger.append(connection.execute, self._tail, fields)
                connection.execute("COMMIT")
            finally:
                sqlcipher.rollback(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._move_anchor()
        _opened(self)
        return connection

    def _read_anchor(self) -> anchors.State | None:
        if self.anchor is None:
            return None
        try:
            return self.anchor.read()
        except StorageError as error:
            if self.anchor_required:
                raise
            log.warning("anchor unreadable", error=str(error), vault=self.identity.vault.hex())
            self.anchor_degraded = True
            return None

    def _check_control(self, connection: Any) -> None:
        """Take the control state, and check that it is this vault's and what the newest entry says of it."""
        rows = connection.execute("SELECT name, value FROM control ORDER BY name").fetchall()
        self.control = control_digest(rows)
        if dict(rows).get("vault") != self.identity.vault or dict(rows).get("tenant") != self.identity.tenant:
            raise TamperedError(f"{self._where()}: this is another vault than its name says", hint=VERIFY_HINT)
        newest = next(self.ledger.entries(connection.execute, self._tail.size - 1), None)
        if newest is None or newest.control != self.control:
            raise TamperedError(f"{self._where()}: the vault's control state was edited", hint=VERIFY_HINT)

    def create(self, fields: Mapping[str, Any]) -> None:
        """Make the vault, with its first entry. Begun by two processes, or begun again after a crash, it is made once."""
        with self.lock:
            connection = sqlcipher.connect(self.identity.path, self._key.bytes + self.identity.vault, create=True)
            try:
                sqlcipher.migrate(connection)
                sqlcipher.begin(connection)
                self._tail = self.ledger.catch_up(connection.execute, Tail())
                if self._tail.size == 0:
                    rows = [("tenant", self.identity.tenant), ("vault", self.identity.vault)]
                    for row in rows:
                        connection.execute("INSERT INTO control VALUES (?, ?)", row)
                    self.control = control_digest(rows)
                    entry = {"outcome": "ok", "control": self.control, **fields}
                    self._tail = self.ledger.append(connection.execute, self._tail, entry)
                self._check_control(connection)
                connection.execute("COMMIT")
            except BaseException as error:
                connection.close()
                if isinstance(error, sqlcipher.DriverError):
                    raise sqlcipher.translate(error, self._where()) from None
                raise
            self._connection = connection
            self._move_anchor()
            _opened(self)

    def shut(self) -> bool:
        """Close the connection if nobody uses it; the next operation opens it again. False where it is in use."""
        if self.identity.path is None or not self.lock.acquire(blocking=False):
            return False
        try:
            self._shut()
            return True
        finally:
            self.lock.release()

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self.anchor is not None:
            self.anchor.close()

    def close(self) -> None:
        """Run what still waits, close the connection, overwrite the keys. Closing twice is harmless."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        while batch := self._take():
            self._run_batch(batch)
            for operation in batch:
                self._finish(operation)
            deliver(batch)
        with self.lock:
            self._shut()
            self._key.zero()
            self.ledger_key.zero()
            _forget(self)

    def forked(self) -> None:
        """In the child of a fork: what waits is the parent's, and so is the connection."""
        self._mutex = threading.Lock()
        self._queue.clear()
        self._scheduled = False
        if self._connection is not None and self.identity.path is not None:
            fork.leak(self._connection)
            self._connection = None
        if self.anchor is not None:
            self.anchor.after_fork()


def control_digest(rows: list[tuple[str, bytes]]) -> str:
    """The digest of the control state (16 bytes, hex) that each entry carries."""
    return sha256(context("secmem/control/v1", *(part for row in rows for part in row))).digest()[:16].hex()


def _fail(batch: list[Operation[Any, Any]], error: Exception) -> None:
    for operation in batch:
        operation.outcome = None
        operation.error = copy.copy(error)  # each caller raises its own, with its own traceback


def _incident(error: BaseException, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an entry says of a failed operation: of tampering and denials, and of nothing else."""
    detail = {"during": fields.get("action", "unknown"), "error": type(error).__name__}
    if isinstance(error, IntegrityError):
        return {"action": "session.tampered", "outcome": "failed", "detail": detail}
    if isinstance(error, AccessDeniedError):
        return {"action": "access.denied", "outcome": "denied", "detail": {**detail, "needed": error.needed}}
    return None


# ---- the vaults with an open connection, least recently opened first ------------------------------------------------

_open_vaults: OrderedDict[int, Vault] = OrderedDict()
_open_mutex = threading.Lock()


def _opened(vault: Vault) -> None:
    if vault.identity.path is None:
        return
    with _open_mutex:
        _open_vaults[id(vault)] = vault
        others = [other for other in _open_vaults.values() if other is not vault]
        for other in others[: max(0, len(_open_vaults) - MAX_OPEN)]:
            if other.shut():
                del _open_vaults[id(other)]


def _forget(vault: Vault) -> None:
    with _open_mutex:
        _open_vaults.pop(id(vault), None)
