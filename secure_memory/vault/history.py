"""Items in their order: append, read, pop, cut, clear, reseal; and the proof of what is returned.

- A branch's items are the rows `branch * 2^31 + position` for base < position <= head, without a gap. Where base and head
  are is said by the ledger alone.
- `prove` recomputes every link from the base, or, for a part, from the link before it, and accepts only what ends at the
  head. A forged link before a part can't be followed to the head's link: that would be a second preimage of SHA-256.
- No link read from a row enters a head unproven.

Functions take the transaction they run in. Uids and sealed bytes come from the caller, who holds the keys.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_memory.errors import StorageError, TamperedError
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.vault import chain, sqlcipher
from secure_memory.vault.seal import Place, opener
from secure_memory.vault.transaction import Transaction

SPAN = 2**31
"""Positions that a branch has."""

_COLUMNS = "id, turn, uid, link, kind, role, tool, created, sealed"


class ItemRow(NamedTuple):
    """A row of `items`."""

    id: int
    turn: int
    uid: bytes
    link: bytes
    kind: str
    role: str
    tool: str
    created: int
    sealed: bytes

    @property
    def position(self) -> int:
        """The item's position in its branch, from 1."""
        return self.id % SPAN


class NewItem(NamedTuple):
    """A sealed item on its way in: its place, whether a turn starts with it, its sealed bytes."""

    place: Place
    starts_turn: bool
    sealed: bytes


def begin(branch_uid: bytes) -> BranchHead:
    """The head of a branch that has no items yet."""
    link = chain.first(branch_uid)
    return BranchHead(0, 0, link, 0, 0, link)


def append(tx: Transaction, branch: int, head: BranchHead, items: Sequence[NewItem]) -> tuple[BranchHead, list[bytes]]:
    """Insert the items after `head`; returns the new head and the items' links."""
    position, turn, link = head.position, head.turn, head.link
    if position + len(items) >= SPAN:
        raise StorageError("a branch can't hold more items", hint="begin a new session")
    first = branch * SPAN
    rows, links = [], []
    for place, starts_turn, sealed in items:
        position += 1
        turn += starts_turn
        link = chain.follow(link, position, turn, place.uid)
        links.append(link)
        rows.append((first + position, turn, place.uid, link, place.kind, place.role, place.tool, place.created, sealed))
    try:
        for row in rows:
            tx.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    except sqlcipher.DriverError as error:
        if sqlcipher.is_taken(error):  # past the head there is nothing that we wrote
            raise _tampered(row[0] - first) from None
        raise
    return BranchHead(position, turn, link, head.base_position, head.base_turn, head.base_link), links


def fetch(tx: Transaction, branch: int, head: BranchHead, after: int) -> tuple[bytes, list[ItemRow]]:
    """The link at position `after`, and the branch's rows behind it: more than there should be, if there are.

    Neither is proven yet: see `prove`. Raises TamperedError where there is no item at `after`.
    """
    at_base = after == head.base_position
    first = branch * SPAN
    rows = _rows(tx.execute, first + after + at_base, first + SPAN)
    if at_base:
        return head.base_link, rows
    if not rows or rows[0].position != after:
        raise _tampered(after)
    return rows[0].link, rows[1:]


def rows(execute: Callable[..., Any], branch: int) -> list[ItemRow]:
    """All rows of a branch, wherever they should be."""
    return _rows(execute, branch * SPAN, (branch + 1) * SPAN)


def _rows(execute: Callable[..., Any], start: int, end: int) -> list[ItemRow]:
    query = f"SELECT {_COLUMNS} FROM items WHERE id >= ? AND id < ? ORDER BY id"  # noqa: S608 - our own names
    return list(map(ItemRow._make, execute(query, (start, end))))


def prove(items: Iterable[tuple[Any, ...]], branch: int, after: int, link: bytes, head: BranchHead) -> None:
    """Check that `items` are the items from position `after` + 1 up to the head, in order, none missing and none more.

    `link` is the link at `after`; of a row its first four columns are looked at. Raises TamperedError, which names the
    first position that is wrong.
    """
    position = after
    expected = branch * SPAN + after
    follow = chain.follow
    try:
        for row in items:
            position += 1
            expected += 1
            link = follow(link, position, row[1], row[2])
            if link != row[3] or row[0] != expected:
                raise _tampered(position)
    except struct.error:  # a turn that no item has
        raise _tampered(position) from None
    if position != head.position or link != head.link:
        raise _tampered(min(position, head.position) + (position != head.position))


def unsealed(items: Sequence[ItemRow], aead: AESGCM, tenant: bytes, session: bytes) -> list[bytes]:
    """The JSON of the items. Raises TamperedError, which names the first position that does not open in its place."""
    texts: list[bytes] = []
    open_one = opener(aead, tenant, session)
    try:
        for _, _, uid, _, kind, role, tool, created, sealed in items:
            texts.append(open_one(uid, kind, role, tool, created, sealed))
    except TamperedError:
        raise _tampered(items[len(texts)].position) from None
    return texts


def _tampered(position: int) -> TamperedError:
    return TamperedError(f"the item at position {position} is not the one that was written there", hint=VERIFY_HINT)


def pop(tx: Transaction, branch: int, head: BranchHead) -> tuple[BranchHead, ItemRow]:
    """Delete the newest item, which must be there; returns the new head and the row.

    The new head's link and turn are proven: they hash forward to the old head's.
    """
    after = max(head.base_position, head.position - 2)
    before, items = fetch(tx, branch, head, after)
    prove(items, branch, after, before, head)
    row = items[-1]
    if len(items) > 1:
        position, turn, link = items[-2].position, items[-2].turn, items[-2].link
    else:
        position, turn, link = head.base_position, head.base_turn, head.base_link
    tx.execute("DELETE FROM items WHERE id = ?", (row.id,))
    return BranchHead(position, turn, link, head.base_position, head.base_turn, head.base_link), row


def fork(
    tx: Transaction, source: int, head: BranchHead, before_turn: int, branch: int, uid: bytes
) -> tuple[BranchHead, int]:
    """Copy the items of the turns before `before_turn` to a new branch, sealed bytes included; returns its head, and how
    many they are. The whole source is proven first.

    Raises ValueError where the source has no such turn that begins with a user message.
    """
    found = _proven(tx, source, head)
    if not any(row.turn == before_turn and row.role == "user" for row in found):
        raise ValueError(f"turn {before_turn} does not contain a user message in this branch")
    new = begin(uid)
    turn = min(head.base_turn, before_turn)
    position, link = 0, new.link
    for row in found:
        if row.turn < before_turn:
            position += 1
            turn, link = row.turn, chain.follow(link, position, row.turn, row.uid)
            copied = row._replace(id=branch * SPAN + position, link=link)
            tx.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", copied)
    return BranchHead(position, turn, link, 0, min(head.base_turn, before_turn), new.link), position


def adopt(tx: Transaction, branch: int, head: BranchHead, items: Sequence[ItemRow]) -> tuple[BranchHead, int]:
    """Copy proven items of another branch of the session behind `head`, sealed bytes included; returns the new head, and how
    many were not there already."""
    first = branch * SPAN
    there = {uid for (uid,) in tx.execute("SELECT uid FROM items WHERE id >= ? AND id < ?", (first, first + SPAN))}
    position, turn, link = head.position, head.turn, head.link
    for row in items:
        if row.uid not in there:
            position, turn = position + 1, max(turn, row.turn)
            link = chain.follow(link, position, turn, row.uid)
            copied = row._replace(id=first + position, turn=turn, link=link)
            tx.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", copied)
    return replace(head, position=position, turn=turn, link=link), position - head.position


def rewind(tx: Transaction, branch: int, head: BranchHead, turn: int) -> tuple[BranchHead, int]:
    """Delete the items of the turns after `turn`; returns the new head, and how many they were.

    Raises ValueError where the branch has not come as far as `turn`, or no longer goes back to it.
    """
    if not head.base_turn <= turn <= head.turn:
        raise ValueError(f"turn {turn} is not one of this branch's turns, {head.base_turn} to {head.turn}")
    found = _proven(tx, branch, head)
    kept = [row for row in found if row.turn <= turn]
    last = kept[-1] if kept else None
    position, link = (last.position, last.link) if last else (head.base_position, head.base_link)
    first = branch * SPAN
    tx.execute("DELETE FROM items WHERE id > ? AND id < ?", (first + position, first + SPAN))
    new = BranchHead(
        position, last.turn if last else head.base_turn, link, head.base_position, head.base_turn, head.base_link
    )
    return new, len(found) - len(kept)


def cut(tx: Transaction, branch: int, head: BranchHead, after: int) -> tuple[BranchHead, int]:
    """Delete the items behind position `after`; returns the new head, and how many they were.

    As in `pop`, the new head's link and turn are proven: they hash forward to the old head's.
    """
    before = max(head.base_position, after - 1)
    link, found = fetch(tx, branch, head, before)
    prove(found, branch, before, link, head)
    at = BranchHead(head.base_position, head.base_turn, head.base_link, head.base_position, head.base_turn, head.base_link)
    if after > before:
        at, found = replace(at, position=after, turn=found[0].turn, link=found[0].link), found[1:]
    tx.execute("DELETE FROM items WHERE id > ? AND id < ?", (branch * SPAN + after, (branch + 1) * SPAN))
    return at, len(found)


def reseal(
    tx: Transaction, branch: int, head: BranchHead, anew: Callable[[ItemRow], tuple[bytes, bytes]]
) -> tuple[BranchHead, int]:
    """Give every item the uid and the sealed bytes that `anew` makes of it; returns the new head, and how many they are.

    The whole branch is proven first, and keeps its positions and turns.
    """
    found = _proven(tx, branch, head)
    link = head.base_link
    for row in found:
        uid, sealed = anew(row)
        link = chain.follow(link, row.position, row.turn, uid)
        tx.execute("UPDATE items SET uid = ?, link = ?, sealed = ? WHERE id = ?", (uid, link, sealed, row.id))
    return replace(head, link=link), len(found)


def _proven(tx: Transaction, branch: int, head: BranchHead) -> list[ItemRow]:
    """All items of a branch, proven."""
    link, found = fetch(tx, branch, head, head.base_position)
    prove(found, branch, head.base_position, link, head)
    return found


def clear(tx: Transaction, branch: int, head: BranchHead) -> tuple[BranchHead, int]:
    """Delete every item of the branch; returns the new head, which goes on from the old one, and how many there were.

    Positions are not used again, so that nothing from before can be put back. Raises TamperedError where there were more
    or fewer than the head says: what was there is evidence then.
    """
    count = head.position - head.base_position
    first = branch * SPAN
    deleted = tx.execute("DELETE FROM items WHERE id >= ? AND id < ?", (first, first + SPAN)).rowcount
    if deleted != count:
        raise _tampered(head.base_position + 1)
    return BranchHead(head.position, 0, head.link, head.position, 0, head.link), count
