"""`ledger/ledger.py`: rows that only we can write, in an order that nobody can change, and heads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import clock
from secure_memory.errors import RollbackError, TamperedError
from secure_memory.ledger import merkle
from secure_memory.ledger.entry import BranchHead, canonical, fields_of
from secure_memory.ledger.ledger import HOST, Ledger, Row, Tail, head_of, stored_nodes

KEY, TENANT = bytes(range(32)), bytes(range(16))
SESSION, BRANCH = "5e" * 16, "b1" * 16
LEDGER = Ledger(KEY, TENANT)
TABLE = """CREATE TABLE ledger (seq INTEGER PRIMARY KEY, branch INTEGER, session INTEGER, entry BLOB NOT NULL,
    nodes BLOB NOT NULL, root BLOB NOT NULL, mac BLOB NOT NULL) STRICT"""


def head(position: int) -> BranchHead:
    return BranchHead(position, 0, bytes(32), 0, 0, bytes(32))


def write(execute: Callable[..., Any], tail: Tail, position: int, *, branch: int = 1, **fields: Any) -> Tail:
    """Append a write to a branch."""
    named = {"action": "session.append", "outcome": "ok", "actor": "test", "session": SESSION, "branch": BRANCH}
    named |= {"head": head(position).to_json(), **fields}
    return LEDGER.append(execute, tail, named, branch=branch, session=1)


def read(execute: Callable[..., Any], tail: Tail) -> Tail:
    """Append a read."""
    return LEDGER.append(execute, tail, {"action": "session.read", "outcome": "ok", "actor": "test"}, session=1)


@pytest.fixture
def execute() -> Iterator[Callable[..., Any]]:
    """A database with nothing but the ledger's table; what is encrypted and what is not is none of its business."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(TABLE)
    yield connection.execute
    connection.close()


@pytest.fixture
def ten(execute: Callable[..., Any]) -> Tail:
    """The tail of a ledger with ten rows: writes to branch 1, each followed by a read."""
    tail = Tail()
    for position in range(1, 6):
        tail = read(execute, write(execute, tail, position))
    return tail


def row(execute: Callable[..., Any], seq: int) -> Row:
    return Row(*execute("SELECT * FROM ledger WHERE seq = ?", (seq,)).fetchone())


# ---- appending


def test_rows_are_numbered_from_nought(execute: Callable[..., Any], ten: Tail) -> None:
    """`seq` is dense, and each entry says the number of its row."""
    rows = execute("SELECT seq, entry FROM ledger ORDER BY seq").fetchall()
    assert list(range(10)) == [seq for seq, _ in rows] == [fields_of(entry)["seq"] for _, entry in rows]


def test_what_is_filled_in(execute: Callable[..., Any], noon: Any) -> None:
    """An entry says when, where and for which tenant it was written, and has a salt of its own."""
    tail = read(execute, read(execute, Tail()))
    one, other = (fields_of(row(execute, seq).entry) for seq in range(tail.size))
    assert (1, clock.rfc3339(noon.now), TENANT.hex(), HOST) == (one["v"], one["time"], one["tenant"], one["host"])
    assert 32 == len(one["salt"]) == len(other["salt"])
    assert one["salt"] != other["salt"]


def test_the_tail_is_the_tree_of_all_entries(execute: Callable[..., Any], ten: Tail) -> None:
    """Size and root are those of RFC 6962 over the entries, and each row has the root of its own moment."""
    leaves = [merkle.leaf_hash(entry) for (entry,) in execute("SELECT entry FROM ledger ORDER BY seq")]

    def root(some: list[bytes]) -> bytes:
        if len(some) == 1:
            return some[0]
        split = 1 << (len(some) - 1).bit_length() - 1
        return merkle.node_hash(root(some[:split]), root(some[split:]))

    assert (10, root(leaves)) == (ten.size, ten.root)
    for seq in range(10):
        assert root(leaves[: seq + 1]) == row(execute, seq).root


def test_a_tail_is_a_value(execute: Callable[..., Any]) -> None:
    """A transaction that is rolled back drops its tail, and nothing has moved."""
    one = read(execute, Tail())
    execute("BEGIN")
    read(execute, one)
    execute("ROLLBACK")
    again = read(execute, one)
    assert (2, again) == (again.size, LEDGER.catch_up(execute, one))


def test_a_number_is_given_once(execute: Callable[..., Any], ten: Tail) -> None:
    """Who did not catch up can't write over what is there."""
    with pytest.raises(sqlite3.IntegrityError):
        read(execute, Tail())


# ---- the MAC

COLUMNS = {
    "seq": 1,
    "branch": 2,
    "session": 7,
    "entry": b"{}",
    "nodes": bytes(32),
    "root": bytes(32),
    "mac": bytes(32),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_the_mac_binds_every_column(execute: Callable[..., Any], ten: Tail, column: str) -> None:
    """A row of which one column was changed was not written by this vault."""
    for seq in (2, 3):  # a write and a read
        LEDGER.check(row(execute, seq))
        with pytest.raises(TamperedError, match="not written by this vault"):
            LEDGER.check(row(execute, seq)._replace(**{column: COLUMNS[column]}))


def test_nothing_is_not_a_number(execute: Callable[..., Any], ten: Tail) -> None:
    """A branch that is NULL has another MAC than any that is not, -1 aside, which no row id is."""
    macs = {LEDGER.mac(0, branch, session, b"", b"", b"") for branch in (None, 0, 1) for session in (None, 0, 1)}
    assert 9 == len(macs)


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 9), st.integers(0, 18))
def test_no_byte_moves_between_columns(entry: bytes, nodes: bytes, root: bytes, first: int, second: int) -> None:
    """The MAC keeps the borders of entry, nodes and root."""
    joined = entry + nodes + root
    moved = joined[:first], joined[first:second], joined[max(first, second) :]
    same = moved == (entry, nodes, root)
    assert same == (LEDGER.mac(0, 1, 1, entry, nodes, root) == LEDGER.mac(0, 1, 1, *moved))


def test_another_key_s_rows(execute: Callable[..., Any], ten: Tail) -> None:
    """Under another ledger key no row is ours."""
    with pytest.raises(TamperedError):
        Ledger(bytes(32), TENANT).check(row(execute, 0))


# ---- catching up


def test_there_is_nothing_to_catch_up(execute: Callable[..., Any], ten: Tail) -> None:
    """A tail that is the table's is given back; an empty table has the empty tail."""
    assert ten is LEDGER.catch_up(execute, ten)
    execute("DELETE FROM ledger")
    assert Tail() == LEDGER.catch_up(execute, Tail())


@pytest.mark.parametrize("known", range(11))
def test_others_went_on(execute: Callable[..., Any], known: int) -> None:
    """From any earlier moment, the tail of now is found, and it can be written on."""
    tail = known_tail = Tail()
    for _ in range(10):
        tail = read(execute, tail)
        known_tail = tail if tail.size <= known else known_tail
    assert tail == LEDGER.catch_up(execute, known_tail)
    assert 11 == read(execute, LEDGER.catch_up(execute, known_tail)).size


def test_the_table_went_back(execute: Callable[..., Any], ten: Tail) -> None:
    """A table that ends before the tail was put in the place of a newer one, were it empty."""
    for size in (9, 3, 0):
        execute("DELETE FROM ledger WHERE seq >= ?", (size,))
        with pytest.raises(RollbackError, match=f"from 10 entries to {size}") as raised:
            LEDGER.catch_up(execute, ten)
        assert "incident" in str(raised.value.hint)


def test_another_history_of_the_same_length(execute: Callable[..., Any], ten: Tail) -> None:
    """A table as long as the tail with another root is another history."""
    execute("DELETE FROM ledger WHERE seq = 9")
    read(execute, LEDGER.catch_up(execute, Tail()))
    with pytest.raises(RollbackError, match="another root at size 10"):
        LEDGER.catch_up(execute, ten)


def test_another_history_that_went_further(execute: Callable[..., Any], ten: Tail) -> None:
    """A longer table that does not continue the tail is another history."""
    execute("DELETE FROM ledger WHERE seq = 9")
    tail = LEDGER.catch_up(execute, Tail())
    for _ in range(5):
        tail = read(execute, tail)
    with pytest.raises(RollbackError, match="another root at size 10"):
        LEDGER.catch_up(execute, ten)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE ledger SET mac = zeroblob(32) WHERE seq = 9",
        "UPDATE ledger SET root = zeroblob(32) WHERE seq = 9",
        "UPDATE ledger SET entry = x'7b7d' WHERE seq = 9",
        "UPDATE ledger SET nodes = zeroblob(256) WHERE seq = 7",  # a peak of the tree of ten
        "UPDATE ledger SET nodes = x'' WHERE seq = 7",
        "DELETE FROM ledger WHERE seq = 7",
        "UPDATE ledger SET seq = 4611686018427387903 WHERE seq = 9",
        "UPDATE ledger SET seq = 9223372036854775807 WHERE seq = 9",
    ],
)
def test_an_end_that_was_edited(execute: Callable[..., Any], ten: Tail, attack: str) -> None:
    """Who comes anew checks the last row and the tree under it."""
    execute(attack)
    with pytest.raises(TamperedError):
        LEDGER.catch_up(execute, Tail())


def test_nodes_that_are_missing(execute: Callable[..., Any], ten: Tail) -> None:
    """A node that is not stored is said to be missing, by level and index."""
    node = stored_nodes(execute)
    assert merkle.leaf_hash(row(execute, 4).entry) == node(0, 4)
    for level, index in ((0, 10), (1, 4 + 1), (3, 1)):
        with pytest.raises(TamperedError, match=f"lacks node {index} of level {level}"):
            node(level, index)


# ---- heads


def test_a_branch_s_head_is_in_its_newest_row(execute: Callable[..., Any], ten: Tail) -> None:
    """Reads, other branches and older writes don't move a branch's head."""
    tail = write(execute, ten, 1, branch=2)
    assert (8, head(5), SESSION, BRANCH) == LEDGER.head(execute, 1)[:4]
    assert (10, head(1)) == LEDGER.head(execute, 2)[:2]
    write(execute, tail, 6)
    assert (11, head(6)) == LEDGER.head(execute, 1)[:2]


def test_a_branch_without_a_head(execute: Callable[..., Any], ten: Tail) -> None:
    """A branch that no entry wrote to is no branch of ours."""
    with pytest.raises(TamperedError, match="no entry that wrote to a branch"):
        LEDGER.head(execute, 7)


def test_a_head_is_checked(execute: Callable[..., Any], ten: Tail) -> None:
    """A head whose row is not ours is not returned."""
    execute("UPDATE ledger SET branch = 7 WHERE seq = 8")
    with pytest.raises(TamperedError, match="entry 8 was not written"):
        LEDGER.head(execute, 7)
    assert head(4) == LEDGER.head(execute, 1).head  # an older one: what finds this is what was known, or `verify`


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": None}, "not the write that its row says"),
        ({"session": None}, "not the write that its row says"),
        ({"branch": None}, "not the write that its row says"),
        ({"seq": 7}, "not the write that its row says"),
        ({"actor": None}, "is malformed"),
        ({"head": {"position": 1}}, "is malformed"),
        ({"unknown": 1}, "is malformed"),
    ],
)
def test_a_row_that_sets_no_head(execute: Callable[..., Any], ten: Tail, change: dict[str, Any], message: str) -> None:
    """Even under a right MAC, an entry that sets no head of a branch sets none."""
    found = row(execute, 8)
    with pytest.raises(TamperedError, match=message):
        head_of(found._replace(entry=canonical({**fields_of(found.entry), **change})))


# ---- entries


def test_entries_come_in_order(execute: Callable[..., Any], ten: Tail) -> None:
    """All of them, or those of a range."""
    assert list(range(10)) == [entry.seq for entry in LEDGER.entries(execute)]
    assert [3, 4] == [entry.seq for entry in LEDGER.entries(execute, 3, 5)]
    assert [] == list(LEDGER.entries(execute, 10))


def test_entries_are_checked(execute: Callable[..., Any], ten: Tail) -> None:
    """An entry that is not ours ends the listing, behind those that are."""
    execute("UPDATE ledger SET entry = CAST(replace(CAST(entry AS TEXT), 'test', 'best') AS BLOB) WHERE seq = 4")
    found = LEDGER.entries(execute)
    assert [0, 1, 2, 3] == [next(found).seq for _ in range(4)]
    with pytest.raises(TamperedError, match="entry 4"):
        next(found)


def test_an_entry_that_is_malformed_under_a_right_mac(execute: Callable[..., Any], ten: Tail) -> None:
    """What someone with the ledger key wrote, and no code of ours can read, is an incident and no ValueError."""
    found = row(execute, 4)._replace(entry=os.urandom(20))
    execute("UPDATE ledger SET entry = ?, mac = ? WHERE seq = 4", (found.entry, LEDGER.mac(*found[:6])))
    with pytest.raises(TamperedError, match="entry 4 is malformed"):
        list(LEDGER.entries(execute))
