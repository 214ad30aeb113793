"""`vault/history.py`: items in order, and the proof that they are the ones that were written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import StorageError, TamperedError
from secure_memory.ledger.entry import BranchHead
from secure_memory.vault import chain, history
from secure_memory.vault.history import SPAN, ItemRow, begin, prove
from secure_memory.vault.seal import Place, seal
from secure_memory.vault.vault import Vault

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

BRANCH = 1
TENANT, SESSION, BRANCH_UID = (bytes([n]) * 16 for n in (0, 2, 3))


@pytest.fixture
def vault(bench: Bench) -> Vault:
    """A vault whose branch has the items 1 to 5, in two turns."""
    vault: Vault = bench.made()
    bench.append(vault, "1")
    bench.append(vault, "2", role="assistant")
    bench.append(vault, "3")
    bench.append(vault, "4", "5", role="assistant")
    return vault


# ---- append, read, pop, clear


def test_items_come_back_in_order(bench: Bench, vault: Vault) -> None:
    """What is read is what was appended, and the newest few are the last of it."""
    assert ["1", "2", "3", "4", "5"] == bench.read(vault)
    assert ["4", "5"] == bench.read(vault, 2)
    assert [] == bench.read(vault, 0)
    assert ["1", "2", "3", "4", "5"] == bench.read(vault, 9)


def test_a_turn_starts_at_a_user_s_message(bench: Bench, vault: Vault) -> None:
    """Items are numbered from 1, and each is in the turn that the last user message began."""
    ids = [(BRANCH * SPAN + position, turn) for position, turn in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]]
    assert ids == bench.sql("SELECT id, turn FROM items ORDER BY id")


def test_popping_goes_backwards(bench: Bench, vault: Vault) -> None:
    """Each pop takes the newest item and leaves a head that the rest proves."""
    for newest in range(5, 0, -1):
        assert str(newest) == bench.pop(vault)
        assert [str(n) for n in range(1, newest)] == bench.read(vault)


def test_what_is_appended_after_a_pop_takes_its_place(bench: Bench, vault: Vault) -> None:
    """The position of a popped item is used again, by another item."""
    bench.pop(vault)
    bench.append(vault, "new")
    assert ["1", "2", "3", "4", "new"] == bench.read(vault)


def test_a_pop_takes_the_turn_back(bench: Bench, vault: Vault) -> None:
    """After the message that began a turn is popped, the next one begins the same turn."""
    for _ in range(3):
        bench.pop(vault)
    assert 2 == bench.append(vault, "again").turn


@pytest.mark.parametrize("after", range(6))
def test_the_end_can_be_cut_off(bench: Bench, vault: Vault, after: int) -> None:
    """What is behind a position is taken, however much it is, and what follows goes on from there in its turn."""

    def work(tx: Any) -> int:
        head, count = history.cut(tx, BRANCH, tx.head(BRANCH).head, after)
        bench._write(tx, head, "session.pop")
        return count

    assert 5 - after == bench.run(vault, work)
    assert [str(n) for n in range(1, after + 1)] == bench.read(vault)
    assert (after + 1, [1, 2, 2, 3, 3, 3][after]) == _place(bench.append(vault, "new"))
    assert "new" == bench.read(vault)[-1]


def _place(head: BranchHead) -> tuple[int, int]:
    return head.position, head.turn


def test_items_are_resealed_where_they_are(bench: Bench, vault: Vault) -> None:
    """Under other uids and other bytes they stand where they stood, and the branch is proven."""

    def work(tx: Any) -> int:
        def anew(row: Any) -> tuple[bytes, bytes]:
            (text,) = history.unsealed([row], bench.key.aead, TENANT, SESSION)
            place = Place(TENANT, SESSION, bytes([row.position]) * 16, row.kind, row.role, row.tool, row.created)
            return place.uid, seal(bench.key.aead, 2, bytes(11) + bytes([row.position]), place, text + b"!")

        head, count = history.reseal(tx, BRANCH, tx.head(BRANCH).head, anew)
        bench._write(tx, head, "session.assign")
        return count

    places = bench.sql("SELECT id, turn FROM items ORDER BY id")
    assert 5 == bench.run(vault, work)
    assert ["1!", "2!", "3!", "4!", "5!"] == bench.read(vault)
    assert places == bench.sql("SELECT id, turn FROM items ORDER BY id")
    assert "5!" == bench.pop(vault)


def test_after_clearing_positions_go_on(bench: Bench, vault: Vault) -> None:
    """Clearing takes everything and leaves a place that nothing from before fits into."""
    assert 5 == bench.clear(vault)
    assert [] == bench.read(vault)
    head = bench.append(vault, "6")
    assert (6, 1, 5) == (head.position, head.turn, head.base_position)
    assert ["6"] == bench.read(vault)
    assert "6" == bench.pop(vault)
    assert [] == bench.read(vault)
    assert 0 == bench.clear(vault)


def test_a_branch_that_is_full(bench: Bench, vault: Vault) -> None:
    """At the last position a branch takes no more, and nothing is written."""

    def work(tx: Any) -> None:
        full = tx.head(BRANCH).head
        full = BranchHead(SPAN - 1, 1, full.link, 0, 0, full.base_link)
        history.append(tx, BRANCH, full, [bench.new("one too many")])

    with pytest.raises(StorageError, match="can't hold more items"):
        bench.run(vault, work)
    assert ["1", "2", "3", "4", "5"] == bench.read(vault)


# ---- what the proof finds: each edit is by one who holds the vault's key

OF = f"WHERE id = {BRANCH * SPAN} + "
ATTACKS = {
    "a link is edited": [f"UPDATE items SET link = zeroblob(32) {OF} 3"],
    "the newest link is edited": [f"UPDATE items SET link = zeroblob(32) {OF} 5"],
    "an item is dropped": [f"DELETE FROM items {OF} 3"],
    "the first item is dropped": [f"DELETE FROM items {OF} 1"],
    "the newest item is dropped": [f"DELETE FROM items {OF} 5"],
    "all items are dropped": ["DELETE FROM items"],
    "two items change places": [
        f"UPDATE items SET id = -1 {OF} 3",
        f"UPDATE items SET id = {BRANCH * SPAN + 3} {OF} 4",
        f"UPDATE items SET id = {BRANCH * SPAN + 4} WHERE id = -1",
    ],
    "an item follows the head": [
        f"INSERT INTO items SELECT id + 1, turn, uid, link, kind, role, tool, created, sealed FROM items {OF} 5"
    ],
    "an item lies far behind the head": [
        f"INSERT INTO items SELECT {BRANCH * SPAN + SPAN - 1}, turn, uid, link, kind, role, tool, created, sealed"
        f" FROM items {OF} 5"
    ],
    "an item is moved past a gap": [f"UPDATE items SET id = id + 1 {OF} 5"],
    "an item's uid is another": [f"UPDATE items SET uid = zeroblob(16) {OF} 3"],
    "an item's uid is longer": [f"UPDATE items SET uid = CAST(uid || x'00' AS BLOB) {OF} 3"],
    "an item's turn is another": [f"UPDATE items SET turn = 1 {OF} 3"],
    "an item's turn is none": [f"UPDATE items SET turn = -1 {OF} 3"],
    "an item's kind is another": [f"UPDATE items SET kind = 'reasoning' {OF} 3"],
    "an item's role is another": [f"UPDATE items SET role = 'system' {OF} 3"],
    "an item's tool is another": [f"UPDATE items SET tool = 'refund' {OF} 3"],
    "an item's time is another": [f"UPDATE items SET created = 1 {OF} 3"],
    "an item's time is none": [f"UPDATE items SET created = -1 {OF} 3"],
    "a label is no text": [f"UPDATE items SET kind = CAST(x'ff' AS TEXT) {OF} 3"],
    "an item's sealed bytes are another's": [f"UPDATE items SET sealed = (SELECT sealed FROM items {OF} 1) {OF} 3"],
    "an item's sealed bytes are cut": [f"UPDATE items SET sealed = substr(sealed, 1, 20) {OF} 3"],
    "an item is another one, whole": [
        f"DELETE FROM items {OF} 3",
        f"INSERT INTO items SELECT id + 2, turn, uid, link, kind, role, tool, created, sealed FROM items {OF} 1",
    ],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_read_finds(bench: Bench, vault: Vault, attack: str) -> None:
    """Every edit of the rows is found by a read of all of them."""
    for statement in ATTACKS[attack]:
        bench.sql(statement)
    with pytest.raises(TamperedError):
        bench.read(vault)


@pytest.mark.parametrize("attack", [name for name in ATTACKS if "newest" in name or "head" in name or "gap" in name])
def test_a_pop_finds(bench: Bench, vault: Vault, attack: str) -> None:
    """A pop returns nothing and removes nothing where the end is not what it should be."""
    for statement in ATTACKS[attack]:
        bench.sql(statement)
    before, entries = bench.sql("SELECT * FROM items"), bench.size()
    with pytest.raises(TamperedError):
        bench.pop(vault)
    assert before == bench.sql("SELECT * FROM items")
    assert entries + 1 == bench.size()  # what was found is an entry


@pytest.mark.parametrize("attack", ATTACKS)
def test_resealing_finds(bench: Bench, vault: Vault, attack: str) -> None:
    """Nothing that does not prove is given a new seal."""
    for statement in ATTACKS[attack]:
        bench.sql(statement)
    rows = "SELECT id, uid, link, sealed FROM items"
    before = bench.sql(rows)

    def anew(row: Any) -> tuple[bytes, bytes]:
        return row.uid, history.unsealed([row], bench.key.aead, TENANT, SESSION)[0]

    with pytest.raises(TamperedError):
        bench.run(vault, lambda tx: history.reseal(tx, BRANCH, tx.head(BRANCH).head, anew))
    assert before == bench.sql(rows)


@pytest.mark.parametrize("what", ["link = zeroblob(32)", "turn = 7", "uid = zeroblob(16)"])
def test_a_cut_enters_nothing_unproven(bench: Bench, vault: Vault, what: str) -> None:
    """The item that a cut returns to must lead to the head that is given up, with its turn."""
    bench.sql(f"UPDATE items SET {what} {OF} 3")
    with pytest.raises(TamperedError):
        bench.run(vault, lambda tx: history.cut(tx, BRANCH, tx.head(BRANCH).head, 3))
    assert [(5,)] == bench.sql("SELECT count(*) FROM items")


def test_a_pop_enters_no_link_unproven(bench: Bench, vault: Vault) -> None:
    """The link that a pop would return to must lead to the head that is given up."""
    bench.sql(f"UPDATE items SET link = zeroblob(32) {OF} 4")
    with pytest.raises(TamperedError):
        bench.pop(vault)


@pytest.mark.parametrize("attack", ["the newest item is dropped", "an item is dropped", "an item follows the head"])
def test_clearing_keeps_the_evidence(bench: Bench, vault: Vault, attack: str) -> None:
    """Where more or fewer items are there than the head says, they are not cleared away."""
    for statement in ATTACKS[attack]:
        bench.sql(statement)
    before = bench.sql("SELECT * FROM items")
    with pytest.raises(TamperedError):
        bench.clear(vault)
    assert before == bench.sql("SELECT * FROM items")


def test_a_popped_row_can_t_come_back(bench: Bench, vault: Vault) -> None:
    """A row that was there once does not pass for the one that took its place."""
    old = bench.sql(f"SELECT * FROM items {OF} 5")[0]
    bench.pop(vault)
    bench.append(vault, "new")
    bench.sql("REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *old)
    with pytest.raises(TamperedError):
        bench.read(vault)


def test_cleared_rows_can_t_come_back(bench: Bench, vault: Vault) -> None:
    """What was cleared is not served again, though its row be put back."""
    old = bench.sql(f"SELECT * FROM items {OF} 5")[0]
    bench.clear(vault)
    bench.sql("REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *old)
    assert [] == bench.read(vault)
    bench.append(vault, "new")
    assert ["new"] == bench.read(vault)


def test_the_row_before_a_limited_read_must_be_there(bench: Bench, vault: Vault) -> None:
    """A read of the newest items needs the link before them, and names the position where it is gone."""
    bench.sql(f"DELETE FROM items {OF} 3")
    with pytest.raises(TamperedError, match="position 3 is"):
        bench.read(vault, 2)


def test_a_limited_read_proves_its_part(bench: Bench, vault: Vault) -> None:
    """An edit before the items asked for is none of their business; one among them is found."""
    bench.sql(f"UPDATE items SET sealed = zeroblob(99) {OF} 1")
    assert ["4", "5"] == bench.read(vault, 2)
    bench.sql(f"UPDATE items SET link = zeroblob(32) {OF} 3")  # the link before them does not lead to the head
    with pytest.raises(TamperedError):
        bench.read(vault, 2)


# ---- the proof itself


def row(position: int, turn: int, uid: bytes, link: bytes) -> ItemRow:
    return ItemRow(BRANCH * SPAN + position, turn, uid, link, "message", "user", "", 0, b"")


def rows_of(uids: Sequence[bytes]) -> tuple[list[ItemRow], BranchHead]:
    """The rows of a branch with these items, each a turn of its own, and its head."""
    head, rows, link = begin(BRANCH_UID), [], begin(BRANCH_UID).link
    for position, uid in enumerate(uids, 1):
        link = chain.follow(link, position, position, uid)
        rows.append(row(position, position, uid, link))
    return rows, BranchHead(len(rows), len(rows), link, 0, 0, head.link)


uids = st.binary(min_size=16, max_size=16)


@given(st.lists(uids, max_size=8), st.data())
def test_every_part_of_a_history_is_proven(some: list[bytes], data: st.DataObject) -> None:
    """From any position on, with the link there, the rest leads to the head."""
    rows, head = rows_of(some)
    after = data.draw(st.integers(0, len(rows)))
    prove(rows[after:], BRANCH, after, rows[after - 1].link if after else head.base_link, head)


@given(st.lists(uids, min_size=1, max_size=6, unique=True), st.data())
def test_no_other_rows_are(some: list[bytes], data: st.DataObject) -> None:
    """Any other selection or order of the rows, or of rows with one change, is refused."""
    rows, head = rows_of(some)
    index = data.draw(st.integers(0, len(rows) - 1))
    changed = data.draw(
        st.sampled_from(
            [
                rows[:index] + rows[index + 1 :],
                rows[: index + 1] + rows[index:],
                [*rows[:index], rows[index]._replace(turn=rows[index].turn + 1), *rows[index + 1 :]],
                [*rows[:index], rows[index]._replace(id=rows[index].id + SPAN), *rows[index + 1 :]],
                [*rows[:index], rows[index]._replace(link=bytes(32)), *rows[index + 1 :]],
                [*rows, row(len(rows) + 1, 1, bytes(16), bytes(32))],
                [*rows, row(len(rows) + 1, 1, bytes(16), chain.follow(head.link, len(rows) + 1, 1, bytes(16)))],
            ]
        )
    )
    with pytest.raises(TamperedError):
        prove(changed, BRANCH, 0, head.base_link, head)


def test_the_first_wrong_position_is_named() -> None:
    """The error says where the history stops being the one that was written."""
    rows, head = rows_of([bytes([n]) * 16 for n in range(5)])
    for position, given_rows in [(3, rows[:2] + rows[3:]), (5, rows[:4]), (6, [*rows, row(6, 1, bytes(16), bytes(32))])]:
        with pytest.raises(TamperedError, match=f"position {position} is not the one") as raised:
            prove(given_rows, BRANCH, 0, head.base_link, head)
        assert "audit verify" in str(raised.value.hint)
