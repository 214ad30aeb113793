"""What `make conformance` found, as docs/conformance.md says it."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from typing import Any

import exclusions

INTENTS = "tests/conformance/test_intents.py"

FLOORED = "0.24.0"
"""The version for which it is known how many tests a session of 50 lines passes that protects nothing."""
RUNNER_FLOOR, SESSION_FLOOR = 863, 557
RUNNER_SUITES = (
    "deferred_session_writes/",
    *("test_hitl_session_scenario", "test_agent_runner.", "test_agent_runner_streamed", "test_run_impl_resume_paths"),
    *("test_runner_guardrail_resume", "test_run_state_pending_input", "utils/test_simple_session"),
)
"""The suites that make 863 tests."""
FAILURE_HISTORIES = ("test_native_tool_failure_history", "test_tool_batch_failure_history", "test_tool_failure_boundaries")


@dataclass(frozen=True, slots=True)
class Run:
    """The suites of one version of the SDK: node id to outcome, number of sessions of ours, last line of the failure."""

    version: str
    found: dict[str, dict[str, Any]]

    @property
    def failed(self) -> list[str]:
        """The tests that failed on our session, and not on the SDK's."""
        return [name for name, result in self.found.items() if result["outcome"] == "failed"]

    @property
    def excluded_names(self) -> set[str]:
        """The entries of excluded.toml that were met."""
        names = {name for name, result in self.found.items() if result["outcome"] == "excluded"}
        return {name for name in exclusions.load() if name in names or any(one.startswith(f"{name}[") for one in names)}


@dataclass(frozen=True, slots=True)
class Agmi:
    """One attacker: (edit, verdict, why) of each edit."""

    attacker: str
    edits: list[tuple[str, str, str]]


def failures(run: Run) -> str:
    """A version's failures, for whoever ran it."""
    lines = [f"{name}: {run.found[name]['text']}" for name in run.failed]
    counts = Counter(result["outcome"] for result in run.found.values())
    total = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return "\n".join([*lines, f"openai-agents {run.version}: {total}"])


def document(runs: list[Run], agmi: list[Agmi]) -> str:
    """docs/conformance.md."""
    python = f"Python {platform.python_version()} on {platform.system()}"
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance`; not to be edited.",
        "",
        f"The SDK's own suites pass on `SecureSession` with openai-agents {' and '.join(run.version for run in runs)}.",
        "",
        f"The suites were taken from the source distribution of each version and run with {python}, with",
        "`SecureSession` in the place of `SQLiteSession`, of `AdvancedSQLiteSession` and of the list in memory that the",
        "runner's suites use: every one encrypted, redacted by the baseline policy, audited and proven, those lists in a",
        "store on disk. What is replaced, and how, is in `tests/conformance/swap.py`; no file of the SDK is edited.",
        "",
        "*On ours*: passed, and made a `SecureSession`. The others of a suite pass beside it, and say little.",
        "*Excluded*: named below, each with the reason. They are run too, and have to fail, but for those that would wait",
        "for ever for what they replace inside.",
    ]
    for run in runs:
        lines += ["", f"## openai-agents {run.version}", "", *_table(run), "", *_not_ours(run)]
    for run in runs:
        if run.version == FLOORED:
            lines += ["", "## The floors", "", *_floors(run)]
    lines += ["", "## What is excluded, and why", "", *_excluded(runs)]
    lines += ["", "## agmi", "", *_agmi(agmi)]
    return "\n".join(lines) + "\n"


def _table(run: Run) -> list[str]:
    suites: dict[str, list[dict[str, Any]]] = {}
    for name, result in run.found.items():
        suites.setdefault(name.partition("::")[0], []).append(result)
    lines = ["| suite | tests | passed | on ours | excluded | skipped | failed |", "|---|--:|--:|--:|--:|--:|--:|"]
    for title, ours in (("session suites", True), ("runner suites", False)):
        rows = {name: found for name, found in sorted(suites.items()) if ("/memory/" in name) == ours}
        lines += [_row(name.removeprefix("tests/").removesuffix(".py"), found) for name, found in rows.items()]
        lines += [_row(f"**{title}**", [result for found in rows.values() for result in found])]
    return [*lines, _row("**all**", list(run.found.values()))]


def _row(name: str, found: list[dict[str, Any]]) -> str:
    counts = Counter(result["outcome"] for result in found)
    on_ours = sum(result["outcome"] == "passed" and result["sessions"] > 0 for result in found)
    figures = (
        counts["passed"],
        on_ours,
        counts["excluded"],
        counts["skipped"] + counts["fails without us"],
        counts["failed"],
    )
    return f"| {name} | {len(found)} | {' | '.join(map(str, figures))} |"


def _floors(run: Run) -> list[str]:
    runner = _of(run, RUNNER_SUITES)
    session = [result for name, result in run.found.items() if "/memory/" in name] + _of(run, FAILURE_HISTORIES)
    lines = [
        f"A session of 50 lines that protects nothing is known to pass {RUNNER_FLOOR} runner tests and {SESSION_FLOOR}",
        f"session tests of openai-agents {FLOORED}. The runner tests are the {len(runner)} of deferred writes, the HITL",
        "scenario, the runner (streamed too), resume paths, guardrail resume, pending input and the list itself. Which the",
        "session tests are is not said: counted here are all session suites above and the histories of failures.",
        "",
        "| suites | floor | tests | passed | excluded | failed |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, floor, found in (("runner", RUNNER_FLOOR, runner), ("session", SESSION_FLOOR, session)):
        counts = Counter(result["outcome"] for result in found)
        figures = (floor, len(found), counts["passed"], counts["excluded"], counts["failed"])
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    excluded = sum(result["outcome"] == "excluded" for result in runner)
    return [
        *lines,
        "",
        f"The {excluded} runner tests that are excluded replace SQLiteSession's own insert; they are named below.",
    ]


def _of(run: Run, suites: tuple[str, ...]) -> list[dict[str, Any]]:
    return [result for name, result in run.found.items() if name.removeprefix("tests/").startswith(suites)]


def _not_ours(run: Run) -> list[str]:
    names = sorted(name for name, result in run.found.items() if result["outcome"] == "fails without us")
    if not names:
        return ["Skipped are tests that skip themselves."]
    said = "Skipped are tests that skip themselves, and these, which fail on the SDK's own sessions too, with the libraries"
    return [f"{said} that were installed:", "", *(f"- `{name}`" for name in names)]


def _excluded(runs: list[Run]) -> list[str]:
    lines = [
        "Figures are numbers of tests, parameters counted, by version. *Shown by*: the tests of ours, in",
        f"`{INTENTS}`, that show on `SecureSession` what the excluded ones are for.",
        "",
    ]
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for name, found in exclusions.load().items():
        groups.setdefault((found.kind, found.reason, found.intents), []).append(name)
    for kind, meaning in exclusions.KINDS.items():
        of_kind = {key: names for key, names in groups.items() if key[0] == kind}
        total = " / ".join(str(sum(_count(run, name) for names in of_kind.values() for name in names)) for run in runs)
        lines += [f"### {meaning} ({total})", ""]
        for (_, reason, intents), names in of_kind.items():
            lines += [f"**{reason}.** Shown by {', '.join(f'`{intent}`' for intent in intents)}.", ""]
            lines += [f"- `{name}` ({' / '.join(str(_count(run, name)) for run in runs)})" for name in names]
            lines += [""]
    lines += ["### Suites that are not run", ""]
    return [*lines, *(f"- `{name}`: {reason}." for name, reason in exclusions.suites().items())]


def _count(run: Run, name: str) -> int:
    return sum(
        result["outcome"] == "excluded" and (one == name or one.startswith(f"{name}[")) for one, result in run.found.items()
    )


def _agmi(agmi: list[Agmi]) -> list[str]:
    lines = [
        "`agmi-check` (PyPI `agent-memory-integrity`) edits a store behind its back and reads it. The attacker has the",
        "tenant's vault key, so that each edit lands as SQL inside the decrypted vault; for T9 the whole store directory,",
        "with only the anchor outside. *Plain* edits rows; *careful* also makes positions and links fit",
        "(`tests/conformance/agmi_adapter.py`). REJECTED: opening or reading raised an `IntegrityError`, and nothing was",
        "served.",
        "",
        f"| edit | {' | '.join(row.attacker.removesuffix('Attacker').lower() for row in agmi)} | what was raised, careful |",
        f"|---|{'---|' * len(agmi)}---|",
    ]
    for number, (edit, _, why) in enumerate(agmi[-1].edits):
        verdicts = " | ".join(row.edits[number][1] for row in agmi)
        raised = why.partition("(")[2].removesuffix(")") or why
        lines.append(f"| {edit} | {verdicts} | {raised} |")
    return lines
