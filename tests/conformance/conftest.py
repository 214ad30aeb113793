"""What the tests of intents stand on: a vault whose write lock is ours to hold, and whose writes fail at their last step."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_memory import SecureStore
from secure_memory.vault import sqlcipher

# This directory's modules are found by their names, as `make conformance` finds them.
sys.path.append(str(Path(__file__).parent))


class Held:
    """Operations that wait for a vault's write lock."""

    def __init__(self, store: SecureStore) -> None:
        self._vault = store._shared.tenant("default").vault
        self.tasks: list[asyncio.Task[Any]] = []

    async def begin(self, *operations: Coroutine[Any, Any, Any]) -> None:
        """Start them in this order, and return when each has been called and waits; the event loop is free meanwhile."""
        for operation in operations:
            self.tasks.append(asyncio.ensure_future(operation))
            await self.waiting()
        assert not any(task.done() for task in self.tasks)

    async def waiting(self) -> None:
        """Return when the vault's worker waits for the lock."""
        await asyncio.sleep(0)
        while not self._vault.database.lock.locked():
            await asyncio.sleep(0)

    async def outcomes(self) -> list[Any]:
        """What they returned or raised, once the lock is free."""
        return await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
def hold(store: SecureStore, insider: Callable[..., Any]) -> Callable[[], AbstractContextManager[Held]]:
    """Take the vault's write lock, as another process would."""

    @contextmanager
    def hold() -> Iterator[Held]:
        held, thief = Held(store), insider()
        with closing(sqlcipher.connect(thief.path, thief.keys.vault_key.bytes + thief.keys.vault)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield held
            connection.execute("ROLLBACK")

    return hold


@pytest.fixture
def broken(insider: Callable[..., Any]) -> Callable[[], AbstractContextManager[None]]:
    """Make the last statement of every write fail: its entry."""

    @contextmanager
    def broken() -> Iterator[None]:
        insider().sql("CREATE TRIGGER broken BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'broken'); END")
        yield
        insider().sql("DROP TRIGGER broken")  # which waits for nobody's lock

    return broken
