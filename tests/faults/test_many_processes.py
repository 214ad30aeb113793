"""Many processes and tasks in one store: nothing lost, nothing twice, everyone's own order kept."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.store import SecureStore
from secure_memory.vault import commits, vault


def appends(talk: Any, path: str, process: int, tasks: int, count: int) -> None:
    """`tasks` tasks append `count` items each to one session, which they also read."""

    async def task(session: SecureSession, name: str) -> None:
        for number in range(count):
            await session.add_items([{"role": "user", "content": f"{name} {number}"}])
            if number % 3 == 0:
                await session.get_items(limit=2)

    async def main() -> None:
        with SecureSession("s", path) as session:
            await asyncio.gather(*(task(session, f"{process}.{n}") for n in range(tasks)))

    talk.hear()
    asyncio.run(main())


@pytest.mark.parametrize(
    ("processes", "tasks", "count"),
    [pytest.param(8, 50 // 8 + 1, 4, id="short"), pytest.param(8, 50, 20, id="long", marks=pytest.mark.long)],
)
def test_many_writers(start: Callable[..., Any], place: Any, processes: int, tasks: int, count: int) -> None:
    """Eight processes of many tasks append to one session: each item is there once, in its writer's order, and proven."""
    SecureStore.create(place.path).close()
    children = [start(appends, str(place.path), n, tasks, count) for n in range(processes)]
    for child in children:
        child.say()
    for child in children:
        child.ends()

    found: dict[str, list[int]] = {}
    for text in place.texts():
        writer, number = text.split()
        found.setdefault(writer, []).append(int(number))
    assert {f"{p}.{t}": list(range(count)) for p in range(processes) for t in range(tasks)} == found

    report = place.verify()["default"]
    assert (1, processes * tasks * count) == (report.sessions, report.items)
    expected = {"session.create": 1, "session.append": processes * tasks * count, "session.tampered": 0, "audit.gap": 0}
    assert expected == {action: place.actions()[action] for action in expected}


def begins(talk: Any, path: str, tenant: str, number: int) -> None:
    """Open the store, the tenant and the session, or make them, and append one item."""
    talk.say("ready")
    talk.hear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a key was made
        session = SecureSession("s", path, tenant=tenant, subject="the same")
    with session:
        asyncio.run(session.add_items([{"role": "user", "content": str(number)}]))
        talk.say(session._handle.shared.manifest.uid.hex())


@pytest.mark.parametrize("key", ["named", "made"])
@pytest.mark.parametrize("rounds", [pytest.param(2, id="short"), pytest.param(50, id="long", marks=pytest.mark.long)])
def test_all_at_once(
    start: Callable[..., Any], place: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, rounds: int
) -> None:
    """Processes that make one store, tenant and session at the same time, and its key, all get the same ones."""
    for number in range(rounds):
        if key == "made":
            monkeypatch.delenv("SECMEM_KEY", raising=False)
            monkeypatch.setenv("SECMEM_KEY_FILE", str(tmp_path / f"keys{number}" / "key"))
        place.path = tmp_path / f"store{number}"
        children = [start(begins, str(place.path), "acme", n) for n in range(8)]
        for child in children:
            child.hear()
        for child in children:
            child.say()
        assert 1 == len({uid for child in children for uid in child.ends()})

        assert sorted(map(str, range(8))) == sorted(place.texts(tenant="acme"))
        report = place.verify()["acme"]
        assert (1, 8) == (report.sessions, report.items)
        assert [] == [name for name in os.listdir(place.path) if name.startswith(".") or name.endswith(".new")]


def makes(talk: Any, path: str, number: int) -> None:
    """Make tenants and sessions in an order of its own."""
    names = [f"t{n}" for n in range(6)]
    Random(number).shuffle(names)
    talk.hear()
    with SecureStore.open(path) as store:
        for name in names:
            session = store.session("s", tenant=name)
            asyncio.run(session.add_items([{"role": "user", "content": str(number)}]))
            session.close()


def test_tenants_at_once(start: Callable[..., Any], place: Any) -> None:
    """Processes that make tenants in different orders agree on each, and no tenant is made twice."""
    SecureStore.create(place.path).close()
    children = [start(makes, str(place.path), n) for n in range(4)]
    for child in children:
        child.say()
    for child in children:
        child.ends()

    reports = place.verify()
    assert {f"t{n}": (1, 4) for n in range(6)} | {"(system)": (0, 0)} == {
        name: (report.sessions, report.items) for name, report in reports.items()
    }
    assert 6 == len(list((place.path / "vaults").glob("*.db")))


def test_threads_at_once(place: Any) -> None:
    """Threads of one process that make one tenant and one session at the same time all get the same."""
    SecureStore.create(place.path).close()
    with SecureStore.open(place.path) as store:

        def begin(number: int) -> None:
            with store.session("s", tenant="acme") as session:
                asyncio.run(session.add_items([{"role": "user", "content": str(number)}]))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(begin, range(32)))
        assert set(map(str, range(32))) == {item["content"] for item in store.session_show("s", tenant="acme")}
    assert (1, 32) == (place.verify()["acme"].sessions, place.verify()["acme"].items)


def has_no_threads(talk: Any, path: str) -> None:
    with SecureSession("s", path) as session:
        asyncio.run(session.add_items([{"role": "user", "content": "before"}]))
        workers = commits.Workers()  # which has no thread yet
        commits.workers = vault.workers = workers
        used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
        threading.stack_size(512 << 20)  # more than there is left, and than the stack of any thread that has ended
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
        with pytest.raises(RuntimeError):
            threading.Thread(target=print).start()
        for number in range(3):
            asyncio.run(asyncio.wait_for(session.add_items([{"role": "user", "content": str(number)}]), 30))
        assert 0 == workers._threads
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        asyncio.run(asyncio.wait_for(session.add_items([{"role": "user", "content": "after"}]), 30))
        assert 1 == workers._threads


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_no_threads(start: Callable[..., Any], place: Any) -> None:
    """Where the system has no thread left to give, operations run in the caller's, and nobody waits for ever."""
    start(has_no_threads, str(place.path)).ends()
    assert ["before", "0", "1", "2", "after"] == place.texts()
    place.verify()


def test_more_vaults_than_threads(place: Any, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]) -> None:
    """A process that wrote to more vaults at once than it has threads still writes when those threads have gone home."""
    monkeypatch.setattr(commits, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(commits, "workers", workers := commits.Workers())
    monkeypatch.setattr(vault, "workers", workers)
    SecureStore.create(place.path).close()

    async def to_all(sessions: list[SecureSession]) -> None:
        await asyncio.gather(*(session.add_items([{"role": "user", "content": "x"}]) for session in sessions))

    with SecureStore.open(place.path) as store:
        sessions = [store.session("s", tenant=f"t{n}") for n in range(3 * commits.MAX_THREADS)]
        for _ in range(3):
            asyncio.run(asyncio.wait_for(to_all(sessions), 30))
            eventually(lambda: workers._threads == 0)
        for session in sessions:
            session.close()
