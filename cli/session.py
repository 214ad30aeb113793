"""`secmem session`: the conversations of a tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from secure_memory import clock
from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import json_document, note, say, table, visible
from secure_memory.cli.times import shown

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
@click.option("-n", "--limit", type=click.IntRange(0), default=50, show_default=True, help="How many; 0 is all.")
@click.pass_obj
def list_(settings: Settings, tenant: str, limit: int) -> None:
    """List a tenant's sessions, the newest first.

    \b
    Examples:
      secmem session list --store support.secmem --tenant acme
      secmem session list --tenant acme --limit 0 --json
    """
    with settings.opened() as store:
        found = store.session_list(tenant=tenant, limit=limit or None)
    if settings.as_json:
        json_document(
            [
                {**asdict(i), "created": clock.rfc3339(i.created), "last_activity": clock.rfc3339(i.last_activity)}  #
                for i in found
            ]
        )
        return
    table(
        ("session", "subject", "items", "turns", "created", "last activity"),
        [(i.name or i.uid, i.subject, i.items, i.turns, shown(i.created), shown(i.last_activity)) for i in found],
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
