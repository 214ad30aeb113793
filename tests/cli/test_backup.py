"""`secmem backup`, `secmem restore`, `secmem subject export`: what they print, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from secure_memory import SecureStore
from secure_memory.cli.main import secmem

Run = Callable[..., Any]


@pytest.fixture
def into(tmp_path: Path) -> str:
    """Where backups go."""
    return str(tmp_path / "backups")


def test_there_and_back(run: Run, desk: Path, into: str, tmp_path: Path) -> None:
    """A store is backed up, the backup is checked, and restored to another path, where everything is."""
    done = run("backup", into)
    assert (0, "") == (done.code, done.err)
    assert ["backed up 2 vaults", "backed up the keys"] == [line.partition(",")[0] for line in done.out.splitlines()[:2]]
    checked = run("backup", "verify", into)
    assert 0 == checked.code
    assert "is whole" in checked.out
    restored = run("restore", into, "--store", str(tmp_path / "drill"))
    assert 0 == restored.code
    assert f"restored {tmp_path / 'drill'} as it was" in restored.out
    shown = run("session", "show", "user_123", "--tenant", "acme", "--store", str(tmp_path / "drill"))
    assert "charged twice" in shown.out
    assert 0 == run("audit", "verify", "--store", str(tmp_path / "drill"), "--anchor-required").code


def test_options_stand_anywhere(run: Run, desk: Path, into: str) -> None:
    """`--keys` goes before or after the directory, with and without `create`."""
    for arguments in (["--keys", into], [into, "--keys"], ["create", "--keys", into]):
        report = json.loads(run("backup", *arguments, "--json").out)
        assert ["keys"] == [kept["kind"] for kept in report["sets"]]


def test_usage_errors(run: Run, desk: Path, into: str) -> None:
    """Without a directory the help is shown; an option that is none, or lacks its reason, is an error; all are usage."""
    assert 2 == run("backup").code
    assert 2 == run("backup", into, "--everything").code
    assert 2 == run("restore", into, "--accept-rollback").code


def test_a_rollback(run: Run, desk: Path, into: str) -> None:
    """Not declared it exits with 4, and says how to; declared it is done, and the log shows it with its reason."""
    run("backup", into)
    refused = run("restore", into)
    assert 4 == refused.code
    assert "--accept-rollback --reason TEXT" in refused.err
    done = run("restore", into, "--accept-rollback", "--reason", "INC-4711", "--json")
    report = json.loads(done.out)
    assert (0, True) == (done.code, report["rollback"])
    entries = [json.loads(line) for line in run("audit", "log", "--action", "store.restore", "--json").out.splitlines()]
    assert {"INC-4711"} == {entry["reason"] for entry in entries}
    assert Path(report["replaced"]).is_dir()


def test_what_was_there_is_told(run: Run, desk: Path, into: str) -> None:
    """Where the replaced store is kept it is said, and it is not kept where that was asked for."""
    run("backup", into)
    assert "what was there is at" in run("restore", into, "--accept-rollback", "--reason", "x").out
    assert "what was there is at" not in run("restore", into, "--accept-rollback", "--reason", "x", "--discard-replaced").out


def test_a_store_in_use(run: Run, desk: Path, into: str) -> None:
    """While a process has the store open, a restore exits with 7: try again when it is stopped."""
    run("backup", into)
    with SecureStore.open(desk):
        assert 7 == run("restore", into, "--accept-rollback", "--reason", "x").code


def test_a_damaged_backup(run: Run, desk: Path, into: str) -> None:
    """A damaged backup exits with 3, and is neither whole nor restored."""
    run("backup", into)
    (vault,) = Path(into).glob("*-vaults/vaults/*.db")
    vault.write_bytes(vault.read_bytes()[:-1] + b"\0")
    assert 3 == run("backup", "verify", into).code
    assert 3 == run("restore", into, "--accept-rollback", "--reason", "x").code


def test_tenants_and_erasures_are_told(run: Run, desk: Path, into: str, tmp_path: Path) -> None:
    """What was erased since, and what is younger than the vaults, is said."""
    run("backup", into)
    assert 0 == run("subject", "erase", "ana", "--tenant", "acme", "--yes").code
    run("tenant", "create", "young")
    run("backup", "--keys", into)
    done = run("restore", into, "--store", str(tmp_path / "new"), "--accept-rollback", "--reason", "drill")
    assert 0 == done.code
    assert "tenant young is younger than the backup" in done.out
    (line,) = [line.split("\t") for line in done.out.splitlines() if line.startswith("acme")]
    assert "1" == line[4].strip()


def test_a_reader_of_a_pipe_sees_no_progress(desk: Path, into: str, process: Run) -> None:
    """In a pipe there is nothing but the result, on standard output."""
    done = process("backup", into)
    assert (0, "") == (done.code, done.err)
    assert 3 == len(done.out.splitlines())


def test_verify_needs_no_store(desk: Path, into: str, tmp_path: Path) -> None:
    """A backup is checked by itself, on a machine where its store is not."""
    with SecureStore.open(desk) as store:
        store.backup(into)
    command = [str(Path(sys.executable).with_name("secmem")), "backup", "verify", into]
    done = subprocess.run([*command, "--store", str(tmp_path / "nowhere")], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


# ---- subject export ---------------------------------------------------------------------------------------------------


def test_subject_export(run: Run, desk: Path, tmp_path: Path) -> None:
    """What a person is handed: said in a sentence, or as JSON; the directory is there."""
    done = run("subject", "export", "ana", "--tenant", "acme", "--out", str(tmp_path / "ana"), "--reason", "request 17")
    assert (0, "") == (done.code, done.err)
    assert "exported 4 items of 1 session, 0 rows of usage and 4 entries" in done.out
    assert "charged twice" in (tmp_path / "ana" / "conversations" / "0001.json").read_text()
    accesses = json.loads((tmp_path / "ana" / "access.json").read_text())
    assert {"request 17"} == {one.get("reason") for one in accesses if one["action"] == "subject.export"}
    report = json.loads(
        run("subject", "export", "ana", "--tenant", "acme", "--out", str(tmp_path / "ana.zip"), "--exact", "--json").out
    )
    assert (4, False) == (report["items"], report["masked"])


def test_subject_export_of_nobody(run: Run, desk: Path, tmp_path: Path) -> None:
    """A name that nobody has is an error with a next step, and nothing is written."""
    done = run("subject", "export", "carl", "--tenant", "acme", "--out", str(tmp_path / "carl"))
    assert 1 == done.code
    assert "no such subject" in done.err
    assert "hint:" in done.err
    assert not (tmp_path / "carl").exists()


# ---- the guide --------------------------------------------------------------------------------------------------------


def test_the_guide_can_be_followed() -> None:
    """Every command and option that docs/backup.md names is there."""
    text = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
    there = {path: {option for param in command.params for option in param.opts} for path, command in every(secmem)}
    named = [match.group(0) for match in re.finditer(r"secmem [a-z]+( [a-z]+)?", text)]
    assert len(named) > 15
    for words in named:
        assert words in there or words.rpartition(" ")[0] in there, words
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= set().union(*there.values())


def every(command: click.Command, path: str = "secmem") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from every(found, f"{path} {name}")
