"""`secmem archive`: files that a purge wrote, checked and read back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory import clock
from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import counted, json_document, json_line, say

_FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))


@click.group(cls=Group)
def archive() -> None:
    """What retention rules archived: files that are encrypted under the store's archive key, and end when they are deleted.

    \b
    Example:
      secmem archive verify support.secmem/archives/0f3a9c11-5c1e.secmem-archive
    """


@archive.command()
@_FILE
@click.pass_obj
def verify(settings: Settings, file: Path) -> None:
    """Check that an archive is whole and as it was written.

    \b
    Example:
      secmem archive verify support.secmem/archives/0f3a9c11-5c1e.secmem-archive
    """
    with settings.opened() as store:
        found = store.archive_verify(file)
    if settings.as_json:
        json_document(asdict(found))
    else:
        say(f"ok: {counted(found.items, 'item')} of {counted(found.sessions, 'session')}, sha256:{found.sha256}")


@archive.command()
@_FILE
@click.pass_obj
def read(settings: Settings, file: Path) -> None:
    """Print what an archive holds, one item a line, as JSON. Whoever may export a subject's data may read it.

    \b
    Example:
      secmem archive read support.secmem/archives/0f3a9c11-5c1e.secmem-archive > records.jsonl
    """
    with settings.opened() as store:
        found = store.archive_read(file)
    for one in found:
        json_line(_as_json(one))


def _as_json(one: Any) -> dict[str, Any]:
    said = {name: getattr(one, name) for name in ("tenant", "session", "subject", "uid", "turn", "kind", "item")}
    return {**said, "tags": dict(one.tags), "created": clock.rfc3339(one.created)}
