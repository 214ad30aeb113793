"""Many processes and tasks in one store: nothing lost, nothing twice, everyone's own order kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.store import SecureStore


def appends(talk: Any, path: str, process: int, tasks: int, count: int) -> None:
    """`tasks` tasks append `count` items each to one session, which they also read."""

    async def task(session: SecureSession, name: str) -> None:
        for number in range(count):
            await session.add_items([{"role": "user", "content": f"{name} {number}"}])
            if number % 3 == 0:
                await session.get_items(limit=2)

    async def main() -> None:
        with SecureSession("s", path) as session:
            await asyncio.gather(*(task(session, f"{process}.{n}") for n in range(tasks)))

    talk.hear()
    asyncio.run(main())


@pytest.mark.parametrize(
    ("processes", "tasks", "count"),
    [pytest.param(8, 50 // 8 + 1, 4, id="short"), pytest.param(8, 50, 20, id="long", marks=pytest.mark.long)],
)
def test_many_writers(start: Callable[..., Any], place: Any, processes: int, tasks: int, count: int) -> None:
    """Eight processes of many tasks append to one session: each item is there once, in its writer's order, and proven."""
    SecureStore.create(place.path).close()
    children = [start(appends, str(place.path), n, tasks, count) for n in range(processes)]
    for child in children:
        child.say()
    for child in children:
        child.ends()

    found: dict[str, list[int]] = {}
    for text in place.texts():
        writer, number = text.split()
        found.setdefault(writer, []).append(int(number))
    assert {f"{p}.{t}": list(range(count)) for p in range(processes) for t in range(tasks)} == found

    report = place.verify()["default"]
    assert (1, processes * tasks * count) == (report.sessions, report.items)
    expected = {"session.create": 1, "session.append": processes * tasks * count, "session.tampered": 0, "audit.gap": 0}
    assert expected == {action: place.actions()[action] for action in expected}
