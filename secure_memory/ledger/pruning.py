"""Dropping the bodies of entries whose time has passed. What is left of one is its place in the tree.

- A row keeps its nodes, the entry's own hash among them, and its root: proofs and heads go on, and an entry that somebody
  has kept can still be shown to have been in the ledger. Its body, its branch and its session go.
- What the ledger is needed for stays: the newest write of each branch and its newest append, what says what was spent and
  was taken back, which row of a session is the newest, what put a policy or a hold in force, what was imported, and
  erasures.
- Dropping is an entry itself. It covers every row without a body: how many there are, the first of those that are not looked
  at, and a digest of their numbers. So a body that is missing and is not covered is found by the whole check (`verify`).

Called by `lifecycle.purge.purging` inside a transaction; which entries are due is said by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from secure_memory.ledger.entry import Entry
from secure_memory.ledger.ledger import Execute, Ledger, Row, entry_of

NEEDED = frozenset(
    {"session.usage", "session.pop", "session.clear", "session.branch", "session.end", "session.tag", "session.assign"}
    | {"policy.apply", "hold.place", "hold.release", "store.import", "subject.erase", "tenant.create", "tenant.erase"}
    | {"key.rotate", "key.destroy", "store.create", "store.restore", "session.tampered", "audit.gap"}
)
"""Actions whose entries stay: `verify` and the vault compare rows with them, or they are few and say what was decided."""
APPENDS = frozenset({"session.create", "session.append", "store.import"})
AT_ONCE = 2000
"""Entries whose bodies are dropped in one transaction."""


class Dropped(NamedTuple):
    """How many bodies were dropped now; and, of all rows without a body: before which `seq` they are, how many, and the
    digest of their numbers."""

    now: int
    before: int
    total: int
    digest: str

    def detail(self) -> dict[str, Any]:
        """What the entry says that covers them."""
        return {"before": self.before, "total": self.total, "digest": self.digest}


def droppable(execute: Execute, ledger: Ledger, end: int, due: Callable[[Entry], bool]) -> Iterator[int]:
    """The numbers below `end` of the entries, from the oldest on, that are due and not needed. They are looked at until the
    first that is not due. Raises TamperedError."""
    for columns in execute("SELECT * FROM ledger WHERE seq < ? AND length(entry) > 0 ORDER BY seq", (end,)):
        row = Row(*columns)
        ledger.check(row)
        entry = entry_of(row)
        if not due(entry):
            return
        if not _needed(execute, row, entry):
            yield row.seq


def _needed(execute: Execute, row: Row, entry: Entry) -> bool:
    if entry.action in NEEDED or "session_row" in entry.detail or "pruned" in entry.detail:
        return True
    if row.branch is None:
        return False
    later = execute("SELECT entry FROM ledger WHERE branch = ? AND seq > ? ORDER BY seq", (row.branch, row.seq))
    first = later.fetchone()
    if first is None:  # the branch's head
        return True
    if entry.action not in APPENDS:
        return False
    while first is not None and not any(f'"action":"{action}"'.encode() in first[0] for action in APPENDS):
        first = later.fetchone()
    return first is None


def drop(execute: Execute, ledger: Ledger, seqs: list[int]) -> Dropped:
    """Drop the bodies of these entries, which are in order; an entry with `Dropped.detail` has to follow."""
    for seq in seqs:
        nodes, root = execute("SELECT nodes, root FROM ledger WHERE seq = ?", (seq,)).fetchone()
        mac = ledger.mac(seq, None, None, b"", nodes, root)
        execute("UPDATE ledger SET branch = NULL, session = NULL, entry = x'', mac = ? WHERE seq = ?", (mac, seq))
    covered = Coverage()
    for (seq,) in execute("SELECT seq FROM ledger WHERE length(entry) = 0 ORDER BY seq"):
        covered.add(seq)
    return Dropped(len(seqs), covered.last + 1, covered.total, covered.digest)


class Coverage:
    """Which rows have no body: how many, and the digest of their numbers in order (16 bytes, hex)."""

    def __init__(self) -> None:
        self.total = 0
        self.last = -1
        self._hash = sha256()

    def add(self, seq: int) -> None:
        """One more."""
        self.total += 1
        self.last = seq
        self._hash.update(seq.to_bytes(8, "big"))

    @property
    def digest(self) -> str:
        """The digest of those that were added."""
        return self._hash.copy().digest()[:16].hex()

    def is_covered_by(self, entry: Entry | None) -> bool:
        """Whether the newest entry about pruning says exactly these."""
        if entry is None:
            return self.total == 0
        said = entry.detail["pruned"]
        return bool(said == {"before": self.last + 1, "total": self.total, "digest": self.digest})
