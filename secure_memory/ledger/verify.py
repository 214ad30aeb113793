"""The whole check of one ledger, and the first thing that is wrong.

For each row, in order of `seq`; one whose body was pruned has only what (1), (2), (4) and (5) say:

1. `seq` is dense from 0;
2. the row's MAC is ours;
3. its entry is canonical, says this `seq` and this tenant, and has a known action;
4. its nodes are those of the Merkle tree over all entries so far;
5. its root is the root of that tree;
6. a row has a branch if its entry sets a head, and only then; the entries of one branch name one session and one branch
   uid, which no other branch has;
7. the control state changes with an entry that says so, and with no other: whoever put an older one back is found, although
   later entries carry it;
8. the newest entry about pruning says exactly which rows have no body.

What comes back, the newest head of each branch among it, is what the vault's own check compares the items with. Called by
`audit` inside a read transaction, so that other processes go on writing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from secure_memory.actions import ACTIONS
from secure_memory.errors import TamperedError
from secure_memory.ledger import merkle
from secure_memory.ledger.entry import OUTCOMES, Entry, parse
from secure_memory.ledger.ledger import VERIFY_HINT, Execute, HeadRow, Ledger, Row, Tail, head_of
from secure_memory.ledger.pruning import Coverage

Progress = Callable[[int], None]
"""Called now and then with the number of rows checked so far."""
_PROGRESS_EVERY = 2000
_CHANGES_CONTROL = frozenset({"policy.apply", "hold.place", "hold.release"})


@dataclass(slots=True)
class Checked:
    """A ledger that was found whole: its tail, each branch's newest head, its newest entry, and by its uid the digest of
    each session's row that was changed after it was made."""

    tail: Tail = field(default_factory=Tail)
    heads: dict[int, HeadRow] = field(default_factory=dict)
    newest: Entry | None = None
    rows: dict[str, str] = field(default_factory=dict)


def verify(execute: Execute, ledger: Ledger, tenant: bytes, progress: Progress | None = None) -> Checked:
    """Check every row. Raises TamperedError, which names the first entry that is wrong and how."""
    checked = Checked()
    peaks: tuple[bytes, ...] = ()
    root = merkle.EMPTY_ROOT
    branches: dict[str, int] = {}
    bodiless, pruned = Coverage(), None
    seq = 0
    for found in execute("SELECT * FROM ledger ORDER BY seq"):
        row = Row(*found)
        if row.seq != seq:  # (1)
            raise _wrong(seq, "is missing")
        ledger.check(row)  # (2)
        entry = _entry(row, tenant) if row.entry else None  # (3)
        leaf = row.nodes[: merkle.HASH_SIZE] if entry is None else merkle.leaf_hash(row.entry)
        peaks, nodes = merkle.append(peaks, seq, leaf)
        if nodes != row.nodes:  # (4)
            raise _wrong(seq, "does not continue the tree of the entries before it")
        root = merkle.root(peaks)
        if root != row.root:  # (5)
            raise _wrong(seq, "has another root than its tree")
        seq += 1
        if progress is not None and seq % _PROGRESS_EVERY == 0:
            progress(seq)
        if entry is None:
            bodiless.add(row.seq)
            if row.branch is not None or row.session is not None:
                raise _wrong(row.seq, "was pruned, and still says whose it was")
            continue
        if "pruned" in entry.detail:
            pruned = entry
        if row.branch is not None:  # (6)
            head, known = head_of(row, entry), checked.heads.get(row.branch)
            if known is not None and (known.session, known.branch) != (head.session, head.branch):
                raise _wrong(row.seq, "writes to a branch of another session")
            if branches.setdefault(head.branch, row.branch) != row.branch:
                raise _wrong(row.seq, "writes to a branch that has another one's uid")
            checked.heads[row.branch] = head
        elif entry.head is not None:
            raise _wrong(row.seq, "is a write, and its row does not say so")
        if entry.session is not None and isinstance(row_digest := entry.detail.get("session_row"), str):
            checked.rows[entry.session] = row_digest
        before = checked.newest or entry
        if entry.control != before.control and entry.action not in _CHANGES_CONTROL:  # (7)
            raise _wrong(row.seq, "carries another control state than the entry before it")
        checked.newest = entry
    if not bodiless.is_covered_by(pruned):  # (8)
        raise TamperedError("entries are without a body that no pruning accounts for", hint=VERIFY_HINT)
    checked.tail = Tail(seq, peaks, root)
    return checked


def _entry(row: Row, tenant: bytes) -> Entry:
    try:
        entry = parse(row.entry)
    except ValueError:
        raise _wrong(row.seq, "is not canonical") from None
    if entry.seq != row.seq:
        raise _wrong(row.seq, f"says that it is entry {entry.seq}")
    if entry.action not in ACTIONS or entry.outcome not in OUTCOMES:
        raise _wrong(row.seq, "has an unknown action or outcome")
    if entry.tenant != tenant.hex():
        raise _wrong(row.seq, "is of another tenant")
    return entry


def _wrong(seq: int, what: str) -> TamperedError:
    return TamperedError(f"ledger entry {seq} {what}", hint=VERIFY_HINT)
