"""How the demo reads: headings, paragraphs, what was said, and a mark for each claim that was checked.

Written for a person at a terminal of up to 100 columns, and as readable in a pipe.
"""

from __future__ import annotations

import shutil
import sys
import textwrap

from secure_memory.cli.output import say

WIDTH = 100
"""Columns at most: longer lines are hard to read."""
_INDENT = "   "


class Page:
    """Prints the demo, and keeps count of its claims: `checked` of them, of which `failed` did not hold."""

    def __init__(self) -> None:
        self.checked = 0
        self.failed = 0
        self._width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        self._marks = ("✓ ", "✗ ") if utf8 else ("ok: ", "FAILED: ")

    def title(self, text: str) -> None:
        """Say what this is."""
        say(text, bold=True)
        self.gap()

    def heading(self, text: str) -> None:
        """Begin a section."""
        say("")
        say(text, bold=True)

    def paragraph(self, text: str) -> None:
        """Say something, in as many lines as it needs."""
        self._wrapped(text, "")

    def spoken(self, who: str, text: str) -> None:
        """Tell what somebody said, or what a tool returned."""
        for line in text.splitlines():
            self._wrapped(line, f"{who:<8}", "cyan")

    def line(self, text: str) -> None:
        """Print one line that is not to be broken: a command, a path, a piece of code."""
        say(_INDENT + text)

    def gap(self) -> None:
        """Leave a line free."""
        say("")

    def claim(self, text: str, *, holds: bool) -> None:
        """Say that something is so, with the outcome of checking it."""
        self.checked += 1
        self.failed += not holds
        yes, no = self._marks
        self._wrapped(text, yes if holds else no, "green" if holds else "red")

    def _wrapped(self, text: str, label: str, color: str | None = None) -> None:
        first, later = _INDENT + label, _INDENT + " " * len(label)
        for line in textwrap.wrap(text, self._width, initial_indent=first, subsequent_indent=later):
            say(line, fg=color)
