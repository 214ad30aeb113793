"""When a session was last written to: what `session.last_activity` means in a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secure_memory.errors import TamperedError
from secure_memory.ledger.ledger import VERIFY_HINT, Ledger, Row, entry_of

APPENDS = frozenset({"session.create", "session.append", "store.import"})
"""Taking away and sealing anew is no activity: a purge must not make what is left younger."""


def last_append(execute: Callable[..., Any], ledger: Ledger, session: int) -> int:
    """When something was last appended to any branch of the session with this row id, in microseconds. Raises
    TamperedError."""
    newest = -1
    for (branch,) in execute("SELECT id FROM branches WHERE session = ?", (session,)).fetchall():
        for found in execute("SELECT * FROM ledger WHERE branch = ? ORDER BY seq DESC", (branch,)):
            row = Row(*found)
            ledger.check(row)
            entry = entry_of(row)
            if entry.action in APPENDS:
                newest = max(newest, entry.time)
                break
            if entry.time <= newest:
                break
    if newest < 0:
        raise TamperedError("the ledger does not know how a session began", hint=VERIFY_HINT)
    return newest
