"""benchmarks/results.md: each benchmark writes its own part of it, and leaves the others as they are."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from openai import __version__ as openai_version

from secure_memory.doctor import examine

RESULTS = Path(__file__).with_name("results.md")


def write(title: str, lines: Sequence[str]) -> None:
    """Put `lines` under the heading `## title`, in the place of what stood there, or at the end."""
    parts = RESULTS.read_text().split("\n## ") if RESULTS.exists() else [""]
    found = {part.partition("\n")[0]: part for part in parts[1:]}
    found[title] = "\n".join([title, "", *lines, ""])
    RESULTS.write_text("\n## ".join([_head(), *found.values()]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(row) + " |" for row in rows)]


def _head() -> str:
    lines = [
        "# Measured",
        "",
        "Written by `make bench`. What is compared was measured in one run, taking turns, and medians count. The machine is",
        f"{os.cpu_count()} cores of {platform.machine()}, {platform.system()}, Python {platform.python_version()}.",
        "",
        *(f"- {check.name}: {check.says}" for check in examine(None).checks),
        f"- openai: {openai_version}",
    ]
    return "\n".join(lines) + "\n"
