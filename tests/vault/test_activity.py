"""`vault/activity.py`: a session was last active when something was last appended to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.ledger.entry import BranchHead
from secure_memory.vault import activity, history
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

OTHERS = ("session.pop", "session.clear", "session.branch", "session.withhold", "session.assign", "retention.purge")
STEPS = st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([*sorted(activity.APPENDS), *OTHERS])), max_size=12)


def branch(bench: Bench, number: int) -> None:
    """Let the session 1 have a branch of this row id; 3 is another session's."""
    session = 2 if number == 3 else 1
    bench.sql("INSERT OR IGNORE INTO sessions VALUES (?, x'00', ?, x'00', 0, 1, 0, x'00', x'00')", session, bytes([session]))
    name = bytes([number])
    bench.sql("INSERT INTO branches VALUES (?, ?, ?, ?, x'00', 0, x'00')", number, session, bytes([number]) * 16, name)


def write(bench: Bench, vault: Vault, number: int, action: str) -> None:
    """One entry that writes to a branch."""
    uid = bytes([number]) * 16

    def work(tx: Transaction) -> None:
        head: BranchHead = history.begin(uid)
        tx.record_write({"action": action}, branch=number, branch_uid=uid.hex(), head=head, session=1, uid="00" * 16)

    bench.run(vault, work)


def last(bench: Bench, vault: Vault) -> int:
    found: int = bench.run(vault, lambda tx: activity.last_append(tx.execute, vault.ledger, 1), durable=False)
    return found


@given(STEPS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_append_to_any_branch_of_it_counts(
    tmp_path_factory: pytest.TempPathFactory, bench: Bench, noon: Any, steps: list[tuple[int, str]]
) -> None:
    """Whatever was written when: appends, imports and beginnings to the session's own branches count, and nothing else."""
    bench = type(bench)(tmp_path_factory.mktemp("vault"))
    vault = bench.vault()
    vault.database.create({"action": "tenant.create", "actor": "test"})
    for number in (1, 2, 3):
        branch(bench, number)
    write(bench, vault, 1, "session.create")
    expected = noon.now
    for number, action in steps:
        noon.now += 1_000_000
        write(bench, vault, number, action)
        if action in activity.APPENDS and number != 3:
            expected = noon.now
    assert expected == last(bench, vault)
    bench.close()


def test_a_session_without_a_beginning_is_no_session(bench: Bench) -> None:
    """Where the ledger never heard of an append, nobody can say how old the session is: that is tampering."""
    vault = bench.vault()
    vault.database.create({"action": "tenant.create", "actor": "test"})
    branch(bench, 1)
    write(bench, vault, 1, "session.pop")
    with pytest.raises(TamperedError, match="how a session began"):
        last(bench, vault)


def test_an_edited_entry_is_not_believed(bench: Bench) -> None:
    """The entry that says when it was has our MAC, or it is tampering."""
    vault = bench.made()
    branch(bench, 1)
    bench.sql("UPDATE ledger SET session = 9 WHERE branch = 1")
    with pytest.raises(TamperedError, match="not written by this vault"):
        last(bench, vault)
