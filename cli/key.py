"""`secmem key`: replacing keys while the store is in use."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import counted, json_document, note, say


@click.group(cls=Group)
def key() -> None:
    """The keys of a store. They can be replaced while it is in use.

    \b
    Example:
      secmem key rotate --new-key --reason "yearly rotation"
    """


@key.command()
@click.option("--epoch", is_flag=True, help="Draw a new store root: backups of the keyring from before go dark.")
@click.option("--vault", metavar="TENANT", help="Replace the key of this tenant's file.")
@click.option("--subject", metavar="NAME", help="Replace the keys of this person and seal everything of hers anew.")
@click.option("--tenant", default="default", show_default=True, help="The tenant whose subject.")
@click.option("--new-key", is_flag=True, help="Make a new key in the key file first. In SECMEM_KEY, put it first yourself.")
@click.option("--destroy-old", is_flag=True, help="Destroy every key but the newest in the key file afterwards.")
@click.pass_obj
def rotate(settings: Settings, /, **what: Any) -> None:
    """Replace one key: the KEK, which wraps the store root, if nothing else is said. Give your --reason.

    Agents and other commands may go on meanwhile. Interrupted, run it again: it goes on where it stopped. After a rotation
    of the KEK back the key file up, before --destroy-old, and keep it apart from the store's backups.

    \b
    Examples:
      secmem key rotate --new-key --reason "yearly rotation"
      secmem key rotate --destroy-old
      secmem key rotate --epoch --new-key --reason "after the erasures of March"
      secmem key rotate --vault acme
      secmem key rotate --subject ana@example.com --tenant acme
    """
    with settings.opened() as store:
        report = store.key_rotate(**what)
    if settings.as_json:
        json_document(asdict(report))
        return
    if report.what == "vault":
        say(f"the file of tenant {what['vault']} is under version {report.version} of its key")
    elif report.what == "subject":
        say(
            f"sealed anew: {counted(report.sessions, 'session')} with {counted(report.items, 'item')}, under version"
            f" {report.version} of the subject's key"
        )
    else:
        say(f"the {'new ' if report.what == 'epoch' else ''}store root is wrapped by key {report.kek}")
        for version in report.destroyed:
            say(f"destroyed key {version}")
        if report.what == "epoch" and not report.destroyed:
            say("the key before it can't be destroyed from here: remove it wherever it is set and kept", fg="yellow")
    note("every copy of an old key has to go before what it wraps is dark: see docs/erasure.md")
