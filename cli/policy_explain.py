"""`secmem policy explain`: what happens to an item, when, why, and by which rule and law."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from secure_memory import clock
from secure_memory.cli.options import BadUsage, Command, Settings
from secure_memory.cli.output import json_document, say, table
from secure_memory.cli.times import Time, shown

if TYPE_CHECKING:
    from secure_memory.rulebook import Explained

_KINDS = ("message", "tool_call", "tool_output", "reasoning", "approval", "compaction", "other", "audit_entry")


@click.command(cls=Command)
@click.argument("source", required=False)
@click.option("--kind", type=click.Choice(_KINDS), default="message", show_default=True, help="What the item is.")
@click.option("--item-role", default="", help="The item's role: user, assistant. (--role is whoever runs this.)")
@click.option("--tool", default="", help="The tool that it calls, or that answered.")
@click.option("--tenant", default="default", show_default=True, help="The tenant.")
@click.option("--tag", "tags", metavar="NAME=VALUE", multiple=True, help="A tag of its session. Can be repeated.")
@click.option("--created", type=Time(), help="When it was added: RFC 3339, a date, or how long ago (24h, 7d); now.")
@click.option("--session-created", type=Time(), help="When its session began; when it was added.")
@click.option("--last-activity", type=Time(), help="When its session was last added to; when it was added.")
@click.option("--ended", type=Time(), help="When its session was ended, if it was.")
@click.option("--held-by", metavar="MATTER", multiple=True, help="A legal hold on it. Can be repeated.")
@click.option("--erasure", type=Time(), help="When its subject asked to be erased, if so.")
@click.option("--session", help="A conversation of the store, in place of a described item: each of its items.")
@click.option("--as-of", type=Time(), help="As of when; now.")
@click.pass_obj
def explain(settings: Settings, /, source: str | None, **given: Any) -> None:
    """Explain what happens to an item, when, why, and by which rule and law. The item is described by the options; or
    --session names a conversation of the store, and holds and erasure requests count as they are.

    \b
    Examples:
      secmem policy explain hipaa --kind message --tag record=phi --created 2026-01-01
      secmem policy explain --store support.secmem --tenant acme --created 90d
      secmem policy explain --store support.secmem --tenant acme --session user_123
    """
    if given["session"] is not None:
        _explain_session(settings, source, given)
        return
    from secure_memory import rulebook

    created = clock.now() if given["created"] is None else given["created"]
    facts = rulebook.Facts(
        kind=given["kind"],
        tenant=given["tenant"],
        created=created,
        session_created=created if given["session_created"] is None else given["session_created"],
        last_activity=created if given["last_activity"] is None else given["last_activity"],
        role=given["item_role"],
        tool=given["tool"],
        tags=dict(_tag(text) for text in given["tags"]),
        ended=given["ended"],
        holds=given["held_by"],
        erasure=given["erasure"],
    )
    now = clock.now() if given["as_of"] is None else given["as_of"]
    explained = rulebook.explain(policy_of(settings, source), facts, now)
    if settings.as_json:
        json_document(_with_times(asdict(explained)))
    else:
        _print_explained(explained)


def _explain_session(settings: Settings, source: str | None, given: dict[str, Any]) -> None:
    if source is not None:
        raise BadUsage("--session is about the policy in force", "leave out the source, or describe an item in its place")
    with settings.opened() as store:
        explained = store.policy_explain(given["session"], tenant=given["tenant"], as_of=given["as_of"])
    if settings.as_json:
        json_document(_with_times(asdict(explained)))
        return
    rows = [
        (each.kind, each.items, shown(each.first), each.state, each.action, _time(each.at), each.done, each.why)
        for each in explained.items
    ]
    table(("kind", "items", "since", "state", "action", "at", "now", "why"), rows)
    say(f"by policy {explained.policy} sha256:{explained.sha256[:12]}", dim=True)


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.BadParameter(f"{text!r} is no tag: write NAME=VALUE, as in record=phi", param_hint="--tag")
    return name, value


def _with_times(value: Any) -> Any:
    """Times as RFC 3339, wherever they are."""
    if isinstance(value, dict):
        times = {"at", "due", "keep_until", "first", "last", "as_of"}
        return {k: clock.rfc3339(v) if k in times and isinstance(v, int) else _with_times(v) for k, v in value.items()}
    return [_with_times(each) for each in value] if isinstance(value, list | tuple) else value


def _print_explained(explained: Explained) -> None:
    outcome = explained.outcome
    say(outcome.why if outcome.why.startswith(outcome.state) else f"{outcome.state}: {outcome.why}", bold=True)
    if outcome.action and outcome.at is not None:
        say(f"{outcome.action} at {shown(outcome.at)}")
    if explained.rules:
        table(
            ("rule", "says", "begins with", "keeps until", "due", "mark", "law"),
            [(r.id, r.says, r.begins, _time(r.keep_until), _time(r.due), r.mark, r.law) for r in explained.rules],
        )
    for rule in explained.rules:
        if rule.note:
            say(f"{rule.id}: {rule.note}")
    say(f"by policy {explained.policy} sha256:{explained.sha256[:12]}", dim=True)


def _time(us: int | None) -> str | None:
    return None if us is None else shown(us)


def policy_of(settings: Settings, source: str | None) -> Any:
    """The policy of a source, or the one in force in the store."""
    if source is not None:
        from secure_memory import rulebook

        return rulebook.read(source).policy
    with settings.opened() as store:
        return store.policy_in_force()
