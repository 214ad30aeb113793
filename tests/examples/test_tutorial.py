"""`examples/tutorial.py`: what the lessons on the SDK's sessions teach, taught on ours."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from secure_memory import SecureStore
from secure_memory.examples import tutorial

EXAMPLE = Path(__file__).parents[2] / "examples" / "tutorial.py"
NEWS = "Welcome back. Yes: your ticket {} is open, and we are looking into it."


@pytest.fixture
def lessons(place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """What each lesson printed, by its title."""
    asyncio.run(tutorial.main(place))
    return {
        title: [line.strip() for line in lines]
        for title, *lines in (part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n"))
    }


def test_the_agent_remembers(lessons: dict[str, list[str]]) -> None:
    """In memory, on disk under another session object, after a correction, and as another agent."""
    for title, number in (
        ("In memory", "T-123456"),
        ("On disk", "T-123456"),
        ("Correction", "T-123456"),
        ("Several agents", "T-123456"),
    ):
        assert [NEWS.format(number)] == lessons[title]


def test_operations(lessons: dict[str, list[str]]) -> None:
    """Reading with and without a limit, popping, clearing; and the limit as a setting."""
    assert [
        "all of it:",
        "user: Hello",
        "assistant: Hi there!",
        "user: What is 2 + 2?",
        "the newest two, in the order they were said:",
        "assistant: Hi there!",
        "user: What is 2 + 2?",
        "popped: What is 2 + 2?",
        "after clearing: []",
    ] == lessons["Operations"]
    assert ["user: 3", "user: 4", "user: 2", "user: 3", "user: 4"] == [
        line for line in lessons["Limits"] if line.startswith("user")
    ]


def test_users_are_apart(lessons: dict[str, list[str]]) -> None:
    """Several users in one store, and several conversations of one."""
    assert ["ana has 2 items, ben has 2", "ana has 0 items, ben has 2"] == lessons["Several users"]
    assert 5 == len(lessons["Session ids"])
    assert all(line.endswith(": 1 item") for line in lessons["Session ids"])


def test_turns_and_branches(lessons: dict[str, list[str]]) -> None:
    """Turns are listed and found, branches made from a turn and from content, read, deleted, rewound."""
    assert [
        "turn 1: Hello!",
        "turn 2: My lamp is broken.",
        "turn 3: Is there any news?",
        "of news: [3]",
        "in the second: ['user', 'function_call', 'function_call_output', 'assistant']",
        "tools used: [('create_ticket', 1, 2)]",
    ] == lessons["Turns"]
    main, *others = lessons["Branching"]
    assert "* main: 3 turns, 8 items" == main
    assert ["2 turns, 6 items", "1 turns, 2 items"] == [
        re.sub(r"^branch_from_turn_2_\w+: ", "", line) for line in others[:2]
    ]
    assert ["read without switching: 2 items", "left: 2 branches", "taken back: 6 items"] == others[2:]


def test_usage(lessons: dict[str, list[str]]) -> None:
    """What was spent is known for the conversation and for each turn, and counted once."""
    assert ["3 requests in 2 turns", "turn 1: 2 requests", "turn 2: 1 requests", "in all the same"] == lessons["Usage"]


def test_blocking(lessons: dict[str, list[str]]) -> None:
    """A script needs no `await`."""
    assert ["user: Hello"] == lessons["A script"]


def test_all_of_it_is_kept_as_promised(lessons: dict[str, list[str]], place: Path) -> None:
    """Afterwards the store is whole, and nothing of what was said stands on the disk."""
    with SecureStore.open(place) as store:
        store.audit_verify()
    assert all(b"lamp" not in file.read_bytes() for file in place.rglob("*.db*"))


def test_as_a_script_twice(tmp_path: Path) -> None:
    """It runs as the lesson says it does, on a store of its own, and again on that store."""
    environ = {**os.environ, "HOME": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, EXAMPLE], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100, check=False
        )
        assert 0 == done.returncode, done.stderr
    assert (tmp_path / "tutorial.secmem" / "store.json").exists()
