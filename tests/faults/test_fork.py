"""Processes that fork while the store is open: both sides go on, and the vault stays whole."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import StorageError
from secure_memory.store import SecureStore


def add(session: SecureSession, *texts: str) -> None:
    asyncio.run(session.add_items([{"role": "user", "content": text} for text in texts]))


def texts(session: SecureSession) -> list[str]:
    return [item["content"] for item in asyncio.run(session.get_items())]


def in_child(act: Callable[[], None]) -> int:
    """Fork; the child does `act` and goes, without the interpreter's ending. Its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"in the forked child: {error!r}\n".encode())
            os._exit(1)
    return pid


def well(pid: int) -> None:
    """Wait for a forked child, which must have ended well, and soon."""
    deadline = time.monotonic() + 30
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("the forked child hangs")
        time.sleep(0.002)
    assert 0 == os.waitstatus_to_exitcode(found[1])


# ---- a fork in the middle of everything -------------------------------------------------------------------------------


def forks(talk: Any, path: str, count: int) -> None:
    """Four threads append and read, and make tenants, while the main thread forks; each child does the same."""
    session = SecureSession("s", path)
    other = SecureSession("other", path, tenant="other")
    add(session, "first")
    stop = threading.Event()

    def work(name: str) -> int:
        done = 0
        while not stop.is_set():
            add(session, f"{name} {done}")
            add(other, f"{name} {done}")
            assert f"{name} {done}" in texts(session)
            done += 1
        return done

    def child(number: int) -> None:
        for done in range(3):
            add(session, f"child{number} {done}")
            add(other, f"child{number} {done}")
        assert [f"child{number} {n}" for n in range(3)] == [t for t in texts(session) if t.startswith(f"child{number} ")]

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, f"thread{n}") for n in range(4)]
        children = []
        for number in range(count):
            time.sleep(random.uniform(0, 0.03))
            children.append(in_child(lambda number=number: child(number)))
        for pid in children:
            well(pid)
        stop.set()
        done = [future.result() for future in running]
    expected = {f"thread{n} {i}" for n in range(4) for i in range(done[n])}
    expected |= {f"child{n} {i}" for n in range(count) for i in range(3)}
    for found in (texts(session)[1:], texts(other)):
        assert expected == set(found)
        assert len(expected) == len(found)
    talk.say(len(expected) + 1)


@pytest.mark.parametrize("count", [pytest.param(6, id="short"), pytest.param(60, id="long", marks=pytest.mark.long)])
def test_amid_commits(start: Callable[..., Any], place: Any, count: int) -> None:
    """A fork while transactions are open in other threads: parent and child go on in the same vaults, nothing is lost."""
    (items,) = start(forks, str(place.path), count).ends()
    reports = place.verify()
    assert int(items) == reports["default"].items
    assert not {"session.tampered", "audit.gap"} & set(place.actions())


# ---- who closes, and when ---------------------------------------------------------------------------------------------


def outlived(talk: Any, path: str) -> None:
    """The child goes on after its parent has closed the store."""
    session = SecureSession("s", path)
    add(session, "parent")
    closed, close = os.pipe()

    def child() -> None:
        add(session, "child before")
        talk.say("wrote")
        os.read(closed, 1)
        add(session, "child after")
        assert ["parent", "child before", "child after"] == texts(session)
        talk.say("done")

    pid = in_child(child)
    talk.hear()
    session.close()
    os.write(close, b"x")
    well(pid)


def test_child_outlives(start: Callable[..., Any], place: Any) -> None:
    """What a child acknowledges after its parent closed the store, and with it the WAL, is kept."""
    parent = start(outlived, str(place.path))
    assert "wrote" == parent.hear()
    parent.say()
    parent.ends()
    assert ["parent", "child before", "child after"] == place.texts()
    place.verify()


def exits(talk: Any, path: str, use: bool) -> None:
    """A child ends as interpreters do, exit handlers and all, while its parent has the store open."""
    session = SecureSession("s", path)
    add(session, "before")
    pid = os.fork()
    if pid == 0:
        if use:
            add(session, "child")
        sys.exit(0)
    well(pid)
    files = set(os.listdir(Path(path, "vaults")))
    add(session, "after")
    assert files <= set(os.listdir(Path(path, "vaults")))
    talk.say("still here")
    talk.hear()
    assert (["before", "child", "after"] if use else ["before", "after"]) == texts(session)
    session.close()


@pytest.mark.parametrize("use", [False, True], ids=["unused", "used"])
def test_child_exits(start: Callable[..., Any], place: Any, use: bool) -> None:
    """A child that exits closes nothing of its parent's: the parent goes on, and one process closes the store once."""
    parent = start(exits, str(place.path), use)
    assert "still here" == parent.hear()
    expected = ["before", "child", "after"] if use else ["before", "after"]
    assert expected == place.texts()  # by a third process, which opens and closes it meanwhile
    parent.say()
    parent.ends()
    actions = place.actions("(system)")
    assert (3, 2) == (actions["store.open"], actions["store.close"])  # the one that looks has not closed it yet
    place.verify()


def inherits(talk: Any, path: str) -> None:
    """No file of the store is open in a child that has not used it."""
    session = SecureSession("s", path)
    add(session, "before")
    assert open_files(path)
    well(in_child(lambda: talk.say(open_files(path))))
    session.close()


def open_files(path: str) -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the one by which the directory is read
            continue
    return [name for name in found if name.startswith(path)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_nothing_inherited(start: Callable[..., Any], place: Any) -> None:
    """A child inherits no connection: SQLite would take locks for its own that the system gave to its parent."""
    assert ["[]"] == start(inherits, str(place.path)).ends()


def closes(talk: Any, path: str) -> None:
    session = SecureSession("s", path)
    store = SecureStore.open(path)
    add(session, "before")

    def child() -> None:
        add(session, "child")
        session.close()
        store.close()
        with SecureSession("s", path) as again:
            add(again, "child again")

    well(in_child(child))
    add(session, "after")
    assert ["before", "child", "child again", "after"] == texts(session)
    session.close()
    store.close()


def test_child_closes(start: Callable[..., Any], place: Any) -> None:
    """A child may close the handles that it inherited, and open its own; its parent's stay open."""
    start(closes, str(place.path)).ends()
    place.verify()


# ---- pools ------------------------------------------------------------------------------------------------------------

_session: SecureSession | None = None


def _work(number: int) -> int:
    assert _session is not None
    add(_session, f"pool {number}")
    return len(texts(_session))


def pools(talk: Any, path: str) -> None:
    global _session
    _session = SecureSession("s", path)
    add(_session, "first")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        reads = pool.map_async(_work, range(24), chunksize=1)
        for number in range(8):
            add(_session, f"parent {number}")
        assert 24 == len(reads.get(60))
    with multiprocessing.get_context("fork").Pool(2) as pool:  # one more, from a process that has used it since
        pool.map(_work, range(24, 28), chunksize=1)
    talk.say(len(texts(_session)))


def test_pool(start: Callable[..., Any], place: Any) -> None:
    """The processes of a pool that was forked from an open store use the session that they inherited."""
    assert [str(1 + 24 + 8 + 4)] == start(pools, str(place.path)).ends()
    assert {f"pool {n}" for n in range(28)} <= set(place.texts())
    place.verify()


# ---- forks at awkward moments -----------------------------------------------------------------------------------------


def scans(talk: Any, path: str) -> None:
    session = SecureSession("s", path)
    add(session, "before")
    database = session._handle.shared.tenant("default").vault.database

    def child() -> None:
        with pytest.raises(StorageError) as caught:
            add(session, "lost")
        assert "scan" in str(caught.value)
        assert caught.value.hint

    with database.snapshot() as execute:
        scanned = execute("SELECT seq FROM ledger")
        well(in_child(child))
        assert len(list(scanned)) == execute("SELECT count(*) FROM ledger").fetchone()[0]
    well(in_child(lambda: add(session, "child")))
    assert ["before", "child"] == texts(session)


def test_amid_a_scan(start: Callable[..., Any], place: Any) -> None:
    """A child that was forked while its vault was being scanned is refused, with a hint; the scan goes on."""
    start(scans, str(place.path)).ends()
    place.verify()


def holds(talk: Any, path: str) -> None:
    """Fork while another thread is at what a session remembers, which it is for some microseconds of each operation."""
    session = SecureSession("s", path)
    add(session, "before")
    stop = threading.Event()
    prefix = session._conversation._prefix
    assert prefix is not None

    def churn() -> None:
        while not stop.is_set():
            prefix.take(0, 1)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    for number in range(20):
        well(in_child(lambda number=number: add(session, str(number))))
    stop.set()
    for thread in threads:
        thread.join()
    assert ["before", *map(str, range(20))] == texts(session)


def test_amid_memory(start: Callable[..., Any], place: Any) -> None:
    """A fork while another thread uses what a session remembers leaves the child no lock that nobody will release."""
    start(holds, str(place.path)).ends()


def memory(talk: Any) -> None:
    session = SecureSession("s")
    add(session, "before")

    def child() -> None:
        add(session, "child")
        assert ["before", "child"] == texts(session)

    well(in_child(child))
    add(session, "parent")
    assert ["before", "parent"] == texts(session)


def test_in_memory(start: Callable[..., Any]) -> None:
    """A store in memory is, after a fork, each process's own."""
    start(memory).ends()
