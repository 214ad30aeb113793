"""`secmem backup` and `secmem restore`: copies of a store, checked copies, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from secure_memory.cli.options import BadUsage, Command, Group, Settings
from secure_memory.cli.output import console, counted, json_document, say, table
from secure_memory.cli.times import shown

_PATH = click.Path(path_type=Path)
_KEYS_IN = click.option("--keys", "keys_in", metavar="DIR", type=_PATH, help="Where the keys are, if not beside the vaults.")
_TOMBSTONES = click.option(
    "--tombstones", metavar="FILE", type=_PATH, help="The list of what was erased since, if not beside the anchors."
)


class _Backup(Group):
    """`secmem backup DIR` is `secmem backup create DIR`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named, or `create`."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["create", *args])


@click.group(cls=_Backup, context_settings={"ignore_unknown_options": True})
def backup() -> None:
    """Copy a store that is in use, and check such copies. `secmem backup DIR` is `secmem backup create DIR`.

    \b
    Examples:
      secmem backup /backups --store support.secmem
      secmem backup /backups --keys
      secmem backup verify /backups
    """


@backup.command()
@click.argument("directory", metavar="DIR", type=_PATH)
@click.option("--vaults", "only", flag_value="vaults", help="The vaults alone.")
@click.option("--keys", "only", flag_value="keys", help="The keys alone.")
@click.pass_obj
def create(settings: Settings, directory: Path, only: str | None) -> None:
    """Copy the store into two new sets in DIR: its vaults, and then its keys.

    Other processes go on reading and writing. The copies are encrypted as the store is; the key that opens it (the key file,
    SECMEM_KEY) is in neither. Delete the sets of keys sooner than those of vaults: what was erased stays readable in old
    copies for as long as the keys of that time exist. docs/backup.md says how long, and how to restore.

    \b
    Examples:
      secmem backup create /backups --store support.secmem
      secmem backup create /backups --vaults --json
    """
    with settings.opened() as store, _progress("copying") as progress:
        report = store.backup(directory, only=only, progress=progress)  # type: ignore[arg-type]
    if settings.as_json:
        json_document(asdict(report))
        return
    for kept in report.sets:
        what = counted(kept.vaults, "vault") if kept.kind == "vaults" else "the keys"
        say(f"backed up {what}, {_megabytes(kept.bytes)}: {kept.path}", bold=True)
    say("`secmem backup verify` opens a backup and checks all of it; the key that opens it is not in it")


@backup.command()
@click.argument("directory", metavar="DIR", type=_PATH)
@_KEYS_IN
@_TOMBSTONES
@click.pass_obj
def verify(settings: Settings, directory: Path, keys_in: Path | None, tombstones: Path | None) -> None:
    """Check the newest backup in DIR, or the one that DIR is: restore it to a place for temporary files, check everything,
    and delete that again. The backup is only read, and no store need be there; the store's key is.

    \b
    Examples:
      secmem backup verify /backups
      secmem backup verify /backups/2026-11-27T033349.123456Z-vaults --keys /backups
    """
    from secure_memory import SecureStore, acting_as

    with acting_as(settings.who()), _progress("checking") as progress:
        report = SecureStore.backup_verify(
            directory,
            keys_in=keys_in,
            keys=settings.key_file,
            anchor=settings.anchor,
            tombstones=tombstones,
            progress=progress,
        )
    _tell(settings, report)
    if not settings.as_json:
        say(
            f"the backup of {shown(report.vaults_of)}, with the keys of {shown(report.keys_of)}, is whole",
            fg="green",
            bold=True,
        )


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=_PATH)
@_KEYS_IN
@_TOMBSTONES
@click.option("--accept-rollback", is_flag=True, help="What was written after the backup may be gone: give your --reason.")
@click.option("--discard-replaced", is_flag=True, help="Delete the store that was there, once this one is in its place.")
@click.pass_obj
def restore(
    settings: Settings,
    directory: Path,
    keys_in: Path | None,
    tombstones: Path | None,
    accept_rollback: bool,
    discard_replaced: bool,
) -> None:
    """Put the store at --store together from the newest backup in DIR, or from the one that DIR is.

    What was erased since the backup is erased in it again, by the list that lies beside the store's anchors; without that
    list nothing is restored. Where the anchors know more than the backup has, say that you mean it: --accept-rollback, with
    a --reason, which every ledger keeps. Stop everything that uses the store first. What was there is put aside.

    \b
    Examples:
      secmem restore /backups --store /data/drill.secmem
      secmem restore /backups --store support.secmem --accept-rollback --reason "disk failed on 27 November, INC-4711"
    """
    from secure_memory import SecureStore, acting_as

    if accept_rollback and settings.reason is None:
        raise BadUsage("accepting a rollback needs a reason", "say why with --reason TEXT: every ledger keeps it")
    with acting_as(settings.who()), _progress("restoring") as progress:
        report = SecureStore.restore(
            directory,
            settings.path(),
            keys_in=keys_in,
            keys=settings.key_file,
            anchor=settings.anchor,
            tombstones=tombstones,
            accept_rollback=accept_rollback,
            reason=settings.reason,
            keep_replaced=not discard_replaced,
            progress=progress,
        )
    _tell(settings, report)
    if settings.as_json:
        return
    say(f"restored {report.store} as it was at {shown(report.vaults_of)}; every check passed", fg="green", bold=True)
    if report.replaced is not None:
        say(
            f"what was there is at {report.replaced}: it has keys that this store may not have; delete it when you can",
            fg="yellow",
        )


def _tell(settings: Settings, report: Any) -> None:
    if settings.as_json:
        json_document({**asdict(report), "rollback": report.rollback})
        return
    table(
        ("tenant", "entries", "sessions", "items", "forgotten", "superseded"),
        [(v.tenant, v.entries, v.sessions, v.items, v.forgotten, v.superseded) for v in report.vaults],
    )
    if report.destroyed:
        say(f"{report.destroyed:,} keys of the backup had been destroyed since, and are destroyed in it")
    for vault in report.vaults:
        if vault.anew:
            say(f"tenant {vault.tenant} is younger than the backup: its vault is new and empty", fg="yellow")


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[str, int, int], None]]:
    with console(err=True).status(f"{doing} ...") as status:

        def progress(what: str, done: int, total: int) -> None:
            status.update(f"{doing}: {what}, {done * 100 // max(total, 1)} %")

        yield progress


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
