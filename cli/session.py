"""`secmem session`: the conversations of a tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory import clock
from secure_memory.cli import erase as erasing
from secure_memory.cli.options import BadUsage, Group, Settings, tags_of
from secure_memory.cli.output import json_document, note, say, table, visible
from secure_memory.cli.times import Time, shown

_TENANT = click.option("--tenant", default="default", show_default=True, help="The tenant whose sessions.")
_COLORS = {"user": "green", "assistant": "blue", "system": "magenta", "developer": "magenta"}
"""Of the roles; tools are yellow."""


@click.group(cls=Group)
def session() -> None:
    """The conversations of a tenant. Looking at them is itself in the ledger.

    \b
    Example:
      secmem session show user_123 --tenant acme --reason "ticket 4711"
    """


@session.command("list")
@_TENANT
@click.option("--subject", help="Only those about this person.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="Only those tagged so. Can be repeated.")
@click.option("--since", type=Time(), help="Only those active since then: 2026-11-22, 24h, 7d.")
@click.option("--until", type=Time(), help="Only those last active before then.")
@click.option("-n", "--limit", type=click.IntRange(0), default=50, show_default=True, help="How many; 0 is all.")
@click.pass_obj
def list_(
    settings: Settings,
    tenant: str,
    subject: str | None,
    tags: tuple[str, ...],
    since: int | None,
    until: int | None,
    limit: int,
) -> None:
    """List a tenant's sessions, the newest first.

    \b
    Examples:
      secmem session list --store support.secmem --tenant acme
      secmem session list --tenant acme --subject ana --since 30d
      secmem session list --tenant acme --tag record=phi --limit 0 --json
    """
    wanted = tags_of(tags)
    with settings.opened() as store:
        found = store.sessions(tenant=tenant, subject=subject, tags=wanted, since=since, until=until, limit=limit or None)
    if settings.as_json:
        json_document([_as_json(info) for info in found])
        return
    table(
        ("session", "subject", "items", "turns", "created", "last activity", "tags"),
        [
            (i.name or i.uid, i.subject, i.items, i.turns, shown(i.created), shown(i.last_activity), _tags_of(i))
            for i in found
        ],
    )
    if limit and len(found) == limit:
        note(f"the newest {limit}; --limit 0 shows all")


@session.command()
@click.argument("session_id", metavar="SESSION")
@_TENANT
@click.option("-n", "--limit", type=click.IntRange(0), default=0, help="Only so many of the newest items.")
@click.pass_obj
def show(settings: Settings, session_id: str, tenant: str, limit: int) -> None:
    """Show a conversation. It is proven first, and reading it is an entry in the ledger: give your --reason.

    Control characters are shown escaped; --json has the items exactly as they are stored.

    \b
    Examples:
      secmem session show user_123 --tenant acme --reason "ticket 4711"
      secmem session show user_123 --limit 10 --json
    """
    with settings.opened() as store:
        items = store.session_show(session_id, tenant=tenant, limit=limit or None)
    print_items(settings, items)


@session.command()
@click.argument("session_id", metavar="SESSION")
@_TENANT
@click.option("-n", "--limit", type=click.IntRange(0), default=0, help="Only so many of the newest items.")
@click.pass_obj
def review(settings: Settings, session_id: str, tenant: str, limit: int) -> None:
    """Look into a conversation as a supervisor. It wants a --purpose, and is an entry of its own in the ledger.

    \b
    Example:
      secmem session review user_123 --tenant acme --purpose quality --reason "ticket 4711"
    """
    if settings.purpose is None:
        raise BadUsage("a review needs a purpose", 'say it with --purpose, such as --purpose "quality assurance"')
    with settings.opened() as store:
        items = store.review(session_id, tenant=tenant, purpose=settings.purpose, limit=limit or None)
    print_items(settings, items)


@session.command()
@click.argument("session_id", metavar="SESSION")
@_TENANT
@erasing.options
@click.pass_obj
def erase(settings: Settings, /, session_id: str, tenant: str, yes: bool, certificate: Path | None) -> None:
    """Erase one conversation: its key is destroyed, what it sealed is deleted, and a certificate says so.

    As `subject erase`, which erases all of a person's.

    \b
    Example:
      secmem session erase user_123 --tenant acme --reason "sent to the wrong desk" --certificate erased.json
    """
    erasing.refuse_existing(certificate)
    erasing.confirm(f"the conversation {session_id!r} of tenant {tenant!r}", session_id, yes=yes)
    with settings.opened(on_reserve=True) as store:
        report = store.session_erase(session_id, tenant=tenant)
    erasing.tell(settings, report, certificate)


@session.command()
@click.argument("token")
@_TENANT
@click.pass_obj
def reveal(settings: Settings, token: str, tenant: str) -> None:
    """Show what a token stands for. It wants a --reason, and is an entry of its own in the ledger.

    \b
    Example:
      secmem session reveal CARD_NUMBER_mhg2l755wxnxlwe3 --tenant acme --reason "refund 4711"
    """
    with settings.opened() as store:
        text = store.reveal(token, tenant=tenant)
    if settings.as_json:
        json_document({"token": token, "text": text})
    else:
        say(text)


def print_items(settings: Settings, items: Sequence[Mapping[str, Any]]) -> None:
    """Print a conversation: for a person, or as it is stored with `--json`."""
    if settings.as_json:
        json_document(items)
        return
    for item in items:
        # The head of an item starts its line and its text doesn't, so that no text can pass for another item.
        say(head_of(item), fg=_COLORS.get(str(item.get("role")), "yellow"), bold=True)
        for line in text_of(item).split("\n"):
            click.echo(f"  {visible(line, keep=chr(9))}")
    if not items:
        note("this session has no items")


def _tags_of(info: Any) -> str | None:
    return ", ".join(f"{name}={value}" for name, value in sorted(info.tags.items())) or None


def _as_json(info: Any) -> dict[str, Any]:
    times = {name: getattr(info, name) for name in ("created", "last_activity", "ended")}
    return {**asdict(info), **{name: None if at is None else clock.rfc3339(at) for name, at in times.items()}}


def head_of(item: Mapping[str, Any]) -> str:
    """Who says it, or what it is: "user", "function_call create_ticket"."""
    parts = (item.get("role") or item.get("type", "item"), item.get("name"))
    return " ".join(str(part) for part in parts if part)


def text_of(item: Mapping[str, Any]) -> str:
    """What it says: the content, the arguments or the output. All of the item, as JSON, where it has none of these."""
    for field in ("content", "arguments", "output", "summary"):
        if item.get(field):
            return _text(item[field])
    return json.dumps(item, ensure_ascii=False)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_text(part) for part in value)
    if isinstance(value, dict):
        for field in ("text", "refusal", "transcript"):
            if isinstance(value.get(field), str):
                return str(value[field])
    return json.dumps(value, ensure_ascii=False)
