"""`ledger/verify.py`: each numbered check, broken alone.

What is edited without the ledger key is found by the MACs; so most edits here are those of someone who holds that key too
and makes the MACs right again, and where need be the tree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from secure_memory.errors import TamperedError
from secure_memory.ledger import merkle
from secure_memory.ledger import verify as module
from secure_memory.ledger.entry import BranchHead, canonical, fields_of
from secure_memory.ledger.ledger import Ledger, Row, Tail
from secure_memory.ledger.verify import verify

TENANT = bytes(range(16))
LEDGER = Ledger(bytes(range(32)), TENANT)
SIZE = 9


class Book:
    """A ledger of nine rows: writes to branch 1 of one session and branch 2 of another, and a read behind each pair."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.execute = self.connection.execute
        self.execute("CREATE TABLE ledger (seq INTEGER PRIMARY KEY, branch, session, entry, nodes, root, mac)")
        self.tail = Tail()
        for position in range(SIZE // 3):
            self.write(1, position)
            self.write(2, position)
            self.append({"action": "session.read"})

    def write(self, branch: int, position: int) -> None:
        head = BranchHead(position, 0, bytes(32), 0, 0, bytes(32)).to_json()
        named = {"session": f"5{branch}" * 16, "branch": f"b{branch}" * 16, "head": head}
        self.append({"action": "session.append", **named}, branch=branch)

    def append(self, fields: dict[str, Any], branch: int | None = None) -> None:
        fields = {"outcome": "ok", "actor": "test", **fields}
        self.tail = LEDGER.append(self.execute, self.tail, fields, branch=branch, session=1)

    def row(self, seq: int) -> Row:
        return Row(*self.execute("SELECT * FROM ledger WHERE seq = ?", (seq,)).fetchone())

    def put(self, row: Row) -> None:
        """Write a row, under a right MAC."""
        values = (*row[:6], LEDGER.mac(*row[:6]))
        self.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def change(self, seq: int, **columns: Any) -> None:
        """Change columns of a row, and make its MAC right."""
        self.put(self.row(seq)._replace(**columns))

    def rewrite(self, seq: int, entry: bytes) -> None:
        """Put another entry into a row, and make the tree and every MAC right."""
        peaks: tuple[bytes, ...] = ()
        for row in [Row(*found) for found in self.execute("SELECT * FROM ledger ORDER BY seq")]:
            new = row._replace(entry=entry) if row.seq == seq else row
            peaks, nodes = merkle.append(peaks, row.seq, merkle.leaf_hash(new.entry))
            self.put(new._replace(nodes=nodes, root=merkle.root(peaks)))

    def edit(self, seq: int, /, **fields: Any) -> None:
        """`rewrite` with other fields."""
        self.rewrite(seq, canonical({**fields_of(self.row(seq).entry), **fields}))

    def finds(self, message: str) -> None:
        """Check that the whole check says this, and what to do."""
        with pytest.raises(TamperedError, match=message) as raised:
            verify(self.execute, LEDGER, TENANT)
        assert "incident" in str(raised.value.hint)


@pytest.fixture
def book() -> Iterator[Book]:
    book = Book()
    yield book
    book.connection.close()


def test_a_whole_ledger(book: Book) -> None:
    """What comes back is the tail, the newest head of each branch and the newest entry."""
    checked = verify(book.execute, LEDGER, TENANT)
    assert book.tail == checked.tail
    assert {1: (6, 2), 2: (7, 2)} == {branch: (head.seq, head.head.position) for branch, head in checked.heads.items()}
    assert checked.newest is not None
    assert (8, "session.read") == (checked.newest.seq, checked.newest.action)


def test_an_empty_ledger(book: Book) -> None:
    """A ledger without rows has the empty tree, no heads and no newest entry."""
    book.execute("DELETE FROM ledger")
    checked = verify(book.execute, LEDGER, TENANT)
    assert (Tail(), {}, None) == (checked.tail, checked.heads, checked.newest)


# (1) dense from 0


@pytest.mark.parametrize("seq", range(SIZE - 1))
def test_a_missing_row(book: Book, seq: int) -> None:
    """A row that is gone is named, were it the first."""
    book.execute("DELETE FROM ledger WHERE seq = ?", (seq,))
    book.finds(f"entry {seq} is missing")


def test_a_row_before_the_first(book: Book) -> None:
    """Numbering begins at 0."""
    book.execute("UPDATE ledger SET seq = -1 WHERE seq = 8")
    book.finds("entry 0 is missing")


# (2) our MAC


@pytest.mark.parametrize("column", ["branch", "session", "entry", "nodes", "root", "mac"])
@pytest.mark.parametrize("seq", [0, 2, SIZE - 1])
def test_a_row_that_is_not_ours(book: Book, seq: int, column: str) -> None:
    """Any column that was changed without the ledger key is found in the row where it was."""
    value = 7 if column in ("branch", "session") else bytes(32)
    book.execute(f"UPDATE ledger SET {column} = ? WHERE seq = ?", (value, seq))
    book.finds(f"entry {seq} was not written by this vault")


def test_two_rows_that_changed_places(book: Book) -> None:
    """A row's MAC holds for its number only."""
    for old, new in ((3, 100), (4, 3), (100, 4)):
        book.execute("UPDATE ledger SET seq = ? WHERE seq = ?", (new, old))
    book.finds("entry 3 was not written by this vault")


# (3) an entry of this number and tenant, in its one form, with a known action


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.replace(b'":', b'": ', 1),
        lambda entry: entry + b"\n",
        lambda entry: b"{}",
        lambda entry: canonical({**fields_of(entry), "unknown": 1}),
        lambda entry: canonical({**fields_of(entry), "actor": None}),
    ],
)
def test_an_entry_that_is_none(book: Book, change: Callable[[bytes], bytes]) -> None:
    """Under a right MAC and in a right tree, bytes that are no canonical entry are found."""
    book.rewrite(4, change(book.row(4).entry))
    book.finds("entry 4 is not canonical")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seq": 5}, "says that it is entry 5"),
        ({"tenant": "00" * 16}, "is of another tenant"),
        ({"action": "session.forget"}, "has an unknown action or outcome"),
        ({"outcome": "fine"}, "has an unknown action or outcome"),
    ],
)
def test_an_entry_of_something_else(book: Book, fields: dict[str, Any], message: str) -> None:
    """An entry of another number or tenant, or of nothing that is ever done, is found."""
    book.edit(4, **fields)
    book.finds(f"entry 4 {message}")


# (4), (5) the tree


def test_nodes_of_another_tree(book: Book) -> None:
    """A row's nodes are those that its entry completes, no fewer, no more and no others."""
    for nodes in (bytes(32), b"", book.row(3).nodes + bytes(32), book.row(3).nodes[:32]):
        before = book.row(3)
        book.change(3, nodes=nodes)
        book.finds("entry 3 does not continue the tree")
        book.put(before)


def test_an_entry_that_was_exchanged(book: Book) -> None:
    """An entry that was rewritten under a right MAC no longer fits the tree."""
    book.change(4, entry=canonical({**fields_of(book.row(4).entry), "actor": "someone else"}))
    book.finds("entry 4 does not continue the tree")


def test_another_root(book: Book) -> None:
    """A row's root is that of the tree up to it."""
    book.change(4, root=book.row(5).root)
    book.finds("entry 4 has another root than its tree")


# (6) branches


def test_a_write_that_is_none(book: Book) -> None:
    """A read can't be given out for a write."""
    book.change(2, branch=1)
    book.finds("entry 2 is not the write that its row says")


def test_a_write_that_is_hidden(book: Book) -> None:
    """A write whose row no longer says so would bring an older head back: the row is no leaf of the tree, its entry is."""
    book.change(6, branch=None)
    book.finds("entry 6 is a write, and its row does not say so")


def test_a_write_to_another_session_s_branch(book: Book) -> None:
    """A branch is one session's."""
    book.change(6, branch=2)
    book.finds("entry 6 writes to a branch of another session")


def test_a_write_to_a_branch_under_another_uid(book: Book) -> None:
    """A branch has one uid."""
    book.edit(6, branch="bb" * 16)
    book.finds("entry 6 writes to a branch of another session")


def test_a_branch_that_is_doubled(book: Book) -> None:
    """A write that was moved to a branch of its own, where it hides no less, is found by the uid that two have."""
    book.change(6, branch=3)
    book.finds("entry 6 writes to a branch that has another one's uid")


# progress


def controlled(book: Book, *said: tuple[str, str]) -> None:
    """Entries with these actions and control digests, after one with the digest "aa"."""
    book.execute("DELETE FROM ledger")
    book.tail = Tail()
    for action, control in (("tenant.create", "aa"), *said):
        book.append({"action": action, "control": control})


@pytest.mark.parametrize("action", ["policy.apply", "hold.place", "hold.release"])
def test_the_control_state_changes_with_an_entry_that_says_so(book: Book, action: str) -> None:
    """A policy that comes into force, a hold that is placed or released: from there on entries carry another digest."""
    controlled(book, ("session.read", "aa"), (action, "bb"), ("session.read", "bb"), (action, "aa"))
    assert 5 == verify(book.execute, LEDGER, TENANT).tail.size


def test_the_control_state_changes_with_no_other_entry(book: Book) -> None:
    """An older control state that was put back is found where entries carry it, though they agree with it ever after."""
    controlled(book, ("hold.place", "bb"), ("session.read", "aa"), ("session.read", "aa"))
    with pytest.raises(TamperedError, match="ledger entry 2 carries another control state"):
        verify(book.execute, LEDGER, TENANT)


def test_progress_is_told(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then it is told how many rows were checked."""
    monkeypatch.setattr(module, "_PROGRESS_EVERY", 4)
    told: list[int] = []
    verify(book.execute, LEDGER, TENANT, told.append)
    assert [4, 8] == told
