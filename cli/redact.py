"""`secmem redact`: what redaction does to a text, what personal data is stored already, and taking it out."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory.cli.options import BadUsage, Group, Settings
from secure_memory.cli.output import Cell, console, counted, json_document, note, on_terminal, say, table, visible
from secure_memory.cli.transfer import encryption_key

_TITLES = {"store": "stored", "model": "the model sees", "view": "a reviewer sees"}
_COLORS = {"keep": "", "mask": "cyan", "pseudonymise": "blue", "tokenise": "magenta", "redact": "yellow", "block": "red"}
"""Of what is done to a finding; the last of them is what changes most."""
_REFUSED = "refused: nothing is stored, sent or shown"
_TENANT = click.option("--tenant", default="default", show_default=True, help="The tenant whose conversations.")
_FILE = click.Path(path_type=Path)


@click.group(cls=Group)
def redact() -> None:
    """Personal data: what a policy does to a text, how much there is already, and taking it out.

    \b
    Examples:
      secmem redact test "my card is 4111 1111 1111 1111"
      secmem redact scan --tenant acme --store support.secmem
    """


# ---- test ------------------------------------------------------------------------------------------------------------


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

    given = _text(text)
    if policy is not None:
        governing = rulebook.read(policy).policy
    elif settings.store is not None:
        with settings.opened() as store:
            governing = store.policy_in_force()
    else:
        governing = rulebook.read("baseline").policy
    found = preview.preview(governing, given)
    if settings.as_json:
        json_document(asdict(found))
        return
    _show(found)


def _text(given: str) -> str:
    """The text that was meant: of standard input, of a file, or what was typed."""
    try:
        if given == "-":
            return sys.stdin.buffer.read().decode()
        if "\n" not in given and len(given) <= 1000 and Path(given).is_file():
            return Path(given).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadUsage("could not read the text: not UTF-8", "name a file of text") from None
    except OSError as error:
        if len(given) <= 255:
            why = (error.strerror or "unknown").lower()
            raise BadUsage(f"could not read the text: {why}", "name a file of text") from None
        # It is too long for the name of a file: a text, then.
    if (
        given.split() == [given]
        and "@" not in given
        and (given[0] == "/" or given.endswith((".txt", ".json", ".md", ".log")))
    ):
        say("there is no file of that name: it is taken for the text itself", err=True, fg="yellow")
    return given


def _show(found: Any) -> None:
    say(f"policy {found.policy}", bold=True)
    _paragraph("before", found.before, _spans(found))
    for surface, title in _TITLES.items():
        text = found.after[surface]
        if text == found.before:
            say(f"\n{title}: as before", keep="\n", fg="cyan")
        elif text is None:
            _paragraph(title, _REFUSED, [(0, len(_REFUSED), "red")])
        else:
            _paragraph(title, text, [])
    say("")
    if not found.noticed:
        say("nothing was found")
    elif on_terminal():
        for one in found.noticed:
            _tell(one)
    else:
        table(
            ("found", "is a", "because", "stored", "model", "reviewer", "rule", "law"),
            [(_place(o), o.entity, _why(o), o.store, o.model, o.view, o.rule, o.law) for o in found.noticed],
        )
    note("names of people, places and organisations are found with the presidio extra only")


def _spans(found: Any) -> Iterator[tuple[int, int, str]]:
    """Where something was found, in order, and the color of what changes most there."""
    at = 0
    for one in sorted((one for one in found.noticed if one.start is not None), key=lambda one: one.start):
        if one.start >= at:
            worst = max((one.store, one.model, one.view), key=list(_COLORS).index)
            yield one.start, one.end, f"{_COLORS[worst]} bold underline".strip()
            at = one.end


def _paragraph(title: str, text: str, spans: Any) -> None:
    """A text with some of its spans in colors; where a person looks, its lines end between words."""
    say(f"\n{title}:", keep="\n", fg="cyan")
    text = text.rstrip("\n")
    if not on_terminal():
        for line in visible(text, keep="\n\t").split("\n"):
            click.echo(f"  {line}")
        return
    from rich.padding import Padding
    from rich.text import Text

    shown, at = Text(overflow="fold"), 0
    for start, end, style in spans:
        shown.append(visible(text[at:start], keep="\n\t")).append(visible(text[start:end]), style)
        at = end
    shown.append(visible(text[at:], keep="\n\t"))
    console().print(Padding(shown, (0, 0, 0, 2)))


def _tell(one: Any) -> None:
    """Two lines about a finding, for a person."""
    from rich.padding import Padding
    from rich.text import Text

    head = Text(visible(one.entity), "bold").append("  ").append(visible(_place(one)), "underline")
    done = Text()
    for surface, name in (("store", "stored"), ("model", "model"), ("view", "reviewer")):
        operator = getattr(one, surface)
        done.append(f"{name} ").append(operator, _COLORS[operator]).append(", " if surface != "view" else "")
    done.append(f"; rule {one.rule}" if one.rule else "; no rule").append(f", {one.law}" if one.law else "")
    for text, indent in ((head.append(f"  {visible(_why(one))}", "dim"), 0), (done, 4)):
        console().print(Padding(text, (0, 0, 0, indent)))


def _place(one: Any) -> str:
    """What was found, and where in JSON it stands."""
    return str(one.text) if one.path is None else f"{one.text} at {one.path}"


def _why(one: Any) -> str:
    reasons = [one.validator, f"near “{one.context}”" if one.context else None, f"score {one.score:.2f}"]
    return ", ".join(reason for reason in reasons if reason)


# ---- scan ------------------------------------------------------------------------------------------------------------


@redact.command()
@click.argument("database", metavar="[DATABASE]", required=False, type=_FILE)
@_TENANT
@click.option("--by-session", is_flag=True, help="Count each session by itself.")
@click.option("--encryption-key-file", metavar="FILE", type=_FILE, help="The file with EncryptedSession's encryption_key.")
@click.option("--encryption-key-env", metavar="NAME", help="The environment variable that has that key.")
@click.pass_obj
def scan(
    settings: Settings,
    database: Path | None,
    tenant: str,
    by_session: bool,
    encryption_key_file: Path | None,
    encryption_key_env: str | None,
) -> None:
    """Count the personal data that a tenant's conversations hold, or a database of the SDK. No values are shown.

    A database needs no store: without one, the baseline policy says what would be stored of it.

    \b
    Examples:
      secmem redact scan --tenant acme --store support.secmem --reason "audit 2026"
      secmem redact scan tasks.db --by-session
    """
    from secure_memory import SecureStore

    key = encryption_key(encryption_key_file, encryption_key_env)
    if database is None and key is not None:
        raise BadUsage("an encryption key belongs to a database of the SDK", "name the database's file")
    alone = database is not None and settings.store is None
    with (
        SecureStore.in_memory(actor=settings.who()) if alone else settings.opened() as store,
        console(err=True).status("scanning ...") as status,
    ):
        report = store.redact_scan(
            database,
            tenant=tenant,
            encryption_key=key,
            progress=lambda done, total: status.update(f"scanning: {done:,} of {total:,} sessions"),
        )
    if settings.as_json:
        json_document(asdict(report))
    else:
        _print_scan(report, by_session)


def _print_scan(report: Any, by_session: bool) -> None:
    say(f"{report.place}: {counted(report.sessions, 'session')}, {counted(report.items, 'item')}", bold=True)
    if report.unreadable:
        say(f"no item could be read of {counted(report.unreadable, 'row')}", err=True, fg="yellow")
    if not report.found:
        say("nothing was found")
        return
    columns = ("session", "entity", "findings", "items", "stored as")
    rows: list[tuple[Cell, ...]] = [
        (one.session, one.entity, one.findings, one.items, report.stored_as[one.entity]) for one in report.found
    ]
    if not by_session:
        columns = ("entity", "findings", "items", "sessions", "stored as")
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for one in report.found:
            sums[one.entity] = [a + b for a, b in zip(sums[one.entity], (one.findings, one.items, 1), strict=True)]
        rows = [(entity, *sums[entity], report.stored_as[entity]) for entity in sorted(sums)]
    table(columns, rows)
    note("`stored as` is what the policy does with it now; `secmem redact apply` does it to what is stored already")


# ---- apply -----------------------------------------------------------------------------------------------------------


@redact.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@_TENANT
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def apply(settings: Settings, session_id: str | None, tenant: str, yes: bool) -> None:
    """Redact what is stored already, as the policy in force would store it now. It can't be undone, but for tokens.

    It can be stopped, with Ctrl-C or otherwise: run again, it goes on, and changes nothing that is done. What a hold or a
    legal floor keeps stays as it is, and is counted. Each session is an entry in the ledger: give your --reason.

    \b
    Examples:
      secmem redact apply --tenant acme --store support.secmem --reason "policy 4"
      secmem redact apply user_123 --tenant acme --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise BadUsage("nobody is there to be asked", "say --yes")
        what = "every conversation" if session_id is None else f"the conversation {visible(session_id)}"
        click.confirm(f"redact {what} of tenant {visible(tenant)} in place?", abort=True, err=True)
    with settings.opened() as store, console(err=True).status("redacting ...") as status:
        try:
            done = store.redact_apply(
                tenant=tenant,
                session_id=session_id,
                progress=lambda number, total: status.update(f"redacting: {number:,} of {total:,} sessions"),
            )
        except KeyboardInterrupt:
            say("stopped: what is redacted stays so, and the same command goes on from there", err=True)
            raise
    if settings.as_json:
        json_document(asdict(done))
        return
    say(f"redacted {counted(done.items, 'item')} in {done.changed:,} of {counted(done.sessions, 'session')}", bold=True)
    if done.kept:
        say(f"left as it is, for a hold or a floor: {counted(done.kept, 'item')}", err=True, fg="yellow")
    if done.entities:
        table(("entity", "findings"), list(done.entities.items()))
