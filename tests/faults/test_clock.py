"""A clock that goes backwards, stands still or jumps: nothing raises, and the ledger verifies."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from secure_memory import clock
from secure_memory.agents_sdk.session import SecureSession
from secure_memory.store import SecureStore

HOUR = 3_600_000_000
CLOCKS = {
    "backwards": itertools.count(1_700_000_000_000_000, -HOUR),
    "still": itertools.repeat(1_700_000_000_000_000),
    "to and fro": itertools.cycle([1_700_000_000_000_000, 0, 4_102_444_800_000_000, 1]),
    "from a dead battery": itertools.count(0, 7),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_clock(place: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever the clock says, conversations are kept in the order of their writing, and verification passes."""
    times = CLOCKS[name]
    monkeypatch.setattr(clock, "now", lambda: next(times))

    async def main() -> None:
        for number in range(4):
            with SecureSession("s", place.path) as session:
                for text in ("a", "b", "c"):
                    await session.add_items([{"role": "user", "content": f"{number}{text}"}])
                popped: Any = await session.pop_item()
                assert f"{number}c" == popped["content"]
                expected = [f"{n}{text}" for n in range(number + 1) for text in "ab"]
                read: Any = await session.get_items()
                assert expected == [item["content"] for item in read]

    asyncio.run(main())
    place.verify()
    with SecureStore.open(place.path) as store:
        records = store.audit_log(tenant="default")
        assert len(records) == len({record.entry.seq for record in records})
        assert [8] == [info.turns for info in store.sessions()]
    assert not {"session.tampered", "audit.gap"} & set(place.actions())
