"""The one UTC clock. Everything that needs the time calls `clock.now()`, so that a test can replace it in one place.

A time is an integer of microseconds since 1970-01-01T00:00:00Z; on paper it is RFC 3339 in UTC with six digits, so that
text order is time order.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def now() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def rfc3339(us: int) -> str:
    """RFC 3339 text of a time in microseconds: ``2026-11-22T03:00:00.000000Z``."""
    seconds, micros = divmod(us, 1_000_000)
    return f"{_to_the_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=16)  # many entries are written in one second
def _to_the_second(seconds: int) -> str:
    t = time.gmtime(seconds)
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}"


def parse(text: str) -> int:
    """Microseconds of an RFC 3339 or ISO 8601 text; a text without an offset is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" and text else text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // timedelta(microseconds=1)
