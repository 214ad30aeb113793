"""`cli/output.py`: what is stored reaches no terminal unescaped, and no value is cut."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.cli.output import counted, table, visible

Run = Callable[..., Any]

JOINERS = "\u200c\u200d"


@given(st.text(st.characters()))
def test_nothing_is_obeyed_or_hidden(text: str) -> None:
    """No control, format, surrogate or separator character comes through, but for the two joiners."""
    shown = visible(text)
    assert not [
        c
        for c in shown
        if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202a\u202e\u2066\u2069\u200b\ufeff"
    ]
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_is_harmless_stays(text: str) -> None:
    """Letters of any script, digits, signs and spaces are shown as they are."""
    assert text == visible(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\rb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        (f"می{JOINERS[0]}خواهم", f"می{JOINERS[0]}خواهم"),
    ],
)
def test_how_it_is_escaped(text: str, shown: str) -> None:
    """An escape says which character it was; joiners, which Persian needs, are left alone."""
    assert shown == visible(text)


def test_what_is_kept() -> None:
    """A character to keep is kept, and only that."""
    assert "a\tb\\n" == visible("a\tb\n", keep="\t")


def test_a_piped_table(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe: a header, columns that align with a tab between them, values whole, "-" where there is none."""
    table(("name", "items"), [("a" * 300, 5), ("b\tc\n", None)])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert [["name", "items"], ["a" * 300, "5"], ["b\\tc\\n", "-"]] == [
        [cell.strip(" ") for cell in line.split("\t")] for line in printed.splitlines()
    ]
    assert 1 == len({line.index("\t") for line in printed.splitlines()})


def test_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is nothing there is the header still."""
    table(("name", "items"), [])
    assert "name\titems\n" == capsys.readouterr().out


def test_a_terminal(terminal: Run, desk: Path) -> None:
    """On a terminal times are short and outcomes colored; with NO_COLOR nothing is styled at all."""
    shown = terminal("audit", "log", "--tenant", "acme").out
    assert "\x1b[32m" in shown
    assert "Z  acme" in shown
    assert "\x1b" not in terminal("audit", "log", NO_COLOR="1").out


def test_a_narrow_terminal(terminal: Run, desk: Path, run: Run) -> None:
    """However narrow the terminal is, no value is cut and no word of an action folded."""
    tenant = "a-tenant-with-quite-a-long-name-indeed"
    run("tenant", "create", tenant)
    shown = terminal("audit", "log", "--tenant", tenant, columns=40, NO_COLOR="1").out
    assert "tenant.create" in shown
    assert "…" not in shown
    folded = "".join(line[11:19].strip() for line in shown.splitlines()[1:])
    assert tenant in folded


def test_markup_means_nothing(terminal: Run, run: Run, desk: Path) -> None:
    """Names that look like rich's markup are shown as they are."""
    run("tenant", "create", "[bold red]x[/]")
    assert "[bold red]x[/]" in terminal("tenant", "list").out


def test_a_terminal_that_is_not_utf8(process: Run, desk: Path, talk: Callable[..., None]) -> None:
    """What an encoding can't say is escaped, instead of ending the command."""
    talk("other", {"role": "user", "content": "naive ✓"})
    done = process("session", "show", "other", "--tenant", "acme", PYTHONIOENCODING="latin-1")
    assert (0, "user\n  naive \\u2713\n") == (done.code, done.out)


@pytest.mark.parametrize(("number", "said"), [(0, "0 items"), (1, "1 item"), (2, "2 items"), (2000, "2,000 items")])
def test_one_is_no_plural(number: int, said: str) -> None:
    """One thing is counted in the singular, everything else in the plural."""
    assert said == counted(number, "item")
