"""`secmem redact`: what redaction does to a text, what personal data is stored already, and taking it out."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory.cli.options import BadUsage, Group, Settings
from secure_memory.cli.output import Cell, console, json_document, no_color, note, on_terminal, say, table, visible

_SURFACES = {"store": "stored", "model": "to the model", "view": "to a reviewer"}
_COLORS = {"keep": None, "mask": "cyan", "pseudonymise": "blue", "tokenise": "magenta", "redact": "yellow", "block": "red"}
_TENANT = click.option("--tenant", default="default", show_default=True, help="The tenant whose conversations.")


@click.group(cls=Group)
def redact() -> None:
    """Personal data: what a policy does to a text, how much there is already, and taking it out.

    \b
    Examples:
      secmem redact test "my card is 4111 1111 1111 1111"
      secmem redact scan --tenant acme --store support.secmem
    """


@redact.command()
@click.argument("text", metavar="TEXT|FILE|-")
@click.option("--policy", metavar="NAME|FILE", help="A pack or a file; the store's, if one is named, else the baseline.")
@click.pass_obj
def test(settings: Settings, text: str, policy: str | None) -> None:
    """Show what a policy does to a text, and why. Nothing is stored; tokens and pseudonyms are examples.

    The text is an argument, the content of a file, or, with -, standard input. JSON is looked at as what a tool gave. Every
    finding is told, also those that the policy keeps.

    \b
    Examples:
      secmem redact test "my card is 4111 1111 1111 1111, call 030 901820"
      secmem redact test chat.txt --policy pci-dss
      cat answer.json | secmem redact test - --json
    """
    from secure_memory import preview, rulebook

    if policy is not None:
        governing = rulebook.read(policy).policy
    elif settings.store is not None:
        with settings.opened() as store:
            governing = store.policy_in_force()
    else:
        governing = rulebook.read("baseline").policy
    found = preview.preview(governing, _text(text))
    if settings.as_json:
        json_document(asdict(found))
        return
    _show(found)


def _text(given: str) -> str:
    try:
        if given == "-":
            return sys.stdin.read()
        if len(given) < 1024 and "\n" not in given and Path(given).is_file():
            return Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(
            f"could not read the text: {getattr(error, 'strerror', None) or 'not UTF-8'}", "name a file of text"
        ) from None
    return given


def _show(found: Any) -> None:
    say(f"policy {found.policy}", bold=True)
    say("")
    _paragraph("before", _marked(found), None)
    kept = [surface for surface, text in found.after.items() if text == found.before]
    for surface, title in _SURFACES.items():
        if surface not in kept:
            text = found.after[surface]
            _paragraph(
                title,
                "refused: nothing is stored, sent or shown" if text is None else visible(text, keep="\n\t"),
                "red" if text is None else None,
            )
    if kept:
        say(f"as it is {' and '.join(_SURFACES[surface] for surface in kept)}", dim=True)
    if not found.noticed:
        say("nothing was found")
        return
    say("")
    table(
        ("found", "is a", "because", "stored", "model", "reviewer", "rule", "law"),
        [
            (one.text or one.path, one.entity, _why(one), one.store, one.model, one.view, one.rule, one.law)
            for one in found.noticed
        ],
    )
    note("personal names, places and organisations are found with the presidio extra only")


def _paragraph(title: str, text: str, color: str | None) -> None:
    say(f"{title}:", fg="cyan")
    for line in text.split("\n"):
        click.echo(f"  {click.style(line, fg=color) if color else line}", color=False if no_color() else None)
    say("")


def _marked(found: Any) -> str:
    """The text with what was found marked, where somebody looks."""
    text, at, parts = found.before, 0, []
    for one in sorted((one for one in found.noticed if one.start is not None), key=lambda one: one.start):
        if one.start >= at:
            parts += [visible(text[at : one.start], keep="\n\t")]
            worst = max((one.store, one.model, one.view), key=list(_COLORS).index)
            parts += [click.style(visible(text[one.start : one.end]), fg=_COLORS[worst], bold=True, underline=True)]
            at = one.end
    return "".join([*parts, visible(text[at:], keep="\n\t")])


def _why(one: Any) -> str:
    reasons = [one.validator, f"near “{one.context}”" if one.context else None, f"score {one.score:.2f}"]
    return ", ".join(reason for reason in reasons if reason)


@redact.command()
@click.argument("database", metavar="[DATABASE]", required=False, type=click.Path(path_type=Path))
@_TENANT
@click.option("--by-session", is_flag=True, help="Count each session by itself.")
@click.option(
    "--encryption-key-file", metavar="FILE", type=click.Path(path_type=Path), help="EncryptedSession's encryption_key."
)
@click.pass_obj
def scan(settings: Settings, database: Path | None, tenant: str, by_session: bool, encryption_key_file: Path | None) -> None:
    """Count the personal data that a tenant's conversations hold, or a database of the SDK. No values are shown.

    \b
    Examples:
      secmem redact scan --tenant acme --store support.secmem --reason "audit 2026"
      secmem redact scan tasks.db --store support.secmem --by-session
    """
    key = None if encryption_key_file is None else _text(str(encryption_key_file)).strip()
    with settings.opened() as store, console(err=True).status("scanning ...") as status:
        report = store.redact_scan(
            database,
            tenant=tenant,
            encryption_key=key,
            progress=lambda done, total: status.update(f"scanning: {done:,} of {total:,} sessions"),
        )
    if settings.as_json:
        json_document(asdict(report))
        return
    say(f"{report.place}: {report.sessions:,} sessions, {report.items:,} items", bold=True)
    if report.unreadable:
        say(f"{report.unreadable:,} rows hold no item that could be read", err=True, fg="yellow")
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in report.found:
        row = rows[one.session if by_session else "", one.entity]
        row[0], row[1], row[2] = row[0] + one.findings, row[1] + one.items, row[2] + 1
    columns = ("session", "entity", "findings", "items", "stored as")
    shown: list[tuple[Cell, ...]] = [(s, e, f, i, report.stored_as[e]) for (s, e), (f, i, _) in sorted(rows.items())]
    if not by_session:
        columns = ("entity", "findings", "items", "sessions", "stored as")
        shown = [(e, f, i, n, report.stored_as[e]) for (_, e), (f, i, n) in sorted(rows.items())]
    if shown:
        table(columns, shown)
    else:
        say("nothing was found")
    if shown and on_terminal():
        note(
            "`stored as` is what the policy in force does with it now; `secmem redact apply` does it to what is stored already"
        )


@redact.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@_TENANT
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def apply(settings: Settings, session_id: str | None, tenant: str, yes: bool) -> None:
    """Redact what is stored already, as the policy in force would store it now. It can't be undone, but for tokens.

    It can be stopped, with Ctrl-C or otherwise: run again, it goes on, and changes nothing that is done. What a hold or a legal
    floor keeps stays as it is, and is counted. Each session is an entry in the ledger: give your --reason.

    \b
    Examples:
      secmem redact apply --tenant acme --store support.secmem --reason "policy 4"
      secmem redact apply user_123 --tenant acme --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise BadUsage("nobody is there to be asked", "say --yes")
        click.confirm(f"redact {session_id or 'every conversation'} of tenant {tenant} in place?", abort=True, err=True)
    with settings.opened() as store, console(err=True).status("redacting ...") as status:
        done = store.redact_apply(
            tenant=tenant,
            session_id=session_id,
            progress=lambda number, total: status.update(f"redacting: {number:,} of {total:,} sessions"),
        )
    if settings.as_json:
        json_document(asdict(done))
        return
    say(f"redacted {done.items:,} items in {done.changed:,} of {done.sessions:,} sessions", bold=True)
    if done.kept:
        say(f"{done.kept:,} items stay as they are for a hold or a floor", err=True, fg="yellow")
    if done.entities:
        table(("entity", "findings"), list(done.entities.items()))
