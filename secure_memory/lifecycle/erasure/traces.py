"""Bytes that stand in a store's files before an erasure, and must not stand there afterwards.

A trace is the beginning of what is sealed or wrapped, its nonce first: nothing else has these bytes. It lies within one
page, since what is before it in a row is short and SQLite keeps a row's beginning together.
"""

from __future__ import annotations

from collections.abc import Sequence

from secure_memory.keys.erasing import Held
from secure_memory.vault import branches, history
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction

MOST = 32
"""Sealed items, and wrapped keys, that are searched for: each costs its time."""
BYTES = 24


def gather(tx: Transaction, rows: Sequence[SessionRow], held: Sequence[Held]) -> list[bytes]:
    """Traces of the sessions' items and of the keys, at most `MOST` of each."""
    sealed: list[bytes] = []
    for row in rows:
        for branch in branches.of_session(tx.execute, row.id):
            span = branch.id * history.SPAN, (branch.id + 1) * history.SPAN
            found = tx.execute("SELECT substr(sealed, 4, ?) FROM items WHERE id >= ? AND id < ?", (BYTES, *span))
            sealed += [piece for (piece,) in found]
    sealed = list(dict.fromkeys(sealed))  # a branch has copies of what it was forked from
    return [*some(sealed), *some([key.wrapped[1 : 1 + BYTES] for key in held])]


def noted(traces: Sequence[bytes]) -> list[str]:
    """As they are noted in the vault: backwards, so that a search does not find the note."""
    return [trace[::-1].hex() for trace in traces]


def from_note(note: Sequence[str]) -> list[bytes]:
    """The traces of a note."""
    return [bytes.fromhex(trace)[::-1] for trace in note]


def some(pieces: Sequence[bytes]) -> list[bytes]:
    """At most `MOST` of the pieces, the first and the last among them, and others evenly between."""
    if len(pieces) <= MOST:
        return list(pieces)
    step = (len(pieces) - 1) / (MOST - 1)
    return [pieces[round(number * step)] for number in range(MOST)]
