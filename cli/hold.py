"""`secmem hold`: what may not be deleted, because a matter is open."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from secure_memory import clock
from secure_memory.cli.options import Group, Settings, tags_of
from secure_memory.cli.output import json_document, note, say, table
from secure_memory.cli.times import Time, shown

_TENANT = click.option("--tenant", default="default", show_default=True, help="The tenant whose data is held.")
_TIMES = ("placed", "since", "until", "released")


@click.group(cls=Group)
def hold() -> None:
    """Legal holds. What is held is kept, whatever a policy, an agent or an erasure request says; the agent no longer sees
    what it deleted.

    \b
    Example:
      secmem hold place M-14 --tenant acme --subject ana --reason "claim of 3 March"
    """


@hold.command()
@click.argument("matter")
@_TENANT
@click.option("--session", help="Only this conversation.")
@click.option("--subject", help="Only what is about this person.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="Only conversations tagged so. Can be repeated.")
@click.option("--since", type=Time(), help="Only what was said since then.")
@click.option("--until", type=Time(), help="Only what was said before then.")
@click.pass_obj
def place(settings: Settings, /, matter: str, tags: tuple[str, ...], **scope: Any) -> None:
    """Hold what matches everything given, or the whole tenant where nothing is. Give your --reason.

    \b
    Examples:
      secmem hold place M-14 --tenant acme --subject ana --reason "claim of 3 March"
      secmem hold place M-15 --tenant acme --tag record=phi --since 2026-01-01
    """
    with settings.opened() as store:
        made = store.hold_place(matter, tags=tags_of(tags), **scope)
    if settings.as_json:
        json_document(_as_json(made))
    else:
        say(f"placed hold {made.id} for matter {made.matter} on {_scope(made)} of tenant {made.tenant}")


@hold.command("list")
@click.option("--tenant", help="Only this tenant's; all, if left out.")
@click.option("--all", "released", is_flag=True, help="Those that were released, too.")
@click.pass_obj
def list_(settings: Settings, tenant: str | None, released: bool) -> None:
    """List the holds.

    \b
    Examples:
      secmem hold list --tenant acme
      secmem hold list --all --json
    """
    with settings.opened() as store:
        found = store.hold_list(tenant=tenant, released=released)
    if settings.as_json:
        json_document([_as_json(info) for info in found])
        return
    table(
        ("tenant", "hold", "matter", "on", "placed", "by", "reason", "released"),
        [
            (i.tenant, i.id, i.matter, _scope(i), shown(i.placed), i.placed_by, i.reason, _time(i.released, shown))
            for i in found
        ],
    )
    if not found:
        note("nothing is held")


@hold.command()
@click.argument("number", metavar="HOLD", type=click.IntRange(1))
@_TENANT
@click.pass_obj
def release(settings: Settings, number: int, tenant: str) -> None:
    """Release a hold. What was only kept for it goes with the next purge. Give your --reason.

    \b
    Example:
      secmem hold release 1 --tenant acme --reason "settled on 5 May"
    """
    with settings.opened() as store:
        done = store.hold_release(number, tenant=tenant)
    if settings.as_json:
        json_document(_as_json(done))
    else:
        say(f"released hold {done.id} of matter {done.matter}")


def _scope(info: Any) -> str:
    parts = [f"{name} {value}" for name, value in (("session", info.session), ("subject", info.subject)) if value]
    parts += [f"{name}={value}" for name, value in sorted(info.tags.items())]
    if info.since is not None:
        parts.append(f"since {shown(info.since)}")
    if info.until is not None:
        parts.append(f"before {shown(info.until)}")
    return ", ".join(parts) or "everything"


def _time(at: int | None, how: Any) -> str | None:
    return None if at is None else how(at)


def _as_json(info: Any) -> dict[str, Any]:
    return {**asdict(info), **{name: _time(getattr(info, name), clock.rfc3339) for name in _TIMES}}
