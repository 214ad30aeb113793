"""`cli/options.py`: what every command can be told, before it or after it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def newest(run: Run, *filters: str) -> dict[str, Any]:
    """The newest entry but for those of looking for it."""
    (line,) = run("audit", "log", "--json", "--limit", "1", *filters).out.splitlines()
    entry: dict[str, Any] = json.loads(line)
    return entry


@pytest.mark.parametrize("words", ["--json tenant list", "tenant --json list", "tenant list --json"])
def test_before_or_after(run: Run, desk: Path, words: str) -> None:
    """A common option may stand after the program, after the group, and after the command."""
    assert ["acme"] == [tenant["name"] for tenant in json.loads(run(*words.split()).out)]


def test_the_nearest_wins(run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed wins over the environment, and what is typed last over what is typed first."""
    monkeypatch.setenv("SECMEM_STORE", "/environment")
    assert "/environment" in run("tenant", "list").err
    assert "/first" in run("--store", "/first", "tenant", "list").err
    assert "/last" in run("--store", "/first", "tenant", "list", "--store", "/last").err
    assert 0 == run("--store", str(desk), "tenant", "list").code


def test_no_store(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs a store and is told of none says how to name one."""
    monkeypatch.delenv("SECMEM_STORE")
    done = run("tenant", "list")
    assert (2, "secmem: no store is named\nhint: name its directory with --store PATH, or in SECMEM_STORE\n") == (
        done.code,
        done.err,
    )


def test_the_user_asks(run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is the user of the operating system, whatever $USER says; for opening the store too."""
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    name = f"user:{pwd.getpwuid(os.getuid()).pw_name}"
    run("tenant", "create", "globex")
    assert name == newest(run, "--action", "tenant.create", "--tenant", "globex")["actor"]
    assert name == newest(run, "--action", "store.open")["actor"]


def test_a_user_without_a_name(run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that doesn't know the user's name, its number asks."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert f"user:{os.getuid()}" == newest(run, "--action", "audit.read", "--tenant", "acme")["actor"]


def test_who_and_why(run: Run, desk: Path) -> None:
    """Actor, roles, purpose and reason are in the entry of what was asked."""
    why = ("--role", "auditor", "--role", "dpo", "--purpose", "complaint", "--reason", "ticket 4711")
    run("session", "show", "user_123", "--tenant", "acme", "--actor", "user:eve", *why)
    entry = newest(run, "--action", "session.read")
    assert ("user:eve", ["auditor", "dpo"], "complaint", "ticket 4711") == tuple(
        entry[name] for name in ("actor", "roles", "purpose", "reason")
    )


def test_an_empty_actor(run: Run, desk: Path) -> None:
    """An actor that a script failed to fill in is refused, and nobody takes its place."""
    done = run("tenant", "list", "--actor", "")
    assert (2, "secmem: an actor's id must be a text that is not empty\n") == (done.code, done.err)


def test_the_key_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--key-file is the key, instead of the one in the environment."""
    key = str(tmp_path / "keys" / "key")
    assert 0 == run("init", "--key-file", key).code
    assert 0 == run("tenant", "list", "--key-file", key).code
    done = run("tenant", "list", "--json")
    assert (1, "WrongKeyError") == (done.code, json.loads(done.err)["error"])


def test_the_anchor(run: Run, tmp_path: Path) -> None:
    """--anchor is where the anchors are, instead of the place in the environment."""
    run("init", "--anchor", str(tmp_path / "elsewhere"))
    assert list((tmp_path / "elsewhere").rglob("*.anchor"))
    assert not (tmp_path / "anchors").exists()


def test_anchors_required(run: Run, desk: Path, tmp_path: Path) -> None:
    """Where anchors are required and gone nothing is done; where they aren't required, their loss is said aloud."""
    assert 0 == run("tenant", "list", "--anchor-required").code
    shutil.rmtree(tmp_path / "anchors")
    assert (1, "") == (run("tenant", "list", "--anchor-required").code, run("tenant", "list", "--anchor-required").out)
    done = run("tenant", "list")
    assert (0, 1) == (done.code, done.err.count("warning: anchor missing"))
