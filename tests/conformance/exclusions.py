"""The tests of the SDK that are excluded, as `excluded.toml` names them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

FILE = Path(__file__).with_name("excluded.toml")

KINDS = {
    "file": "Opens the file with the standard library's sqlite3, or looks into its tables",
    "private": "Reads, replaces or waits for private names of the SDK's class",
    "argument": "Passes an argument that SecureSession refuses, saying what to do instead",
    "wording": "The same error in the same case, whose text is compared",
    "difference": "Wants what is different here on purpose (docs/decisions.md)",
}


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a test of the SDK can't pass on SecureSession. `intents` are the tests in `test_intents.py` that show what it is
    for; with `run` it is run all the same, and has to fail."""

    kind: str
    reason: str
    intents: tuple[str, ...]
    run: bool


def suites() -> dict[str, str]:
    """The suites that are not run at all, each with the reason."""
    found: dict[str, str] = tomllib.loads(FILE.read_text())["suites"]
    return found


def load() -> dict[str, Exclusion]:
    """Node id to exclusion; an id without parameters stands for all of them. Raises ValueError where one is named twice."""
    found: dict[str, Exclusion] = {}
    for group in tomllib.loads(FILE.read_text())["excluded"]:
        exclusion = Exclusion(group["kind"], group["reason"], tuple(group["intents"]), group.get("run", True))
        for name in group["tests"]:
            if found.setdefault(f"{group['file']}::{name}", exclusion) is not exclusion:
                raise ValueError(f"{name} is excluded twice")
    return found
