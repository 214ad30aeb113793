"""Taking items out of a branch, wherever they stand, and putting others into their place: what a purge does to rows.

- The whole branch is proven first: nothing enters a head unproven, and what was tampered with is evidence, which stays.
- Positions stay without a gap and the head's position does not change: what is left before a gap moves up towards the head,
  and the base grows by as many as are gone. Links are computed anew from there on. Where all that goes is the beginning of
  the branch, only the base moves, to the link that is there; no row is written.
- Turns are not counted anew, not even where everything goes: what was spent in them stays theirs (see `usage`).
- What is redacted has a new uid and a new seal in its old place and turn.

Called inside a transaction by `lifecycle.purge.purges`, which gives each branch its entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from secure_memory.ledger.entry import BranchHead
from secure_memory.vault import chain, history
from secure_memory.vault.history import SPAN
from secure_memory.vault.transaction import Transaction

_PLACES = "SELECT id, turn, uid, link FROM items WHERE id >= ? AND id < ? ORDER BY id"
_RANGE = "DELETE FROM items WHERE id >= ? AND id < ?"

_Row = tuple[int, int, bytes, bytes]
"""An item's id, turn, uid and link."""


class Pruned(NamedTuple):
    """A branch's new head; how many items were removed from it, and how many have another content."""

    head: BranchHead
    removed: int
    rewritten: int


def clear(tx: Transaction, branch: int, head: BranchHead) -> Pruned:
    """Delete every item of the branch. Raises TamperedError where they are not what the head says."""
    history.prove(_places(tx.execute, branch), branch, head.base_position, head.base_link, head)
    tx.execute(_RANGE, (branch * SPAN, (branch + 1) * SPAN))
    new = replace(head, base_position=head.position, base_turn=head.turn, base_link=head.link)
    return Pruned(new, head.position - head.base_position, 0)


def prune(
    tx: Transaction, branch: int, head: BranchHead, gone: Collection[bytes], anew: Mapping[bytes, tuple[bytes, bytes]]
) -> Pruned:
    """Delete the items whose uid is in `gone`, and give those in `anew` that uid and those sealed bytes instead. Uids that
    the branch does not have are passed over. Raises TamperedError where its items are not what the head says."""
    rows = list(_places(tx.execute, branch))
    history.prove(rows, branch, head.base_position, head.base_link, head)
    kept = [row for row in rows if row[2] not in gone]
    removed = len(rows) - len(kept)
    rewritten = sum(row[2] in anew for row in kept)
    if not removed and not rewritten:
        return Pruned(head, 0, 0)
    _delete(tx, [row[0] for row in rows if row[2] in gone])
    base = head
    if removed and all(row[2] in gone for row in rows[:removed]):  # the beginning of the branch, and nothing else
        position, turn, _, link = rows[removed - 1]
        base = replace(head, base_position=position % SPAN, base_turn=turn, base_link=link)
    elif removed:
        base = replace(head, base_position=head.base_position + removed)
    link = _relink(tx, branch, base, kept, anew)
    return Pruned(replace(base, link=link), removed, rewritten)


def _places(execute: Callable[..., Any], branch: int) -> Iterator[_Row]:
    rows: Iterator[_Row] = execute(_PLACES, (branch * SPAN, (branch + 1) * SPAN))
    return rows


def _delete(tx: Transaction, ids: Sequence[int]) -> None:
    """Delete the rows with these ids, which are in order: what lies together at once."""
    start = 0
    for number, row_id in enumerate(ids, 1):
        if number == len(ids) or ids[number] != row_id + 1:
            tx.execute(_RANGE, (ids[start], row_id + 1))
            start = number


def _relink(
    tx: Transaction, branch: int, base: BranchHead, kept: Sequence[_Row], anew: Mapping[bytes, tuple[bytes, bytes]]
) -> bytes:
    """Write what of the rows is another one from the base on; returns the newest link."""
    link, position = base.base_link, base.base_position
    written: list[tuple[str, tuple[Any, ...]]] = []
    for row_id, turn, uid, old in kept:
        position += 1
        new_id = branch * SPAN + position
        new_uid, sealed = anew.get(uid, (uid, None))
        link = chain.follow(link, position, turn, new_uid)
        if sealed is not None:
            update = "UPDATE items SET id = ?, link = ?, uid = ?, sealed = ? WHERE id = ?"
            written.append((update, (new_id, link, new_uid, sealed, row_id)))
        elif (new_id, link) != (row_id, old):
            written.append(("UPDATE items SET id = ?, link = ? WHERE id = ?", (new_id, link, row_id)))
    for update, values in reversed(written):  # from the end, where there is room
        tx.execute(update, values)
    return link
