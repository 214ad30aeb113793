"""`secmem import` and `secmem export`: what they say, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import EncryptedSession

from secure_memory import SecureStore

Run = Callable[..., Any]
SECMEM = Path(sys.executable).with_name("secmem")


@pytest.fixture
def tasks(tmp_path: Path, place: Path) -> Path:
    """A store, and a database of the SDK with two sessions of two items each."""
    SecureStore.create(place).close()
    for name in ("ana-1", "ben-1"):
        fill(tmp_path / "tasks.db", name, 2)
    return tmp_path / "tasks.db"


def fill(path: Path, name: str, count: int, key: str | None = None) -> None:
    """Append so many items to a session of the SDK."""
    session = SQLiteSession(name, path)
    kept = session if key is None else EncryptedSession(name, session, key)
    asyncio.run(kept.add_items([{"role": "user", "content": f"{name} {n}"} for n in range(count)]))
    session.close()


def test_import(run: Run, tasks: Path) -> None:
    """An import says what it brought; run again, that it was there already."""
    done = run("import", str(tasks), "--tenant", "acme", "--subject-from", "prefix:-")
    assert (0, "") == (done.code, done.err)
    assert "imported 4 items of 2 sessions (SQLiteSession) into tenant acme\n" == done.out
    again = run("import", str(tasks), "--tenant", "acme", "--subject-from", "prefix:-").out
    assert "imported 0 items of 0 sessions" in again
    assert "2 sessions had been imported before" in again
    assert "ben" in run("session", "list", "--tenant", "acme").out
    assert "ana-1 1" in run("session", "show", "ana-1", "--tenant", "acme").out


def test_import_as_json(run: Run, tasks: Path) -> None:
    """As JSON there is every session, with what became of it."""
    report = json.loads(run("import", str(tasks), "--json").out)
    assert (True, "default", 4) == (report["whole"], report["tenant"], report["items"])
    assert {"ana-1": "imported", "ben-1": "imported"} == {one["session"]: one["state"] for one in report["sessions"]}


def test_what_could_not_be_imported(run: Run, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a warning with row ids and reasons; an error with --strict. With the key it is imported."""
    fill(tasks, "sealed", 2, "a passphrase")
    done = run("import", str(tasks))
    assert (0, 2) == (done.code, done.err.count(": encrypted, and no key was given"))
    assert "row 5: " in done.err
    assert 1 == run("import", str(tasks), "--strict").code
    monkeypatch.setenv("CHAT_KEY", "a passphrase")
    assert "imported 2 items of 1 session (" in run("import", str(tasks), "--encryption-key-env", "CHAT_KEY").out
    (tmp_path / "key").write_text("a passphrase\n")
    assert (
        "imported 2 items" in run("import", str(tasks), "--tenant", "b", "--encryption-key-file", str(tmp_path / "key")).out
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--encryption-key-env", "NOT_SET"), "the variable NOT_SET is not set"),
        (("--encryption-key-file", "nowhere"), "could not read the encryption key"),
        (("--encryption-key-file", "a", "--encryption-key-env", "b"), "not in both"),
        (("--subject-from", "prefix:"), "needs the separator"),
        (("--ttl", "-1"), "--ttl"),
    ],
)
def test_bad_usage(run: Run, tasks: Path, options: tuple[str, ...], said: str) -> None:
    """What makes no sense is a usage error that says so."""
    done = run("import", str(tasks), *options)
    assert (2, "") == (done.code, done.out)
    assert said in done.err


def test_not_a_database(run: Run, tasks: Path, place: Path) -> None:
    """What is no database of the SDK is an error that says what it looks like."""
    done = run("import", str(place))
    assert (1, "") == (done.code, done.out)
    assert "is a store of secure-memory" in done.err
    assert "hint: " in done.err


def test_a_session_that_was_left_alone(run: Run, tasks: Path, talk: Callable[..., None]) -> None:
    """It is named, with the reason."""
    talk("ana-1", {"role": "user", "content": "here"})
    done = run("import", str(tasks), "--tenant", "acme", "--strict")
    assert 1 == done.code
    assert "session ana-1 was left alone: there is such a session, and it was not imported" in done.err


def test_ctrl_c(run: Run, tasks: Path, place: Path) -> None:
    """Stopped with Ctrl-C it says how to go on, and goes on then."""
    fill(tasks, "long", 60_000)
    command = subprocess.Popen([SECMEM, "import", str(tasks), "--tenant", "acme"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((place / "vaults").glob("*.db")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(command.pid, signal.SIGINT)
    error = command.communicate(timeout=60)[1]
    assert 130 == command.returncode, error
    assert "stopped: what was imported stays" in error
    assert 0 == run("import", str(tasks), "--tenant", "acme", "--strict").code
    with SecureStore.open(place) as store:
        assert [f"long {n}" for n in range(60_000)] == [i["content"] for i in store.session_show("long", tenant="acme")]


def test_export(run: Run, tasks: Path, tmp_path: Path) -> None:
    """An export is a line for each item, in a file for its owner alone, or on standard output."""
    run("import", str(tasks), "--tenant", "acme")
    out = tmp_path / "out.jsonl"
    done = run("export", "--tenant", "acme", "--out", str(out))
    assert (0, f"exported 4 items of 2 sessions to {out}\n") == (done.code, done.out)
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    assert ["ana-1 0", "ana-1 1", "ben-1 0", "ben-1 1"] == [
        json.loads(line)["item"]["content"] for line in out.read_text().splitlines()
    ]
    assert 2 == json.loads(run("export", "ana-1", "--tenant", "acme", "--out", str(out), "--json").out)["items"]


def test_export_to_a_pipe(process: Run, run: Run, tasks: Path) -> None:
    """On standard output there is nothing but the lines."""
    run("import", str(tasks), "--tenant", "acme")
    done = process("export", "ben-1", "--tenant", "acme", "--out", "-", "--reason", "ticket 4711")
    assert (0, "") == (done.code, done.err)
    assert ["ben-1", "ben-1"] == [json.loads(line)["session"] for line in done.out.splitlines()]
    (entry,) = run("audit", "log", "--tenant", "acme", "--action", "session.read", "--json").out.splitlines()
    assert ("ticket 4711", 2) == (json.loads(entry)["reason"], json.loads(entry)["items"])


def test_export_of_nothing(run: Run, tasks: Path, tmp_path: Path) -> None:
    """No such session and no such tenant are errors, and no file is made."""
    run("import", str(tasks), "--tenant", "acme")
    out = tmp_path / "out.jsonl"
    assert 1 == run("export", "nobody", "--tenant", "acme", "--out", str(out)).code
    assert 1 == run("export", "--tenant", "nobody", "--out", str(out)).code
    assert not out.exists()
