"""Durations: what is one, and what it adds to a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import clock
from secure_memory.policy import durations
from secure_memory.policy.durations import Duration

DAY = 86_400_000_000
BERLIN = ZoneInfo("Europe/Berlin")
times = st.integers(0, clock.parse("2400-01-01T00:00:00+00:00"))


def after(text: str, start: str, zone: ZoneInfo | timezone = timezone.utc) -> str:
    """The time that is so much later, to the minute."""
    return clock.rfc3339(durations.parse(text).after(clock.parse(start), zone))[:16]


@pytest.mark.parametrize(
    ("text", "months", "us"),
    [
        ("P30D", 0, 30 * DAY),
        ("P1M", 1, 0),
        ("P3Y6M", 42, 0),
        ("P2W", 0, 14 * DAY),
        ("PT12H", 0, DAY // 2),
        ("PT1H30M", 0, 5_400_000_000),
        ("P1M1DT1M", 1, DAY + 60_000_000),
        ("PT0S", 0, 0),
    ],
)
def test_a_duration(text: str, months: int, us: int) -> None:
    """ISO 8601, with M for months before T and minutes after it."""
    assert Duration(months, us, text) == durations.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "30D", "P30", "p30d", "P1.5Y", "P-1D", "P1D1M", "P1W1D", "PT1D", "P1S", " P1D", "P1D\n", "P1DT", "P²D"],
)
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused, with a word on what one looks like."""
    with pytest.raises(ValueError, match="write P30D, P6M"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("P1M", "2026-01-31T12:00:00Z", "2026-02-28T12:00"),
        ("P1M", "2028-01-31T12:00:00Z", "2028-02-29T12:00"),
        ("P1Y", "2028-02-29T12:00:00Z", "2029-02-28T12:00"),
        ("P1M", "2026-02-28T12:00:00Z", "2026-03-28T12:00"),
        ("P11M", "2026-03-31T00:00:00Z", "2027-02-28T00:00"),
        ("P1M1D", "2026-01-31T12:00:00Z", "2026-03-01T12:00"),
        ("P30D", "2026-01-31T12:00:00Z", "2026-03-02T12:00"),
    ],
)
def test_months_clamp(text: str, start: str, end: str) -> None:
    """31 January and a month is the end of February; days are added after that."""
    assert end == after(text, start)


def test_months_are_of_a_time_zone() -> None:
    """A month later is the same time of day there, also where summer time begins between."""
    assert "2026-04-15T10:00" == after("P1M", "2026-03-15T11:00:00Z", BERLIN)
    assert "2026-04-15T11:00" == after("P1M", "2026-03-15T11:00:00Z")
    assert "2026-04-14T11:00" == after("P30D", "2026-03-15T11:00:00Z", BERLIN)


@pytest.mark.parametrize("text", ["P9999Y", "P8000Y", "P99999M", "P9999999D"])
def test_no_time_is_past_the_calendar(text: str) -> None:
    """What would be past the year 9999 is its end, and nothing overflows."""
    end = durations.parse(text).after(clock.parse("2026-01-01T00:00:00Z"))
    assert clock.rfc3339(end) <= "9999-12-01T00:00:00.000000Z"
    assert end <= durations.parse("P1M").after(end)


@given(st.integers(0, 40), st.integers(0, 20), st.integers(0, 400), times)
def test_bounds_bound(years: int, months: int, days: int, start: int) -> None:
    """Wherever in the calendar it begins, a duration is between its shortest and its longest."""
    duration = durations.parse(f"P{years}Y{months}M{days}D")
    assert duration.shortest <= duration.after(start) - start <= duration.longest


@pytest.mark.parametrize(
    ("text", "shortest", "longest"), [("P1M", 28, 31), ("P2M", 59, 62), ("P1Y", 365, 366), ("P7D", 7, 7)]
)
def test_bounds_are_met(text: str, shortest: int, longest: int) -> None:
    """The bounds are the tightest: some month is that short, and some that long."""
    duration = durations.parse(text)
    assert (shortest * DAY, longest * DAY) == (duration.shortest, duration.longest)


@given(st.sampled_from(["P1M", "P6M", "P1Y", "P3Y6M"]), times)
def test_a_month_is_the_calendars(text: str, start: int) -> None:
    """The same day of the month that many months on, or the last one where there is none; the same time of day."""
    duration = durations.parse(text)
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    before, after_ = (epoch + timedelta(microseconds=us) for us in (start, duration.after(start)))
    assert before.timetz() == after_.timetz()
    assert duration.months == (after_.year - before.year) * 12 + after_.month - before.month
    assert before.day == after_.day or (after_ + timedelta(days=1)).month != after_.month


def test_only_nothing_is_zero() -> None:
    """PT0S and P0D are no time at all, and a second is some."""
    assert [True, True, False, False] == [durations.parse(text).zero for text in ("PT0S", "P0D", "PT1S", "P1M")]
