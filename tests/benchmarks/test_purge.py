"""`benchmarks/purge.py`, in short: what `make bench` measures of a purge is measured, on few items."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_short_purge_is_measured() -> None:
    """A purge of a few thousand items beside a busy agent deletes them all, and gives a row for each size."""
    command = [sys.executable, str(ROOT / "benchmarks" / "purge.py"), "3000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert 0 == done.returncode, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert ["300", "3,000"] == [row[0].strip() for row in rows]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows)
