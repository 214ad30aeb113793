"""The story that `secmem demo` plays: who says what on which day, where it is kept, and what came of it.

Each day is played in a process of its own (`demo_day`), and nothing goes from one day to the next but the store's files.
What a day's process prints is its report: what was said, which tools were called, and what the model was given to read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CARD = "4111 1111 1111 1111"
"""Anna's card: a number that payment companies publish for tests."""
DAYS = {
    "one": (("anna", f"Hello, this is Anna Lindqvist. I was charged twice for order 88-1207, on my card {CARD}."),),
    "two": (
        ("anna", "Hello again! Is there any news about my duplicate charge?"),
        ("ben", "Hi, Ben here. What became of my ticket?"),
    ),
}
"""Who says what, by day."""
TENANT, AGENT, PURPOSE, ANNA = "acme", "agent:support-desk", "customer-support", "support-anna"
"""As the support desk has them. It isn't asked for them, since to import it is to import `agents`: a second."""
WORDS = ("Anna Lindqvist", "charged twice", "88-1207", ANNA)
"""What only Anna and the support desk may know: her words, and the name of her conversation."""
DAY_SECONDS = 300
"""How long a day may take: a second or two, unless a model far away has to think."""

TICKET = re.compile(r"T-\d{6}")


class DayFailedError(Exception):
    """A day's process did not come to a good end: says what it wrote last, and all of it with SECMEM_DEBUG."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are: the store, and apart from it its key, its anchors, and what the demo compares with."""

    directory: Path

    @property
    def store(self) -> Path:
        """The support desk's store."""
        return self.directory / "support.secmem"

    @property
    def key(self) -> Path:
        """The key file."""
        return self.directory / "key"

    @property
    def anchors(self) -> Path:
        """The directory of the anchors."""
        return self.directory / "anchors"

    @property
    def plaintext(self) -> Path:
        """The directory of the SDK's own database."""
        return self.directory / "plaintext"

    @property
    def copy(self) -> Path:
        """The copy of the store that is tampered with."""
        return self.directory / "copy.secmem"


@dataclass(frozen=True, slots=True)
class Turn:
    """A customer's message and what came of it. `calls` are (tool, output); `given` is the input of each model call."""

    customer: str
    message: str
    answer: str
    calls: list[tuple[str, str]]
    given: list[list[Any]]

    @property
    def ticket(self) -> str | None:
        """The number of the ticket that was opened in this turn."""
        found = [TICKET.search(output) for tool, output in self.calls if tool == "create_ticket"]
        return found[0].group() if found and found[0] else None

    @property
    def remembered(self) -> list[Any]:
        """What the memory brought: the input of the first model call, but for the customer's new message."""
        return self.given[0][:-1]


@dataclass(frozen=True, slots=True)
class Day:
    """A day that is over: the id of its process, and its turns."""

    process: int
    turns: list[Turn]


def play(day: str, place: Place, *, live: bool) -> Day:
    """Play one day in a new process, and wait for its end. Raises DayFailedError."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SECMEM_")}
    environ |= {"SECMEM_KEY_FILE": str(place.key), "SECMEM_ANCHOR": str(place.anchors)}
    command = [sys.executable, "-m", "secure_memory.cli.demo_day", day, str(place.store), str(place.plaintext)]
    try:
        # In our own directory: `-m` would import what lies around in the caller's.
        done = subprocess.run(  # noqa: S603 - this program, with arguments of our own
            [*command, *(["--live"] if live else [])],
            cwd=place.directory,
            env=environ,
            capture_output=True,
            text=True,
            timeout=DAY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DayFailedError(f"it did not end within {DAY_SECONDS} s") from None
    if done.returncode:
        told = done.stderr.strip() or f"status {done.returncode}"
        raise DayFailedError(told if os.environ.get("SECMEM_DEBUG") else told.splitlines()[-1])
    report = json.loads(done.stdout)
    turns = [Turn(**{**turn, "calls": [(tool, output) for tool, output in turn["calls"]]}) for turn in report["turns"]]
    return Day(report["process"], turns)
