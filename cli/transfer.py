"""`secmem import` and `secmem export`: conversations in and out."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory.cli.options import BadUsage, Command, Settings
from secure_memory.cli.output import console, counted, json_document, note, say

_TENANT = click.option("--tenant", default="default", show_default=True, help="The tenant whose sessions.")
_FILE = click.Path(path_type=Path)
_SHOWN = 20
"""Rows and sessions that are told of; --json tells of all."""


@click.command("import", cls=Command)
@click.argument("database", metavar="DATABASE", type=_FILE)
@_TENANT
@click.option(
    "--subject-from",
    metavar="RULE",
    default="session",
    show_default=True,
    help="Whose a session is: `session` (its id), `prefix:SEPARATOR` (its id up to that), or a CSV file session_id,subject.",
)
@click.option("--encryption-key-file", metavar="FILE", type=_FILE, help="The file with EncryptedSession's encryption_key.")
@click.option("--encryption-key-env", metavar="NAME", help="The environment variable that has that key.")
@click.option(
    "--ttl", metavar="SECONDS", type=click.IntRange(0), help="EncryptedSession's ttl; left out, nothing has expired."
)
@click.option("--sessions-table", metavar="NAME", default="agent_sessions", show_default=True, help="As told to the SDK.")
@click.option("--messages-table", metavar="NAME", default="agent_messages", show_default=True, help="As told to the SDK.")
@click.option("--strict", is_flag=True, help="Exit with 1 where anything could not be imported.")
@click.pass_context
def import_(
    ctx: click.Context,
    /,
    database: Path,
    encryption_key_file: Path | None,
    encryption_key_env: str | None,
    strict: bool,
    **options: Any,
) -> None:
    """Import the conversations of a database of the SDK: of SQLiteSession, AdvancedSQLiteSession, or EncryptedSession over
    either.

    The database is only read, and may be in use. Order, times and branches stay as they are. It can be stopped, with Ctrl-C
    or otherwise: run again, it goes on where it was, and nothing is imported twice. Sessions that were begun here, or went
    on here since they were imported, are left alone. Rows that hold no item are counted, and named by their ids.

    \b
    Examples:
      secmem import tasks.db --tenant acme --store support.secmem
      secmem import tasks.db --tenant acme --subject-from prefix:-
      secmem import tasks.db --tenant acme --encryption-key-env SESSION_ENCRYPTION_KEY
    """
    settings: Settings = ctx.obj
    key = encryption_key(encryption_key_file, encryption_key_env)
    with settings.opened() as store, console(err=True).status("importing ...") as status:

        def progress(rows: int, total: int) -> None:
            status.update(f"importing: {rows:,} of {total:,} rows")

        try:
            report = store.import_sessions(database, encryption_key=key, progress=progress, **options)
        except KeyboardInterrupt:
            say("stopped: what was imported stays, and the same command goes on from there", err=True)
            raise
    if settings.as_json:
        json_document({**asdict(report), "whole": report.whole})
    else:
        _tell(report)
    ctx.exit(1 if strict and not report.whole else 0)


def encryption_key(file: Path | None, variable: str | None) -> str | None:
    """The key that EncryptedSession was given. Raises BadUsage."""
    if file is not None and variable is not None:
        raise BadUsage("the encryption key is in a file or in a variable, not in both", "leave one of the options away")
    if variable is not None:
        if not os.environ.get(variable):
            raise BadUsage(f"the variable {variable} is not set", "--encryption-key-env names the one that has the key")
        return os.environ[variable]
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (getattr(error, "strerror", None) or "not text").lower()
        raise BadUsage(f"could not read the encryption key: {why}", "--encryption-key-file names a file of text") from None


def _tell(report: Any) -> None:
    """What was imported, and on standard error what was not."""
    states = [one.state for one in report.sessions]
    new = states.count("imported") + states.count("continued")
    say(
        f"imported {counted(report.items, 'item')} of {counted(new, 'session')} ({report.kind}) into tenant {report.tenant}",
        bold=True,
    )
    if already := states.count("already"):
        say(f"{counted(already, 'session')} had been imported before")
    for line in report.notes:
        _warn(line)
    refused = [one for one in report.sessions if one.state == "refused"]
    for one in refused[:_SHOWN]:
        _warn(f"session {one.session} was left alone: {one.why}")
    if report.unreadable:
        _warn(f"no item could be imported of {counted(report.unreadable, 'row')}")
    for row in report.unreadable_rows[:_SHOWN]:
        _warn(f"  row {row.row}: {row.reason}")
    if len(refused) > _SHOWN or report.unreadable > _SHOWN:
        _warn(f"no more than {_SHOWN} are shown; --json shows more")


def _warn(text: str) -> None:
    say(text, err=True, fg="yellow")


@click.command(cls=Command)
@click.argument("session_id", metavar="[SESSION]", required=False)
@_TENANT
@click.option("--out", metavar="FILE", type=_FILE, required=True, help="The file to write, or - for standard output.")
@click.option("--exact", is_flag=True, help="Write items as they are stored, personal data unmasked.")
@click.pass_obj
def export(settings: Settings, session_id: str | None, tenant: str, out: Path, exact: bool) -> None:
    """Export a conversation, or all of a tenant, as JSON Lines: one item a line, with session, subject, branch, position,
    turn and time.

    Every conversation is proven first, and reading it is an entry in the ledger: give your --reason. Personal data is
    masked as the policy's view surface says, unless --exact is given. The file is not encrypted; it is made for its owner
    alone, and is there whole or not at all.

    \b
    Examples:
      secmem export user_123 --tenant acme --out user_123.jsonl --reason "access request 17"
      secmem export --tenant acme --out - | jq .item.content
    """
    piped = str(out) == "-"
    with settings.opened() as store, console(err=True).status("exporting ...") as status:

        def progress(written: int, total: int) -> None:
            status.update(f"exporting: {written:,} of {total:,} sessions")

        report = store.export_sessions(
            sys.stdout.buffer if piped else out, tenant=tenant, session_id=session_id, exact=exact, progress=progress
        )
    if report.erased:
        _warn(f"{counted(report.erased, 'session')} left out: there is no key any more")
    if piped:
        note(f"{counted(report.items, 'item')} of {counted(report.sessions, 'session')}")
    elif settings.as_json:
        json_document(asdict(report))
    else:
        say(f"exported {counted(report.items, 'item')} of {counted(report.sessions, 'session')} to {report.path}")
