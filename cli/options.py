"""What every command can be told: where the store, its key and its anchors are, who asks and why, and `--json`.

The options stand after the command or before it (`secmem --json tenant list`): the one that is nearer to the end wins,
and what is typed wins over the environment. They are gathered in `Settings`, which commands get by `click.pass_obj`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from secure_memory import Actor, SecureStore


class BadUsage(click.UsageError):
    """A usage error with its own next step."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass
class Settings:
    """What was told, by whichever command was told it."""

    store: Path | None = None
    key_file: Path | None = None
    anchor: Path | None = None
    anchor_required: bool = False
    actor: str | None = None
    roles: tuple[str, ...] = ()
    purpose: str | None = None
    reason: str | None = None
    as_json: bool = False

    def path(self) -> Path:
        """The store's directory. Raises BadUsage where none was named."""
        if self.store is None:
            raise BadUsage("no store is named", "name its directory with --store PATH, or in SECMEM_STORE")
        return self.store

    def who(self) -> Actor:
        """Who asks: the user of the operating system, if nobody is named. Raises ValueError."""
        from secure_memory import Actor

        actor = f"user:{_user()}" if self.actor is None else self.actor
        return Actor(actor, self.roles, self.purpose, self.reason)

    @contextmanager
    def opened(self, *, create: bool = False, policy: str | None = None, on_reserve: bool = False) -> Iterator[SecureStore]:
        """The store, open, or made anew, with a policy if one is named. All that happens inside is asked by `who()`, opening
        and closing too. What has to work on a full disk is done `on_reserve` (see `SecureStore.on_reserve`)."""
        from secure_memory import SecureStore, acting_as  # here: it loads the driver, which `--help` doesn't need

        start = partial(SecureStore.create, policy=policy) if create else SecureStore.open
        path = self.path()
        with (
            acting_as(self.who()),
            SecureStore.on_reserve(path) if on_reserve else nullcontext(),
            start(path, keys=self.key_file, anchor=self.anchor, anchor_required=self.anchor_required) as store,
        ):
            yield store


def tags_of(texts: Iterable[str]) -> dict[str, str]:
    """The tags that were typed as NAME=VALUE. Raises BadUsage."""
    tags = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (name and found and value):
            raise BadUsage(f"{text!r} is no tag", "write its name and its value: --tag record=phi")
        tags[name] = value
    return tags


def _user() -> str:
    """The real user's name, from the system and not from $USER, which anyone can set; its number in a container that
    doesn't know the name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    settings = ctx.find_root().ensure_object(Settings)
    assert param.name is not None  # noqa: S101 - every option below has a name
    source = ctx.get_parameter_source(param.name)
    typed = source is ParameterSource.COMMANDLINE
    if typed or (source is ParameterSource.ENVIRONMENT and not getattr(settings, param.name)):
        setattr(settings, param.name, value)


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_take, **attributes)


_PATH = click.Path(path_type=Path)
COMMON = (
    _option("--store", type=_PATH, envvar="SECMEM_STORE", help="The store's directory [SECMEM_STORE]."),
    _option("--key-file", type=_PATH, help="The key file, instead of SECMEM_KEY or SECMEM_KEY_FILE."),
    _option("--anchor", metavar="DIR", type=_PATH, help="Where the anchors are [SECMEM_ANCHOR]."),
    _option("--anchor-required", is_flag=True, help="Refuse to work without anchors."),
    _option("--actor", metavar="ID", help="Who asks; the user of the operating system, if left out."),
    _option("--role", "roles", metavar="NAME", multiple=True, help="A role of the actor. Can be repeated."),
    _option("--purpose", metavar="TEXT", help="The declared purpose, for the ledger."),
    _option("--reason", metavar="TEXT", help="Why, in your words, for the ledger."),
    _option("--json", "as_json", is_flag=True, help="Print JSON; errors too, on standard error."),
)


class _Told(click.Command):
    """A command that takes the common options, and shows them below its own."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params += COMMON

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the common ones."""
        params = self.get_params(ctx)
        for title, group in (
            ("Options", [param for param in params if param not in COMMON]),
            ("Common options", [param for param in params if param in COMMON]),
        ):
            with formatter.section(title):
                formatter.write_dl([record for param in group if (record := param.get_help_record(ctx))])


class Command(_Told):
    """A command of ours."""


class Group(_Told, click.Group):
    """A noun of ours: a group of commands."""

    command_class = Command

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, no_args_is_help=False, **attributes)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where nothing is asked for. It is a usage error nevertheless: a script meant something else."""
        if not args and not ctx.resilient_parsing:
            if ctx.find_root().ensure_object(Settings).as_json:
                raise BadUsage("missing command", f"`{ctx.command_path} --help` shows what there is")
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands first: they are what one looks for."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)
