"""What commands print: tables for people, tab-separated columns for pipes, JSON for programs.

- What is stored was written by others, by a model as often as not: control characters could rewrite what a terminal
  shows, and so could invisible or right-to-left ones. Nothing is printed but through `visible` or as JSON in ASCII.
- rich reads no markup here: every cell is a `Text`.
- In a pipe there is no box, no color, and no value is cut or folded.

Rows have the types that columns need: a number, a text, or None, which is shown as "-".
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

Cell = str | int | None

# Controls (C0, DEL, C1), what is invisible (Cf, but for the joiners that Persian and emoji need), line separators, and
# lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
_STYLES = {"ok": "green", "warn": "yellow", "denied": "yellow", "missing": "yellow", "off": "yellow"} | dict.fromkeys(
    ("fail", "failed", "unreadable"), "bold red"
)
_STYLED = {"outcome", "state", "anchor"}
"""Columns in which the words above are colored."""
_WHOLE = {"time", "created", "last activity", "action", "outcome", "state"}
"""Columns whose words are never folded, however narrow the terminal is."""


def no_color() -> bool:
    """Whether colors are unwanted (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def on_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def visible(text: str, *, keep: str = "") -> str:
    """The text with everything that a terminal would obey or hide escaped (``\\x1b``), but for characters to keep."""
    return _UNSAFE.sub(lambda m: m[0] if m[0] in keep else m[0].encode("unicode_escape").decode(), text)


def say(text: str, *, err: bool = False, keep: str = "", **style: Any) -> None:
    """Print one line, styled where it is a terminal that wants it."""
    click.echo(click.style(visible(text, keep=keep), **style), err=err, color=False if no_color() else None)


def note(text: str) -> None:
    """Tell whoever looks; a pipe doesn't need to know."""
    if on_terminal():
        say(text, err=True, dim=True)


def counted(number: int, noun: str) -> str:
    """`1 session`, `2,000 sessions`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def json_document(value: object) -> None:
    """Print one JSON document. It is ASCII: safe on any terminal, and exact."""
    click.echo(json.dumps(value, indent=2))


def json_line(value: object) -> None:
    """Print one JSON document on one line."""
    click.echo(json.dumps(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table: by rich where a person looks, else aligned columns with a tab between them and a header line."""
    if on_terminal():
        _rich_table(columns, list(rows))
        return
    texts = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        click.echo(_aligned(line, widths, "\t"))


class Lines:
    """A table whose rows come one by one: its columns are as wide as they are told to be, or wider."""

    def __init__(self, columns: Sequence[str], widths: Sequence[int]) -> None:
        self._columns = columns
        self._widths = widths
        self._between = "  " if on_terminal() else "\t"

    def header(self) -> None:
        """Print the names of the columns."""
        say(_aligned(self._columns, self._widths, self._between), keep="\t", bold=True)

    def row(self, cells: Sequence[Cell]) -> None:
        """Print one row."""
        click.echo(_aligned([_text(cell) for cell in cells], self._widths, self._between))


def _aligned(texts: Sequence[str], widths: Sequence[int], between: str) -> str:
    """One line, each text as wide as its column, but for the last."""
    padded = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
    return between.join([*padded[:-1], texts[-1]])


def _text(cell: Cell) -> str:
    return "-" if cell is None or cell == "" else visible(str(cell))


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    gap = 2 if out.width >= 100 else 1
    view = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    texts = [[_text(cell) for cell in row] for row in rows]
    for number, name in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[number], int | None) for row in rows)
        words = [word for text in (name, *(line[number] for line in texts)) for word in text.split()]
        longest = max(map(len, words), default=0)
        least = longest if numbers or name in _WHOLE else min(longest, 8)
        view.add_column(name, justify="right" if numbers else "left", overflow="fold", min_width=least)
    for line in texts:
        styles = [_STYLES.get(text, "") if name in _STYLED else "" for name, text in zip(columns, line, strict=True)]
        view.add_row(*map(Text, line, styles))
    out.print(view, crop=False)  # on a terminal too narrow for it the terminal wraps it: no value is ever cut


def console(*, err: bool = False) -> Any:
    """A rich console that interprets nothing, and has no color where none is wanted."""
    from rich.console import Console

    return Console(stderr=err, markup=False, emoji=False, highlight=False, color_system=None if no_color() else "auto")
