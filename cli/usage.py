"""`secmem usage`: what was spent, for whoever pays."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secure_memory.cli.options import BadUsage, Command, Settings
from secure_memory.cli.output import Cell, counted, json_document, say, table, visible
from secure_memory.cli.times import Time

if TYPE_CHECKING:
    from decimal import Decimal

_BY = ("tenant", "subject", "session", "branch", "model", "day")
_FIGURES = ("requests", "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "popped_tokens")
_FORMULA = tuple("=+-@\t\r")
"""How a text begins that a spreadsheet would run (OWASP, CSV injection)."""


@click.command(cls=Command)
@click.option(
    "--by", type=click.Choice(_BY), multiple=True, default=("tenant",), show_default=True, help="Add up by. Can be repeated."
)
@click.option("--since", type=Time(), help="From this time on: RFC 3339, a date, or how long ago (24h, 7d, 4w).")
@click.option("--until", type=Time(), help="Before this time.")
@click.option("--tenant", help="Of this tenant alone.")
@click.option("--prices", metavar="FILE", type=click.Path(path_type=Path), help="A price list in YAML: what it cost.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for a spreadsheet.")
@click.pass_obj
def usage(
    settings: Settings,
    /,
    by: tuple[str, ...],
    since: int | None,
    until: int | None,
    tenant: str | None,
    prices: Path | None,
    as_csv: bool,
) -> None:
    """Show what was spent: requests and tokens, and what they cost.

    Everything that was spent counts, in turns that were popped or cleared since too: those are the popped tokens. A price
    list has the price of a million tokens of each model:

    \b
      currency: USD
      models:
        gpt-5: {input: 1.25, output: 10.00, cached_input: 0.125}

    \b
    Examples:
      secmem usage --store support.secmem --since 2026-11-01 --until 2026-12-01
      secmem usage --by tenant --by model --prices prices.yaml
      secmem usage --tenant acme --by day --csv > november.csv
    """
    if as_csv and settings.as_json:
        raise BadUsage("--csv and --json don't go together", "choose one of them")
    with settings.opened() as store:
        totals = store.usage(by=by, since=since, until=until, tenant=tenant, prices=prices)
    first = [name for name in _BY if any(getattr(total, name) is not None for total in totals)] or [*dict.fromkeys(by)]
    figures = (*_FIGURES, "cost", "currency", "unpriced_tokens") if prices else _FIGURES
    if settings.as_json:
        json_document([{name: _exact(getattr(t, name)) for name in (*first, *figures)} for t in totals])
    elif as_csv:
        _print_csv((*first, *figures), [[_exact(getattr(t, name)) for name in (*first, *figures)] for t in totals])
    else:
        _print_table(first, totals, priced=prices is not None)
    unpriced = sum(total.unpriced_tokens for total in totals)
    if unpriced:
        say(
            f"{counted(unpriced, 'token')} without a price: name their models in the list, or give it a `default`",
            err=True,
            fg="yellow",
        )


def _print_table(first: list[str], totals: list[Any], *, priced: bool) -> None:
    columns = (*first, *(name.removesuffix("_tokens") for name in _FIGURES))
    rows: list[tuple[Cell, ...]] = [tuple(getattr(total, name) for name in (*first, *_FIGURES)) for total in totals]
    if priced:
        columns = (*columns, "cost")
        rows = [(*row, _money(total.cost, total.currency)) for row, total in zip(rows, totals, strict=True)]
    table(columns, rows)


def _print_csv(columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_safe(cell) if isinstance(cell, str) else cell for cell in row])
    click.echo(text.getvalue(), nl=False)


def _safe(text: str) -> str:
    """Names were given by others: what a terminal would obey is escaped, and what a spreadsheet would run becomes a text."""
    return visible(f"'{text}" if text.startswith(_FORMULA) else text)


def _exact(value: Any) -> Any:
    """Amounts as texts, all digits of them: JSON's numbers are floats to most who read them."""
    return value if value is None or isinstance(value, int | str) else f"{value:f}"


def _money(cost: Decimal | None, currency: str | None) -> str | None:
    return None if cost is None else f"{cost:,.4f} {currency}"
