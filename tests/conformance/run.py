"""`make conformance`: the SDK's own suites on SecureSession, and agmi; writes docs/conformance.md.

For the newest SDK that the package index has, and for the newest of the minor version before it:

1. an environment under build/conformance/ gets the SDK and this package;
2. the source distribution of just that version, whose tests the wheel doesn't have, is downloaded and unpacked beside it;
3. every suite in it that names one of the sessions that `swap` replaces is run with ours in their place;
4. what failed is run again without `swap`: what fails then too fails on the SDK's own sessions, in this environment.

Then agmi makes its edits. Ends with 1 where anything failed, an exclusion that passes among it.

``run.py 0.24.0`` runs one version and prints its failures, and leaves the document alone.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

import exclusions
import report
from report import Agmi, Run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "conformance"
SDK = "openai-agents"

SESSIONS = re.compile(r"\b(SQLiteSession|AdvancedSQLiteSession|SimpleListSession|CountingSession|IdStrippingSession)\b")
"""What a suite is run for: the names that `swap` replaces."""
ALSO = ("tests/memory/test_session_context_wrapper.py",)
"""A suite about what the runner hands to sessions, which has sessions of its own."""
ATTACKERS = ("PlainAttacker", "CarefulAttacker")


def main(versions: list[str]) -> int:
    """Run the versions given, or the two newest minors and agmi."""
    if versions:
        runs = [conform(prepare(version, f"{SDK}=={version}")) for version in versions]
        for run in runs:
            print(report.failures(run))
        return int(any(run.failed for run in runs))
    newest = prepare("newest", SDK)
    minor = ".".join(installed(newest).split(".")[:2])
    runs = [conform(newest), conform(prepare("previous", f"{SDK}<{minor}"))]
    agmi = [attack(newest, name) for name in ATTACKERS]
    wrong = [report.failures(run) for run in runs if run.failed]
    met = {name for run in runs for name in run.excluded_names}
    wrong += [f"excluded, but in no version: {name}" for name in sorted(exclusions.load().keys() - met)]
    wrong += [f"{row.attacker}: {edit} {verdict}" for row in agmi for edit, verdict, _ in row.edits if verdict != "REJECTED"]
    if wrong:
        print("\n".join([*wrong, "docs/conformance.md is left as it is"]))
        return 1
    (ROOT / "docs" / "conformance.md").write_text(report.document(runs, agmi))
    print("\n".join(report.failures(run) for run in runs))
    return 0


# ---- (1), (2): the environment and the source ------------------------------------------------------------------------


def prepare(name: str, requirement: str) -> Path:
    """The environment of that name, with this package and the newest SDK that the requirement allows."""
    place = BUILD / name / "venv"
    if not place.exists():
        venv.create(place, with_pip=True)
    pip(place, "install", "--upgrade", "--editable", f"{ROOT}[conformance]", requirement)
    return place


def pip(place: Path, *arguments: str) -> None:
    """Run the environment's pip, as it is configured for whoever runs this."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    subprocess.run([place / "bin" / "python", "-m", "pip", *quiet, *arguments], check=True)


def installed(place: Path) -> str:
    """The version of the SDK in an environment."""
    code = f"from importlib.metadata import version; print(version({SDK!r}))"
    done = subprocess.run([place / "bin" / "python", "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def source(place: Path, version: str) -> Path:
    """The unpacked source distribution of the SDK in an environment."""
    found = place.parent / f"openai_agents-{version}"
    if not found.exists():
        with tempfile.TemporaryDirectory() as downloads:
            only_this = ("--no-deps", "--no-binary", SDK, f"{SDK}=={version}")
            pip(place, "download", "--dest", downloads, *only_this)
            (archive,) = Path(downloads).iterdir()
            with tarfile.open(archive) as tar:
                tar.extractall(place.parent, filter="data")
    return found


# ---- (3), (4): the suites --------------------------------------------------------------------------------------------


def suites(tree: Path) -> list[str]:
    """The SDK's test files that name a session which is replaced, without those that we don't run."""
    named = [
        str(path.relative_to(tree)) for path in sorted(tree.glob("tests/**/test_*.py")) if SESSIONS.search(path.read_text())
    ]
    return sorted({*named, *(suite for suite in ALSO if (tree / suite).exists())} - exclusions.suites().keys())


def conform(place: Path) -> Run:
    """Run the suites of an environment's SDK on SecureSession."""
    version = installed(place)
    tree = source(place, version)
    found = pytest(place, tree, suites(tree), "-n", "2", "-p", "swap")
    failed = [name for name, result in found.items() if result["outcome"] == "failed"]
    without = pytest(place, tree, failed) if failed else {}
    for name in failed:
        if without.get(name, {}).get("outcome") == "failed" and not found[name]["text"].startswith("[XPASS"):
            found[name]["outcome"] = "fails without us"
    return Run(version, found)


def pytest(place: Path, tree: Path, what: list[str], *options: str) -> dict[str, dict[str, str]]:
    """Run tests in the SDK's tree; returns what became of each."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        results = Path(temporary, "results.json")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SECMEM_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join(map(str, (HERE, tree, tree / "src"))),
            "TMPDIR": temporary,
            "SECMEM_KEY": base64.b64encode(bytes(range(32))).decode(),
            "SECMEM_ANCHOR": str(Path(temporary, "anchors")),
        }
        plugin = ("-p", "record", "--record", results, "-p", "no:cacheprovider", "--timeout", "60", "--quiet", "--tb", "no")
        command = [place / "bin" / "python", "-m", "pytest", *plugin, *options, *what]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):  # 1: tests failed, which is ours to report
            sys.exit(f"{done.stdout}{done.stderr}\nthe suites did not run")
        found: dict[str, dict[str, str]] = json.loads(results.read_text())
        return found


# ---- agmi ------------------------------------------------------------------------------------------------------------


def attack(place: Path, name: str) -> Agmi:
    """What agmi-check says of one of our adapters."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as temporary:
        verdicts = Path(temporary, "verdicts.json")
        command = [place / "bin" / "agmi-check", "--adapter", f"agmi_adapter:{name}", "--json", verdicts]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(HERE)}, check=False)
        edits = json.loads(verdicts.read_text())["edits"]
    return Agmi(name, [(edit["edit"], edit["verdict"], edit["detail"]) for edit in edits])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
