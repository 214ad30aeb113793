"""docs/policy.md: what the guide shows is what happens, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import rulebook
from secure_memory.policy import weakening
from secure_memory.policy.entities import BUILT_IN, PRESIDIO
from secure_memory.policy.model import Expect, Given

Run = Callable[..., Any]

GUIDE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text("utf-8")
FILES = {name: f"# {name}\n{text}" for name, text in re.findall(r"```yaml\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)}
SHOWN = re.findall(r"^    \$ (secmem policy .*)\n((?:    (?!\$).*\n)*)", GUIDE, re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The guide's files, where its commands are run."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("command", "expected"), SHOWN, ids=[command for command, _ in SHOWN])
def test_what_is_shown_happens(run: Run, command: str, expected: str) -> None:
    """Each command that the guide shows prints what it shows; a line of dots stands for any others."""
    printed = re.sub("sha256:[0-9a-f]+", "sha256:…", run(*shlex.split(command)[1:]).out)
    lines = [" ".join(line.split()) for line in expected.splitlines()]
    pattern = "".join(".*\n" if line == "..." else re.escape(line) + "\n" for line in lines)
    assert re.fullmatch(pattern, "".join(" ".join(line.split()) + "\n" for line in printed.splitlines()), re.DOTALL), printed


def test_the_clinics_policy(folder: Path) -> None:
    """The worked example is a policy, has one warning, of which the guide speaks, and does what its examples say."""
    loaded = rulebook.read(folder / "clinic.yaml")
    assert 1 == len(loaded.warnings)
    tested = rulebook.test(folder / "clinic.yaml")
    assert 10 == len(tested)
    assert [] == [(one.name, one.differences) for one in tested if not one.passed]


def test_the_table_of_what_is_weaker() -> None:
    """The guide has the table that the code argues, word by word."""
    assert weakening.__doc__ is not None
    table = [line for line in weakening.__doc__.splitlines() if line.startswith("|")]
    assert len(table) > 10
    assert "\n".join(table) in GUIDE


def test_every_entity_is_named() -> None:
    """Whoever writes a rule finds in the guide what a rule can be about."""
    assert [] == [name for name in sorted(BUILT_IN | PRESIDIO) if f"`{name}`" not in GUIDE]


def test_every_fact_and_expectation_is_named() -> None:
    """Whoever writes an example finds in the guide what can be said in one."""
    assert [] == [name for name in (*Given.model_fields, *Expect.model_fields) if f"`{name}`" not in GUIDE]


def test_every_rule_of_the_packs_is_cited() -> None:
    """Each rule that a pack has of its own stands in the guide, with its clause."""
    for pack in rulebook.packs():
        for rule in rulebook.rules(rulebook.read(pack.name).policy):
            if rule.law in pack.laws:
                assert f"| {pack.name} | `{rule.id}` | {rule.law} | {rule.mark} | {rule.says} |" in GUIDE
