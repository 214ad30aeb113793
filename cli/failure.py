"""How a command fails: a message in one voice and the next step, on standard error, and an exit code.

    secmem: tenant 'acme': a link does not follow from the items before it
    hint: treat this as an incident ...

- Exit codes: 0 done, 1 error, 2 usage, 3 tampered, 4 rolled back, 5 stopped by a safety limit or a stale plan, 6 denied, 7
  busy, 8 blocked by a hold or a floor. Cron must not retry 3, 4, 5. Interrupted is 130, as in a shell.
- No traceback, but for what we did not foresee, and then only with SECMEM_DEBUG: its values could be content.
- With `--json` an error is one JSON object on one line: error, message, hint, exit_code.

Called by `main`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import click

from secure_memory import (
    AccessDeniedError,
    IntegrityError,
    PolicyError,
    RetentionError,
    RollbackError,
    SafetyLimitError,
    SecureMemoryError,
    StalePlanError,
    StoreBusyError,
)
from secure_memory.cli.output import counted, no_color, visible

USAGE = 2
INTERRUPTED = 130
EXIT_CODES: dict[type, int] = {
    SecureMemoryError: 1,
    IntegrityError: 3,
    RollbackError: 4,
    SafetyLimitError: 5,
    AccessDeniedError: 6,
    StoreBusyError: 7,
    RetentionError: 8,
    StalePlanError: 5,  # no hold and no floor: a person has to plan again
}
"""The exit code of each error: that of the nearest class above it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of an error. `error` is the name of its class."""

    error: str
    message: str
    hint: str | None
    exit_code: int


def failure_of(error: BaseException) -> Failure:
    """What to tell of an error."""
    name = type(error).__name__
    if isinstance(error, SecureMemoryError):
        code = next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
        return Failure(name, _told_with_others(error), error.hint, code)
    if isinstance(error, click.UsageError):
        return Failure(name, _in_our_voice(error), _usage_hint(error), USAGE)
    if isinstance(error, click.Abort):
        return Failure(name, "interrupted", None, INTERRUPTED)
    if isinstance(error, ValueError) and _is_ours(error):
        return Failure(name, str(error), None, USAGE)  # a bad argument, as the library calls it
    if isinstance(error, RuntimeError) and _is_ours(error):
        return Failure(name, str(error), None, 1)
    return Failure(name, f"unexpected error ({name}); run with SECMEM_DEBUG=1 for the traceback", None, 1)


def _told_with_others(error: SecureMemoryError) -> str:
    """The message; of a policy with several problems also how many there are besides."""
    others = len(error.others) if isinstance(error, PolicyError) else 0
    if not others:
        return str(error)
    return f"{error} (and {counted(others, 'problem')} more, which `secmem policy check` tells)"


def report(error: BaseException, *, as_json: bool) -> int:
    """Tell of an error on standard error, and return the exit code."""
    failure = failure_of(error)
    if os.environ.get("SECMEM_DEBUG") and failure.message.startswith("unexpected error"):
        traceback.print_exception(error)
    if as_json:
        click.echo(json.dumps(asdict(failure)), err=True)
    else:
        _say(click.style("secmem:", fg="red", bold=True), failure.message)
        if failure.hint:
            _say(click.style("hint:", fg="cyan"), failure.hint)
    return failure.exit_code


@contextmanager
def warnings_shown(*, as_json: bool) -> Iterator[None]:
    """Show the library's warnings inside the block, each kind once: that anchors are missing, say, is no secret."""
    handler, logger = _Warnings(as_json), logging.getLogger("secure_memory")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Warnings(logging.Handler):
    """Warnings on standard error. Not errors: those are raised too."""

    def __init__(self, as_json: bool) -> None:
        super().__init__(logging.WARNING)
        self._as_json = as_json
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a warning that was not shown yet."""
        message = record.getMessage()
        if record.levelno > logging.WARNING or message in self._shown:
            return
        self._shown.add(message)
        if self._as_json:
            click.echo(json.dumps({"warning": message}), err=True)
        else:
            _say(click.style("secmem:", fg="yellow", bold=True), f"warning: {message}; `secmem doctor` says more")


def _say(label: str, text: str) -> None:
    click.echo(f"{label} {visible(text)}", err=True, color=False if no_color() else None)


def _in_our_voice(error: click.UsageError) -> str:
    """Click's words, lowercase and with no full stop; what it guesses was meant is in the hint."""
    text = error.message if getattr(error, "possibilities", None) else error.format_message()
    return text[:1].lower() + text[1:].removesuffix(".")


def _usage_hint(error: click.UsageError) -> str | None:
    if meant := getattr(error, "possibilities", None):
        return f"did you mean {' or '.join(sorted(meant))}?"
    if hint := getattr(error, "hint", None):
        return str(hint)
    return f"`{error.ctx.command_path} --help` shows how it is used" if error.ctx else None


def _is_ours(error: BaseException) -> bool:
    """Whether the code that raised it is this package's, so that its words were written for whoever reads them."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and str(place.tb_frame.f_globals.get("__name__", "")).startswith("secure_memory.")


def wants_json(arguments: list[str]) -> bool:
    """Whether `--json` was typed: asked before the arguments are understood, since that can fail too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]


def write_anything() -> None:
    """Let a terminal or a file that is not UTF-8 show what it can, and the rest escaped, instead of failing."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
