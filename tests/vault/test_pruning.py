"""Items taken out of a branch anywhere: what is left is read, proven, popped and appended to as if it were all."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.vault import history, pruning, seal
from secure_memory.vault.pruning import Pruned
from secure_memory.vault.seal import Place
from secure_memory.vault.transaction import Transaction

BRANCH, TENANT, SESSION = 1, bytes(16), bytes([2]) * 16
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def prune(bench: Any, vault: Any, gone: set[int], anew: set[int]) -> Pruned:
    """Remove the items with these numbers (from 0) and give the others new content, in one transaction with an entry."""

    def work(tx: Transaction) -> Pruned:
        rows = history.rows(tx.execute, BRANCH)
        other = {rows[number].uid: rewritten(bench, rows[number]) for number in anew if number < len(rows)}
        doomed = {rows[number].uid for number in gone if number < len(rows)}
        found = pruning.prune(tx, BRANCH, tx.head(BRANCH).head, doomed, other)
        bench._write(tx, found.head, "retention.purge")
        return found

    pruned: Pruned = bench.run(vault, work)
    return pruned


def rewritten(bench: Any, row: Any) -> tuple[bytes, bytes]:
    """A new uid and a new seal for a row."""
    place = Place(TENANT, SESSION, os.urandom(16), row.kind, row.role, row.tool, row.created)
    return place.uid, seal.seal(bench.key.aead, 1, os.urandom(12), place, b"redacted", seal.REDACTED)


numbers = st.sets(st.integers(0, 11))


@FEW
@given(st.integers(0, 12), numbers, numbers, st.booleans())
def test_what_is_left(bench: Any, count: int, gone: set[int], anew: set[int], again: bool) -> None:
    """Whatever is removed and rewritten, the rest is there in order, proven, and the head stands where it stood."""
    vault = bench.vault() if bench.path.exists() else bench.made()
    bench.clear(vault)
    texts = [f"item {number}" for number in range(count)]
    before = bench.append(vault, *texts) if texts else None
    found = prune(bench, vault, gone, anew)
    left = [(text if n not in anew else "redacted") for n, text in enumerate(texts) if n not in gone]
    assert left == bench.read(vault)
    assert (len(texts) - len(left), left.count("redacted")) == found[1:]
    if before is not None:
        assert (before.position, before.turn) == (found.head.position, found.head.turn)
        assert found.head.position - found.head.base_position == len(left)
    assert left == bench.read(bench.vault())  # as another process sees it
    if again:  # a second time, from what the first left
        prune(bench, vault, {0}, {1})
        left = [text if n != 0 else "redacted" for n, text in enumerate(left[1:])]
        assert left == bench.read(vault)
    bench.append(vault, "after")
    assert [*left, "after"] == bench.read(vault)
    assert [*left, "after"][-2:] == bench.read(vault, 2)
    assert "after" == bench.pop(vault)
    if left:
        assert left[-1] == bench.pop(vault)
        assert left[:-1] == bench.read(vault)


def test_a_beginning_goes_without_a_row_written(bench: Any) -> None:
    """Where the oldest items go, the base moves to the link that is there, and what stays is as it was."""
    vault = bench.made()
    bench.append(vault, "a", "b", "c", "d")
    before = bench.sql("SELECT * FROM items ORDER BY id")
    head = prune(bench, vault, {0, 1}, set()).head
    assert before[2:] == bench.sql("SELECT * FROM items ORDER BY id")
    assert (2, before[1][3]) == (head.base_position, head.base_link)


def test_clearing_keeps_the_count_of_turns(bench: Any) -> None:
    """Where everything goes, no turn's number is used again."""
    vault = bench.made()
    bench.append(vault, "a", "b")

    def work(tx: Transaction) -> Pruned:
        found = pruning.clear(tx, BRANCH, tx.head(BRANCH).head)
        bench._write(tx, found.head, "retention.purge")
        return found

    cleared = bench.run(vault, work)
    assert (2, [], 2, 2) == (cleared.removed, bench.read(vault), cleared.head.turn, cleared.head.base_turn)
    assert 3 == bench.append(vault, "c").turn
    assert ["c"] == bench.read(vault)


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE items SET uid = randomblob(16) WHERE id & 2147483647 = 3",
        "UPDATE items SET link = randomblob(32) WHERE id & 2147483647 = 1",
        "UPDATE items SET turn = turn + 1 WHERE id & 2147483647 = 2",
        "DELETE FROM items WHERE id & 2147483647 = 1",
        "DELETE FROM items WHERE id & 2147483647 = 4",
        "INSERT INTO items SELECT id + 1, turn, uid, link, kind, role, tool, created, sealed FROM items"
        " WHERE id = 2147483652",
    ],
)
@pytest.mark.parametrize("how", ["prune", "clear"])
def test_nothing_is_taken_from_what_was_tampered_with(bench: Any, edit: str, how: str) -> None:
    """An edited branch is evidence: nothing of it is deleted, and the purge is told."""
    vault = bench.made()
    bench.append(vault, "a", "b", "c", "d")
    bench.sql(edit)
    before = bench.sql("SELECT * FROM items ORDER BY id")
    prunes = how == "prune"
    with pytest.raises(TamperedError):
        prune(bench, vault, {0}, set()) if prunes else bench.run(
            vault, lambda tx: pruning.clear(tx, BRANCH, tx.head(BRANCH).head)
        )
    assert before == bench.sql("SELECT * FROM items ORDER BY id")


def test_a_redacted_item_can_not_be_made_one(bench: Any) -> None:
    """The mark of what was redacted is part of its seal: turning it on or off is found when the item is opened."""
    vault = bench.made()
    bench.append(vault, "a", "b")
    prune(bench, vault, set(), {1})
    assert ["a", "redacted"] == bench.read(vault)
    for row_id, mark in (history.SPAN + 1, b"\x02"), (history.SPAN + 2, b"\x01"):
        kept = bench.sql("SELECT sealed FROM items WHERE id = ?", row_id)[0][0]
        bench.sql("UPDATE items SET sealed = ? WHERE id = ?", mark + kept[1:], row_id)
        with pytest.raises(TamperedError):
            bench.read(vault)
        bench.sql("UPDATE items SET sealed = ? WHERE id = ?", kept, row_id)


def test_nothing_to_do_is_nothing_done(bench: Any) -> None:
    """Uids that the branch does not have change neither a row nor the head."""
    vault = bench.made()
    head = bench.append(vault, "a")
    found = bench.run(
        vault, lambda tx: pruning.prune(tx, BRANCH, tx.head(BRANCH).head, {b"?" * 16}, {b"!" * 16: (b"", b"")})
    )
    assert Pruned(head, 0, 0) == found
