"""`secmem doctor`: what is wrong on this machine or with a store, and what mends it."""

from __future__ import annotations

from dataclasses import asdict

import click

from secure_memory.cli.options import Command, Settings
from secure_memory.cli.output import json_document, say, table


@click.command(cls=Command)
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check this machine and a store, and say what to mend.

    Looks at versions, where the key is and who can read it, the anchors, the schema, and the disk. Exits with 1 where
    something has to be mended.

    \b
    Examples:
      secmem doctor
      secmem doctor --store support.secmem
    """
    from secure_memory import acting_as
    from secure_memory.doctor import examine

    settings: Settings = ctx.obj
    with acting_as(settings.who()):
        report = examine(settings.store, settings.key_file, settings.anchor)
    if settings.as_json:
        json_document({"ok": report.ok, "checks": [asdict(check) for check in report.checks]})
    else:
        table(("state", "check", "says"), [(check.state, check.name, check.says) for check in report.checks])
        for check in report.checks:
            if check.mend:
                say(f"{check.name}: {check.mend}", fg="red" if check.state == "fail" else "yellow")
        say("nothing has to be mended" if report.ok else "mend what failed, then look again", bold=True)
    ctx.exit(0 if report.ok else 1)
