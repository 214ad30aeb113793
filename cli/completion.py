"""`secmem completion`: click's own completion, as a script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    Examples:
      eval "$(secmem completion bash)"        in ~/.bashrc
      eval "$(secmem completion zsh)"         in ~/.zshrc
      secmem completion fish > ~/.config/fish/completions/secmem.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click knows the three shells above
    click.echo(script(ctx.find_root().command, {}, "secmem", "_SECMEM_COMPLETE").source())
