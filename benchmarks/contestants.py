"""Who is measured: our session, the SDK's sessions, and SQLCipher with nothing around it.

Each is opened by `open(session_id)` on one file or store of its own, and has a connection then: the SDK's constructors
make one, ours waits for the first operation. All are as their makers ship them: durable writes (synchronous=FULL), ours
encrypted, redacted, audited, chained and anchored besides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession, SQLAlchemySession
from sqlcipher3 import dbapi2 as driver

from secure_memory import SecureSession


@dataclass(frozen=True, slots=True)
class Contestant:
    """A kind of session: `open(session_id)` gives one on this contestant's file, `close(session)` lets go of it."""

    name: str
    open: Callable[[str], Any]
    close: Callable[[Any], None]


class RawSQLCipher:
    """A loop over one SQLCipher connection in the caller's thread: the floor under anything that is built on it."""

    def __init__(self, path: Path, key: bytes, session_id: str) -> None:
        self._session = session_id
        self._db = driver.connect(str(path), isolation_level=None, check_same_thread=False)
        self._db.set_key(bytearray(b"x'" + key.hex().encode() + b"'"))
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, session TEXT, item TEXT)")
        self._db.execute("CREATE INDEX IF NOT EXISTS by_session ON items (session, id)")

    async def add_items(self, items: list[Any]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        rows = [(self._session, json.dumps(item)) for item in items]
        self._db.executemany("INSERT INTO items (session, item) VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    async def get_items(self, limit: int | None = None) -> list[Any]:
        query = "SELECT item FROM items WHERE session = ? ORDER BY id DESC LIMIT ?"
        rows = self._db.execute(query, (self._session, -1 if limit is None else limit)).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def close(self) -> None:
        self._db.close()


def contestants(folder: Path) -> list[Contestant]:
    """All of them, on fresh files below `folder`. Ours is the first."""
    os.environ["SECMEM_ANCHOR"] = str(folder / "anchors")
    store, key = folder / "ours.secmem", folder / "key"
    raw = os.urandom(48)

    def close(session: Any) -> None:
        session.close()

    def ours(session_id: str) -> SecureSession:
        session = SecureSession(session_id, store, keys=key)
        session.blocking.get_items(limit=0)  # opens the vault, and reads nothing
        return session

    def sqlalchemy(session_id: str) -> Any:
        return SQLAlchemySession.from_url(
            session_id, url=f"sqlite+aiosqlite:///{folder / 'sqlalchemy.db'}", create_tables=True
        )

    def encrypted(session_id: str) -> Any:
        return EncryptedSession(session_id, SQLiteSession(session_id, folder / "encrypted.db"), encryption_key="k" * 32)

    return [
        Contestant("SecureSession", ours, close),
        Contestant("SQLiteSession", lambda s: SQLiteSession(s, folder / "sqlite.db"), close),
        Contestant(
            "AdvancedSQLiteSession",
            lambda s: AdvancedSQLiteSession(session_id=s, db_path=folder / "advanced.db", create_tables=True),
            close,
        ),
        Contestant("EncryptedSession", encrypted, lambda s: s.underlying_session.close()),
        Contestant("SQLAlchemySession", sqlalchemy, lambda s: None),
        Contestant("raw SQLCipher", lambda s: RawSQLCipher(folder / "raw.db", raw, s), close),
    ]
