"""A healthy store, used by several processes in every way at once: not one IntegrityError."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.store import SecureStore
from secure_memory.vault import open_ones

TENANTS, SESSIONS = ("acme", "globex"), ("one", "two", "three")


def lives(talk: Any, path: str, number: int, seconds: float) -> None:
    """Open, use and close sessions at random, with and without what they remember, for so long."""
    random = Random()
    open_ones.MAX_OPEN = random.choice([1, 2, 64])  # with the fewest, vaults are shut and opened again all the time

    async def use(session: SecureSession, serial: int) -> None:
        for step in range(random.randrange(1, 8)):
            match random.randrange(10):
                case 0:
                    await session.pop_item()
                case 1:
                    await session.clear_session()
                case 2 | 3 | 4:
                    texts = [f"{number} {serial} {step} {n}" for n in range(random.randrange(1, 4))]
                    await session.add_items([{"role": "user", "content": text} for text in texts])
                case 5:
                    await session.get_items(limit=random.randrange(4))
                case _:
                    read: Any = await session.get_items()
                    texts = [item["content"] for item in read]
                    assert len(texts) == len(set(texts))

    async def main(serial: int) -> None:
        with SecureStore.open(path) as store:
            opened = [
                store.session(name, tenant=random.choice(TENANTS), cache=random.random() < 0.7)
                for name in random.choices(SESSIONS, k=3)
            ]
            await asyncio.gather(*(use(session, serial * 10 + n) for n, session in enumerate(opened)))
            match random.randrange(12):
                case 0:
                    await asyncio.to_thread(store.audit_verify)
                case 1:
                    await asyncio.to_thread(store.audit_log, limit=5)
                case 2:
                    await asyncio.to_thread(store.sessions, tenant=TENANTS[0])
                case 3:
                    await asyncio.to_thread(store.audit_anchor)
            if random.random() < 0.5:
                for session in opened:
                    session.close()

    talk.hear()
    end, serial = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        asyncio.run(main(serial))
        serial += 1


@pytest.mark.parametrize("seconds", [pytest.param(2, id="short"), pytest.param(40, id="long", marks=pytest.mark.long)])
@pytest.mark.parametrize("anchored", [True, False], ids=["anchor", "no anchor"])
def test_healthy(
    start: Callable[..., Any], place: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, anchored: bool
) -> None:
    """Processes that open, read, write, pop, clear, verify and close at random never meet an alarm, and record none."""
    with SecureStore.create(place.path) as store:
        for tenant in TENANTS:
            store.tenant_create(tenant)
    if not anchored:  # which is not where anchors can be: known as degraded, and no reason for an alarm
        monkeypatch.setenv("SECMEM_ANCHOR", "/dev/null/anchors")
    children = [start(lives, str(place.path), number, seconds) for number in range(4)]
    for child in children:
        child.say()
    for child in children:
        child.ends()
    place.verify()
    actions = place.actions()
    assert 0 == actions["session.tampered"]
    if anchored:
        assert 0 == actions["audit.gap"]
    assert actions["session.append"] > 10
    assert actions["session.read"] > 10
