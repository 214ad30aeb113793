"""`secmem access`: who may do what."""

from __future__ import annotations

from dataclasses import asdict

import click

from secure_memory import Actor
from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import json_document, say


@click.group(cls=Group)
def access() -> None:
    """Who may do what, by the policy in force.

    \b
    Example:
      secmem access check user:maria@example.com session.review --store support.secmem
    """


@access.command()
@click.argument("who", metavar="ACTOR")
@click.argument("action")
@click.pass_context
def check(ctx: click.Context, who: str, action: str) -> None:
    """Explain whether ACTOR may do ACTION: by which role, and if not, what it needs. Nothing is done.

    The options --role, --purpose and --reason are the actor's. Exits with 6 where it may not.

    \b
    Examples:
      secmem access check user:maria@example.com session.review --purpose quality
      secmem access check service:api session.append --role agent
    """
    settings: Settings = ctx.obj
    with settings.opened() as store:
        asked = Actor(who, settings.roles, settings.purpose, settings.reason)
        found = store.access_check(asked, action)
    if settings.as_json:
        json_document({"actor": who, "action": action, **asdict(found)})
    elif found.allowed:
        say(f"yes: {found.why}" + (", and sees it masked" if found.view == "masked" else ""), fg="green")
    else:
        say(f"no: {found.why}", fg="yellow")
        say(f"needed: {found.needed}")
    ctx.exit(0 if found.allowed else 6)
