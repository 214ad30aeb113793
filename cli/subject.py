"""`secmem subject`: what a person may ask for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from secure_memory import clock
from secure_memory.cli import erase as erasing
from secure_memory.cli.options import Group, Settings
from secure_memory.cli.output import console, counted, json_document, note, say, table
from secure_memory.cli.session import print_items
from secure_memory.cli.times import shown

_FIELDS = ("tenant", "number", "kind", "uid", "stage", "actor", "reason", "items", "withheld")
_TENANT = click.option("--tenant", default="default", show_default=True, help="The tenant whose subject.")


@click.group(cls=Group)
def subject() -> None:
    """The people that conversations are about, and what they may ask for.

    \b
    Example:
      secmem subject export ana@example.com --tenant acme --out ana --reason "access request 17"
    """


@subject.command()
@click.argument("name", metavar="SUBJECT")
@_TENANT
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), required=True, help="A new directory, or a file named .zip."
)
@click.option("--exact", is_flag=True, help="As it is kept, with what is said of others, instead of as reviewers see it.")
@click.pass_obj
def export(settings: Settings, name: str, tenant: str, out: Path, exact: bool) -> None:
    """Write everything that is kept about a person, for that person: conversations, what is withheld of them, usage, tags,
    and who did what with it, when and why (GDPR Articles 15 and 20).

    It is written whole or not at all, for its owner alone, and is not encrypted: hand it over by a safe way, then delete it.
    It is an entry in the ledger: give your --reason.

    \b
    Examples:
      secmem subject export ana@example.com --tenant acme --out ana --reason "access request 17"
      secmem subject export ana@example.com --tenant acme --out ana.zip
    """
    with settings.opened() as store, console(err=True).status("exporting ...") as status:

        def progress(written: int, total: int) -> None:
            status.update(f"exporting: {written:,} of {total:,} sessions")

        report = store.subject_export(name, out, tenant=tenant, exact=exact, progress=progress)
    if settings.as_json:
        json_document(asdict(report))
        return
    say(
        f"exported {counted(report.items, 'item')} of {counted(report.sessions, 'session')},"
        f" {counted(report.usage, 'row')} of usage and {report.accesses:,} entries of who did what to {report.path}",
        bold=True,
    )
    if not report.masked:
        say("nothing is masked in it: look for what is about others before you hand it over", fg="yellow")


@subject.command()
@click.argument("name", metavar="SUBJECT")
@_TENANT
@erasing.options
@click.pass_obj
def erase(settings: Settings, /, name: str, tenant: str, yes: bool, certificate: Path | None) -> None:
    """Erase a person: her keys and those of all her conversations are destroyed, what they sealed is deleted, and a
    certificate says so. Give your --reason.

    What a legal hold or a law keeps is withheld, as the certificate says: hidden from the agent, and deleted by the purge
    when it may be. Where that is all of it, the exit code is 8, and the request counts all the same. Where it was
    interrupted, run it again. Run twice, it answers with the certificate of the first time.

    \b
    Examples:
      secmem subject erase ana@example.com --tenant acme --reason "request of 3 March" --certificate ana.json
      secmem subject erase ana@example.com --tenant acme --reason "request of 3 March" --yes --json
    """
    erasing.refuse_existing(certificate)
    erasing.confirm(f"{name!r} of tenant {tenant!r} with every conversation", name, yes=yes)
    with settings.opened(on_reserve=True) as store:
        report = store.subject_erase(name, tenant=tenant)
    erasing.tell(settings, report, certificate)


@subject.command()
@click.option("--tenant", help="Only this tenant's; all, and tenants that were erased, if left out.")
@click.pass_obj
def erased(settings: Settings, /, tenant: str | None) -> None:
    """List what was erased, with what is still withheld of it. One whose stage is not done was interrupted: run it again.

    It names nobody: whose uid it is, the request says. --json has the certificates.

    \b
    Examples:
      secmem subject erased --tenant acme
      secmem subject erased --json
    """
    with settings.opened() as store:
        found = store.subject_erased(tenant=tenant)
    if settings.as_json:
        json_document(
            [
                {
                    **{name: getattr(one, name) for name in _FIELDS},
                    "begun": clock.rfc3339(one.begun),
                    "certificate": one.certificate and json.loads(one.certificate.to_json()),
                }
                for one in found
            ]
        )
        return
    table(
        ("tenant", "erasure", "of", "uid", "begun", "stage", "items", "withheld", "reason"),
        [(i.tenant, i.number, i.kind, i.uid, shown(i.begun), i.stage, i.items, i.withheld, i.reason) for i in found],
    )
    if not found:
        note("nothing was erased")


@subject.command()
@click.argument("session_uid", metavar="SESSION_UID")
@_TENANT
@click.pass_obj
def withheld(settings: Settings, session_uid: str, tenant: str) -> None:
    """Show what a hold or a law keeps of a session that was erased: its certificate says the uid. Whoever may export a
    subject's data may read it, and it is an entry in the ledger: give your --reason.

    \b
    Example:
      secmem subject withheld d09acdc34f0e1b7c2a5566778899aabb --tenant acme --reason "court order 7 O 12/27"
    """
    with settings.opened() as store:
        items = store.subject_withheld(session_uid, tenant=tenant)
    print_items(settings, items)
