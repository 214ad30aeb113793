"""`secmem audit`: the ledger. Who did what, whether it is whole, and its anchors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from secure_memory.cli.options import BadUsage, Group, Settings
from secure_memory.cli.output import Lines, console, json_document, json_line, note, on_terminal, say, table
from secure_memory.cli.times import Time, shown

_COLUMNS = ("time", "tenant", "actor", "action", "session", "subject", "items", "outcome")
_WIDTHS = (20, 10, 20, 16, 16, 16, 5, 7)
"""Of a log that is followed, whose rows are not known when the first is printed."""


@click.group(cls=Group)
def audit() -> None:
    """The ledger: who did what, whether it is whole, and its anchors. Reading it is in the ledger too.

    \b
    Example:
      secmem audit verify --store support.secmem
    """


@audit.command()
@click.option("--since", type=Time(), help="From this time on: RFC 3339, a date, or how long ago (30m, 24h, 7d).")
@click.option("--until", type=Time(), help="Before this time.")
@click.option("--tenant", help="Of this tenant's ledger alone; the store's own is called '(system)'.")
@click.option("--session", help="Of this session: its name, or its uid.")
@click.option("--subject", help="Of this data subject: its name, or its uid.")
@click.option("--who", metavar="ACTOR", help="By this actor. (--actor is who runs this command.)")
@click.option("--action", help="This action, or all of one noun: session.read, 'session.*'.")
@click.option("--outcome", type=click.Choice(["ok", "denied", "failed"]), help="With this outcome.")
@click.option("-n", "--limit", type=click.IntRange(0), help="How many of the newest; 0 is all.  [default: 50]")
@click.option("-f", "--follow", is_flag=True, help="Show entries as they are written, from now on, until Ctrl-C.")
@click.pass_obj
def log(
    settings: Settings,
    /,
    since: int | None,
    until: int | None,
    limit: int | None,
    follow: bool,
    who: str | None,
    **wanted: str | None,
) -> None:
    """Show who did what. With --json, one object a line.

    \b
    Examples:
      secmem audit log --tenant acme --since 24h
      secmem audit log --subject ana@example.com --action 'session.*' --limit 0
      secmem audit log --outcome denied --json | jq .actor
      secmem audit log --follow
    """
    if not follow:
        most = 50 if limit is None else limit or None
        with settings.opened(on_reserve=True) as store:
            records = store.audit_log(since=since, until=until, actor=who, limit=most, **wanted)
        if settings.as_json:
            for record in records:
                json_line(record.to_json())
            return
        table(_COLUMNS, map(_cells, records))
        if most and len(records) == most:
            note(f"the newest {most}; --limit 0 shows all")
        return
    if not (since is until is limit is None):
        raise BadUsage(
            "--follow shows what is written from now on: --since, --until and --limit don't go with it",
            "run `secmem audit log` without --follow for what was written before",
        )
    with settings.opened() as store:
        lines = Lines(_COLUMNS, _WIDTHS)
        try:
            if not settings.as_json:
                lines.header()
            for record in store.audit_follow(actor=who, **wanted):
                if settings.as_json:
                    json_line(record.to_json())
                else:
                    lines.row(_cells(record))
        except KeyboardInterrupt:
            pass  # the way to end it: nothing is wrong, and the store closes as ever


def _cells(record: Any) -> tuple[str | int | None, ...]:
    """A row of a `LogRecord`. Where a name is gone, or there never was one, its uid stands in its place."""
    entry = record.entry
    # An actor who is the data subject is in the ledger by uid only, so that erasing the subject reaches it.
    own = record.subject_name is not None and entry.actor == f"subject:{entry.subject}"
    return (
        shown(entry.time),
        record.tenant_name,
        f"{record.subject_name} (the subject)" if own else entry.actor,
        entry.action,
        record.session_name or entry.session,
        record.subject_name or entry.subject,
        entry.items,
        entry.outcome,
    )


@audit.command()
@click.option("--tenant", help="This tenant alone; the store's own vault is called '(system)'.")
@click.pass_obj
def verify(settings: Settings, tenant: str | None) -> None:
    """Check everything: every entry, hash, MAC, session, item and anchor. Names the first thing that is wrong.

    Exits with 3 where something was tampered with, and with 4 where the store is older than its anchors know.

    \b
    Examples:
      secmem audit verify --store support.secmem
      secmem audit verify --tenant acme --anchor /anchors --anchor-required
    """
    with settings.opened(on_reserve=True) as store, console(err=True).status("verifying ...") as status:

        def progress(name: str, entries: int) -> None:
            status.update(f"verifying {name}: {entries:,} entries")

        reports = store.audit_verify(tenant=tenant, progress=progress)
    if settings.as_json:
        json_document([asdict(report) for report in reports])
        return
    short = 16 if on_terminal() else None
    table(
        ("tenant", "entries", "sessions", "items", "root", "anchor"),
        [(r.tenant, r.entries, r.sessions, r.items, r.root[:short], r.anchor) for r in reports],
    )
    entries, sessions, items = (sum(getattr(r, name) for r in reports) for name in ("entries", "sessions", "items"))
    say(
        f"everything verifies: {_count(entries, 'entry', 'entries')}, {_count(sessions, 'session')} and "
        f"{_count(items, 'item')} in {_count(len(reports), 'vault')} are exactly what was written, in order, with nothing "
        "missing and nothing added",
        fg="green",
        bold=True,
    )
    without = sum(report.anchor != "ok" for report in reports)
    if without:
        say(
            f"but {_count(without, 'vault')} had no anchor to compare with: that the store was not put back to an older "
            "copy can't be said",
            fg="yellow",
        )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


@audit.command()
@click.option("--tenant", help="This tenant alone; the store's own vault is called '(system)'.")
@click.option("--init", "begin", is_flag=True, help="Begin anchors anew at the present heads: verify the store first.")
@click.pass_obj
def anchor(settings: Settings, tenant: str | None, begin: bool) -> None:
    """Show what is known of each ledger outside the store, or begin that anew.

    An anchor is the newest head of a ledger, kept where the store's files are not: a store that is older than its anchor
    was put back. What was seen was committed; what is durable survives a power cut too. Beginning an anchor anew is an
    audit.gap entry, so give your --reason.

    \b
    Examples:
      secmem audit anchor --store support.secmem
      secmem audit anchor --init --reason "new anchor volume, verified before"
    """
    with settings.opened(on_reserve=True) as store:
        reports = store.audit_anchor(tenant=tenant, begin=begin)
    if settings.as_json:
        json_document([asdict(report) for report in reports])
        return
    table(
        ("tenant", "state", "entries", "seen", "durable", "file"),
        [(r.tenant, r.state, r.entries, r.seen, r.durable, r.path) for r in reports],
    )
    if begin:
        say(f"begun anew: {_count(len(reports), 'anchor')}, each with an audit.gap entry")
