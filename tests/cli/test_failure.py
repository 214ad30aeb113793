"""`cli/failure.py`: one voice, and an exit code that a program can act on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import secure_memory
from secure_memory import (
    AccessDeniedError,
    AuditGapError,
    ConfigurationError,
    DiskFullError,
    IntegrityError,
    RollbackError,
    SecureMemoryError,
    SecureStore,
    StoreBusyError,
    TamperedError,
    WrongKeyError,
)
from secure_memory.cli import failure
from secure_memory.cli.failure import failure_of

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 1),
        (WrongKeyError("x"), 1),
        (DiskFullError("x"), 1),
        (click.UsageError("x"), 2),
        (TamperedError("x"), 3),
        (AuditGapError("x"), 3),
        (IntegrityError("x"), 3),
        (RollbackError("x"), 4),
        (AccessDeniedError("x", actor="a", action="b", needed="c"), 6),
        (StoreBusyError("x"), 7),
        (click.Abort(), 130),
        (OSError("x"), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    """Each kind of error has the exit code that is documented."""
    assert code == failure_of(error).exit_code


def test_every_error_has_an_exit_code() -> None:
    """No error of ours is without one: the nearest class above it has one."""
    ours = [getattr(secure_memory, name) for name in secure_memory.__all__ if name.endswith("Error")]
    assert all(any(kind in failure.EXIT_CODES for kind in error.__mro__) for error in ours)
    assert SecureMemoryError in failure.EXIT_CODES


def test_a_byte_is_flipped(process: Run, desk: Path) -> None:
    """One flipped byte in the vault's first page: exit code 3, the tenant's name, and what to do."""
    (vault,) = (desk / "vaults").glob("*.db")
    data = bytearray(vault.read_bytes())
    data[1000] ^= 1
    vault.write_bytes(data)
    for command in (("audit", "verify"), ("session", "show", "user_123", "--tenant", "acme")):
        done = process(*command)
        assert (3, "") == (done.code, done.out)
        message, hint = done.err.splitlines()
        assert message.startswith("secmem: ")
        assert hint.startswith("hint: ")
        assert "restore from a backup" in hint


def test_an_older_copy_is_put_back(process: Run, desk: Path, tmp_path: Path, run: Run) -> None:
    """A store that is older than its anchors: exit code 4, as JSON too."""
    shutil.copytree(desk, tmp_path / "older")
    run("tenant", "create", "globex")
    shutil.rmtree(desk)
    (tmp_path / "older").rename(desk)
    done = process("tenant", "list", "--json")
    told = json.loads(done.err)
    assert (4, 4, "RollbackError", "") == (done.code, told["exit_code"], told["error"], done.out)
    assert "incident" in told["hint"]


def test_json(run: Run) -> None:
    """With --json an error is one JSON object on standard error, and nothing is on standard output."""
    done = run("tenant", "list", "--json")
    assert ["error", "message", "hint", "exit_code"] == list(json.loads(done.err))
    assert ("NotAStoreError", 1) == (json.loads(done.err)["error"], json.loads(done.err)["exit_code"])
    assert ("", 1) == (done.out, done.err.count("\n"))


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("tenant", "lst"), "no such command 'lst'", None),
        (("tenant", "create"), "missing argument 'NAME'", "`secmem tenant create --help` shows how it is used"),
        (("audit", "log", "--outcome", "x"), "invalid value for '--outcome'", "`secmem audit log --help`"),
        (("--json", "tenant"), "missing command", "`secmem tenant --help` shows what there is"),
        (("nothing", "--json"), "no such command 'nothing'", None),
    ],
)
def test_usage_errors(run: Run, arguments: tuple[str, ...], message: str, hint: str | None) -> None:
    """What was typed wrongly is said in the same voice, with the next step; as JSON even if that was typed last."""
    done = run(*arguments, *(() if "--json" in arguments else ("--json",)))
    told = json.loads(done.err)
    assert 2 == done.code == told["exit_code"]
    assert told["message"].startswith(message)
    assert not told["message"].endswith(".")
    assert hint is None or told["hint"].startswith(hint)


def test_a_bad_argument_of_the_library(run: Run, desk: Path) -> None:
    """A ValueError of ours is a usage error, in our words."""
    done = run("tenant", "create", "(mine)")
    assert (2, True) == (done.code, done.err.startswith("secmem: a tenant's name is 1 to 200"))


def test_a_closed_store() -> None:
    """The RuntimeError of a closed store is told in our words."""
    store = SecureStore.in_memory()
    store.close()
    with pytest.raises(RuntimeError) as caught:
        store.tenant_list()
    assert ("the store is closed", 1) == (failure_of(caught.value).message, failure_of(caught.value).exit_code)


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, OSError, KeyError])
def test_an_unexpected_error(run: Run, desk: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    """What we did not foresee shows neither traceback nor its words, which could be content; with SECMEM_DEBUG both."""

    def broken(store: SecureStore) -> None:
        raise kind("a customer's words")

    monkeypatch.setattr(SecureStore, "tenant_list", broken)
    done = run("tenant", "list")
    expected = f"secmem: unexpected error ({kind.__name__}); run with SECMEM_DEBUG=1 for the traceback\n"
    assert (1, expected) == (done.code, done.err)
    monkeypatch.setenv("SECMEM_DEBUG", "1")
    debugged = run("tenant", "list").err
    assert "Traceback" in debugged
    assert "a customer's words" in debugged


def test_escapes_in_a_message(run: Run, tmp_path: Path) -> None:
    """A path that a terminal would obey is shown, not obeyed."""
    done = run("tenant", "list", "--store", str(tmp_path / "a\x1b[2Jb"))
    assert "\x1b" not in done.err
    assert "a\\x1b[2Jb" in done.err


def test_the_reader_goes_away(desk: Path, process: Run) -> None:
    """A pipe that is closed, as `head` closes it, is no error to talk about."""
    reading, writing = os.pipe()
    os.close(reading)
    secmem = Path(sys.executable).with_name("secmem")
    done = subprocess.run([secmem, "audit", "log"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert b"" == done.stderr


def test_colors(terminal: Run) -> None:
    """An error is colored on a terminal, unless NO_COLOR asks otherwise."""
    assert "\x1b[31m" in terminal("tenant", "list").out
    assert "\x1b" not in terminal("tenant", "list", NO_COLOR="1").out
