"""What the tests of what the SDK's tests are for stand on: a vault whose write lock, and whose last step, are ours to hold."""

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
            await asyncio.sleep(0)
            while not (self._vault.database.lock.locked() or self._vault._queue):
                await asyncio.sleep(0)
        assert not any(task.done() for task in self.tasks)

    async def outcomes(self) -> list[Any]:
        """What they returned or raised, once the lock is free."""
        return await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
def hold(store: SecureStore, insider: Callable[..., Any]) -> Callable[[], AbstractContextManager[Held]]:
    """Take the vault's write lock, as another process would."""

    @contextmanager
    def hold() -> Iterator[Held]:
        thief = insider()
        with closing(sqlcipher.connect(thief.path, thief.keys.vault_key.bytes + thief.keys.vault)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Held(store)
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
