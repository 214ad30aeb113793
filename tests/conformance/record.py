"""A pytest plugin that writes down what became of each test: ``pytest -p record --record results.json``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_found: dict[str, dict[str, object]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--record`."""
    parser.addoption("--record", type=Path, required=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst of a test's three phases; what follows an expected failure is part of it."""
    before = _found.get(report.nodeid)
    if before is not None and before["outcome"] in ("failed", "excluded"):
        return
    if hasattr(report, "wasxfail"):
        outcome = "excluded"
    elif report.when == "teardown" and report.passed:
        return
    else:
        outcome = report.outcome
    text = str(report.longrepr).splitlines()[-1] if report.longrepr else ""
    sessions = dict(report.user_properties).get("sessions", 0)
    _found[report.nodeid] = {"outcome": outcome, "sessions": sessions, "text": text}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write them, in the process that hears of all of them."""
    if not hasattr(session.config, "workerinput"):
        session.config.getoption("record").write_text(json.dumps(_found, indent=1, sort_keys=True))
