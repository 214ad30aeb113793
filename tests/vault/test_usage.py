"""`vault/usage.py`: rows of what was spent, bound to their place, and held against the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key
from secure_memory.ledger.entry import BranchHead
from secure_memory.vault import usage
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.usage import MAX_TOKENS, SPAN, Owner, Spent, UsageRow, check, row_mac

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

LEDGER = Key(bytes(32))
OWNER = Owner(1, bytes([1]) * 16, 7, bytes([2]) * 16)
ROW = UsageRow(7 * SPAN + 3, 1, 2, bytes([3]) * 16, "gpt", 1, 10, 5, 15, "[null,null]", 1_795_000_000_000_000, 0, b"")
ROW = ROW._replace(mac=row_mac(LEDGER, OWNER, ROW))

details = st.none() | st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000))
spent = st.builds(Spent, *[st.integers(0, 1000)] * 4, details, details)


def test_our_row_is_ours() -> None:
    """A row passes as it was written, and tells its branch, its number and its figures."""
    assert ROW == check(LEDGER, OWNER, ROW)
    assert (7, 3, Spent(1, 10, 5, 15)) == (ROW.branch, ROW.number, ROW.spent)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ROW.id + 1},
        {"id": ROW.id + SPAN},
        {"session": 2},
        {"turn": 3},
        {"run": bytes(16)},
        {"model": "gpt-cheap"},
        {"requests": 0},
        {"input": 9},
        {"output": 4},
        {"total": 14},
        {"details": "[null,{}]"},
        {"created": 0},
        {"popped": 1},
        {"total": -1},
        {"mac": bytes(32)},
        {"mac": b""},
    ],
)
def test_no_column_can_change(change: dict[str, Any]) -> None:
    """One edited column, and the row is not ours."""
    with pytest.raises(TamperedError, match="edited or moved"):
        check(LEDGER, OWNER, ROW._replace(**change))


@pytest.mark.parametrize("other", [{"session_uid": bytes(16)}, {"branch_uid": bytes(16)}, {"session": 2}, {"branch": 8}])
def test_a_row_is_its_owner_s(other: dict[str, Any]) -> None:
    """Under another session or branch, or another ledger key, the row is not ours."""
    for key, owner in ((LEDGER, OWNER._replace(**other)), (Key(bytes([9]) * 32), OWNER)):
        with pytest.raises(TamperedError):
            check(key, owner, ROW)


@given(spent, spent)
def test_a_difference_is_what_a_sum_added(one: Spent, two: Spent) -> None:
    """What was added can be taken away again, and its figures are left."""
    assert (one + two) - one == two + Spent() or (one + two - one).figures == two.figures
    assert (one + two).figures == tuple(a + b for a, b in zip(one.figures, two.figures, strict=True))


@given(st.lists(spent, max_size=5))
def test_a_sum_has_no_order(them: list[Spent]) -> None:
    """Details add up by name, in any order; what nobody says stays unsaid."""
    forth, back = sum(them, Spent()), sum(them[::-1], Spent())
    assert forth == back
    assert (forth.input_details is None) == all(one.input_details is None for one in them)


def test_figures_stay_in_bounds() -> None:
    """Nothing goes below 0, or above what an entry can hold."""
    most = Spent(1, MAX_TOKENS, MAX_TOKENS, MAX_TOKENS)
    assert MAX_TOKENS == (most + most).total
    assert Spent() == Spent(1, 2, 3, 4) - Spent(9, 9, 9, 9)


def test_details_that_are_no_numbers_are_kept() -> None:
    """What is no number can't be added up: the one that counts keeps it."""
    odd = Spent(1, 1, 1, 2, {"tier": "flex", "cached_tokens": 3}, None)
    assert {"tier": "flex", "cached_tokens": 4} == (odd + Spent(input_details={"cached_tokens": 1})).input_details
    assert {"tier": "flex", "cached_tokens": 2} == (odd - Spent(input_details={"cached_tokens": 1})).input_details


def test_a_row_with_other_figures_has_no_mac() -> None:
    """New figures are a new row, until its MAC is made."""
    new = ROW.with_spent(Spent(2, 20, 10, 30, {"cached_tokens": 1}, None))
    assert (b"", {"cached_tokens": 1}, None) == (new.mac, new.spent.input_details, new.spent.output_details)
    assert {"row": 3, "requests": 2, "total_tokens": 30}.items() <= new.to_detail().items()


def put_turns(tx: Transaction, *turns: int) -> Owner:
    """Write a row for each turn, of a branch of a session that is there; return whose they are."""
    columns = "(id, uid, name, subject, branch, key_version, created, sealed, mac)"
    tx.execute(f"INSERT INTO sessions {columns} VALUES (1, x'', x'', x'', 1, 1, 0, x'', x'')")
    owner = OWNER._replace(branch=1)
    for turn in turns:
        usage.put(tx.execute, LEDGER, owner, ROW._replace(id=usage.next_id(tx.execute, 1), turn=turn))
    return owner


def test_popping_finds_rows_in_any_order(bench: Bench) -> None:
    """Rows of a turn that is gone are flagged wherever they lie; those of turns that are left are not."""

    def work(tx: Transaction) -> list[tuple[int, int]]:
        owner = put_turns(tx, 1, 3, 2, 4, 1)
        usage.pop(tx.execute, LEDGER, owner, BranchHead(5, 2, bytes(32), 0, 0, bytes(32)))
        assert [1, 2, 1] == [row.turn for row in usage.newest(tx.execute, LEDGER, owner)]
        tx.record({})
        return [(row.turn, row.popped) for row in usage.of_branch(tx.execute, LEDGER, owner)]

    assert [(1, 0), (3, 1), (2, 0), (4, 1), (1, 0)] == bench.run(bench.made(), work)


def test_an_empty_branch_has_no_turn(bench: Bench) -> None:
    """Where no item is left, everything that was spent in the branch is popped, turn 0 as well."""

    def work(tx: Transaction) -> list[int]:
        owner = put_turns(tx, 0, 1)
        usage.pop(tx.execute, LEDGER, owner, BranchHead(5, 0, bytes(32), 5, 0, bytes(32)))
        tx.record({})
        return [row.popped for row in usage.of_branch(tx.execute, LEDGER, owner)]

    assert [1, 1] == bench.run(bench.made(), work)
