"""`secmem demo`: a support desk that remembers, encrypted and audited, and every word of it checked.

The story is in `demo_story`, and each of its days runs in a process of its own (`demo_day`); the desk is
`secure_memory.examples.support_desk`. Here it is told: each section does something, and says what that proves as claims.
A claim is printed with the outcome of checking it, and one that does not hold makes the command fail.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from secure_memory.cli.demo_page import Page
from secure_memory.cli.options import BadUsage, Settings
from secure_memory.cli.output import table

if TYPE_CHECKING:
    from secure_memory.cli.demo_story import Place, Turn

TENANT = "acme"


@click.command()
@click.option("--live", is_flag=True, help="Use your OpenAI model (OPENAI_API_KEY) instead of a local stand-in.")
@click.option(
    "--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the files, in a directory that is empty or new."
)
def demo(*, live: bool, keep: Path | None) -> None:
    """See it work: a support desk that remembers, encrypted and audited.

    It takes some seconds, needs no key and no network, and leaves nothing behind. Exit code 0 means that every claim it
    makes was checked and holds.

    \b
    Examples:
      secmem demo
      secmem demo --keep /tmp/desk
    """
    from secure_memory import acting_as

    if live and not os.environ.get("OPENAI_API_KEY"):
        raise BadUsage("--live needs an OpenAI model", "set OPENAI_API_KEY, or leave --live away")
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise BadUsage(f"there is something at {keep} already", "name a directory that is empty or new")
    if keep is not None:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)

    from secure_memory.cli.demo_story import Place

    page, started = Page(), time.monotonic()
    kept = nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="secmem-demo-")
    with kept as directory, acting_as(Settings().who()):
        tell(page, Place(Path(directory).absolute()), live=live)
        what_next(page, Place(Path(directory).absolute()) if keep else None)
    page.gap()
    seconds = time.monotonic() - started
    if page.failed:
        page.paragraph(f"{page.failed} of {page.checked} claims do NOT hold ({seconds:.1f} s).")
        raise SystemExit(1)
    page.paragraph(f"{page.checked} claims, each of them checked just now ({seconds:.1f} s).")
