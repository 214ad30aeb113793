"""`kill -9` at random points: what was acknowledged is there, nothing is there by half, and there is no false alarm."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.store import SecureStore

ALARMS = {"session.tampered", "audit.gap"}
TURN = 3
"""Items of a turn."""


def turn(name: str) -> list[Any]:
    return [{"role": "user" if n == 0 else "assistant", "content": f"{name} {n}"} for n in range(TURN)]


def works(talk: Any, path: str, run: int) -> None:
    """Append turns, and read, pop and append elsewhere in between, without end; tell of each turn once it is kept."""

    async def main() -> None:
        session, other = SecureSession("s", path), SecureSession("other", path, subject="someone")
        talk.say("ready")
        for number in range(10**6):
            await session.add_items(turn(f"{run}.{number}"))
            talk.say(f"{run}.{number}")
            if number % 3 == 0:
                await session.get_items(limit=5)
                await other.get_items()
            if number % 4 == 0:
                await other.add_items(turn("other"))
                await other.pop_item()
                await other.clear_session()

    asyncio.run(main())


@pytest.mark.parametrize("runs", [pytest.param(8, id="short"), pytest.param(50, id="long", marks=pytest.mark.long)])
def test_appending(start: Callable[..., Any], place: Any, runs: int) -> None:
    """After each kill every acknowledged turn is there, whole, in order, and at most one that was not; all of it proven."""
    SecureStore.create(place.path).close()
    random = Random()
    told: list[str] = []
    for run in range(runs):
        children = [start(works, str(place.path), n) for n in ([run] if run % 3 else [run, runs + run])]
        for child in children:
            assert "ready" == child.hear()
            if run % 2:
                told.append(child.hear())  # on a machine that is busy with other things, too
        time.sleep(random.uniform(0, 0.1))
        for child in children:
            child.signal(signal.SIGKILL)
        for child in children:
            assert -signal.SIGKILL == child.wait()
            told += child.rest()

        found = place.texts()
        turns = found[::TURN]
        assert [f"{name.split()[0]} {n}" for name in turns for n in range(TURN)] == found
        names = [name.split()[0] for name in turns]
        assert len(set(names)) == len(names)
        assert set(told) <= set(names)
        assert len(set(names) - set(told)) <= run + 1 + run // 3 + 1  # the one that each killed process was about to tell
        for writer in {name.split(".")[0] for name in names}:
            numbers = [int(name.split(".")[1]) for name in names if name.split(".")[0] == writer]
            assert list(range(len(numbers))) == numbers
    place.verify()
    assert not ALARMS & set(place.actions())
    assert told


def reads(talk: Any, path: str) -> None:
    """Read without end: commits that are not synced, and that a kill must not take back either."""

    async def main() -> None:
        session = SecureSession("s", path)
        talk.say("ready")
        for number in range(10**6):
            await session.get_items()
            talk.say(number)

    asyncio.run(main())


@pytest.mark.parametrize("runs", [pytest.param(4, id="short"), pytest.param(30, id="long", marks=pytest.mark.long)])
def test_reading(start: Callable[..., Any], place: Any, runs: int) -> None:
    """Every read that was answered is in the ledger after a kill, though its commit was not synced."""
    with SecureSession("s", place.path) as session:
        asyncio.run(session.add_items(turn("x")))
    answered = 0
    for _ in range(runs):
        child = start(reads, str(place.path))
        assert "ready" == child.hear()
        time.sleep(Random().uniform(0, 0.05))
        child.signal(signal.SIGKILL)
        child.wait()
        answered += len(child.rest())
        with SecureStore.open(place.path) as store:
            recorded = len(store.audit_log(tenant="default", action="session.read"))
        assert answered <= recorded <= answered + runs
        answered = recorded
    place.verify()
    assert not ALARMS & set(place.actions())


def begins(talk: Any, path: str, tenant: str) -> None:
    talk.say("begins")
    with SecureSession("s", path, tenant=tenant) as session:
        asyncio.run(session.add_items(turn("killed")))
        talk.say("kept")


def kill_while_it_begins(start: Callable[..., Any], path: str, tenant: str, after: float) -> bool:
    """Whether the append was acknowledged before the kill."""
    child = start(begins, path, tenant)
    assert "begins" == child.hear()
    time.sleep(after)
    child.signal(signal.SIGKILL)
    child.wait()
    return child.rest() == ["kept"]


def check_after(place: Any, tenant: str, kept: bool) -> None:
    """The next process opens it, or makes it, and goes on."""
    with SecureSession("s", place.path, tenant=tenant) as session:
        before = [item["content"] for item in asyncio.run(session.get_items())]
        assert before in ([], ["killed 0", "killed 1", "killed 2"])
        assert before or not kept
        asyncio.run(session.add_items(turn("next")))
    assert [*before, "next 0", "next 1", "next 2"] == place.texts(tenant=tenant)


COUNTS = [pytest.param(12, id="short"), pytest.param(300, id="long", marks=pytest.mark.long)]


@pytest.mark.parametrize("count", COUNTS)
def test_making_a_store(start: Callable[..., Any], place: Any, count: int) -> None:
    """A process that is killed while it makes a store leaves one that opens, or none and the next process makes it."""
    above = place.path
    for number in range(count):
        place.path = above.with_name(f"store{number}")
        kept = kill_while_it_begins(start, str(place.path), "default", 0.05 * (number + 0.5) / count)
        check_after(place, "default", kept)
        if number % 5 == 0:
            place.verify()
            assert not ALARMS & set(place.actions())


@pytest.mark.parametrize("count", COUNTS)
def test_making_a_tenant(start: Callable[..., Any], place: Any, count: int) -> None:
    """A process that is killed while it makes a tenant leaves it to the next one, and every other tenant as it was."""
    SecureStore.create(place.path).close()
    for number in range(count):
        kept = kill_while_it_begins(start, str(place.path), f"t{number}", 0.04 * (number + 0.5) / count)
        check_after(place, f"t{number}", kept)
    assert count + 1 == len(place.verify())
    assert not ALARMS & set(place.actions())


def opens(talk: Any, path: str, number: int) -> None:
    talk.say("ready")
    talk.hear()
    with SecureSession("s", path) as session:
        asyncio.run(session.add_items(turn(f"opens {number}")))
        assert len(asyncio.run(session.get_items(limit=TURN))) == TURN


@pytest.mark.parametrize("runs", [pytest.param(3, id="short"), pytest.param(60, id="long", marks=pytest.mark.long)])
def test_all_reopen_at_once(start: Callable[..., Any], place: Any, runs: int) -> None:
    """After every process was killed, those that start at the same time all get in: one recovers, the others wait for it."""
    SecureStore.create(place.path).close()
    for run in range(runs):
        next_ones = [start(opens, str(place.path), n) for n in range(6)]
        for child in next_ones:
            assert "ready" == child.hear()
        killed = [start(works, str(place.path), 2 * run + n) for n in range(2)]
        for child in killed:
            assert "ready" == child.hear()
            child.hear()
        time.sleep(Random().uniform(0, 0.03))
        for child in killed:
            child.signal(signal.SIGKILL)
        for child in next_ones:
            child.say()
        for child in (*next_ones, *killed):
            child.wait()
            child.close()
        assert [0] * len(next_ones) == [child.wait() for child in next_ones]
    place.verify()
    assert not ALARMS & set(place.actions())
