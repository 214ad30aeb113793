"""Durations of ISO 8601 (P30D, P1M, P3Y6M, PT0S) and what they add to a time. Pure.

- Months and years are of the calendar, and clamp: 31 January + P1M is the end of February. Days and what is smaller are
  exact. So P1M and P30D are only partly ordered: `longest` and `shortest` bound a duration, in days.
- A time is microseconds since the epoch, UTC. The calendar's months are those of a time zone, which is an argument.

The form is ISO 8601-1:2019 5.5.2.2 with whole numbers; weeks stand alone.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST = datetime(9999, 12, 1, tzinfo=timezone.utc)
_LATEST_US = (_LATEST - _EPOCH) // timedelta(microseconds=1)
_FORM = re.compile(
    r"P(?=\d|T\d)(?:(?P<years>\d{1,5})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<days>\d{1,7})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,7})H)?(?:(?P<minutes>\d{1,7})M)?(?:(?P<seconds>\d{1,9})S)?)?"
)
_WEEKS = re.compile(r"P(\d{1,6})W")


@dataclass(frozen=True, slots=True)
class Duration:
    """Whole months, and microseconds besides. `text` is how it was written."""

    months: int
    us: int
    text: str

    @property
    def zero(self) -> bool:
        """Whether it is no time at all."""
        return not (self.months or self.us)

    @property
    def shortest(self) -> int:
        """Microseconds that it is at the least, wherever in the calendar it begins."""
        return _days(self.months, least=True) * 86_400_000_000 + self.us

    @property
    def longest(self) -> int:
        """Microseconds that it is at the most."""
        return _days(self.months, least=False) * 86_400_000_000 + self.us

    def after(self, us: int, zone: tzinfo = timezone.utc) -> int:
        """The time that is this much later than `us`; what would be past the year 9999 is its end."""
        if not self.months:
            return min(us + self.us, _LATEST_US)
        return min(_add_months(us, self.months, zone) + self.us, _LATEST_US)


@lru_cache(maxsize=1024)
def parse(text: str) -> Duration:
    """The duration that a text is. Raises ValueError, which says what one looks like."""
    if weeks := _WEEKS.fullmatch(text):
        return Duration(0, int(weeks[1]) * 7 * 86_400_000_000, text)
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("not a duration: write P30D, P6M, P3Y6M or PT12H (ISO 8601)")
    part = {name: int(value or 0) for name, value in found.groupdict().items()}
    seconds = part["days"] * 86_400 + part["hours"] * 3600 + part["minutes"] * 60 + part["seconds"]
    return Duration(part["years"] * 12 + part["months"], seconds * 1_000_000, text)


def _add_months(us: int, months: int, zone: tzinfo) -> int:
    if us >= _LATEST_US:
        return _LATEST_US
    start = (_EPOCH + timedelta(microseconds=us)).astimezone(zone)
    years, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    if years > 9998:
        return _LATEST_US
    day = min(start.day, monthrange(years, month + 1)[1])
    moved = start.replace(year=years, month=month + 1, day=day)
    return (moved.astimezone(timezone.utc) - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=256)
def _days(months: int, *, least: bool) -> int:
    """Days that so many months are at the least, or at the most: over all the months of the calendar's 400 years."""
    if not months:
        return 0
    ends = []
    for start in range(4800):  # every month of a Gregorian cycle; the 1st and the 31st are its extremes
        year, month = divmod(2000 * 12 + start, 12)
        for day in (1, monthrange(year, month + 1)[1]):
            to_year, to_month = divmod(2000 * 12 + start + months, 12)
            to_day = min(day, monthrange(2000 + to_year % 400, to_month + 1)[1])
            ends.append(_ordinal(to_year, to_month + 1, to_day) - _ordinal(year, month + 1, day))
    return min(ends) if least else max(ends)


def _ordinal(year: int, month: int, day: int) -> int:
    cycles, year = divmod(year, 400)
    return cycles * 146_097 + datetime(2000 + year, month, day, tzinfo=timezone.utc).toordinal()
