"""Our session beside the SDK's: measures, prints a table and writes its part of benchmarks/results.md.

The contestants take turns, several rounds of each measure, and the median counts: machines are noisy, and what is compared
is ratios in one run. Run it from the root of the repository: ``make bench``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from contestants import Contestant, contestants
from rich.console import Console
from rich.table import Table

from secure_memory import SecureSession, SecureStore

ROUNDS = 7
LONG = 1000
"""Items of a long session."""
WRITERS = 50
ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x" * 320, "annotations": []}]}
TURN = [{"role": "user", "content": "y" * 370}, ITEM]

Measure = Callable[[Contestant, int], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Row:
    """A measure: what, the goal in words, and each contestant's median."""

    what: str
    unit: str
    goal: str
    found: dict[str, float]
    met: bool


async def timed(repeat: int, call: Callable[[], Awaitable[Any]]) -> float:
    """Microseconds of one call, on average over `repeat`."""
    start = time.perf_counter()
    for _ in range(repeat):
        await call()
    return (time.perf_counter() - start) / repeat * 1e6


async def add_turn(who: Contestant, round_: int) -> float:
    session = who.open(f"add-{round_}")
    await session.add_items(TURN)
    found = await timed(100, lambda: session.add_items(TURN))
    who.close(session)
    return found


async def read_all_live(who: Contestant, round_: int) -> float:
    session = who.open("long")
    await session.get_items()
    found = await timed(10, session.get_items)
    who.close(session)
    return found


async def read_all_first(who: Contestant, round_: int) -> float:
    session = who.open("long")
    found = await timed(1, session.get_items)
    who.close(session)
    return found


async def read_newest(who: Contestant, round_: int) -> float:
    session = who.open("long")
    await session.get_items(20)
    found = await timed(50, lambda: session.get_items(20))
    who.close(session)
    return found


async def write_together(who: Contestant, round_: int) -> float:
    """Turns a second."""
    sessions = [who.open(f"together-{round_}-{number}") for number in range(WRITERS)]
    for session in sessions:
        await session.add_items(TURN)

    async def write(session: Any) -> None:
        for _ in range(10):
            await session.add_items(TURN)

    start = time.perf_counter()
    await asyncio.gather(*map(write, sessions))
    found = WRITERS * 10 / (time.perf_counter() - start)
    for session in sessions:
        who.close(session)
    return found


async def measure(all_: list[Contestant], what: Measure, rounds: int = ROUNDS) -> dict[str, float]:
    """Each contestant's median, taking turns. What was loaded before is out of the garbage collector's way, for all alike:
    whose turn it is when the collector looks through all of it is chance."""
    gc.collect()
    gc.freeze()
    found: dict[str, list[float]] = {who.name: [] for who in all_}
    for round_ in range(rounds):
        for who in all_:
            found[who.name].append(await what(who, round_))
    return {name: statistics.median(values) for name, values in found.items()}


async def compare(folder: Path) -> list[Row]:
    """The rows that all contestants share."""
    all_ = contestants(folder)
    for who in all_:
        session = who.open("long")
        for _ in range(LONG // 2):
            await session.add_items(TURN)
        who.close(session)
    ours, rows = all_[0].name, []

    def row(what: str, unit: str, goal: str, found: dict[str, float], met: bool) -> None:
        rows.append(Row(what, unit, goal, found, met))

    def theirs(found: dict[str, float]) -> list[float]:
        return [value for name, value in found.items() if name not in (ours, "raw SQLCipher")]

    found = await measure(all_, add_turn)
    row("add_items, a turn of two items", "µs", "no slower than the fastest", found, found[ours] <= min(theirs(found)))
    found = await measure(all_, read_all_live)
    row(f"get_items() of {LONG}, live session", "µs", "3 × faster", found, found[ours] * 3 <= min(theirs(found)))
    found = await measure(all_, read_all_first)
    enough = found[ours] * 4 <= found["EncryptedSession"] and found[ours] <= found["SQLiteSession"] * 1.5
    goal = "4 × faster than EncryptedSession, at most 1.5 × SQLiteSession"
    row("the same, first read after opening", "µs", goal, found, enough)
    found = await measure(all_, read_newest)
    row("get_items(limit=20) of a long session", "µs", "faster than every one", found, found[ours] < min(theirs(found)))
    few = [who for who in all_ if who.name in (ours, "SQLiteSession")]
    found = await measure(few, write_together, rounds=3)
    many = found[ours] >= 8 * found["SQLiteSession"]
    row(f"{WRITERS} sessions writing at once", "turns/s", "8 × SQLiteSession", found, many)
    return rows


async def alone(folder: Path) -> list[Row]:
    """The rows that only we have."""
    store, key, rows = folder / "ours.secmem", folder / "key", []
    opening = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        session = SecureSession("long", store, keys=key)
        await session.get_items(20)
        opening.append((time.perf_counter() - start) * 1e3)
        session.close()
    found = statistics.median(opening)
    rows.append(Row("opening a known store and reading 20 items", "ms", "under 10 ms", {"SecureSession": found}, found < 10))
    beyond = statistics.median(import_cost() for _ in range(5))
    rows.append(Row("import secure_memory beyond agents", "ms", "under 100 ms", {"SecureSession": beyond}, beyond < 100))
    with SecureStore.open(store, keys=key) as opened:
        start = time.perf_counter()
        report = opened.audit_verify(tenant="default")[0]
        speed = (report.entries + report.items) / (time.perf_counter() - start)
    what = f"audit verify of {report.entries} entries and {report.items} items"
    rows.append(Row(what, "/s", "50,000 entries/s", {"SecureSession": speed}, speed >= 50_000))
    return rows


def import_cost() -> float:
    """Milliseconds that `import secure_memory` and its session add to `import agents`, compiled as pip leaves them."""
    code = (
        "import agents, time; t = time.perf_counter();"
        "from secure_memory import SecureSession; print((time.perf_counter() - t) * 1e3)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


def cells(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the table."""
    names = list(rows[0].found)
    found = []
    for row in rows:
        figures = [f"{row.found[name]:,.0f}" if name in row.found else "" for name in names]
        found.append([row.what, row.unit, *figures, row.goal, "yes" if row.met else "**no**"])
    return ["measure", "unit", *names, "goal", "met"], found


def main() -> None:
    warnings.simplefilter("ignore")  # the announcement of a key that lives for a minute
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(compare(Path(folder))) + asyncio.run(alone(Path(folder)))
    header, found = cells(rows)
    table = Table(*header)
    for row in found:
        table.add_row(*row)
    Console(width=180).print(table)
    report.write("Beside the SDK's sessions", report.table(header, found))


if __name__ == "__main__":
    main()
