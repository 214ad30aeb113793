"""Whether every page of a database's file is what was written, those among them that nothing reads."""

from __future__ import annotations

import time

from secure_memory.errors import StoreBusyError, TamperedError
from secure_memory.vault import sqlcipher

CHECKS = 3
"""How often a page has to look wrong."""


def check(connection: sqlcipher.Connection) -> None:
    """Check the MAC of every page of the file. Ends the connection's read transaction.

    Raises TamperedError; StoreBusyError while a reader keeps it from being told. For a reader's sake a checkpoint leaves out
    newer pages, and a file that grew then has gaps: what looks wrong counts only where the whole WAL is in the file. A page
    that another process's checkpoint is just writing may look wrong, once: what is wrong stays wrong.
    """
    sqlcipher.rollback(connection)  # ours is a reader, too
    if not connection.execute("PRAGMA database_list").fetchone()[2]:
        return  # in memory: there is no file
    deadline, checks, wrong = time.monotonic() + sqlcipher.BUSY_TIMEOUT, 0, None
    while checks < CHECKS:
        busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        found = set(connection.execute("PRAGMA cipher_integrity_check").fetchall())
        if not busy and frames == moved:
            wrong = found if wrong is None else wrong & found
            checks += 1
        if not found or wrong == set():
            return
        if time.monotonic() > deadline:
            raise StoreBusyError(
                f"another process has read the store for more than {sqlcipher.BUSY_TIMEOUT:g} s: its pages can't be checked",
                hint="try again once no other secmem command scans it",
            )
        time.sleep(0.05)
    raise TamperedError(
        f"a page is not what was written ({len(wrong or ())} in all)",
        hint=sqlcipher.DAMAGED_HINT,
    )
