"""The command `secmem`: what there is, and how it ends.

Command groups are loaded when they are asked for: `secmem --help` is this file, and only `demo` costs what `demo` costs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import click

from secure_memory import __version__
from secure_memory.cli import failure
from secure_memory.cli.options import Group

_COMMANDS = {
    "init": "Make a store, and its key if there is none.",
    "demo": "See it work: a support desk that remembers, encrypted and audited.",
    "doctor": "Check this machine and a store, and say what to mend.",
    "tenant": "The tenants of a store.",
    "session": "The conversations of a tenant.",
    "import": "Bring in the conversations of the SDK's own databases.",
    "export": "Write conversations as JSON Lines.",
    "policy": "What the store is told to do: read, checked, explained, put in force.",
    "redact": "Personal data: what a policy does to it, how much there is.",
    "access": "Who may do what.",
    "hold": "Legal holds: what may not be deleted.",
    "purge": "What is due: planned, deleted, redacted, archived.",
    "archive": "What was archived: checked and read back.",
    "usage": "What was spent: tokens, and what they cost.",
    "subject": "The people that conversations are about: what they may ask for.",
    "key": "Replace keys while the store is in use.",
    "certificate": "Check a certificate of erasure, and show what it says.",
    "backup": "Copy a store that is in use, and check such copies.",
    "restore": "Put a store together from a backup.",
    "audit": "The ledger: who did what, whether it is whole, its anchors.",
    "completion": "Print a shell's completion script.",
}
"""Each is `<name>` in the module `secure_memory.cli.<name>`, but for those in `_PLACES`."""
_PLACES = {"import": ("transfer", "import_"), "export": ("transfer", "export"), "restore": ("backup", "restore")}
"""The module and the name of commands that are elsewhere: `import` is a word of Python's own."""


class _Lazy(Group):
    """The group of all commands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which one meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name."""
        if name not in _COMMANDS:
            return None
        module, attribute = _PLACES.get(name, (name, name))
        command: click.Command = getattr(import_module(f"secure_memory.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what there is, without loading it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy)
@click.version_option(__version__, message="secmem %(version)s", help="Show the version.")
def secmem() -> None:
    """Encrypted, audited conversation memory for the OpenAI Agents SDK.

    \b
    Examples:
      secmem demo
      secmem init --store support.secmem
      secmem audit log --store support.secmem --since 24h
      secmem audit verify --store support.secmem

    \b
    Exit codes:
      0 done   1 error    2 usage   3 tampered   4 rolled back
      5 stopped by a safety limit   6 denied     7 busy
      8 blocked by a hold or a legal floor       (never retry 3, 4, 5)
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command, and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = failure.wants_json(given)
    failure.write_anything()
    try:
        with failure.warnings_shown(as_json=as_json):
            code = secmem.main(given, prog_name="secmem", standalone_mode=False)
    except Exception as error:
        sys.exit(failure.report(error, as_json=as_json))
    sys.exit(code if isinstance(code, int) else 0)
