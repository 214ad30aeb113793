"""A live database, copied page by page under its own key: what a backup is made of.

- SQLite's online backup API, inside a read transaction of the source: the copy is the database as it was when that began,
  whatever others commit meanwhile, and nobody waits for it. (Without that transaction the engine would begin again with
  each commit of another process.)
- SQLCipher 4 copies a page whose MAC is wrong as zeros, under a MAC that is right, without a word. So that no damage is
  hidden by copying it, every page is checked afterwards, in the database and in the copy.
- The copy is encrypted under the same key, each page with a new nonce. It is nobody's before it is whole: it has no journal,
  and is synced once, by whoever gives it its name.

Called by `Database.copy_to` and, through its driver, by the keyring.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from secure_memory.errors import DiskFullError, StorageError, TamperedError
from secure_memory.vault import integrity, sqlcipher

PAGES = 256
"""Pages (of 4 kB) that are copied between two calls of `progress`."""


Progress = Callable[[int, int], None]
"""Called now and then with the bytes that were copied, and how many there are."""


def copy(source: sqlcipher.Connection, target: sqlcipher.Connection, progress: Progress | None) -> None:
    """Copy what `source`, inside a read transaction, sees of its database into `target`, which is new; closes `target`
    and ends the transaction.

    Raises TamperedError for a damaged page, DiskFullError, StoreBusyError, StorageError, and other errors of the driver:
    whoever called knows which database it was.
    """
    try:
        target.execute("PRAGMA journal_mode = OFF").fetchone()
        target.execute("PRAGMA synchronous = OFF")

        def tell(_: int, remaining: int, total: int) -> None:
            if progress is not None:
                progress((total - remaining) * sqlcipher.PAGE_SIZE, total * sqlcipher.PAGE_SIZE)

        try:
            source.backup(target, pages=PAGES, progress=tell, sleep=0)
        except sqlcipher.DriverError as error:
            # Of this one call's errors the driver says no code: SQLite's words for it (sqlite3ErrStr) have to do.
            if str(error) == "database or disk is full":
                raise DiskFullError("could not copy: the disk is full", hint="free some room there") from None
            if str(error) == "disk I/O error":
                raise StorageError(
                    "could not copy: the disk refused", hint="`secmem doctor` checks disk and modes"
                ) from None
            raise
        integrity.check(source)
        if target.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":  # one of the WAL, which was not checked above
            raise TamperedError("a page is not what was written", hint=sqlcipher.DAMAGED_HINT)
    finally:
        target.close()


def copy_keys(source: sqlcipher.Connection, raw: memoryview, path: Path, progress: Progress | None) -> None:
    """`copy` for the keyring, which does not import the driver: `raw` is key and salt of its database."""
    copy(source, sqlcipher.connect(path, bytes(raw), create=True), progress)
