"""`secmem init`: make a store."""

from __future__ import annotations

from pathlib import Path

import click

from secure_memory.cli.options import Command, Settings
from secure_memory.cli.output import json_document, say


@click.command(cls=Command)
@click.option("--policy", metavar="NAME|FILE", help="What governs it: a pack or a file; the baseline, if left out.")
@click.pass_obj
def init(settings: Settings, policy: str | None) -> None:
    """Make a store, and its key if there is none.

    The store is a directory that doesn't exist yet. Its key is the one of --key-file, SECMEM_KEY, SECMEM_KEY_FILE or
    this user's configuration, in this order; where that is a file that doesn't exist, it is made. Keep the anchors where
    whoever can write the store can't: they are what reveals that a store was put back to an older copy.

    \b
    Examples:
      secmem init --store support.secmem
      secmem init --store clinic.secmem --policy gdpr
      secmem init --store /data/support.secmem --key-file /etc/secmem/key --anchor /anchors
    """
    with settings.opened(create=True, policy=policy) as store:
        anchor_files = [report.path for report in store.audit_anchor()]
        anchors = next((str(Path(path).parents[1]) for path in anchor_files if path), None)
        made = {"store": str(store.path), "key": store.key_place, "key_made": store.key_made, "anchors": anchors}
    if settings.as_json:
        json_document(made)
        return
    say(f"made the store  {made['store']}")
    say(f"its key is in   {made['key']}{', made just now' if store.key_made else ''}")
    say(f"its anchors in  {anchors or 'no place: it has none'}")
    say("")
    say("Back this key up, away from the store's own backups: losing it loses everything in the store.", bold=True)
