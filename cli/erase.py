"""What `secmem subject erase`, `session erase` and `tenant erase` have in common: asking first, and what they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from secure_memory.cli.options import BadUsage, Settings
from secure_memory.cli.output import json_document, say

F = TypeVar("F", bound=Callable[..., Any])


def options(command: F) -> F:
    """`--yes` and `--certificate`."""
    yes = click.option("--yes", is_flag=True, help="Don't ask: for where no person sits at a terminal.")
    file = click.option(
        "--certificate", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it there, as JSON."
    )
    return yes(file(command))


def confirm(what: str, name: str, *, yes: bool) -> None:
    """Have a person type the name of what is to be erased. Raises BadUsage where nobody is there to ask, and `--yes` is
    missing; click's Abort where something else was typed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadUsage(f"nobody is here to confirm that {what} is to be erased", "say --yes, if it is meant")
    say(f"This erases {what} for good: no backup of the conversations brings it back.", err=True, bold=True)
    if click.prompt("Type the name to go on", err=True) != name:
        say("that is another name: nothing was erased", err=True)
        raise click.Abort


def refuse_existing(certificate: Path | None) -> None:
    """Raise BadUsage where the certificate's file is there already: it could be another erasure's."""
    if certificate is not None and certificate.exists():
        raise BadUsage(f"{certificate} exists already", "name another file for the certificate")


KEPT = 8
"""The exit code where all of it is kept for now: a hold or a floor blocks it, as in `failure`."""


def tell(settings: Settings, report: Any, certificate: Path | None) -> None:
    """Print what was erased and the certificate's text, or all as JSON; write the certificate where it is wanted. Exits with
    8 where nothing could be deleted yet."""
    if certificate is not None:
        certificate.write_text(report.certificate.to_json() + "\n")
    if settings.as_json:
        document = {
            "tenant": report.tenant,
            "kind": report.kind,
            "already": report.already,
            "all_withheld": report.all_withheld,
            "sessions": report.sessions,
            "items": dict(report.items),
            "withheld": list(report.withheld),
            "left": report.left,
            "certificate": json.loads(report.certificate.to_json()),
        }
        json_document(document)
        raise click.exceptions.Exit(KEPT if report.all_withheld else 0)
    if report.already:
        say("it was erased before; this is the certificate from then", err=True)
    for line in report.certificate.text().split("\n"):
        say(line)
    if certificate is not None:
        say(f"\nthe certificate is in {certificate}", err=True, keep="\n")
    if report.all_withheld:
        say(
            "nothing could be deleted yet: all of it has to be kept, out of agents' sight; the purge deletes it when it may",
            err=True,
            fg="yellow",
        )
        raise click.exceptions.Exit(KEPT)
