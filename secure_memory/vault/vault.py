"""One tenant's vault: transactions that carry their entries, and the heads of its branches.

- Every transaction first checks that the ledger stands where this process last saw it, or further.
- What this process knows (the database's tail, the known heads) moves only after a COMMIT.
- An operation that fails takes back what it did and nothing else; where it failed on integrity or access, an entry says so
  before its caller hears of it.
- The queue's `lock` is never held while anything waits; the database's is held by whoever uses the connection.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from secure_memory import fork
from secure_memory.errors import AccessDeniedError, IntegrityError, SecureMemoryError, StorageError
from secure_memory.keys.key import Key
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.ledger import HeadRow
from secure_memory.log import get_logger
from secure_memory.vault import sqlcipher
from secure_memory.vault.anchoring import Identity
from secure_memory.vault.commits import MAX_BATCH, NotNow, Operation, deliver, workers
from secure_memory.vault.database import Database
from secure_memory.vault.file_key import Ask
from secure_memory.vault.transaction import Transaction

CHECKPOINT_AFTER = 500
"""Operations after which the worker moves the WAL's pages into the database (an operation adds about 4 pages)."""
KNOWN_HEADS = 4096
"""Branches whose head is remembered, so that an unchanged one need not be read and checked again."""

log = get_logger(__name__)


class Vault:
    """One tenant's database, as this process has it. Runs operations; see `commits`."""

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
        self.identity = identity
        self.database = Database(identity, key, ledger_key, anchor, anchor_required=anchor_required, ask=ask)
        self.ledger = self.database.ledger
        self.lock = threading.Lock()
        self._queue: deque[Operation[Any, Any]] = deque()
        self._scheduled = False
        self._draining = threading.Lock()  # held by whoever has taken operations and not yet told their callers
        self._closed = False
        self._since_checkpoint = 0
        self._heads: OrderedDict[int, HeadRow] = OrderedDict()
        fork.guard(self)

    # ---- running operations -------------------------------------------------------------------------------------

    def run_now(self, operation: Operation[Any, Any]) -> bool:
        """Run it in this thread if the vault is open and idle and the operation small; False where it has to queue."""
        database = self.database
        if operation.durable or self._queue or not database.lock.acquire(blocking=False):
            return False
        try:
            if self._closed or not database.is_in_place() or not database.anchor_allows():
                return False
            database.set_synchronous("NORMAL")
            if not sqlcipher.try_begin(database.connection):
                return False
            try:
                self._commit([operation], small=True)
            finally:
                sqlcipher.rollback(database.connection)
        except NotNow:
            return False
        except SecureMemoryError as error:
            operation.error = error
        except sqlcipher.DriverError as error:
            operation.error = sqlcipher.translate(error, database.where())
        finally:
            database.lock.release()
        self._finish(operation)
        if self._since_checkpoint >= CHECKPOINT_AFTER:
            self._schedule()
        return True

    def submit(self, operation: Operation[Any, Any]) -> None:
        """Put the operation into the queue. Raises RuntimeError where the vault is closed."""
        with self.lock:
            if self._closed:
                raise RuntimeError("the store is closed")
            self._queue.append(operation)
        self._schedule()

    def _schedule(self) -> None:
        with self.lock:
            if self._scheduled or self._closed:
                return
            self._scheduled = True
        workers.schedule(self._drain)

    def _drain(self) -> None:
        """What a worker does for this vault: everything that waits, batch by batch."""
        while True:
            self._run_next()
            if self._since_checkpoint >= CHECKPOINT_AFTER:
                self._checkpoint()
            with self.lock:
                if not self._queue:
                    self._scheduled = False
                    return

    def _run_next(self) -> bool:
        """Run the next batch and tell its callers; False where nothing waits."""
        with self._draining:
            batch = self._take()
            if batch:
                self._run_batch(batch)
                for operation in batch:
                    self._finish(operation)
                deliver(batch)
            return bool(batch)

    def _take(self) -> list[Operation[Any, Any]]:
        with self.lock:
            return [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]

    def _run_batch(self, batch: list[Operation[Any, Any]]) -> None:
        """Run the batch in one transaction; each operation's outcome or error is in it afterwards. Raises nothing."""
        database = self.database
        with database.lock:
            try:
                connection = self._begun("FULL" if any(operation.durable for operation in batch) else "NORMAL")
                try:
                    self._commit(batch)
                finally:
                    sqlcipher.rollback(connection)
            except sqlcipher.DriverError as error:
                _fail(batch, sqlcipher.translate(error, database.where()))
            except Exception as error:
                _fail(batch, error)

    def _begun(self, synchronous: str) -> Any:
        """The connection, with a transaction begun on it. Where the file does not open any more, it is opened anew once:
        another process may have given it another key."""
        database = self.database
        for last in (False, True):
            connection = database.open()
            if not database.anchor_allows():
                raise StorageError(
                    f"{database.where()}: the anchor can't be written, and it is required",
                    hint="`secmem doctor` says where it is and what is wrong with it",
                )
            try:
                database.set_synchronous(synchronous)
                sqlcipher.begin(connection)
                break
            except sqlcipher.DriverError as error:
                if last or not sqlcipher.is_stale(error):
                    raise
                database.reopen()
        return connection

    def _commit(self, batch: list[Operation[Any, Any]], *, small: bool = False) -> None:
        """The inside of a transaction, up to COMMIT and what follows it: each operation under its own savepoint, unless it
        is alone. Where none is kept, nothing is committed, and the caller rolls back."""
        connection = self.database.connection
        execute = connection.execute
        transaction = Transaction(self, execute, *self.database.catch_up(execute), small=small)
        several = len(batch) > 1
        for operation in batch:
            mark = transaction.begin(operation.fields)
            if several:
                execute("SAVEPOINT operation")
            try:
                operation.outcome = operation.run(transaction)
            except Exception as error:
                if isinstance(error, NotNow) or not connection.in_transaction:
                    raise  # to run_now; or the engine has rolled back the whole batch
                if isinstance(error, sqlcipher.DriverError):
                    error = sqlcipher.translate(error, self.database.where())
                operation.error = error
                if not several:
                    return
                execute("ROLLBACK TO operation")
                transaction.back(mark)
            if several:
                execute("RELEASE operation")
        execute("COMMIT")
        self._committed(transaction)

    def _committed(self, transaction: Transaction) -> None:
        written = transaction.tail.size - self.database.tail.size
        self._since_checkpoint += written
        self.database.tail, self.database.control = transaction.tail, transaction.control
        for branch, head in transaction.heads.items():
            self._heads[branch] = head
        while len(self._heads) > KNOWN_HEADS:
            self._heads.popitem(last=False)
        # A COMMIT that wrote nothing synced nothing, and what it stands on may still be in the WAL only.
        self.database.move_anchor(durable=written > 0 and self.database.synchronous == "FULL")

    def _finish(self, operation: Operation[Any, Any]) -> None:
        """The part after the commit. What failed on integrity or access is on disk before anyone is told."""
        if operation.error is None:
            try:
                operation.outcome = operation.finish(operation.outcome)
            except Exception as error:
                operation.error = error
        incident = operation.error and _incident(operation.error, operation.fields)
        if incident:
            event = "denied" if incident["outcome"] == "denied" else "integrity"
            log.error(event, vault=self.identity.vault.hex(), **incident["detail"])
            entry = Operation(lambda tx: tx.record(incident), lambda _: None, True, operation.fields)
            self._run_batch([entry])
            if entry.error is not None:
                log.error("incident not recorded", error=type(entry.error).__name__)

    def known_head(self, branch: int) -> HeadRow | None:
        """The newest head of a branch that a committed transaction of this process saw."""
        return self._heads.get(branch)

    def _checkpoint(self) -> None:
        with self.database.lock:
            self._since_checkpoint = 0
            self.database.checkpoint()

    def close(self) -> None:
        """Run what still waits, close the database, overwrite the keys. Closing twice is harmless."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
        while self._run_next():  # which waits for what a worker has begun
            pass
        self.database.close()

    def before_fork(self) -> None:
        """There is nothing to close here: the database does it."""

    def forked(self) -> None:
        """In the child of a fork: what waits is the parent's, and so is the worker."""
        self._draining = threading.Lock()
        self._queue.clear()
        self._scheduled = False


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
        asked = {"during": error.action, "needed": error.needed}  # an operation may be several actions
        return {"action": "access.denied", "outcome": "denied", "detail": {**detail, **asked}}
    return None
