"""Times as people write them, and as we print them. Inside a time is an integer of microseconds since 1970, UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import click

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_AGO = re.compile(r"([0-9]+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Time(click.ParamType):
    """A time: RFC 3339, a date (its first moment), or how long ago. Without an offset it is UTC."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The time in microseconds. Fails as a usage error."""
        if isinstance(value, int):
            return value
        try:
            return _microseconds(_moment(value))
        except (ValueError, OverflowError):  # Overflow: before the year 1 or after 9999, where datetime ends
            self.fail(
                f"{value!r} is no time: write 2026-11-22, 2026-11-22T03:00:00Z, or how long ago: 30m, 24h, 7d",
                param,
                ctx,
            )


def _moment(text: str) -> datetime:
    if ago := _AGO.fullmatch(text):
        return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def rfc3339(us: int) -> str:
    """RFC 3339 with microseconds, for programs: ``2026-11-22T03:00:00.000000Z``."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def readable(us: int) -> str:
    """To the second, for people: ``2026-11-22 03:00:00Z``."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%d %H:%M:%SZ")
