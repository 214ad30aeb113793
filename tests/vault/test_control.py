"""`vault/control.py`: what a vault is, and what governs it, is what the newest entry says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.vault import sqlcipher
from secure_memory.vault.control import UNKNOWN, Control
from secure_memory.vault.transaction import Transaction

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

ROWS = st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=5)


def changed(value: bytes) -> Any:
    """An operation that writes a row of the control state, with the entry that has to follow."""

    def work(tx: Transaction) -> str:
        tx.set_control("policy", value)
        tx.record({"action": "policy.apply"})
        return tx.control.digest

    return work


def noted(tx: Transaction) -> str:
    """An operation that is an entry, and returns the digest that it carries."""
    tx.record({})
    return tx.control.digest


def failing(tx: Transaction) -> None:
    """An operation that changes the control state and then fails."""
    tx.set_control("policy", b"never")
    raise ValueError("changed its mind")


# ---- the value


@given(ROWS, ROWS)
def test_other_rows_have_another_digest(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Two control states have one digest where their rows are the same, in whatever order, and only there."""
    assert (one == other) == (Control.of(one).digest == Control.of(other).digest)
    assert Control.of(one) == Control.of(dict(reversed(one.items())))


@given(ROWS, st.text(max_size=8), st.binary(max_size=8))
def test_a_row_is_written_to_a_copy(rows: dict[str, bytes], name: str, value: bytes) -> None:
    """With a row written it is another state; the one before stays as it was."""
    before = Control.of(dict(rows))
    assert Control.of({**rows, name: value}) == before.with_row(name, value)
    assert Control.of(rows) == before


def test_what_is_unknown_is_no_vaults() -> None:
    """The state that nobody has looked at has a digest that no state has."""
    assert Control.of({}).digest != UNKNOWN.digest


# ---- in a vault


def test_each_entry_carries_the_digest_of_its_time(bench: Bench) -> None:
    """Entries before a change carry the old digest, the one of the change and those after it the new one."""
    vault = bench.made()
    before = bench.run(vault, noted)
    after = bench.run(vault, changed(b"1"))
    assert before != after
    assert after == bench.run(vault, noted)
    connection = bench.connect()
    digests = [entry.control for entry in vault.ledger.entries(connection.execute)]
    connection.close()
    assert [before, after, after] == digests[-3:]


def test_a_change_that_failed_changed_nothing(bench: Bench) -> None:
    """Where an operation fails, alone or in one commit with others, the control state is what it was: in the vault, for
    those that follow, and in their entries."""
    vault = bench.made()
    before = bench.run(vault, noted)
    with pytest.raises(ValueError, match="changed its mind"):
        bench.run(vault, failing)
    batch = [bench.operation(work) for work in (failing, noted, failing, noted)]
    vault._run_batch(batch)
    assert [before, before] == [operation.outcome for operation in batch if operation.error is None]
    assert before == bench.run(vault, noted)
    assert before == bench.run(bench.vault(), noted)


def test_another_process_meets_the_change(bench: Bench) -> None:
    """Who had the vault open before another process changed its control state works with the new one."""
    one, other = bench.made(), bench.vault()
    before = bench.run(other, noted)
    after = bench.run(one, changed(b"1"))
    assert before != after
    assert after == bench.run(other, noted)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE control SET value = x'00' WHERE name = 'policy'",
        "DELETE FROM control WHERE name = 'policy'",
        "INSERT INTO control VALUES ('holds', zeroblob(32))",
    ],
)
def test_an_edited_row_is_noticed(bench: Bench, attack: str) -> None:
    """A row that is edited, gone or new is found by who opens the vault, and by who has it open once another has written."""
    vault, open_already = bench.made(), bench.vault()
    bench.run(vault, changed(b"1"))
    bench.run(open_already, noted)
    bench.run(vault, noted)
    bench.sql(attack)
    with pytest.raises(TamperedError, match="control state was edited"):
        bench.run(bench.vault(), noted)
    bench.run(vault, noted)  # which knows the state, and does not read the row again
    with pytest.raises(TamperedError, match="control state was edited"):
        bench.run(open_already, noted)


def test_what_was_put_back_behind_a_process_is_noticed(bench: Bench) -> None:
    """Where another process changed the state and somebody put the old one back, who knew the old one does not take it for
    the one in force: its own entries would make it so for everybody."""
    one, other = bench.made(), bench.vault()
    bench.run(one, changed(b"1"))
    bench.run(other, noted)
    bench.run(one, changed(b"2"))
    bench.sql("UPDATE control SET value = ? WHERE name = 'policy'", b"1")
    with pytest.raises(TamperedError, match="control state was edited"):
        bench.run(other, noted)


def test_another_vaults_state_is_refused(bench: Bench) -> None:
    """A vault whose control state names another vault or tenant is not opened."""
    bench.made()
    bench.sql("UPDATE control SET value = zeroblob(16) WHERE name = 'vault'")
    with pytest.raises(TamperedError, match="another vault than its name says"):
        bench.run(bench.vault(), noted)


# ---- a vault of the schema before


def test_a_vault_of_the_schema_before_is_brought_up_to_date(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault of version 1 gets what came later when it is opened, and keeps what it has: items, control state, ledger."""
    with monkeypatch.context() as earlier:
        newest = sqlcipher.migrate
        earlier.setattr(sqlcipher, "migrate", lambda connection: newest(connection, sqlcipher.MIGRATIONS[:1]))
        vault = bench.made()
        bench.append(vault, "one", "two")
        before = bench.run(vault, noted)
        vault.close()
        assert [(1,)] == bench.sql("PRAGMA user_version")
        assert [] == bench.sql("SELECT 1 FROM sqlite_master WHERE name = 'holds'")
    later = bench.vault()
    assert ["one", "two"] == bench.read(later)
    assert before == bench.run(later, noted)
    assert [(len(sqlcipher.MIGRATIONS),)] == bench.sql("PRAGMA user_version")
    assert [] == bench.sql("SELECT * FROM holds")
