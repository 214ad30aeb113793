"""`secmem tenant`: the tenants of a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from secure_memory import clock
from secure_memory.cli import erase as erasing
from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import json_document, say, table
from secure_memory.cli.times import shown


@click.group(cls=Group)
def tenant() -> None:
    """The tenants of a store. Each has its own keys, its own file and its own ledger.

    \b
    Example:
      secmem tenant list --store support.secmem
    """


@tenant.command()
@click.argument("name")
@click.pass_obj
def create(settings: Settings, name: str) -> None:
    """Make a tenant, with its keys and its vault.

    \b
    Example:
      secmem tenant create acme --store support.secmem
    """
    with settings.opened() as store:
        made = store.tenant_create(name)
    if settings.as_json:
        json_document({**asdict(made), "created": clock.rfc3339(made.created)})
    else:
        say(f"made tenant {made.name}")


@tenant.command()
@click.argument("name", metavar="TENANT")
@erasing.options
@click.pass_obj
def erase(settings: Settings, /, name: str, yes: bool, certificate: Path | None) -> None:
    """Erase a tenant: its ledger is archived, its keys are destroyed, its file is removed, and a certificate says so.

    Where a legal hold or a law keeps any of it, nothing is done (exit code 8). The name stays taken. Interrupted, run it
    again.

    \b
    Example:
      secmem tenant erase acme --reason "contract ended" --certificate acme.json
    """
    erasing.refuse_existing(certificate)
    erasing.confirm(f"tenant {name!r}, with everything in it", name, yes=yes)
    with settings.opened() as store:
        report = store.tenant_erase(name)
    erasing.tell(settings, report, certificate)


@tenant.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the tenants, by name.

    \b
    Examples:
      secmem tenant list --store support.secmem
      secmem tenant list --json
    """
    with settings.opened() as store:
        found = store.tenant_list()
    if settings.as_json:
        json_document([{**asdict(info), "created": clock.rfc3339(info.created)} for info in found])
    else:
        table(("tenant", "state", "created", "uid"), [(i.name, i.state, shown(i.created), i.uid) for i in found])
