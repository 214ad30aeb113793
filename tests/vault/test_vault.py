"""`vault/vault.py`: operations that carry their entries, fail alone, and leave what is known as it is on disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from secure_memory.errors import (
    AccessDeniedError,
    DiskFullError,
    RollbackError,
    SecureMemoryError,
    StorageError,
    TamperedError,
)
from secure_memory.ledger.entry import Entry
from secure_memory.vault import sqlcipher
from secure_memory.vault import vault as module
from secure_memory.vault.commits import NotNow, Operation, perform_blocking
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

BRANCH = 1


@pytest.fixture
def vault(bench: Bench) -> Vault:
    """A vault with two items."""
    vault: Vault = bench.made()
    bench.append(vault, "1", "2")
    return vault


def entry(tx: Transaction) -> int:
    """An operation that is an entry, and returns its seq."""
    seq = tx.tail.size
    tx.record({})
    return seq


def failing(error: Exception) -> Callable[[Transaction], None]:
    """An operation that writes, and then fails."""

    def fail(tx: Transaction) -> None:
        tx.record({})
        tx.execute("DELETE FROM items")
        raise error

    return fail


def together(vault: Vault, *operations: Operation[Any, Any]) -> list[Operation[Any, Any]]:
    """Run operations in one commit; return them, with their outcomes and errors."""
    vault._run_batch(list(operations))
    for operation in operations:
        vault._finish(operation)
    return list(operations)


def entries(bench: Bench, vault: Vault) -> list[Entry]:
    connection = bench.connect()
    found = list(vault.ledger.entries(connection.execute))
    connection.close()
    return found


# ---- one fails, the others go on


def test_an_operation_that_fails_fails_alone(bench: Bench, vault: Vault) -> None:
    """In one commit the others are kept, and nothing of what the failed one wrote."""
    size = bench.size()
    first, second, third = together(
        vault, bench.operation(entry), bench.operation(failing(KeyError("mine"))), bench.operation(entry)
    )
    assert (size, None) == (first.outcome, first.error)
    assert "mine" in repr(second.error)
    assert (size + 1, None) == (third.outcome, third.error)
    assert size + 2 == bench.size()
    assert ["1", "2"] == bench.read(vault)


@pytest.mark.parametrize("fails", ["first", "last", "alone"])
def test_a_failed_write_leaves_the_head_where_it_was(bench: Bench, vault: Vault, fails: str) -> None:
    """Before or behind one that fails in the same commit, or after one that failed alone, a write finds the head that is on
    disk."""

    def write(text: str, error: Exception | None = None) -> Operation[Any, Any]:
        from secure_memory.vault import history

        def work(tx: Transaction) -> None:
            head, _ = history.append(tx, BRANCH, tx.head(BRANCH).head, [bench.new(text)])
            bench._write(tx, head, "session.append")
            if error is not None:
                raise error

        return bench.operation(work)

    good, bad = write("3"), write("lost", KeyError())
    if fails == "alone":
        together(vault, bad)
        assert ["1", "2"] == bench.read(vault)
    others = {"first": (bad, good), "last": (good, bad), "alone": (good,)}
    together(vault, *others[fails], write("4"))
    assert ["1", "2", "3", "4"] == bench.read(vault)
    assert ["1", "2", "3", "4"] == bench.read(bench.vault())  # and who never saw it before agrees


def test_the_engine_may_roll_back_everything(bench: Bench, vault: Vault) -> None:
    """Where a full disk ends the whole transaction, every operation of it fails and nothing is kept or remembered."""
    connection = vault.database.connection
    size, pages = bench.size(), connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    fill = bench.operation(lambda tx: tx.execute("INSERT INTO control VALUES ('x', zeroblob(100000))"))
    done = together(vault, bench.operation(entry), fill, bench.operation(entry))
    assert [DiskFullError] * 3 == [type(operation.error) for operation in done]
    assert 3 == len({id(operation.error) for operation in done})  # each caller raises its own
    connection.execute("PRAGMA max_page_count = 4294967294")
    assert size == bench.run(vault, entry)


def test_a_driver_s_error_is_one_of_ours(bench: Bench, vault: Vault) -> None:
    """Whatever an operation meets in the engine, its caller sees no error of the driver's."""
    for durable in (True, False):
        with pytest.raises(StorageError, match="tenant 'acme'"):
            bench.run(vault, lambda tx: tx.execute("SELECT * FROM nowhere"), durable=durable)


# ---- incidents


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("moment", ["run", "finish"])
def test_tampering_that_is_found_is_an_entry(bench: Bench, vault: Vault, durable: bool, moment: str) -> None:
    """Found inside the transaction or behind it, run here or queued: before anyone is told it stands in the ledger."""

    def tampered(_: object) -> None:
        raise TamperedError("found")

    run, finish = (tampered, lambda _: None) if moment == "run" else (entry, tampered)
    fields = {"action": "session.read", "actor": "user:maria", "session": "5e" * 16}
    with pytest.raises(TamperedError, match="found"):
        perform_blocking(vault, Operation(run, finish, durable, fields))
    newest = entries(bench, vault)[-1]
    assert ("session.tampered", "failed", "user:maria") == (newest.action, newest.outcome, newest.actor)
    assert {"during": "session.read", "error": "TamperedError"} == newest.detail
    assert "5e" * 16 == newest.session


def test_a_denial_is_an_entry(bench: Bench, vault: Vault) -> None:
    """Who was refused what stands in the ledger, with what would have been needed."""
    denied = AccessDeniedError("no", actor="user:eve", action="session.clear", needed="the role admin")
    with pytest.raises(AccessDeniedError):
        bench.run(vault, failing(denied))
    newest = entries(bench, vault)[-1]
    assert ("access.denied", "denied") == (newest.action, newest.outcome)
    assert "the role admin" == newest.detail["needed"]
    assert ["1", "2"] == bench.read(vault)


def test_an_incident_keeps_what_was_said_of_the_asker(bench: Bench, vault: Vault) -> None:
    """For whom somebody asked is in the entry of what failed as well."""
    fields = {"action": "session.read", "actor": "service:desk", "detail": {"on_behalf_of": "user:maria"}}
    with pytest.raises(TamperedError):
        perform_blocking(vault, Operation(failing(TamperedError("found")), lambda _: None, True, fields))
    assert "user:maria" == entries(bench, vault)[-1].detail["on_behalf_of"]
    perform_blocking(vault, Operation(lambda tx: tx.record({"detail": {"why": "x"}}), lambda _: None, True, fields))
    assert {"on_behalf_of": "user:maria", "why": "x"} == entries(bench, vault)[-1].detail


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), StorageError("x")])
def test_other_failures_are_no_entries(bench: Bench, vault: Vault, error: Exception) -> None:
    """What went wrong without an incident leaves the ledger as it was."""
    size = bench.size()
    with pytest.raises(type(error)):
        bench.run(vault, failing(error))
    assert size == bench.size()


def test_an_incident_that_can_t_be_recorded_is_raised_all_the_same(
    bench: Bench, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the ledger itself went back there is nowhere to write it, and whoever asked is told."""
    bench.sql("DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)")
    with caplog.at_level(logging.ERROR), pytest.raises(RollbackError):
        bench.run(vault, entry)
    assert "incident not recorded" in [record.getMessage() for record in caplog.records]


# ---- what this process knows of the ledger


def test_another_process_goes_on(bench: Bench, vault: Vault) -> None:
    """What others append is read here, and what is appended here is read by them."""
    other = bench.vault()
    bench.append(other, "3")
    assert ["1", "2", "3"] == bench.read(vault)
    bench.append(vault, "4")
    assert "4" == bench.pop(other)
    assert ["1", "2", "3"] == bench.read(vault)


def test_a_ledger_that_went_back_is_found(bench: Bench, vault: Vault) -> None:
    """Rows taken from the end are missed by a process that saw them, in reads and in writes."""
    bench.sql("DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)")
    for durable in (True, False):
        with pytest.raises(RollbackError, match="went back from 3 entries to 2"):
            bench.run(vault, entry, durable=durable)


def test_another_end_of_the_same_length_is_found(bench: Bench, vault: Vault) -> None:
    """An end that was replaced by another one is not the one that was seen."""
    other = bench.vault()
    bench.run(other, entry)
    mine = bench.sql("SELECT * FROM ledger WHERE seq = 3")
    assert ["1", "2"] == bench.read(vault)  # saw entry 3, and wrote 4
    bench.sql("DELETE FROM ledger WHERE seq >= 3")
    forked = bench.vault()
    bench.run(forked, entry)
    bench.run(forked, entry)
    assert mine != bench.sql("SELECT * FROM ledger WHERE seq = 3")
    with pytest.raises(RollbackError, match="another root at size 5"):
        bench.read(vault)


def test_a_branch_whose_newest_write_is_gone(bench: Bench, vault: Vault) -> None:
    """A head that this process saw is not given up for an older one, though the ledger be as long as it was."""
    bench.sql("UPDATE ledger SET branch = NULL WHERE seq = 2")
    with pytest.raises(RollbackError, match="newest ledger entry is gone"):
        bench.read(vault)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE ledger SET branch = NULL WHERE seq = 2",  # the head before it comes back, and its items don't fit
        "UPDATE ledger SET branch = NULL",
        "UPDATE ledger SET branch = 2 WHERE seq = 2",
        "UPDATE ledger SET entry = (SELECT entry FROM ledger WHERE seq = 1) WHERE seq = 2",
        "UPDATE ledger SET mac = zeroblob(32) WHERE seq = 2",
        "UPDATE ledger SET session = 7 WHERE seq = 2",
        "UPDATE ledger SET nodes = zeroblob(32) WHERE seq = 2",
        "UPDATE ledger SET root = zeroblob(32) WHERE seq = 2",
    ],
)
def test_a_head_that_was_edited_is_found(bench: Bench, vault: Vault, attack: str) -> None:
    """By a process that never saw the vault before, any column of a head's row."""
    bench.sql(attack)
    with pytest.raises(TamperedError):
        bench.read(bench.vault())


def test_known_heads_are_bounded(bench: Bench, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many branches a few heads are remembered, and the others read again."""
    monkeypatch.setattr(module, "KNOWN_HEADS", 3)

    def begin(branch: int) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            head = tx.head(BRANCH).head
            tx.record_write(
                {"action": "session.branch"}, branch=branch, branch_uid="00", head=head, session=1, uid="02" * 16
            )

        return work

    for branch in range(2, 9):
        bench.run(vault, begin(branch))
    assert 3 == len(vault._heads)
    assert ["1", "2"] == bench.read(vault)


# ---- here, or in the queue


def test_a_small_read_runs_where_it_is_asked(bench: Bench, vault: Vault) -> None:
    """An operation that need not wait runs in the thread that asks."""
    assert threading.get_ident() == bench.run(vault, lambda _: threading.get_ident(), durable=False)


def test_a_write_never_runs_where_it_is_asked(bench: Bench, vault: Vault) -> None:
    """What fsyncs is the worker's."""
    assert threading.get_ident() != bench.run(vault, lambda _: threading.get_ident())


def test_what_finds_itself_too_large_joins_the_queue(bench: Bench, vault: Vault) -> None:
    """An operation that says "not now" leaves nothing behind, and is run by the worker instead."""
    tries = []

    def work(tx: Transaction) -> int:
        tries.append(tx.small)
        tx.record({})
        if tx.small:
            raise NotNow
        return threading.get_ident()

    size = bench.size()
    assert threading.get_ident() != bench.run(vault, work, durable=False)
    assert [True, False] == tries
    assert size + 1 == bench.size()


def test_nothing_runs_here_that_would_wait(bench: Bench, vault: Vault) -> None:
    """Busy in this process, busy in another, with others before it, or shut: it is put off."""
    read = bench.operation(entry, durable=False)
    with vault.database.lock:
        assert not vault.run_now(read)
    other = bench.connect()
    other.execute("BEGIN IMMEDIATE")
    assert not vault.run_now(read)
    other.execute("ROLLBACK")
    other.close()
    vault._queue.append(read)
    assert not vault.run_now(read)
    vault._queue.clear()
    assert vault.database.shut()
    assert not vault.run_now(read)
    assert not vault.run_now(bench.operation(entry))
    assert (None, None) == (read.outcome, read.error)


def test_reads_are_synced_less(bench: Bench, vault: Vault) -> None:
    """A read's commit is NORMAL, a write's is FULL, and a commit that has one write in it is FULL."""
    modes: list[int] = []

    def mode(tx: Transaction) -> None:
        modes.append(tx.execute("PRAGMA synchronous").fetchone()[0])

    for durable in (False, True, False):
        bench.run(vault, mode, durable=durable)
    together(vault, bench.operation(mode, durable=False), bench.operation(mode, durable=True))
    assert [1, 2, 1, 2, 2] == modes


def test_the_wal_stays_small(bench: Bench, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every so many operations the worker moves the WAL into the database, and so it does not grow for ever."""
    monkeypatch.setattr(module, "CHECKPOINT_AFTER", 20)
    wal = bench.path.with_name("vault.db-wal")
    sizes = []
    for n in range(200):
        bench.run(vault, entry, durable=n % 2 == 0)
        sizes.append(wal.stat().st_size)
    assert max(sizes) < 100 * 4 * 4096
    assert max(sizes) == max(sizes[:100])
    monkeypatch.setattr(module, "CHECKPOINT_AFTER", 10**9)
    for _ in range(200):
        bench.run(vault, entry)
    assert wal.stat().st_size > 2 * max(sizes)  # so the check above can fail


# ---- closing


def test_closing_runs_what_waits(bench: Bench, vault: Vault) -> None:
    """What was accepted before the close is done, and told to whoever waits for it."""
    done: list[int] = []
    with vault.database.lock:
        waiting = [threading.Thread(target=lambda: done.append(bench.run(vault, entry))) for _ in range(10)]
        for one in waiting:
            one.start()
        closing = threading.Thread(target=vault.close)
        closing.start()
    for one in [*waiting, closing]:
        one.join(20)
    assert set(done) <= set(range(3, 13))
    assert sorted(done) == list(range(3, 3 + len(done)))


def test_closing_beside_a_worker_that_is_about_to_begin(bench: Bench, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that a worker has taken and not begun is done before the vault closes; it is no incident."""
    taken, go = threading.Event(), threading.Event()
    real = Vault._run_batch

    def slow(self: Vault, batch: list[Operation[Any, Any]]) -> None:
        if threading.current_thread().name.startswith("secure-memory"):
            taken.set()
            go.wait(10)
        real(self, batch)

    monkeypatch.setattr(Vault, "_run_batch", slow)
    outcome: list[object] = []

    def ask() -> None:
        try:
            outcome.append(bench.run(vault, entry))
        except (SecureMemoryError, RuntimeError) as error:
            outcome.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert taken.wait(10)
    closing = threading.Thread(target=vault.close)
    closing.start()
    closing.join(0.05)
    go.set()
    asking.join(10)
    closing.join(10)
    assert [3] == outcome


def test_a_closed_vault(bench: Bench, vault: Vault) -> None:
    """Whatever is asked of a closed vault raises RuntimeError; closing it again does nothing."""
    vault.close()
    vault.close()
    for durable in (True, False):
        with pytest.raises(RuntimeError, match="closed"):
            bench.run(vault, entry, durable=durable)
    with pytest.raises(RuntimeError, match="zeroed"):
        _ = vault.database.ledger_key.bytes


def test_nothing_is_left_behind_by_a_close(bench: Bench, vault: Vault) -> None:
    """The last one to close takes the WAL into the database."""
    vault.close()
    assert ["vault.db"] == [path.name for path in bench.path.parent.iterdir()]
    assert ["1", "2"] == bench.read(bench.vault())


def test_a_vault_in_use_elsewhere_is_waited_for(bench: Bench, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that keeps the lock for too long is an error that says so, and nothing is lost by it."""
    real = sqlcipher.begin
    monkeypatch.setattr(sqlcipher, "begin", lambda connection: real(connection, 0.02))
    other = bench.connect()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another process held the store"):
        bench.run(vault, entry)
    other.execute("ROLLBACK")
    other.close()
    assert 3 == bench.run(vault, entry)
