"""Databases that the SDK's own sessions write, and what they give back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession
from cryptography.fernet import Fernet

from secure_memory.store import SecureStore

Items = list[dict[str, Any]]


class Chat:
    """A database of the SDK at `path`. Each call is a session of its own, closed at the end, unless it is kept open."""

    KEY = Fernet.generate_key().decode()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: list[SQLiteSession] = []

    def plain(self, name: str, items: Items, **tables: str) -> None:
        """Append to a SQLiteSession."""
        self._run(SQLiteSession(name, self.path, **tables), lambda session: session.add_items(items))

    def encrypted(self, name: str, items: Items, key: str | None = None) -> None:
        """Append to an EncryptedSession over a SQLiteSession."""
        under = SQLiteSession(name, self.path)
        self._run(under, lambda _: EncryptedSession(name, under, key or self.KEY).add_items(items))

    def advanced(self, name: str, script: Callable[[AdvancedSQLiteSession], Any]) -> Any:
        """Run a script on an AdvancedSQLiteSession."""
        return self._run(AdvancedSQLiteSession(session_id=name, db_path=self.path, create_tables=True), script)

    def open(self, name: str) -> SQLiteSession:
        """A SQLiteSession that stays open until the test ends, so that the database is in use."""
        self._open.append(SQLiteSession(name, self.path))
        return self._open[-1]

    def _run(self, session: Any, script: Callable[[Any], Any]) -> Any:
        try:
            return asyncio.run(script(session))
        finally:
            session.close()

    def items(self, name: str) -> Items:
        """What the SDK's SQLiteSession gives back."""
        found: Items = self._run(SQLiteSession(name, self.path), lambda session: session.get_items())
        return found

    def branches(self, name: str) -> dict[str, Items]:
        """What the SDK's AdvancedSQLiteSession gives back of each branch."""

        async def script(session: AdvancedSQLiteSession) -> dict[str, Items]:
            names = [branch["branch_id"] for branch in await session.list_branches()]
            return {branch: await session.get_items(branch_id=branch) for branch in names}  # type: ignore[misc]

        found: dict[str, Items] = self.advanced(name, script)
        return found

    def sql(self, *statements: str, values: Sequence[Any] = ()) -> None:
        """Edit the database by hand."""
        database = sqlite3.connect(self.path)
        for statement in statements:
            database.execute(statement, values)
        database.commit()
        database.close()

    @staticmethod
    def talk(turns: int, word: str = "hello") -> Items:
        """A conversation of so many turns: a question, a tool's call and output, an answer."""
        items: Items = []
        for n in range(turns):
            items += [
                {"role": "user", "content": f"{word} {n} ✓"},
                {"type": "function_call", "name": "look", "call_id": str(n), "arguments": '{"n": 1.0}'},
                {"type": "function_call_output", "call_id": str(n), "output": str(2**70)},
                {"role": "assistant", "content": [{"type": "output_text", "text": f"answer {n}"}]},
            ]
        return items

    @staticmethod
    def stored(store: SecureStore, name: str, branch: str | None = None, tenant: str = "acme") -> Items:
        """What a SecureSession gives back."""

        async def read() -> Items:
            session = store.session(name, tenant=tenant)
            try:
                return await session.get_items(branch_id=branch)  # type: ignore[return-value]
            finally:
                session.close()

        return asyncio.run(read())

    @staticmethod
    async def forked(session: AdvancedSQLiteSession) -> None:
        """Five turns on main, a branch from the third, and one of that."""
        for n in range(5):
            await session.add_items([{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}])
        await session.create_branch_from_turn(3, "other way")
        await session.add_items([{"role": "user", "content": "other"}, {"role": "assistant", "content": "way"}])
        await session.create_branch_from_turn(2, "third")
        await session.add_items([{"role": "user", "content": "third"}])

    def close(self) -> None:
        for session in self._open:
            session.close()


@pytest.fixture
def chat(tmp_path: Path) -> Any:
    """A database of the SDK, which does not exist yet."""
    chat = Chat(tmp_path / "sdk" / "chat.db")
    chat.path.parent.mkdir()
    yield chat
    chat.close()
