"""`secmem purge`: what is due, planned and done."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory import clock
from secure_memory.cli import schedules
from secure_memory.cli.options import BadUsage, Command, Settings
from secure_memory.cli.output import console, json_document, say

_FILE = click.Path(path_type=Path, dir_okay=False)
_WORDS = {"deferred": "defer"}


@click.command(cls=Command)
@click.option("--tenant", help="Only this tenant; all, if left out.")
@click.option("--apply", is_flag=True, help="Do it. Without, nothing is changed.")
@click.option("--out", metavar="FILE", type=_FILE, help="Keep the plan, so that someone else can look at it and apply it.")
@click.option("--plan", metavar="FILE", type=_FILE, help="With --apply: do exactly what this plan says.")
@click.option(
    "--max-delete", metavar="LIMIT", help="With --apply: delete nothing in a tenant where more would go: 5%, 1000."
)
@click.option(
    "--max-clock-jump",
    metavar="PERIOD",
    default="P30D",
    show_default=True,
    help="How far the clock may stand past a ledger's last entry; `any` takes the clock as it is.",
)
@click.option(
    "--archive-to", metavar="DIR", type=click.Path(path_type=Path), help="Where archives go; the store, if left out."
)
@click.option(
    "--print-schedule",
    metavar="KIND",
    type=click.Choice(sorted(schedules.SCHEDULES)),
    help="Print a daily schedule to install: cron, systemd or k8s.",
)
@click.pass_obj
def purge(settings: Settings, /, print_schedule: str | None, **options: Any) -> None:
    """Plan what retention rules delete, redact and archive today; with --apply, do it.

    Legal holds and floors keep what they keep, and are looked at once more when it is deleted. A purge that was stopped is
    finished by the next one. For cron: `secmem purge --apply --max-delete 5%`, daily; never retry exit codes 3, 4 and 5.

    \b
    Examples:
      secmem purge
      secmem purge --out plan.json
      secmem purge --apply --plan plan.json
      secmem purge --apply --max-delete 5%
      secmem purge --print-schedule systemd
    """
    if print_schedule is not None:
        text = schedules.text(print_schedule, settings.store)
        json_document({"kind": print_schedule, "text": text}) if settings.as_json else click.echo(text, nl=False)
        return
    if options["plan"] is not None and not options["apply"]:
        raise BadUsage("a plan is looked at where it is made, and applied here", "add --apply, or leave --plan away")
    if options["max_delete"] is not None and not options["apply"]:
        raise BadUsage(
            "a limit stops what is applied, and nothing is applied here", "add --apply, or leave --max-delete away"
        )
    with settings.opened(on_reserve=True) as store, console(err=True).status("looking for what is due ...") as status:

        def progress(tenant: str, done: int, total: int) -> None:
            status.update(f"purging tenant {tenant}: {done:,} of {total:,} items")

        plan = store.purge(**options, progress=progress)
    if settings.as_json:
        json_document(_as_json(plan))
    else:
        _tell(plan)


def _tell(plan: Any) -> None:
    say(
        f"policy {plan.policy} v{plan.version} sha256:{plan.sha256[:12]}   as of {clock.rfc3339(plan.as_of)[:19]}Z",
        bold=True,
    )
    rows = [(one.tenant, line) for one in plan.tenants for line in one.lines]
    several = len({tenant for tenant, _ in rows}) > 1
    cells = [
        (
            f"{line.sign} {_WORDS.get(line.state, line.state)}",
            _count(line.items, "item") if line.state != "prune" else _count(line.items, "entry", "entries"),
            _count(line.sessions, "session") if line.state != "prune" else "of the ledger",
            *([tenant] if several else []),
            line.by,
            _remark(line),
        )
        for tenant, line in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        state, items, sessions, *rest = row
        texts = [state.ljust(widths[0]), items.rjust(widths[1]), sessions.rjust(widths[2])]
        texts += [text.ljust(width) for text, width in zip(rest, widths[3:], strict=True)]
        say("  ".join(texts).rstrip(), fg={"-": "red", ">": "magenta", "~": "yellow"}.get(state[0]))
    say(_summary(plan))
    if plan.done is not None:
        _tell_done(plan.done)


def _remark(line: Any) -> str:
    """The law, and what is to be known besides."""
    said = [line.law or ""]
    if line.until is not None:
        said.append(f"until {clock.rfc3339(line.until)[:10]}")
    if line.paired:
        said.append(f"{line.paired:,} to keep call/output pairs")
    return ", ".join(filter(None, said))


def _summary(plan: Any) -> str:
    states = ("delete", "redact", "archive", "prune", "deferred", "held", "conflict", "unmatched")
    counts = [(plan.count(state), state) for state in states]
    said = ", ".join(f"{count:,} {state}" for count, state in counts if count) or "nothing is due"
    return f"{said}; {plan.overdue:,} overdue before this run"


def _tell_done(done: Any) -> None:
    words = [
        (done.deleted, "deleted"),
        (done.redacted, "redacted"),
        (done.archived, "archived"),
        (done.pruned, "entries pruned"),
    ]
    said = ", ".join(f"{count:,} {word}" for count, word in words if count) or "nothing was due"
    say(f"done: {said}, in {_count(done.sessions, 'session')}; {done.freed:,} bytes freed", bold=True)
    for file in done.archives:
        say(f"archive {file}")
    if done.passed_over:
        say(f"{_count(done.passed_over, 'session')} changed since the plan: left for the next one")


def _count(number: int, word: str, many: str | None = None) -> str:
    return f"{number:,} {word if number == 1 else many or word + 's'}"


def _as_json(plan: Any) -> dict[str, Any]:
    """The plan, with times as texts and without what only its file needs."""
    said = asdict(plan)
    for one in said["tenants"]:
        del one["units"]
        one["lines"] = [{**line, "until": line["until"] and clock.rfc3339(line["until"])} for line in one["lines"]]
    return {**said, "as_of": clock.rfc3339(plan.as_of), "overdue": plan.overdue}
