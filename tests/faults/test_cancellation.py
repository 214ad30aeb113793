"""Tasks that are cancelled while their operation is under way: wholly there or wholly absent, and settled when told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.store import SecureStore

ITEMS = 3


def item(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("count", [pytest.param(150, id="short"), pytest.param(1000, id="long", marks=pytest.mark.long)])
def test_appends(place: Any, count: int) -> None:
    """A cancelled append is there whole or not at all, and which of the two is settled when CancelledError comes."""
    random = Random()
    settled: dict[int, bool] = {}

    async def one(session: SecureSession, number: int) -> None:
        task = asyncio.ensure_future(session.add_items([item(f"{number} {n}") for n in range(ITEMS)]))
        if number % 5 == 1:
            task.cancel()  # before it has begun
        elif number % 5:
            await asyncio.sleep(random.choice([0, 0, random.uniform(0, 0.004)]))
            task.cancel()
            if number % 5 == 2:  # told twice, it still waits for the outcome
                await asyncio.sleep(0)
                task.cancel()
        try:
            await task
            cancelled = False
        except asyncio.CancelledError:
            cancelled = True
        found = [read["content"] for read in await session.get_items() if read["content"].split()[0] == str(number)]
        assert found in ([], [f"{number} {n}" for n in range(ITEMS)])
        assert found or cancelled
        settled[number] = bool(found)

    async def main() -> None:
        sessions = [SecureSession("s", place.path) for _ in range(4)]
        for first in range(0, count, 10):
            numbers = range(first, first + 10)
            await asyncio.gather(*(one(sessions[number % len(sessions)], number) for number in numbers))
        for session in sessions:
            session.close()

    asyncio.run(main())
    found = place.texts()
    assert {number for number, there in settled.items() if there} == {int(text.split()[0]) for text in found}
    assert len(found) == ITEMS * sum(settled.values())
    assert 0 < sum(settled.values()) < count
    place.verify()
    assert not {"session.tampered", "audit.gap"} & set(place.actions())


def test_pops_and_clears(place: Any) -> None:
    """Cancelled pops and clears take away what they take away once, and leave the others' as it is."""
    random = Random()

    async def cancelled(operation: Any) -> None:
        task = asyncio.ensure_future(operation)
        await asyncio.sleep(random.choice([0, random.uniform(0, 0.003)]))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def main() -> None:
        with SecureSession("s", place.path) as session, SecureSession("other", place.path) as other:
            await other.add_items([item("other")])
            for number in range(30):
                await session.add_items([item(str(n)) for n in range(5)])
                await asyncio.gather(*(cancelled(session.pop_item()) for _ in range(3)))
                left = [found["content"] for found in await session.get_items()]
                assert [str(n) for n in range(len(left))] == left
                assert 2 <= len(left) <= 5
                await cancelled(session.clear_session())
                assert await session.get_items() in ([], [item(str(n)) for n in range(len(left))])
                await session.clear_session()
                assert [item("other")] == await other.get_items(), number

    asyncio.run(main())
    place.verify()


def test_timeout(place: Any) -> None:
    """A deadline that passes while an append is under way is a TimeoutError, raised once the append is settled."""

    async def main() -> None:
        with SecureSession("s", place.path) as session:
            await session.add_items([item("before")])
            kept = 0
            for number in range(40):
                try:
                    await asyncio.wait_for(session.add_items([item("x")]), number * 0.0001)
                    kept += 1
                except asyncio.TimeoutError:
                    pass
            there = len(await session.get_items()) - 1
            assert kept <= there <= 40
            await asyncio.sleep(0.05)
            assert there == len(await session.get_items()) - 1

    asyncio.run(main())
    place.verify()


def leaves(talk: Any, path: str) -> None:
    """An event loop that ends while its operations are under way; then another one, and a task that ends with it."""

    async def leave(session: SecureSession) -> None:
        for number in range(20):
            task = asyncio.ensure_future(session.add_items([item(str(number))]))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.sleep(0)

    session = SecureSession("s", path)
    for _ in range(3):
        asyncio.run(leave(session))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave(session))
    loop.close()  # without waiting for anyone
    asyncio.run(session.add_items([item("last")]))
    assert item("last") == asyncio.run(session.get_items())[-1]
    session.close()


def test_loop_that_ends(start: Callable[..., Any], place: Any) -> None:
    """Event loops that end, or are closed, while operations are under way leave the session fit for the next loop."""
    start(leaves, str(place.path)).ends()
    found = place.texts()
    assert "last" == found[-1]
    place.verify()


def test_opening(place: Any) -> None:
    """Cancelling the very first operation, which makes the tenant and the keys, leaves a store that works."""
    SecureStore.create(place.path).close()

    async def main() -> None:
        for number in range(20):
            with SecureStore.open(place.path) as store, store.session("s", tenant=f"t{number}") as session:
                task = asyncio.ensure_future(session.add_items([item("first")]))
                await asyncio.sleep(number * 0.002)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                found = await session.get_items()
                assert found in ([], [item("first")])
                await session.add_items([item("second")])
                assert [*found, item("second")] == await session.get_items()

    asyncio.run(main())
    place.verify()
