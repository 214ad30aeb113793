"""What a store costs as it grows: a million items in a hundred thousand sessions, and a thousand tenants in one process.

Two stores side by side, one with nothing but the session that is measured, one with a hundred thousand sessions more, which
the same public methods wrote. They take turns, and the median counts. Run it from the root of the repository, after
``benchmarks/run.py`` or alone: ``python benchmarks/scale.py [--sessions N] [--tenants N]``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import report
from rich.console import Console
from rich.progress import track

from secure_memory import SecureSession, SecureStore

ROUNDS = 15
EACH = 10
"""Items of each session that only fills the store."""
LONG = 500
"""Turns of the session that is measured."""
AT_ONCE = 200
"""Sessions that are filled at the same time: their commits are shared."""
FILES = 256
"""Files that the process of a thousand tenants may open: the least that a system has as its default (macOS)."""
TURN: list[Any] = [{"role": "user", "content": "y" * 100}, {"role": "assistant", "content": "x" * 100}]

Measure = Callable[[SecureSession], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured, in an empty store and in a full one (or only in that), the goal in words, whether it was met."""

    what: str
    unit: str
    empty: float | None
    full: float
    goal: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as a table has it."""
        ratio = "" if self.empty is None else f"{self.full / self.empty:.2f}"
        empty = "" if self.empty is None else f"{self.empty:,.0f}"
        return self.what, self.unit, empty, f"{self.full:,.0f}", ratio, self.goal, _SAID[self.met]


_SAID = {True: "yes", False: "**no**", None: ""}
HEADER = ("measure", "unit", "empty store", "full store", "ratio", "goal", "met")


async def add_turn(session: SecureSession) -> float:
    """Microseconds of appending a turn of two items."""
    return await _timed(50, lambda: session.add_items(TURN))


async def read_newest(session: SecureSession) -> float:
    """Microseconds of reading the newest 20 items."""
    return await _timed(100, lambda: session.get_items(20))


async def _timed(repeat: int, call: Callable[[], Awaitable[Any]]) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        await call()
    return (time.perf_counter() - start) / repeat * 1e6


def made(folder: Path, name: str) -> SecureStore:
    """A new store with one session of a thousand items."""
    SecureSession("long", folder / name, keys=folder / f"{name}.key").close()
    store = SecureStore.open(folder / name, keys=folder / f"{name}.key")

    async def fill() -> None:
        with store.session("long") as session:
            for _ in range(LONG):
                await session.add_items(TURN)

    asyncio.run(fill())
    return store


async def fill(store: SecureStore, sessions: int) -> None:
    """Write so many sessions of ten items, many at a time, as a service would."""

    async def one(number: int) -> None:
        with store.session(f"session {number}", cache=False) as session:
            await session.add_items(TURN * (EACH // 2))

    for start in track(range(0, sessions, AT_ONCE), description=f"writing {sessions:,} sessions"):
        await asyncio.gather(*(one(number) for number in range(start, min(start + AT_ONCE, sessions))))


def compare(folder: Path, sessions: int) -> list[Row]:
    """Both stores, in turns."""
    empty, full = made(folder, "empty"), made(folder, "full")
    asyncio.run(fill(full, sessions))
    size = f"{sessions * EACH + 2 * LONG:,} items, {sessions + 1:,} sessions"

    async def both(what: Measure) -> tuple[float, float]:
        found: tuple[list[float], list[float]] = ([], [])
        with empty.session("long") as one, full.session("long") as other:
            for session in (one, other):
                await what(session)
            for _ in range(ROUNDS):
                for session, times in zip((one, other), found, strict=True):
                    times.append(await what(session))
        return statistics.median(found[0]), statistics.median(found[1])

    gc.collect()
    gc.freeze()
    rows = []
    measures: list[tuple[str, Measure]] = [("add_items, a turn", add_turn), ("get_items(limit=20)", read_newest)]
    for name, what in measures:
        before, after = asyncio.run(both(what))
        rows.append(Row(f"{name}, at {size}", "µs", before, after, "at most 1.3 ×", after <= 1.3 * before))
    empty.close()
    full.close()
    return rows


def tenants(folder: Path, count: int) -> list[Row]:
    """So many tenants in one process that may open few files: each is written to, then all are read, twice."""
    store, me = made(folder, "tenants"), psutil.Process()
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, most))
    files, half, grown, reading = 0, 0, 0.0, []

    async def use(number: int, *, write: bool) -> None:
        nonlocal files
        with store.session("conversation", tenant=f"tenant-{number}") as session:
            if write:
                await session.add_items(TURN)
            elif len(await session.get_items()) != len(TURN):
                raise RuntimeError(f"tenant {number} has not what was written")
        files = max(files, me.num_fds())

    async def use_all() -> None:
        nonlocal half, grown
        for number in track(range(count), description=f"making {count:,} tenants"):
            await use(number, write=True)
            if number == count // 2:
                half = me.memory_info().rss
        grown = (me.memory_info().rss - half) / (count - count // 2) / 1000
        for number in [*range(count), *range(count)]:
            reading.append(await _timed(1, lambda number=number: use(number, write=False)))  # type: ignore[misc]

    try:
        asyncio.run(use_all())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    store.close()
    what = f"{count:,} tenants in one process"
    return [
        Row(f"{what}: files open at the most", "", None, files, f"under the {FILES} that it may open", files < FILES),
        Row(f"{what}: memory of one more", "kB", None, grown, "less than an open vault's 190", grown < 190),
        Row(f"{what}: reading the one that was used longest ago", "µs", None, statistics.median(reading)),
    ]


def main() -> None:
    """Measure, print, and write our part of results.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # the announcement of a key that lives for a minute
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SECMEM_ANCHOR"] = str(Path(folder, "anchors"))
        rows = tenants(Path(folder), chosen.tenants) + compare(Path(folder), chosen.sessions)
    lines = report.table(HEADER, [row.cells for row in rows])
    Console(width=180).print("\n".join(lines), markup=False)
    report.write("As the store grows", lines)


if __name__ == "__main__":
    main()
