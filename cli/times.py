"""Times as people write them, and as we print them. Inside a time is an integer of microseconds since 1970, UTC."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from secure_memory import clock
from secure_memory.cli.output import on_terminal

if TYPE_CHECKING:
    _Microseconds = click.ParamType[int]
else:
    _Microseconds = click.ParamType  # generic for type checkers only: click 8.1 has no such parameter

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Time(_Microseconds):
    """A time: RFC 3339, a date (its first moment), or how long ago. Without an offset it is UTC."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The time in microseconds. Fails as a usage error."""
        if isinstance(value, int):
            return value
        if ago := _AGO.fullmatch(value):
            return clock.now() - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000
        try:
            return clock.parse(value)
        except ValueError:
            hint = "write 2026-11-22, 2026-11-22T03:00:00Z, or how long ago: 30m, 24h, 7d"
            self.fail(f"{value!r} is no time: {hint}", param, ctx)


def shown(us: int) -> str:
    """A time in a table: to the second where a person looks (``2026-11-22 03:00:00Z``), else RFC 3339 in full."""
    full = clock.rfc3339(us)
    return f"{full[:10]} {full[11:19]}Z" if on_terminal() else full
