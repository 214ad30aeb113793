"""`vault/commits.py`: one writer, many operations a commit, and nobody told of an outcome before it is one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from secure_memory.vault import commits
from secure_memory.vault.commits import MAX_THREADS, Workers, perform, perform_blocking
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]


@pytest.fixture
def vault(bench: Bench) -> Vault:
    """A vault with an empty branch."""
    vault: Vault = bench.made()
    return vault


@contextmanager
def counted(vault: Vault) -> Iterator[list[str]]:
    """The statements that the vault's connection runs."""
    statements: list[str] = []
    vault.database.connection.set_trace_callback(statements.append)
    yield statements
    vault.database.connection.set_trace_callback(None)


async def until(true: Callable[[], bool]) -> None:
    """Let the loop go round until something is so."""
    for _ in range(5000):
        if true():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to pass")


def entry(tx: Transaction) -> int:
    """An operation that is an entry, and returns its seq."""
    seq = tx.tail.size
    tx.record({})
    return seq


# ---- one commit for many


def test_those_that_wait_together_commit_together(bench: Bench, vault: Vault) -> None:
    """While one commit is under way the others gather, and then share one."""

    async def work() -> list[int]:
        def ask() -> asyncio.Future[int]:
            return asyncio.ensure_future(perform(vault, bench.operation(entry)))

        with vault.database.lock:
            waiting = [ask()]
            await until(lambda: vault._scheduled and not vault._queue)  # the worker has it, and waits for the lock
            waiting += [ask() for _ in range(20)]
            await until(lambda: len(vault._queue) == 20)
        return list(await asyncio.gather(*waiting))

    with counted(vault) as statements:
        seqs = asyncio.run(work())
    assert list(range(2, 23)) == seqs
    assert 2 == statements.count("COMMIT")


def test_a_commit_is_bounded(bench: Bench, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, one commit takes no more than its share."""
    monkeypatch.setattr("secure_memory.vault.vault.MAX_BATCH", 5)

    async def work() -> None:
        await asyncio.gather(*(perform(vault, bench.operation(entry)) for _ in range(20)))

    with counted(vault) as statements:
        asyncio.run(work())
    assert 4 <= statements.count("COMMIT")
    assert 22 == bench.size()


def test_outcomes_find_their_callers(bench: Bench, vault: Vault) -> None:
    """Each of many callers gets what its own operation returned, from several event loops and threads at once."""
    seen: dict[int, int] = {}

    async def work(first: int) -> None:
        async def one(number: int) -> None:
            seen[number] = await perform(vault, bench.operation(lambda tx: (tx.record({}), number)[1]))

        await asyncio.gather(*(one(first + n) for n in range(10)))

    def blocking(first: int) -> None:
        for number in range(first, first + 10):
            seen[number] = perform_blocking(vault, bench.operation(lambda tx, n=number: (tx.record({}), n)[1]))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(work(n))) for n in (0, 10, 20)]
    threads += [threading.Thread(target=blocking, args=(n,)) for n in (30, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: n for n in range(50)} == seen
    assert 52 == bench.size()


def test_an_error_finds_its_caller(bench: Bench, vault: Vault) -> None:
    """The one whose operation fails is told; the others of the commit are kept."""

    def fail(tx: Transaction) -> None:
        tx.record({})
        raise KeyError("mine")

    async def work() -> list[Any]:
        some = [entry, fail, entry, fail, entry]
        return await asyncio.gather(*(perform(vault, bench.operation(one)) for one in some), return_exceptions=True)

    outcomes = asyncio.run(work())
    assert [int, KeyError, int, KeyError, int] == [type(outcome) for outcome in outcomes]
    assert [2, 3, 4] == [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert 5 == bench.size()


# ---- cancelled, closed, gone


def test_the_cancelled_wait_for_the_outcome(bench: Bench, vault: Vault) -> None:
    """A task that is cancelled in the middle of a commit ends behind it, however often it is cancelled, and is kept."""

    async def work() -> None:
        with vault.database.lock:
            task = asyncio.ensure_future(perform(vault, bench.operation(entry)))
            for _ in range(3):
                await asyncio.sleep(0.005)
                task.cancel()
            await asyncio.sleep(0.005)
            assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 3 == bench.size()

    asyncio.run(work())


def test_a_timeout_ends_behind_the_commit(bench: Bench, vault: Vault) -> None:
    """`wait_for` takes as long as the commit does, and says that it timed out."""

    async def work() -> None:
        vault.database.lock.acquire()
        free = threading.Timer(0.1, vault.database.lock.release)
        free.start()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(perform(vault, bench.operation(entry)), 0.01)
        assert 3 == bench.size()
        free.join()

    asyncio.run(work())


def test_a_loop_that_is_gone_holds_nobody_up(bench: Bench, vault: Vault) -> None:
    """An event loop that was closed while its operation was under way does not disturb the next."""
    loop = asyncio.new_event_loop()
    with vault.database.lock:
        task = loop.create_task(perform(vault, bench.operation(entry)))
        loop.run_until_complete(asyncio.sleep(0.01))
        task.cancel()
        loop.close()
    del task
    assert 3 == bench.run(vault, entry)


def test_a_read_that_waits_holds_up_no_loop(bench: Bench, vault: Vault) -> None:
    """While another process holds the write lock, a read joins the queue and the event loop goes round."""
    holder = bench.connect()
    holder.execute("BEGIN IMMEDIATE")
    ticks = 0

    async def work() -> int:
        nonlocal ticks
        read = asyncio.ensure_future(perform(vault, bench.operation(entry, durable=False), here=True))
        for _ in range(20):
            await asyncio.sleep(0.001)
            ticks += 1
        assert not read.done()
        holder.execute("ROLLBACK")
        return await read

    assert 2 == asyncio.run(work())
    assert 20 == ticks
    holder.close()


# ---- the workers


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Workers of this test's own, which tire quickly."""
    monkeypatch.setattr(commits, "IDLE_SECONDS", 0.02)
    return Workers()


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(5000):
        if true():
            return
        time.sleep(0.001)
    raise AssertionError("it did not come to pass")


def test_threads_are_bounded(workers: Workers) -> None:
    """More jobs than threads wait for their turn, and all are done."""
    go, done = threading.Event(), []

    def job() -> None:
        go.wait()
        done.append(1)

    for _ in range(3 * MAX_THREADS):
        workers.schedule(job)
    assert MAX_THREADS == workers._threads
    go.set()
    wait_until(lambda: len(done) == 3 * MAX_THREADS)


def test_threads_with_nothing_to_do_end(workers: Workers) -> None:
    """After a while without a job no thread is left, and the next job gets a new one."""
    for _ in range(3):
        done = threading.Event()
        workers.schedule(done.set)
        assert done.wait(10)
        wait_until(lambda: workers._threads == 0)


def test_no_job_is_lost_between_threads(workers: Workers) -> None:
    """Jobs that come just as threads tire are done all the same."""
    done = []
    for n in range(60):
        workers.schedule(lambda: done.append(1))
        if n % 3 == 0:
            time.sleep(0.02)
    wait_until(lambda: len(done) == 60)


def test_a_thread_that_waits_is_used_again(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs one after another need one thread."""
    monkeypatch.setattr(commits, "IDLE_SECONDS", 30)
    for _ in range(20):
        done = threading.Event()
        workers.schedule(done.set)
        assert done.wait(10)
        wait_until(lambda: workers._unfinished == 0)
    assert 1 == workers._threads
