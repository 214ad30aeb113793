"""`vault/database.py`: what opening a vault proves, and what the anchor makes of it."""

from __future__ import annotations

import logging
import resource
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secure_memory.errors import (
    IntegrityError,
    RollbackError,
    SecureMemoryError,
    StorageError,
    StoreBusyError,
    StoreVersionError,
    TamperedError,
)
from secure_memory.ledger import anchor as anchors
from secure_memory.vault import database as module
from secure_memory.vault import integrity, open_ones, sqlcipher
from secure_memory.vault.control import Control
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]


def entry(tx: Transaction) -> int:
    """An operation that is an entry, and returns its seq."""
    seq = tx.tail.size
    tx.record({})
    return seq


def gaps(bench: Bench) -> list[str]:
    """Why gaps were recorded, in order."""
    vault = bench.vault()
    connection = bench.connect()
    found = [e.detail["why"] for e in vault.ledger.entries(connection.execute) if e.action == "audit.gap"]
    connection.close()
    return found


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow past `size` bytes: a disk that is full, for as long as the block lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def copied(bench: Bench, to: Path) -> None:
    """Copy the vault's files as a backup would, with no process at work."""
    to.mkdir(exist_ok=True)
    for file in bench.path.parent.glob("vault.db*"):
        shutil.copy(file, to)


def restored(bench: Bench, backup: Path) -> None:
    """Put the files of a backup in the place of the vault's."""
    for file in bench.path.parent.glob("vault.db*"):
        file.unlink()
    for file in backup.iterdir():
        shutil.copy(file, bench.path.parent)


# ---- opening


def test_a_vault_that_is_missing_is_not_made_anew(bench: Bench) -> None:
    """A vault that vanished is a rollback, and no file takes its place."""
    bench.made().close()
    bench.path.unlink()
    with pytest.raises(RollbackError, match="its vault is missing") as raised:
        bench.run(bench.vault(), entry)
    assert "never silently made anew" in str(raised.value.hint)
    assert not bench.path.exists()


def test_a_vault_is_made_once(bench: Bench) -> None:
    """Begun by two processes, or begun again, a vault has one first entry."""
    for _ in range(3):
        bench.vault().database.create({"action": "tenant.create", "actor": "test"})
    assert 1 == bench.size()
    again = bench.vault()
    again.database.create({"action": "tenant.create", "actor": "test"})
    assert 1 == bench.run(again, entry)


def test_a_newer_schema_is_refused(bench: Bench) -> None:
    """A vault of tomorrow's schema is not opened by today's code, and the next attempt says so again."""
    bench.made().close()
    bench.sql(f"PRAGMA user_version = {len(sqlcipher.MIGRATIONS) + 1}")
    vault = bench.vault()
    for _ in range(2):
        with pytest.raises(StoreVersionError):
            bench.run(vault, entry)


def test_garbage_in_the_place_of_a_vault(bench: Bench) -> None:
    """A file that no key opens is not what was written."""
    bench.made().close()
    bench.path.write_bytes(b"garbage" * 1000)
    with pytest.raises(TamperedError):
        bench.run(bench.vault(), entry)


def test_a_page_that_a_checkpoint_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no damage: nothing is said while a reader holds it back, and all is well once that has ended."""
    monkeypatch.setattr(sqlcipher, "BUSY_TIMEOUT", 0.2)
    vault, left_out = bench.made(), []
    for _ in range(100):
        bench.run(vault, entry)
        with vault.database.snapshot() as execute:
            for _ in range(4):
                bench.run(vault, entry)
            vault.database.checkpoint()
            left_out = execute("PRAGMA cipher_integrity_check").fetchall()
            if left_out:
                with pytest.raises(StoreBusyError, match="can't be checked"), vault.database.beside() as connection:
                    integrity.check(connection)
                break
    assert left_out
    with vault.database.beside() as connection:
        integrity.check(connection)


@pytest.mark.parametrize("page", range(1, 9))
def test_a_page_that_was_changed(bench: Bench, page: int) -> None:
    """Whichever page was changed, what comes of it is an error of ours, in an operation as in a scan."""
    bench.made().close()
    data = bytearray(bench.path.read_bytes())
    data[(page * 4096 + 100) % len(data)] ^= 1
    bench.path.write_bytes(data)
    vault = bench.vault()
    with pytest.raises(TamperedError), vault.database.beside() as connection:
        integrity.check(connection)
    try:
        bench.run(vault, entry)
        bench.read(vault)
    except SecureMemoryError as error:
        assert isinstance(error, IntegrityError)  # noqa: PT017 - some pages are not read by these


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE control SET value = x'00' WHERE name = 'vault'",
        "UPDATE control SET value = x'00' WHERE name = 'tenant'",
        "DELETE FROM control WHERE name = 'tenant'",
        "DELETE FROM control",
        "INSERT INTO control VALUES ('policy', x'00')",
        "DELETE FROM ledger",
        "UPDATE ledger SET mac = zeroblob(32) WHERE seq = 1",
    ],
)
def test_control_state_that_was_edited(bench: Bench, attack: str) -> None:
    """Opening checks that the control state is this vault's, and what the newest entry says of it."""
    bench.made().close()
    bench.sql(attack)
    with pytest.raises(TamperedError):
        bench.run(bench.vault(), entry)


def test_the_digest_of_the_control_state_tells_everything() -> None:
    """No two control states have one digest: not by moving bytes between names, values or rows."""
    states: list[dict[str, bytes]] = [
        {},
        {"": b""},
        {"a": b"bc"},
        {"ab": b"c"},
        {"a": b"b", "c": b""},
        {"a": b"", "b": b"c"},
    ]
    assert len(states) == len({Control.of(state).digest for state in states})


def test_an_opening_that_fails_moves_nothing(bench: Bench) -> None:
    """A full disk while a gap is recorded leaves no trace: the next opening finds the vault as it is."""
    bench.made(anchored=True).close()
    keeper = bench.connect()  # so that the WAL and the shared memory stay, and are as large as they are
    for _ in range(20):
        keeper.execute("INSERT OR REPLACE INTO control VALUES ('x', zeroblob(5000))")
    keeper.execute("DELETE FROM control WHERE name = 'x'")
    shutil.rmtree(bench.anchors)
    vault = bench.vault(anchored=True)
    with file_size_limit(bench.path.with_name("vault.db-wal").stat().st_size), pytest.raises(StorageError):
        bench.run(vault, entry)
    assert 3 == bench.run(vault, entry)  # behind the gap, which is entry 2
    keeper.close()


# ---- the anchor


def test_the_anchor_follows_the_ledger(bench: Bench) -> None:
    """After a write the anchor knows the head as durable, after a read as seen."""
    vault = bench.made(anchored=True)
    bench.append(vault, "1")
    state = vault.database.anchor.read()
    assert (3, 3) == (state.durable.size, state.seen.size)
    bench.read(vault)
    state = vault.database.anchor.read()
    assert (3, 4) == (state.durable.size, state.seen.size)
    assert vault.database.tail.root == state.seen.root


def test_opening_the_same_store_again_is_no_gap(bench: Bench) -> None:
    """A healthy vault that is opened and closed many times raises no false alarm."""
    bench.made(anchored=True).close()
    for n in range(5):
        vault = bench.vault(anchored=True)
        bench.append(vault, str(n))
        bench.read(vault)
        vault.close()
    assert [] == gaps(bench)


@pytest.mark.parametrize("lost", ["writes", "reads"])
def test_an_older_copy_is_a_rollback(bench: Bench, tmp_path: Path, lost: str) -> None:
    """An older copy of the vault in its place is found by whoever opens it next, were it but one read older."""
    vault = bench.made(anchored=True)
    bench.append(vault, "1")
    vault.close()
    copied(bench, tmp_path / "backup")
    vault = bench.vault(anchored=True)
    bench.append(vault, "2") if lost == "writes" else bench.read(vault)
    vault.close()
    restored(bench, tmp_path / "backup")
    with pytest.raises(RollbackError):
        bench.run(bench.vault(anchored=True), entry)


def test_an_older_copy_that_went_on_is_a_rollback(bench: Bench, tmp_path: Path) -> None:
    """An older copy that has grown past the anchor has another history, and that is found."""
    vault = bench.made(anchored=True)
    vault.close()
    copied(bench, tmp_path / "backup")
    vault = bench.vault(anchored=True)
    bench.append(vault, "1")
    vault.close()
    restored(bench, tmp_path / "backup")
    for text in ("a", "b", "c"):
        bench.append(bench.vault(), text)  # one who holds the keys, and leaves the anchor alone
    bench.close()
    with pytest.raises(RollbackError, match="another history"):
        bench.run(bench.vault(anchored=True), entry)


def test_without_an_anchor_a_shut_vault_still_finds_a_rollback(bench: Bench, tmp_path: Path) -> None:
    """What this process saw is not forgotten while the vault's connection is shut."""
    vault = bench.made()
    assert vault.database.shut()
    copied(bench, tmp_path / "backup")
    bench.append(vault, "1")
    assert vault.database.shut()
    restored(bench, tmp_path / "backup")
    with pytest.raises(RollbackError, match="went back"):
        bench.run(vault, entry)


def test_what_a_power_cut_took_is_a_gap(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reboot, reads that were seen and are gone are recorded, once, and raise no alarm."""
    vault = bench.made(anchored=True)
    vault.close()
    copied(bench, tmp_path / "backup")
    vault = bench.vault(anchored=True)
    bench.read(vault)
    vault.close()
    restored(bench, tmp_path / "backup")
    monkeypatch.setattr(anchors, "boot_id", lambda: b"the next boot...")
    for _ in range(2):
        vault = bench.vault(anchored=True)
        bench.run(vault, entry)
        vault.close()
    assert ["entries lost in a power cut"] == gaps(bench)


def test_a_missing_anchor_is_a_gap(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An anchor that is gone is warned of, recorded, and begun again."""
    bench.made(anchored=True).close()
    shutil.rmtree(bench.anchors)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            vault = bench.vault(anchored=True)
            bench.run(vault, entry)
            vault.close()
    assert ["anchor missing"] == [record.getMessage() for record in caplog.records]
    assert ["anchor missing"] == gaps(bench)


def test_a_required_anchor_that_is_missing(bench: Bench) -> None:
    """Where an anchor is required, nothing is done without one."""
    bench.made(anchored=True).close()
    shutil.rmtree(bench.anchors)
    with pytest.raises(StorageError, match="one is required") as raised:
        bench.run(bench.vault(anchored=True, anchor_required=True), entry)
    assert "secmem audit anchor --init" in str(raised.value.hint)
    assert [] == gaps(bench)


def test_a_damaged_anchor(bench: Bench) -> None:
    """An anchor of which nothing is whole is an incident, not a missing anchor."""
    bench.made(anchored=True).close()
    (file,) = bench.anchors.rglob("*.anchor")
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(TamperedError, match="damaged"):
        bench.run(bench.vault(anchored=True), entry)


def block(bench: Bench) -> None:
    """Make the anchor's place one that can't be written, by root either."""
    shutil.rmtree(bench.anchors, ignore_errors=True)
    bench.anchors.write_text("a file where a directory should be")


def test_an_anchor_that_can_t_be_written(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What is committed stands; the anchor is degraded, once aloud, until it can be written again."""
    vault = bench.made(anchored=True)
    vault.database.anchor.close()
    block(bench)
    with caplog.at_level(logging.WARNING):
        assert [2, 3] == [bench.run(vault, entry), bench.run(vault, entry)]
    assert vault.database.anchor_degraded
    assert ["anchor degraded"] == [record.getMessage() for record in caplog.records]
    bench.anchors.unlink()
    bench.run(vault, entry)
    assert not vault.database.anchor_degraded
    assert 5 == vault.database.anchor.read().durable.size


@pytest.mark.parametrize("durable", [True, False])
def test_a_required_anchor_that_can_t_be_written(bench: Bench, durable: bool) -> None:
    """What was committed when it failed stands; from then on nothing is done until the anchor is back."""
    vault = bench.made(anchored=True, anchor_required=True)
    vault.database.anchor.close()
    block(bench)
    assert 2 == bench.run(vault, entry, durable=durable)
    for _ in range(2):
        with pytest.raises(StorageError, match="it is required"):
            bench.run(vault, entry, durable=durable)
    bench.anchors.unlink()
    assert 3 == bench.run(vault, entry, durable=durable)


def test_an_anchor_that_can_t_be_read(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An unreadable anchor is one that proves nothing: a gap, or where it is required an error."""
    bench.made(anchored=True).close()
    block(bench)
    with pytest.raises(StorageError):
        bench.run(bench.vault(anchored=True, anchor_required=True), entry)
    with caplog.at_level(logging.WARNING):
        assert 3 == bench.run(bench.vault(anchored=True), entry)
    assert "anchor unreadable" in [record.getMessage() for record in caplog.records]


def test_a_commit_that_wrote_nothing_is_not_called_durable(bench: Bench) -> None:
    """An operation that fails syncs nothing, so the anchor must not take what it stands on for synced."""
    vault = bench.made(anchored=True)
    bench.read(vault)
    with pytest.raises(KeyError):
        bench.run(vault, lambda _: {}["x"])
    state = vault.database.anchor.read()
    assert (2, 3) == (state.durable.size, state.seen.size)


# ---- many vaults


def test_open_vaults_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """Past the bound the vault that was opened longest ago is shut, and opens again when it is needed."""
    monkeypatch.setattr(open_ones, "MAX_OPEN", 3)
    monkeypatch.setattr(open_ones, "_open", OrderedDict())
    bench_of = request.getfixturevalue("bench").__class__
    benches = []
    for n in range(6):
        (tmp_path / str(n)).mkdir()
        benches.append(bench_of(tmp_path / str(n)))
    vaults: list[Vault] = [bench.made() for bench in benches]

    def open_now() -> list[int]:
        return [n for n, vault in enumerate(vaults) if vault.database.connection is not None]

    assert [3, 4, 5] == open_now()
    benches[0].append(vaults[0], "1")
    assert [0, 4, 5] == open_now()
    with vaults[4].database.lock:  # in use: it is left alone, and the next one goes
        benches[1].append(vaults[1], "1")
        assert [0, 1, 4] == open_now()
    assert ["1"] == benches[0].read(vaults[0])
    for bench in benches:
        bench.close()
    assert not open_ones._open


@pytest.mark.parametrize(
    ("files", "most"), [(resource.RLIM_INFINITY, 64), (65536, 64), (1024, 64), (256, 16), (64, 4), (8, 1)]
)
def test_vaults_take_a_quarter_of_the_files_that_a_process_may_open(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound follows the process's limit, and is never less than one."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most == open_ones.bound()


def test_a_vault_in_memory_is_never_shut() -> None:
    """What has no file would be lost."""
    identity = module.Identity(None, bytes(16), "acme", bytes(16))
    database = module.Database(identity, module.Key(bytes(32)), module.Key(bytes(32)), None)
    database.create({"action": "tenant.create", "actor": "test"})
    assert not database.shut()
    with database.snapshot() as execute:
        assert [(1,)] == execute("SELECT count(*) FROM ledger").fetchall()
    database.close()


# ---- snapshots


def test_a_snapshot_holds_up_nobody(bench: Bench) -> None:
    """While a scan goes on the vault is written, and the scan sees none of it."""
    vault = bench.made()
    with vault.database.snapshot() as execute:
        before = execute("SELECT count(*) FROM ledger").fetchone()
        bench.append(vault, "1")
        assert before == execute("SELECT count(*) FROM ledger").fetchone()
    assert 3 == bench.size()


def test_a_snapshot_can_t_be_written(bench: Bench) -> None:
    """A scan that tries to write is refused, by an error of ours."""
    vault = bench.made()
    with pytest.raises(StorageError, match="read-only"), vault.database.snapshot() as execute:
        execute("DELETE FROM ledger")
    assert 2 == bench.size()
