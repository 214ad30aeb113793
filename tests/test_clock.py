"""`clock.py`: times as integers, and as text whose order is theirs."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import clock

YEAR_ONE, YEAR_TEN_THOUSAND = -62_135_596_800_000_000, 253_402_300_800_000_000
times = st.integers(YEAR_ONE, YEAR_TEN_THOUSAND - 1)


def test_now_is_in_microseconds() -> None:
    """The clock and the host's agree to the second."""
    assert abs(clock.now() / 1_000_000 - time.time()) < 1


@given(times)
def test_a_time_comes_back_from_its_text(us: int) -> None:
    """Writing a time and reading it gives the same microsecond, before 1970 too."""
    assert us == clock.parse(clock.rfc3339(us))


@given(times)
def test_a_time_is_written_in_one_way(us: int) -> None:
    """The text is UTC, has six digits behind the point, and says what the standard library says."""
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", clock.rfc3339(us))
    assert f"{moment:%m-%dT%H:%M:%S.%f}Z" == clock.rfc3339(us)[5:]


@given(times, times)
def test_text_order_is_time_order(a: int, b: int) -> None:
    """Entries that are sorted as text are sorted by time."""
    assert (a < b) == (clock.rfc3339(a) < clock.rfc3339(b))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T03:00:00.000000Z",
        "2026-11-22T03:00:00z",
        "2026-11-22T03:00:00+00:00",
        "2026-11-22T05:30:00+02:30",
        "2026-11-22T03:00:00",
        "2026-11-22 03:00",
    ],
)
def test_a_time_may_be_given_in_other_ways(text: str) -> None:
    """An offset counts, and a text without one is UTC."""
    assert 1_795_316_400_000_000 == clock.parse(text)


def test_a_day_begins_at_midnight() -> None:
    """A date alone is its first moment."""
    assert clock.parse("2026-11-22T00:00:00Z") == clock.parse("2026-11-22")


@pytest.mark.parametrize("text", ["", "Z", "yesterday", "2026-13-01", "2026-11-22T25:00:00Z"])
def test_what_is_no_time(text: str) -> None:
    """Any other text is a bad argument."""
    with pytest.raises(ValueError, match=r".+"):
        clock.parse(text)
