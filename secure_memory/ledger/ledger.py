"""Append inside the caller's transaction; heads; queries.

- `seq` is dense from 0, and one row is one leaf of the Merkle tree. A row's `mac` is an HMAC under the ledger key of every
  other column, so whoever can write to the database but lacks that key can't write a row.
- A `Tail` is where the ledger ends. It is a value: a transaction that rolls back drops its tail, and nothing here has
  moved. `catch_up` brings an older tail to what the table says, and proves that the table continues it.
- **The ledger is the head**: where a branch ends is said by its newest row, and nowhere else.

Called by `vault` with the `execute` of its connection; knows nothing of vaults. Surgery on rows in the middle by someone
who holds the keys is found by `verify`, not here.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory.errors import RollbackError, TamperedError
from secure_memory.ledger import merkle
from secure_memory.ledger.entry import VERSION, BranchHead, Entry, canonical, parse

Execute = Callable[..., Any]
"""`execute(sql, parameters)` of a connection that is inside a transaction."""

_MAC_PREFIX = struct.Struct(">14sQqqII")
HOST = socket.gethostname()[:200]


class Tail(NamedTuple):
    """Where a ledger ends: its size in entries, the peaks of its tree, its root."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()
    root: bytes = merkle.EMPTY_ROOT


class Row(NamedTuple):
    """A row of the table. `branch` and `session` are row ids, `root` is the root at size `seq + 1`; `entry` is empty where
    it was pruned."""

    seq: int
    branch: int | None
    session: int | None
    entry: bytes
    nodes: bytes
    root: bytes
    mac: bytes


class HeadRow(NamedTuple):
    """A branch's head, with the `seq` of the entry that set it and the uids that the entry names, in hex. `gone` where
    that entry deleted the branch."""

    seq: int
    head: BranchHead
    session: str
    branch: str
    gone: bool = False


class Ledger:
    """One vault's ledger, as whoever holds its key writes and reads it."""

    def __init__(self, key: bytes, tenant: bytes) -> None:
        self._key = key
        self._tenant = tenant.hex()

    def append(
        self,
        execute: Execute,
        tail: Tail,
        fields: Mapping[str, Any],
        *,
        branch: int | None = None,
        session: int | None = None,
    ) -> Tail:
        """Append the entry with these fields, and return the new tail. `branch` is given for writes alone.

        v, seq, time, tenant, host and salt are filled in here.
        """
        seq = tail.size
        entry = canonical(
            {
                "v": VERSION,
                "seq": seq,
                "time": clock.rfc3339(clock.now()),
                "tenant": self._tenant,
                "host": HOST,
                "salt": os.urandom(16).hex(),
                **fields,
            }
        )
        peaks, nodes = merkle.append(tail.peaks, seq, merkle.leaf_hash(entry))
        root = merkle.root(peaks)
        mac = self.mac(seq, branch, session, entry, nodes, root)
        execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", (seq, branch, session, entry, nodes, root, mac))
        return Tail(seq + 1, peaks, root)

    def mac(self, seq: int, branch: int | None, session: int | None, entry: bytes, nodes: bytes, root: bytes) -> bytes:
        """The MAC of a row's other columns (32 bytes). NULL is -1, which no row id is."""
        prefix = _MAC_PREFIX.pack(
            b"secmem/entry/1",
            seq,
            -1 if branch is None else branch,
            -1 if session is None else session,
            len(entry),
            len(nodes),
        )
        return hmac.digest(self._key, prefix + entry + nodes + root, "sha256")

    def check(self, row: Row) -> None:
        """Raise TamperedError where a row's MAC is not ours."""
        if not hmac.compare_digest(self.mac(*row[:6]), row.mac):
            raise TamperedError(f"ledger entry {row.seq} was not written by this vault", hint=VERIFY_HINT)

    def catch_up(self, execute: Execute, tail: Tail) -> Tail:
        """The tail as the table has it now, at `tail` or further.

        Raises RollbackError where the table ends before `tail` or disagrees with its root, TamperedError where its last
        row is not ours or the stored nodes do not give its root.
        """
        last = execute("SELECT seq, root FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
        size = 0 if last is None else last[0] + 1
        if size == tail.size:
            if last is not None and last[1] != tail.root:
                raise RollbackError(f"the ledger has another root at size {size} than before", hint=ROLLBACK_HINT)
            return tail
        if size < tail.size:
            raise RollbackError(f"the ledger went back from {tail.size} entries to {size}", hint=ROLLBACK_HINT)
        row = Row(*execute("SELECT * FROM ledger WHERE seq = ?", (size - 1,)).fetchone())
        self.check(row)
        node = stored_nodes(execute)
        peaks = merkle.load_peaks(size, node)
        if merkle.root(peaks) != row.root:
            raise TamperedError(f"the ledger's tree does not have the root of entry {size - 1}", hint=VERIFY_HINT)
        if tail.size and merkle.root_at(tail.size, node) != tail.root:
            raise RollbackError(f"the ledger has another root at size {tail.size} than before", hint=ROLLBACK_HINT)
        return Tail(size, peaks, row.root)

    def head(self, execute: Execute, branch: int) -> HeadRow:
        """A branch's head: what its newest row says. Raises TamperedError where there is none, or it is not ours."""
        found = execute("SELECT * FROM ledger WHERE branch = ? ORDER BY seq DESC LIMIT 1", (branch,)).fetchone()
        if found is None:
            raise TamperedError("the ledger has no entry that wrote to a branch", hint=VERIFY_HINT)
        row = Row(*found)
        self.check(row)
        return head_of(row)

    def entries(self, execute: Execute, start: int = 0, end: int | None = None) -> Iterator[Entry]:
        """The entries with start <= seq < end, in order, each checked against its MAC; without those whose body was pruned.
        Raises TamperedError."""
        stop = 2**62 if end is None else end
        for found in execute("SELECT * FROM ledger WHERE seq >= ? AND seq < ? ORDER BY seq", (start, stop)):
            row = Row(*found)
            self.check(row)
            if row.entry:
                yield entry_of(row)


VERIFY_HINT = "treat it as an incident: keep a copy of the store, then run `secmem audit verify`"
ROLLBACK_HINT = "treat it as an incident: an older copy of the store was put in its place; keep both"


def entry_of(row: Row) -> Entry:
    """The entry of a checked row. Raises TamperedError where it is none."""
    try:
        return parse(row.entry)
    except ValueError:
        raise TamperedError(f"ledger entry {row.seq} is malformed", hint=VERIFY_HINT) from None


def head_of(row: Row, entry: Entry | None = None) -> HeadRow:
    """The head that a checked row sets. Raises TamperedError where its entry sets none."""
    entry = entry or entry_of(row)
    if entry.head is None or entry.session is None or entry.branch is None or entry.seq != row.seq:
        raise TamperedError(f"ledger entry {row.seq} is not the write that its row says", hint=VERIFY_HINT)
    return HeadRow(row.seq, entry.head, entry.session, entry.branch, entry.detail.get("deleted") is True)


def stored_nodes(execute: Execute) -> merkle.Node:
    """The stored nodes of the tree. The function raises TamperedError for a node that is not there."""

    def node(level: int, index: int) -> bytes:
        found = execute("SELECT nodes FROM ledger WHERE seq = ?", (merkle.row_of(level, index),)).fetchone()
        hash_: bytes = found[0][32 * level : 32 * level + 32] if found else b""
        if len(hash_) != merkle.HASH_SIZE:
            raise TamperedError(f"the ledger lacks node {index} of level {level}", hint=VERIFY_HINT)
        return hash_

    return node
