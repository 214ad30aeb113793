"""`secmem policy`: what a store is told to do, read, checked, explained, compared, tried and put in force."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from secure_memory import PolicyError
from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import counted, json_document, say, table
from secure_memory.cli.policy_explain import explain, policy_of

if TYPE_CHECKING:
    from secure_memory.rulebook import Change

_COLOURS = {"weaker": "yellow", "stricter": "green"}


@click.group(cls=Group)
def policy() -> None:
    """What a store is told to do: redaction, retention, access and audit, in one YAML file.

    A SOURCE is a pack that ships with secure-memory (`secmem policy list`) or a file. Only `apply`, and what is asked about
    the policy in force, needs a store.

    \b
    Example:
      secmem policy check clinic.yaml
    """


policy.add_command(explain)


@policy.command("list")
@click.pass_obj
def list_(settings: Settings, /) -> None:
    """List the packs: policies to start from, and the laws that they cite.

    \b
    Example:
      secmem policy list
    """
    from secure_memory import rulebook

    found = rulebook.packs()
    if settings.as_json:
        json_document([asdict(pack) for pack in found])
    else:
        table(
            ("pack", "version", "extends", "cites"),
            [(p.name, p.version, ", ".join(p.extends), "; ".join(p.laws)) for p in found],
        )


@policy.command()
@click.argument("source", required=False)
@click.pass_obj
def show(settings: Settings, /, source: str | None) -> None:
    """Show a policy, whole: what it extends is merged in. Without SOURCE, the one in force in the store.

    \b
    Examples:
      secmem policy show gdpr
      secmem policy show --store support.secmem --json
    """
    from secure_memory import rulebook

    whole = policy_of(settings, source)
    if settings.as_json:
        json_document({"sha256": whole.digest, "policy": whole.model_dump(mode="json", by_alias=True, exclude_none=True)})
        return
    say(f"policy {whole.metadata.name} v{whole.metadata.version} sha256:{whole.digest}", bold=True)
    for label, text in (
        ("extends", ", ".join(whole.extends)),
        ("owner", whole.metadata.owner),
        ("about", whole.metadata.description),
    ):
        if text:
            say(f"{label}: {text}")
    rows = [(f"{rule.section}", rule.id, rule.says, rule.mark, rule.law) for rule in rulebook.rules(whole)]
    table(("section", "rule", "says", "mark", "law"), rows)
    access = whole.access
    members = {name: sorted(who for who, names in access.members.items() if name in names) for name in access.roles}
    table(
        ("role", "allows", "view", "requires", "members"),
        [
            (name, ", ".join(role.allow), role.view, ", ".join(role.require), ", ".join(members[name]))
            for name, role in access.roles.items()
        ],
    )
    retention = whole.retention
    say(f"audit: durability {whole.audit.durability}; time zone {retention.timezone}; conflicts {retention.on_conflict}")


@policy.command()
@click.argument("sources", nargs=-1, required=True)
@click.pass_context
def check(ctx: click.Context, sources: tuple[str, ...]) -> None:
    """Check policy files: every problem with its file, line and key, and what to write instead. Exits with 1 on problems.

    \b
    Examples:
      secmem policy check clinic.yaml
      secmem policy check policies/*.yaml --json
    """
    from secure_memory import rulebook

    settings: Settings = ctx.obj
    reports: list[dict[str, Any]] = []
    for source in sources:
        try:
            loaded = rulebook.read(source)
        except PolicyError as error:
            problems = [
                {"message": str(e), "file": e.file, "line": e.line, "key": e.key, "hint": e.hint} for e in _all(error)
            ]
            reports.append({"source": source, "ok": False, "problems": problems, "warnings": []})
        else:
            meta = loaded.policy.metadata
            named = {"name": meta.name, "version": meta.version, "sha256": loaded.policy.digest}
            reports.append({"source": source, "ok": True, **named, "problems": [], "warnings": list(loaded.warnings)})
    if settings.as_json:
        json_document(reports)
    else:
        for report in reports:
            _print_report(report)
    ctx.exit(0 if all(report["ok"] for report in reports) else 1)


def _all(error: PolicyError) -> tuple[PolicyError, ...]:
    return (error, *error.others)


def _print_report(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        say(problem["message"], fg="red")
        if problem["hint"]:
            say(f"  hint: {problem['hint']}")
    for warning in report["warnings"]:
        say(f"warning: {warning}", fg="yellow")
    if report["ok"]:
        say(
            f"{report['source']}: policy {report['name']} v{report['version']} is well, sha256:{report['sha256']}",
            fg="green",
        )
    else:
        say(f"{report['source']}: {counted(len(report['problems']), 'problem')}", bold=True)


@policy.command()
@click.argument("before", required=False)
@click.argument("after", required=False)
@click.pass_obj
def diff(settings: Settings, /, before: str | None, after: str | None) -> None:
    """Show what changes from one policy to another, and whether it protects less. With one SOURCE, what applying it would
    change in the store.

    \b
    Examples:
      secmem policy diff gdpr clinic.yaml
      secmem policy diff clinic.yaml --store support.secmem
    """
    from secure_memory import rulebook

    old, new = (before, after) if after is not None else (None, before)
    changes = rulebook.difference(policy_of(settings, old), policy_of(settings, new))
    if settings.as_json:
        json_document([asdict(change) for change in changes])
    else:
        _print_changes(changes)


def _print_changes(changes: tuple[Change, ...]) -> None:
    for change in changes:
        if change.before is None:
            line = f"+ {change.part}: {change.after}"
        elif change.after is None:
            line = f"- {change.part}: {change.before}"
        else:
            line = f"~ {change.part}: {change.before} → {change.after}"
        less = "  (weaker)" if change.effect == "weaker" else ""  # in words: a file and a printer have no colours
        say(line + less, fg=_COLOURS.get(change.effect))
    say(_summary(changes), bold=True)


def _summary(changes: tuple[Change, ...]) -> str:
    if not changes:
        return "no difference"
    counts = Counter(change.effect for change in changes)
    said = f"{counted(len(changes), 'difference')}: {counts['stricter']} stricter, {counts['weaker']} weaker"
    return f"{said}, {counts['other']} neither" if counts["other"] else said


@policy.command()
@click.argument("source")
@click.pass_context
def test(ctx: click.Context, source: str) -> None:
    """Run the examples that stand in a policy, under `examples:`. Exits with 1 where one comes out otherwise.

    \b
    Example:
      secmem policy test clinic.yaml
    """
    from secure_memory import rulebook

    settings: Settings = ctx.obj
    results = rulebook.test(source)
    if settings.as_json:
        json_document([{**asdict(result), "passed": result.passed} for result in results])
    else:
        for result in results:
            say(f"{'ok  ' if result.passed else 'FAIL'} {result.name}", fg="green" if result.passed else "red")
            for difference in result.differences:
                say(f"     {difference}")
        failed = sum(not result.passed for result in results)
        say(f"{counted(len(results), 'example')}, {failed} failed" if results else f"{source} has no examples", bold=True)
    ctx.exit(0 if all(result.passed for result in results) else 1)


@policy.command()
@click.argument("source")
@click.option("--confirm-shorten", is_flag=True, help="It is meant that something is kept shorter than now.")
@click.pass_obj
def apply(settings: Settings, /, source: str, confirm_shorten: bool) -> None:
    """Put a policy in force, for every tenant at once, and show what changes. Where something is kept shorter than now, that
    has to be confirmed.

    \b
    Examples:
      secmem policy apply clinic.yaml --store support.secmem
      secmem policy apply clinic.yaml --confirm-shorten --reason "DPO decision 2026-11"
    """
    from secure_memory import rulebook

    loaded = rulebook.read(source)
    with settings.opened() as store:
        changes = rulebook.difference(store.policy_in_force(), loaded.policy)
        if not settings.as_json:
            _print_changes(changes)
        applied = store.policy_apply(source, confirm_shorten=confirm_shorten)
    if settings.as_json:
        json_document({**asdict(applied), "changes": [asdict(change) for change in changes]})
        return
    for warning in applied.warnings:
        say(f"warning: {warning}", err=True, fg="yellow")
    done = "is in force" if applied.changed else "was in force already"
    say(
        f"policy {applied.name} v{applied.version} {done} in {counted(applied.tenants, 'tenant')}, sha256:{applied.sha256}",
        fg="green",
    )
