"""What stops a purge: too much at once, a clock that can't be right, another purge of the same vault.

- A policy with a slip in it, or a clock that someone set, deletes what nobody meant to delete, and no backup is as good as
  not having done so. So a purge in cron runs with a limit, and refuses a clock that went backwards, or that stands further
  past the ledger's last entry than a quiet time explains.
- One purge a vault at a time: a lock that the system takes back when its process dies.

Called by `lifecycle.purge.purges`.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secure_memory import clock
from secure_memory.errors import SafetyLimitError, StoreBusyError
from secure_memory.policy import durations
from secure_memory.policy.durations import Duration

_MOST = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,6})?)(?P<percent>%?)")


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may go at once, as a share or a number; how far the clock may have moved, None for any way."""

    share: float | None = None
    number: int | None = None
    jump: Duration | None = None

    @classmethod
    def parse(cls, max_delete: str | None, max_clock_jump: str) -> Limit:
        """The limit that these texts say ("5%" or "1000"; a duration or "any"). Raises ValueError."""
        try:
            jump = None if max_clock_jump == "any" else durations.parse(max_clock_jump)
        except ValueError as error:
            raise ValueError(f"how far the clock may have moved is {error}; or any") from None
        if max_delete is None:
            return cls(jump=jump)
        found = _MOST.fullmatch(max_delete)
        if (
            found is None
            or (found["percent"] and float(found["number"]) > 100)
            or (not found["percent"] and "." in max_delete)
        ):
            raise ValueError("the most to delete is a share such as 5%, or a number of items")
        if found["percent"]:
            return cls(share=float(found["number"]) / 100, jump=jump)
        return cls(number=int(found["number"]), jump=jump)

    def most(self, items: int) -> int | None:
        """How many of so many items may go; None for all of them."""
        return self.number if self.share is None else int(items * self.share)

    def check_clock(self, where: str, now: int, last: int) -> None:
        """Raise SafetyLimitError where the clock can't be right: `last` is the time of the ledger's last entry."""
        if self.jump is None:
            return
        if now < last:
            raise SafetyLimitError(
                f"{where}: the clock says {clock.rfc3339(now)}, and its ledger's last entry is of {clock.rfc3339(last)}",
                hint="set the clock right; if it is right, say --max-clock-jump any",
            )
        if now > self.jump.after(last):
            raise SafetyLimitError(
                f"{where}: the clock stands more than {self.jump.text} past its ledger's last entry, {clock.rfc3339(last)}",
                hint="check the clock; if nobody wrote for so long, say a longer --max-clock-jump",
            )


@contextmanager
def only_one(vault: Path | None, where: str) -> Iterator[None]:
    """Inside the block nobody else purges that vault. Raises StoreBusyError. A vault in memory is this process's alone."""
    if vault is None:
        yield
        return
    file = os.open(vault.with_suffix(".purging"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreBusyError(f"{where}: another purge is at it", hint="wait until it is done") from None
        yield
    finally:
        os.close(file)  # which gives the lock back; the file stays, since another may have opened it
