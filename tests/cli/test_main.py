"""`cli/main.py`: what there is, what it loads, and the help of each command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

import secure_memory
from secure_memory.cli.main import secmem

Run = Callable[..., Any]

NOT_LOADED = """
import json, sys
from secure_memory.cli.main import main
loaded = {}
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        code = ended.code
    found = [name for name in ("agents", "sqlcipher3", "rich") if name in sys.modules]
    loaded[" ".join(arguments)] = [code, found]
print(json.dumps(loaded), file=sys.stderr)
"""


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command, a group's after the group, with the words that run it."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                found = command.get_command(ctx, name)
                assert found is not None
                yield from commands(found, *path, name)


COMMANDS = [pytest.param(path, command, id=path) for path, command in commands(secmem, "secmem")]


def test_the_commands() -> None:
    """These are the commands, and no others: noun, verb, singular."""
    groups = {
        "access": "check",
        "archive": "verify read",
        "audit": "log verify anchor",
        "backup": "create verify",
        "hold": "place list release",
        "key": "rotate",
        "policy": "list show check explain diff test apply",
        "redact": "test scan apply",
        "session": "list show review reveal erase",
        "subject": "export erase erased withheld",
        "tenant": "create list erase",
    }
    alone = "certificate completion demo doctor export import init purge restore usage"
    assert {
        *("secmem", *(f"secmem {name}" for name in (*groups, *alone.split()))),
        *(f"secmem {noun} {verb}" for noun, verbs in groups.items() for verb in verbs.split()),
    } == {path for path, _ in commands(secmem, "secmem")}


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_has_help_with_an_example(path: str, command: click.Command) -> None:
    """A command says what it does, and shows itself being used."""
    text = command.help or ""
    assert text.strip()
    assert path in text.partition("Example")[2]


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_option_has_help(path: str, command: click.Command) -> None:
    """No option is left to be guessed."""
    assert [] == [param.name for param in command.params if isinstance(param, click.Option) and not param.help]


def test_what_is_loaded(desk: object) -> None:
    """Only `demo` imports `agents`, which costs seconds; help and completion don't even load the database driver."""
    light = [["--help"], ["audit", "log", "--help"], ["completion", "bash"], ["tenant", "nothing"]]
    heavy = [
        *(["tenant", "create", "globex"], ["tenant", "list"]),
        *(["session", "list", "--tenant", "acme"], ["session", "show", "user_123", "--tenant", "acme"]),
        *(["audit", "log"], ["audit", "verify"], ["audit", "anchor"], ["doctor"], ["init", "--store", f"{desk}.2"]),
    ]
    done = subprocess.run(
        [sys.executable, "-c", NOT_LOADED, json.dumps(light + heavy)], capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stderr.splitlines()[-1])
    assert {"--help": [0, []], "audit log --help": [0, []], "completion bash": [0, []], "tenant nothing": [2, []]} == {
        " ".join(arguments): loaded[" ".join(arguments)] for arguments in light
    }
    for arguments in heavy:
        code, found = loaded[" ".join(arguments)]
        assert 0 == code
        assert "agents" not in found
        assert "sqlcipher3" in found  # so the look at sys.modules sees what is there


def test_the_version(run: Run) -> None:
    """`--version` is the package's."""
    assert f"secmem {secure_memory.__version__}\n" == run("--version").out


@pytest.mark.parametrize("arguments", [(), ("tenant",), ("session",), ("audit",)])
def test_nothing_asked_for(run: Run, arguments: tuple[str, ...]) -> None:
    """A group alone shows its help, but on standard error and as a usage error: a script meant something else."""
    done = run(*arguments)
    assert (2, "") == (done.code, done.out)
    assert "Commands:" in done.err


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")])
def test_completion(run: Run, shell: str, mark: str) -> None:
    """Each shell gets a script that asks `secmem`."""
    done = run("completion", shell)
    assert 0 == done.code
    assert mark in done.out
    assert f"_SECMEM_COMPLETE={shell}_complete" in done.out


def test_completing(process: Run) -> None:
    """What the script asks is answered with the commands and options that fit."""
    environ = {"_SECMEM_COMPLETE": "bash_complete", "COMP_WORDS": "secmem audit log --s", "COMP_CWORD": "3"}
    assert {"plain,--since", "plain,--session", "plain,--subject", "plain,--store"} == set(process(**environ).out.split())
