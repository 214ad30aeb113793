"""A purge of many items: how fast, in how much memory, and how long agents wait meanwhile. Part of benchmarks/results.md.

A store is filled with conversations of 40 days ago, which a rule of 30 days makes due: encrypted, audited and chained like
any. Then they are purged while an agent appends and reads in the same tenant. ``python benchmarks/purge.py 20000`` for a
short one.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import report

from secure_memory import SecureStore, clock
from secure_memory.policy.model import Retention, RetentionRule

ITEMS = 1_000_000
EACH = 100
"""Items of a conversation."""
DAY = 86_400_000_000
TURN = [{"role": "user", "content": "where is my parcel?"}, {"role": "assistant", "content": "on its way: " + "x" * 200}]


@dataclass(frozen=True, slots=True)
class Measured:
    """A purge: items, items per second, the most memory that it took besides what the process had (MB), the agent's waits in
    ms (median and 99 of 100) for an append and a read while it ran, and the same before it."""

    items: int
    rate: float
    memory: float
    during: tuple[float, float]
    before: tuple[float, float]
    freed: float


def fill(store: SecureStore, items: int) -> None:
    """Conversations of 40 days ago."""
    real = clock.now
    clock.now = lambda: real() - 40 * DAY  # type: ignore[assignment]
    try:

        async def talk() -> None:
            for start in range(0, items // EACH, 64):
                names = [f"session-{number}" for number in range(start, min(start + 64, items // EACH))]
                await asyncio.gather(*(store.session(name).add_items(TURN * (EACH // 2)) for name in names))

        asyncio.run(talk())
    finally:
        clock.now = real
    rule = RetentionRule(id="chats", max="P30D")
    policy = store.policy_in_force().model_copy(update={"retention": Retention(rules=(rule,))})
    store.policy_apply(policy, confirm_shorten=True)


class Agent:
    """One who appends a turn and reads the last 20 items, again and again, and notes how long it took (ms)."""

    def __init__(self, store: SecureStore) -> None:
        self.waits: list[float] = []
        self._stop = threading.Event()
        self._session = store.session("agent")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._talk()))

    async def _talk(self) -> None:
        while not self._stop.is_set():
            start = time.perf_counter()
            await self._session.add_items(TURN)
            await self._session.get_items(limit=20)
            self.waits.append((time.perf_counter() - start) * 1e3)
            await asyncio.sleep(0.005)

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def waited(self) -> tuple[float, float]:
        """The median and the 99th of 100."""
        found = sorted(self.waits)
        return statistics.median(found), found[int(len(found) * 0.99)]


class Memory:
    """The most memory that this process had, sampled."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self.most = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown(self) -> float:
        """By how much, in MB."""
        return (self.most - self._before) / 1e6


def measure(folder: Path, items: int) -> Measured:
    """Fill a store and purge it."""
    with SecureStore.create(folder / f"{items}", keys=folder / f"key-{items}", anchor=folder / "anchors") as store:
        fill(store, items)
        with Agent(store) as quiet:
            time.sleep(2)
        with Agent(store) as agent, Memory() as memory:
            start = time.perf_counter()
            done = store.purge(apply=True, max_clock_jump="any").done
            took = time.perf_counter() - start
        assert done is not None
        assert items == done.deleted
        return Measured(items, items / took, memory.grown, agent.waited(), quiet.waited(), done.freed / 1e6)


def lines(found: list[Measured]) -> list[str]:
    """The table."""
    header = [
        "items",
        "purged per second",
        "memory, MB",
        "agent meanwhile, ms (99 %)",
        "agent before, ms (99 %)",
        "freed, MB",
    ]
    rows = [
        [
            f"{one.items:,}",
            f"{one.rate:,.0f}",
            f"{one.memory:,.0f}",
            *(f"{median:,.1f} ({most:,.1f})" for median, most in (one.during, one.before)),
            f"{one.freed:,.0f}",
        ]
        for one in found
    ]
    return [
        "A purge of conversations of 40 days ago while an agent appends a turn and reads 20 items, again and again.",
        "Goal: 50,000 items/s, memory flat in the size of the store.",
        "",
        *report.table(header, rows),
    ]


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(Path(folder), items) for items in (most // 10, most)]
    told = lines(found)
    print("\n".join(told))
    if most == ITEMS:
        report.write("Purge", told)


if __name__ == "__main__":
    main()
