"""Measures, prints a table and writes benchmarks/results.md.

The contestants take turns, several rounds of each measure, and the median counts: machines are noisy, and what is compared
is ratios in one run. Run it from the root of the repository: ``make bench``.
"""

from __future__ import annotations

import asyncio
import os
import platform
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

from contestants import Contestant, contestants
from openai import __version__ as openai_version
from rich.console import Console
from rich.table import Table

from secure_memory import SecureSession, SecureStore
from secure_memory.doctor import examine

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
    """Each contestant's median, taking turns."""
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
    """Milliseconds that `import secure_memory` and its session add to `import agents`."""
    code = (
        "import agents, time; t = time.perf_counter();"
        "from secure_memory import SecureSession; print((time.perf_counter() - t) * 1e3)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def as_table(rows: list[Row]) -> Table:
    names = list(rows[0].found)
    table = Table("measure", "unit", *names, "goal", "met")
    for row in rows:
        cells = [f"{row.found[name]:,.0f}" if name in row.found else "" for name in names]
        table.add_row(row.what, row.unit, *cells, row.goal, "yes" if row.met else "NO")
    return table


def as_markdown(rows: list[Row]) -> str:
    names = list(rows[0].found)
    lines = [
        "# Measured",
        "",
        "Written by `make bench`: all contestants in one run, taking turns, medians. Compare along a row; the machine is",
        f"{os.cpu_count()} cores of {platform.machine()}, {platform.system()}, Python {platform.python_version()}.",
        "",
        *(f"- {check.name}: {check.says}" for check in examine(None).checks),
        f"- openai: {openai_version}",
        "",
        "| " + " | ".join(("measure", "unit", *names, "goal", "met")) + " |",
        "|" + "---|" * (len(names) + 4),
    ]
    for row in rows:
        cells = [f"{row.found[name]:,.0f}" if name in row.found else "" for name in names]
        lines.append("| " + " | ".join((row.what, row.unit, *cells, row.goal, "yes" if row.met else "**no**")) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    warnings.simplefilter("ignore")  # the announcement of a key that lives for a minute
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(compare(Path(folder))) + asyncio.run(alone(Path(folder)))
    Console(width=180).print(as_table(rows))
    Path(__file__).with_name("results.md").write_text(as_markdown(rows))


if __name__ == "__main__":
    main()
