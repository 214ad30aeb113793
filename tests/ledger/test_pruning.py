"""`ledger/pruning.py`: old bodies go and nothing else; proofs, heads and the whole check go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from secure_memory.errors import TamperedError
from secure_memory.ledger import merkle, pruning
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import Ledger, Row, Tail, stored_nodes
from secure_memory.ledger.verify import verify

TENANT = bytes(range(16))
LEDGER = Ledger(bytes(range(32)), TENANT)


class Book:
    """A ledger: two branches that are written to and read, and holds and usage in between."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.execute = self.connection.execute
        self.execute("CREATE TABLE ledger (seq INTEGER PRIMARY KEY, branch, session, entry, nodes, root, mac)")
        self.tail = Tail()
        for number in range(10):
            self.write(1, number, "session.append")
            self.write(2, number, "session.append" if number < 4 else "session.pop")
            self.append("session.read")
            if number == 3:
                self.append("hold.place")

    def write(self, branch: int, position: int, action: str) -> None:
        head = BranchHead(position, 0, bytes(32), 0, 0, bytes(32)).to_json()
        self.append(action, branch, session=f"5{branch}" * 16, branch=f"b{branch}" * 16, head=head)

    def append(self, action: str, row: int | None = None, **fields: Any) -> None:
        said = {"outcome": "ok", "actor": "test", "action": action, **fields}
        self.tail = LEDGER.append(self.execute, self.tail, said, branch=row, session=1)

    def rows(self) -> list[Row]:
        return [Row(*found) for found in self.execute("SELECT * FROM ledger ORDER BY seq")]

    def prune(self, most: int = 1000) -> list[int]:
        """Prune all that can go, with the entry that covers it."""
        seqs = list(pruning.droppable(self.execute, LEDGER, self.tail.size, lambda entry: True))[:most]
        if seqs:
            self.append("retention.purge", detail={"pruned": pruning.drop(self.execute, LEDGER, seqs).detail()})
        return seqs


@pytest.fixture
def book() -> Book:
    """A ledger that can be pruned."""
    return Book()


def test_what_stays(book: Book) -> None:
    """The newest write and append of each branch stay, what is compared with rows, and what was decided; reads go."""
    before = book.rows()
    heads = verify(book.execute, LEDGER, TENANT).heads
    gone = set(book.prune())
    kept = [entry.action for entry in LEDGER.entries(book.execute)]
    assert {"session.append": 2, "session.pop": 6, "hold.place": 1, "retention.purge": 1} == {
        action: kept.count(action) for action in kept
    }
    assert len(before) - 9 == len(gone)
    after = verify(book.execute, LEDGER, TENANT)
    assert heads == after.heads
    assert [row.nodes for row in before] == [row.nodes for row in book.rows()[:-1]]


def test_nothing_of_a_body_is_left(book: Book) -> None:
    """A pruned row says neither what was done nor whose it was; its hash still proves who has kept the entry."""
    before = book.rows()
    gone = book.prune()
    for seq in gone:
        row = book.rows()[seq]
        assert (None, None, b"") == (row.branch, row.session, row.entry)
        proof = merkle.inclusion_proof(seq, book.tail.size, stored_nodes(book.execute))
        merkle.verify_inclusion(merkle.leaf_hash(before[seq].entry), seq, book.tail.size, proof, book.tail.root)


def test_it_goes_on_where_it_was(book: Book) -> None:
    """Pruned in parts, each part's entry covers all before it; what was needed then may go when it is not any more."""
    first = book.prune(5)
    verify(book.execute, LEDGER, TENANT)
    book.prune()
    verify(book.execute, LEDGER, TENANT)
    book.write(1, 11, "session.append")
    book.write(2, 12, "session.append")
    assert set(first).isdisjoint(again := book.prune())
    assert 2 == len(again)  # the two appends that were the newest
    verify(book.execute, LEDGER, TENANT)
    assert [] == book.prune()


def test_it_stops_at_what_is_not_due(book: Book) -> None:
    """Entries are looked at until the first whose time has not come."""
    due = pruning.droppable(book.execute, LEDGER, book.tail.size, lambda entry: entry.seq < 6)
    assert [0, 1, 2, 3, 4, 5] == list(due)


def bare(book: Book, seq: int) -> None:
    """Drop one more body, as who has the ledger key could."""
    row = book.rows()[seq]
    mac = LEDGER.mac(seq, None, None, b"", row.nodes, row.root)
    book.execute("UPDATE ledger SET branch = NULL, session = NULL, entry = x'', mac = ? WHERE seq = ?", (mac, seq))


def test_a_body_that_no_pruning_accounts_for(book: Book) -> None:
    """An entry whose body somebody took out is missed, where nothing was ever pruned and where something was."""
    bare(book, 2)
    with pytest.raises(TamperedError, match="no pruning accounts for"):
        verify(book.execute, LEDGER, TENANT)


@pytest.mark.parametrize("seq", [12, 27])
def test_one_body_more_than_was_pruned(book: Book, seq: int) -> None:
    """Below what was pruned and above, one body more is missed."""
    book.prune(10)
    bare(book, seq)
    with pytest.raises(TamperedError, match="no pruning accounts for"):
        verify(book.execute, LEDGER, TENANT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row._replace(nodes=bytes(32) + row.nodes[32:]), "does not continue the tree"),
        (lambda row: row._replace(branch=1), "was pruned, and still says whose it was"),
        (lambda row: row._replace(nodes=b""), "does not continue the tree"),
    ],
)
def test_what_is_left_is_checked(book: Book, change: Callable[[Row], Row], message: str) -> None:
    """A pruned row's hash is part of the tree, and it names nobody."""
    seq = book.prune()[3]
    row = change(book.rows()[seq])
    book.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", (*row[:6], LEDGER.mac(*row[:6])))
    with pytest.raises(TamperedError, match=message):
        verify(book.execute, LEDGER, TENANT)
