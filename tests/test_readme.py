"""The README runs, block after block, as a reader would run it: each in a process of its own, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from secure_memory import rulebook

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    """The README's Python, without the blocks that say `no-run`."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def promised(block: str) -> list[str]:
    """What the comments behind a block's `print` calls say that it prints."""
    return re.findall(r"print\(.*\)  # (.+)", block)


def test_readme_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    """Each block of the README runs as it stands, and prints what its comments promise."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": ""}
    found = blocks()
    assert len(found) >= 4
    for block in found:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for line in promised(block):
            assert line in done.stdout, (line, done.stdout)


def test_the_readme_s_policy_is_one(tmp_path: Path) -> None:
    """The policy that the README shows is accepted by `secmem policy check`, without a warning but the one that is meant."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (tmp_path / "clinic.yaml").write_text(shown)
    found = rulebook.read(tmp_path / "clinic.yaml")
    assert "clinic" == found.policy.metadata.name
    (warning,) = found.warnings
    assert "retention.rules[patient-record].min keeps what rule chat-storage-limit ends" in warning


def test_readme_has_a_first_result_by_line_20() -> None:
    """A reader sees what it does within twenty lines."""
    assert "secmem demo" in "\n".join(README.read_text().splitlines()[:20])
    assert "SecureSession(" in "\n".join(README.read_text().splitlines()[:20])
