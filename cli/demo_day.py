"""One day of the demo, in its own process: ``python -m secure_memory.cli.demo_day DAY STORE PLAINTEXT [--live]``.

It opens the support desk on the store, lets the day's customers speak, and prints a report as JSON (`demo_story.Day`). On
day two it also writes Anna's conversation as the SDK's own SQLiteSession keeps it, to compare. Started by
`demo_story.play`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents import RunContextWrapper, RunHooks, SQLiteSession, Tool, TResponseInputItem

from secure_memory import Actor
from secure_memory.cli.demo_story import DAYS, Day, Turn
from secure_memory.examples.local_model import LocalModel
from secure_memory.examples.support_desk import Case, SupportDesk

COMPARER = Actor("agent:demo", purpose="comparison", reason="a plaintext copy, to compare with")


class Witness(RunHooks[Case]):
    """Writes down what the SDK gives to the model, and what the tools return."""

    def __init__(self) -> None:
        self.given: list[list[TResponseInputItem]] = []
        self.calls: list[tuple[str, str]] = []

    async def on_llm_start(
        self, context: RunContextWrapper[Case], agent: Any, system_prompt: str | None, items: list[TResponseInputItem]
    ) -> None:
        """Before each call of the model."""
        self.given.append(list(items))

    async def on_tool_end(self, context: RunContextWrapper[Case], agent: Any, tool: Tool, result: object) -> None:
        """After each call of a tool."""
        self.calls.append((tool.name, str(result)))


async def play(day: str, store: str, *, live: bool) -> Day:
    """Let the day's customers speak."""
    witness = Witness()
    desk = SupportDesk(store, model=None if live else LocalModel(), hooks=witness)
    turns = []
    for customer, message in DAYS[day]:
        witness.given, witness.calls = [], []
        answer = await desk.run_turn(customer, message)
        turns.append(Turn(customer, message, answer, witness.calls, witness.given))
    desk.close()
    return Day(os.getpid(), turns)


async def write_plaintext(store: str, directory: Path) -> None:
    """Write Anna's conversation as it would be without us: the same items, in the SDK's own database."""
    desk = SupportDesk(store)
    session = await desk.get_session("anna")
    items = await session.get_items(actor=COMPARER)
    desk.close()
    directory.mkdir()
    plain = SQLiteSession(session.session_id, directory / "support.db")
    await plain.add_items(items)
    plain.close()


def main(day: str, store: str, plaintext: str, *options: str) -> None:
    """Play the day, and print the report."""
    report = asyncio.run(play(day, store, live="--live" in options))
    if day == "two":
        asyncio.run(write_plaintext(store, Path(plaintext)))
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main(*sys.argv[1:])
