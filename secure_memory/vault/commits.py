"""The commit queue: one writer a vault, many operations a commit.

- An operation is a function that runs inside a transaction, under its own savepoint: where one fails, the others of its
  commit go on. Where the engine rolled everything back (a full disk does), every operation of the batch fails.
- Its caller waits: in a coroutine (`perform`), or in a thread (`perform_blocking`). A cancelled caller still waits for the
  outcome, and is cancelled then, so that nobody is told "cancelled" of what was kept.
- The threads that run commits are shared by all vaults of the process and bounded. A vault stands in their queue once,
  however many operations wait for it, so that it has one writer.
- An operation that is small, needs no fsync and finds the vault idle runs where it is asked (`run_now`): a hop to a thread
  and back costs as much as a short read. It never waits there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future as ThreadFuture
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from secure_memory import fork

if TYPE_CHECKING:
    from secure_memory.vault.transaction import Transaction

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 8
"""Threads that run commits, whatever the number of vaults."""
IDLE_SECONDS = 30.0
"""Seconds after which a thread with nothing to do ends."""
MAX_BATCH = 512
"""Operations in one commit: bounds how long the first of them waits for the last."""


class NotNow(Exception):
    """Raised by an operation that finds, inside `run_now`, that it is too large to run there."""


@dataclass(slots=True, eq=False, repr=False)  # its outcome is what was read: no repr shows it
class Operation(Generic[T, R]):
    """`run(transaction)` inside the transaction, then `finish(what it returned)` after the commit, outside the lock.

    `durable` makes the commit fsync. `fields` are what an entry about the operation says of who asked: where it fails on
    integrity or access, an entry is recorded with them.
    """

    run: Callable[[Transaction], T]
    finish: Callable[[T], R]
    durable: bool
    fields: Mapping[str, Any]
    outcome: Any = None
    error: BaseException | None = None
    settled: bool = False
    _future: Any = None
    _loop: asyncio.AbstractEventLoop | None = field(default=None)

    def result(self) -> R:
        """What `finish` returned. Raises what the operation raised."""
        if self.error is not None:
            raise self.error
        outcome: R = self.outcome
        return outcome


class Target(Protocol):
    """What runs operations: a vault."""

    def run_now(self, operation: Operation[Any, Any]) -> bool:
        """Run it here if that needs no waiting; False where it has to queue."""
        ...

    def submit(self, operation: Operation[Any, Any]) -> None:
        """Put it into the queue. Raises RuntimeError where the vault is closed."""
        ...


async def perform(target: Target, operation: Operation[T, R], *, here: bool = False) -> R:
    """Run an operation and wait for its outcome without holding up the event loop; `here` allows `run_now`."""
    if here and target.run_now(operation):
        return operation.result()
    loop = operation._loop = asyncio.get_running_loop()
    operation._future = loop.create_future()
    target.submit(operation)
    cancelled: asyncio.CancelledError | None = None
    while not operation.settled:
        try:
            await operation._future
        except asyncio.CancelledError as error:
            # The cancellation took the future with it: wait for the outcome on another one.
            cancelled = cancelled or error
            operation._future = loop.create_future()
    if cancelled is not None:
        raise cancelled
    return operation.result()


def perform_blocking(target: Target, operation: Operation[T, R]) -> R:
    """Run an operation and wait for it in this thread."""
    if target.run_now(operation):
        return operation.result()
    operation._future = ThreadFuture()
    target.submit(operation)
    operation._future.result()
    return operation.result()


def perform_all(target: Target, operations: Sequence[Operation[Any, Any]]) -> None:
    """Run operations, as many in one commit as there is room for, and wait in this thread until each has its outcome."""
    for operation in operations:
        operation._future = ThreadFuture()
        target.submit(operation)
    for operation in operations:
        operation._future.result()


def deliver(operations: list[Operation[Any, Any]]) -> None:
    """Wake the callers of finished operations: one call into each event loop, however many wait there."""
    loops: dict[asyncio.AbstractEventLoop, list[Operation[Any, Any]]] = {}
    for operation in operations:
        if operation._loop is not None:
            loops.setdefault(operation._loop, []).append(operation)
        else:
            operation._future.set_result(None)
    for loop, waiting in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, waiting)
        except RuntimeError:
            # The loop was closed while its operation was under way: nobody is left who could be told.
            continue


def _settle(operations: list[Operation[Any, Any]]) -> None:
    """In the event loop, where a waiting task may have been cancelled meanwhile."""
    for operation in operations:
        operation.settled = True
        if not operation._future.done():
            operation._future.set_result(None)


class Workers:
    """The shared threads: `schedule(job)` runs the job on one of them, soon."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        self._unfinished = 0
        fork.guard(self)

    def schedule(self, job: Callable[[], None]) -> None:
        """Run `job` on a worker thread; where the system gives us not even one, on the caller's."""
        with self.lock:
            if self._threads < min(self._unfinished + 1, MAX_THREADS):
                with suppress(RuntimeError):  # no room for a stack, too many processes, or the interpreter ends
                    threading.Thread(target=self._work, name="secure-memory", daemon=True).start()
                    self._threads += 1
            if self._threads:
                self._unfinished += 1
                self._jobs.put(job)
                return
        job()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except Empty:
                with self.lock:
                    if not self._jobs.empty():
                        continue
                    self._threads -= 1
                    return
            job()
            with self.lock:
                self._unfinished -= 1

    def before_fork(self) -> None:
        """There is nothing to close: a thread that waits for a job holds nothing."""

    def forked(self) -> None:
        """In the child of a fork: its only thread is the one that forked, and the parent's jobs are the parent's."""
        self._jobs = SimpleQueue()
        self._threads = self._unfinished = 0


workers = Workers()
