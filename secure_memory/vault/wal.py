"""Leaving nothing of deleted rows in a vault's WAL.

`secure_delete` overwrites what is deleted in the database's pages; their older versions stand in the WAL until it is
truncated, which waits for every process that still reads it. Called by erasures, purges and rotations, outside of any
transaction.
"""

from __future__ import annotations

import time

from secure_memory.errors import StoreBusyError
from secure_memory.vault import sqlcipher
from secure_memory.vault.database import Database

TRUNCATE_SECONDS = 10.0
"""How long to wait for readers."""


def truncate(database: Database) -> None:
    """Move every page of the WAL into the database and empty it; nothing to do for a vault in memory.

    Raises StoreBusyError where another process reads the WAL for too long, and as opening does.
    """
    if database.identity.path is None:
        return
    give_up = time.monotonic() + TRUNCATE_SECONDS
    while _is_busy(database):
        if time.monotonic() > give_up:
            raise StoreBusyError(
                f"{database.where()}: another process still reads the WAL, which holds what was deleted",
                hint="look for a long-running secmem command or scan, then do the same again",
            )
        time.sleep(0.01)


def _is_busy(database: Database) -> bool:
    """Whether something is left."""
    with database.lock:
        try:
            return bool(database.open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        except sqlcipher.DriverError as error:
            raise sqlcipher.translate(error, database.where()) from None
