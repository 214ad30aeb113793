"""`secmem certificate`: whether a certificate of erasure is true, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import click

from secure_memory.cli.options import Command, Settings
from secure_memory.cli.output import json_document, say


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def certificate(settings: Settings, /, file: Path) -> None:
    """Check a certificate of erasure, and show what it says.

    Without a store, that nothing in it was changed since it was signed; with --store, also that this store signed it.

    \b
    Examples:
      secmem certificate ana.json
      secmem certificate ana.json --store support.secmem
    """
    from secure_memory import Certificate  # here: it loads the driver, which `--help` doesn't need

    if settings.store is None:
        found = Certificate.read(file)
    else:
        with settings.opened() as store:
            found = store.certificate_verify(file)
    if settings.as_json:
        json_document({"valid": True, "store_checked": settings.store is not None, **json.loads(found.to_json())})
        return
    for line in found.text().split("\n"):
        say(line)
    whose = "this store signed it" if settings.store is not None else "whose key signed it was not checked: name the --store"
    say(f"\nThe signature is right; {whose}.", keep="\n", bold=True)
