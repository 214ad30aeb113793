"""Another process that holds the write lock, stopped in it, or ended in it: waited for, told of, and nothing lost."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import StoreBusyError
from secure_memory.store import SecureStore
from secure_memory.vault import sqlcipher
from secure_memory.vault.commits import Operation, perform_blocking


def add(session: SecureSession, *texts: str) -> None:
    asyncio.run(session.add_items([{"role": "user", "content": text} for text in texts]))


def texts(session: SecureSession) -> list[str]:
    return [item["content"] for item in asyncio.run(session.get_items())]


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for another process for 0.3 s, and not for BUSY_TIMEOUT, which stands in the functions' defaults."""
    for function in (sqlcipher.begin, sqlcipher.wait_for):
        monkeypatch.setattr(function, "__defaults__", (0.3,))


def holds(talk: Any, path: str, what: str) -> None:
    """Hold the write lock of the tenant's vault, of keys.db or of the system vault until told, then commit."""
    store = SecureStore.open(path)
    shared = store._shared
    if what == "keys":
        with shared.keyring._database.transaction(write=True):
            talk.say("held")
            talk.hear()
    else:

        def hold(tx: Any) -> None:
            talk.say("held")
            talk.hear()
            tx.record({})

        one = shared.system if what == "system" else shared.tenant("default")
        perform_blocking(one.vault, Operation(hold, lambda _: None, True, {"action": "audit.read", "actor": "test"}))
    store.close()


@pytest.fixture
def holder(start: Callable[..., Any], place: Any) -> Callable[[str], Any]:
    """Start a process that holds a write lock; says so by returning."""

    def holder(what: str) -> Any:
        child = start(holds, str(place.path), what)
        assert "held" == child.hear()
        return child

    return holder


@pytest.mark.usefixtures("short_patience")
def test_vault_held(place: Any, holder: Callable[[str], Any]) -> None:
    """While another process holds a vault, everything on it is StoreBusyError and leaves nothing; other tenants go on."""
    with SecureSession("s", place.path) as session, SecureSession("s", place.path, tenant="other") as other:
        add(session, "before")
        child = holder("vault")
        for operation in (session.get_items, session.pop_item, session.clear_session):
            with pytest.raises(StoreBusyError) as caught:
                asyncio.run(operation())
            assert caught.value.hint
        with pytest.raises(StoreBusyError):
            add(session, "lost")
        add(other, "theirs")
        child.say()
        child.ends()
        assert ["before"] == texts(session)
        add(session, "after")
        assert ["before", "after"] == texts(session)
    place.verify()


def test_waits(place: Any, holder: Callable[[str], Any]) -> None:
    """An operation waits for another process's transaction, as long as that is short, and then goes through."""
    with SecureSession("s", place.path) as session:
        add(session, "before")
        child = holder("vault")
        threading.Timer(0.3, child.say).start()
        began = time.monotonic()
        add(session, "after")
        assert time.monotonic() - began > 0.25
        assert ["before", "after"] == texts(session)
        child.ends()


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("what", ["keys", "system"])
def test_opening(place: Any, holder: Callable[[str], Any], what: str) -> None:
    """While another process holds keys.db or the system vault, what needs them is StoreBusyError, and the rest goes on."""
    with SecureStore.create(place.path) as store, store.session("s") as session, store.session("new") as new:
        add(session, "before")
        child = holder(what)
        with pytest.raises(StoreBusyError):
            store.tenant_create("new")
        if what == "keys":
            with pytest.raises(StoreBusyError):
                add(new, "lost")
        add(session, "meanwhile")
        child.say()
        child.ends()
        add(new, "after")
        store.tenant_create("new")
        assert ["before", "meanwhile"] == texts(session)
        assert ["after"] == texts(new)
    place.verify()


@pytest.mark.usefixtures("short_patience")
def test_stopped(place: Any, holder: Callable[[str], Any]) -> None:
    """A process that was stopped while it held the lock makes others raise, not hang; continued, it ends as always."""
    with SecureSession("s", place.path) as session:
        add(session, "before")
        child = holder("vault")
        child.signal(signal.SIGSTOP)
        child.say()
        began = time.monotonic()
        with pytest.raises(StoreBusyError, match="held"):
            add(session, "lost")
        assert time.monotonic() - began < 5
        child.signal(signal.SIGCONT)
        child.ends()
        add(session, "after")
        assert ["before", "after"] == texts(session)
    place.verify()


@pytest.mark.usefixtures("short_patience")
def test_closing_while_held(place: Any, holder: Callable[[str], Any]) -> None:
    """Closing a store whose system vault another process holds comes to an end, and the next opening is well."""
    session = SecureSession("s", place.path)
    add(session, "before")
    child = holder("system")
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 5
    with pytest.raises(StoreBusyError):
        SecureStore.open(place.path)
    child.say()
    child.ends()
    assert ["before"] == place.texts()
    place.verify()


def test_killed(place: Any, holder: Callable[[str], Any]) -> None:
    """A process killed while it held the lock leaves nothing of its transaction, and the lock to the next."""
    with SecureSession("s", place.path) as session:
        add(session, "before")
        child = holder("vault")
        child.signal(signal.SIGKILL)
        assert -signal.SIGKILL == child.wait()
        add(session, "after")
        assert ["before", "after"] == texts(session)
    place.verify()


def takes_turns(talk: Any, path: str) -> None:
    with SecureSession("s", path) as session:
        talk.say("ready")
        while talk.hear() == "go":
            add(session, "x")
            texts(session)
            talk.say("done")


def test_stopped_anywhere(start: Callable[..., Any], place: Any, short_patience: None) -> None:
    """Processes stopped at random moments, and continued, never make another lose anything or raise more than busy."""
    with SecureSession("s", place.path) as session:
        add(session, "first")
        child = start(takes_turns, str(place.path))
        assert "ready" == child.hear()
        kept = 1
        for number in range(12):
            child.say()
            time.sleep(number * 0.0007)
            child.signal(signal.SIGSTOP)
            for _ in range(2):
                try:
                    add(session, "y")
                    kept += 1
                except StoreBusyError:
                    pass
            child.signal(signal.SIGCONT)
            assert "done" == child.hear()
            kept += 1
        child.say("end")
        child.ends()
        assert kept == len(texts(session))
    place.verify()
    assert not {"session.tampered", "audit.gap"} & set(place.actions())


# ---- endings ----------------------------------------------------------------------------------------------------------


def never_closes(talk: Any, path: str, how: str) -> None:
    """End with sessions and stores that nobody closed."""
    sessions = [SecureSession("s", path), SecureSession("t", path, tenant="other")]
    for session in sessions:
        add(session, "kept")
    if how == "collected":
        del session, sessions[:]
        again = SecureSession("s", path)
        assert ["kept"] == texts(again)
        del again
    elif how == "raises":
        raise SystemExit(0)
    elif how == "daemon":
        threading.Thread(target=lambda: [add(sessions[0], "more") for _ in range(10**6)], daemon=True).start()
        time.sleep(0.05)
    elif how == "thread":
        threading.Thread(target=lambda: [add(sessions[0], "more") for _ in range(20)]).start()
    elif how == "task":

        async def leave() -> None:
            tasks = [sessions[0].add_items([{"role": "user", "content": "more"}]) for _ in range(20)]
            left = [asyncio.ensure_future(task) for task in tasks]
            await asyncio.sleep(0)
            assert not all(task.done() for task in left)

        asyncio.run(leave())


@pytest.mark.parametrize("how", ["kept", "collected", "raises", "daemon", "thread", "task"])
def test_never_closed(start: Callable[..., Any], place: Any, how: str) -> None:
    """A process that ends without closing anything ends soon and well, and leaves its store closed and whole."""
    child = start(never_closes, str(place.path), how)
    child.ends()
    files = sorted(file.name for file in Path(place.path).rglob("*") if file.name.endswith(("-wal", "-shm")))
    found = place.texts()
    assert "kept" == found[0]
    assert ["more"] * (len(found) - 1) == found[1:]
    if how == "thread":
        assert 21 == len(found)
    if how != "daemon":  # which goes on until the interpreter is no more
        assert [] == files
        actions = place.actions("(system)")
        assert actions["store.open"] == actions["store.close"] + 1
    place.verify()


def ends_while_waiting(talk: Any, path: str) -> None:
    for function in (sqlcipher.begin, sqlcipher.wait_for):
        function.__defaults__ = (0.5,)
    session = SecureSession("s", path)
    add(session, "before")
    talk.say("ready")
    talk.hear()
    for number in range(5):
        threading.Thread(target=add, args=(session, str(number)), daemon=True).start()
    time.sleep(0.1)


def test_ends_while_waiting(start: Callable[..., Any], place: Any, holder: Callable[[str], Any]) -> None:
    """An interpreter that ends while its operations wait for another process ends all the same, without hanging."""
    child = start(ends_while_waiting, str(place.path))
    assert "ready" == child.hear()
    other = holder("vault")
    began = time.monotonic()
    child.say()
    child.ends()
    assert time.monotonic() - began < 10
    other.say()
    other.ends()
    assert ["before"] == place.texts()
    place.verify()
