"""What the tests of bad days stand on: a store with its key and its anchors apart, and children that can be killed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secure_memory.store import SecureStore
from secure_memory.verification import TenantReport

PATIENCE = 60.0
"""Seconds after which something that should have happened counts as hung."""
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

_spec = importlib.util.spec_from_file_location("zygote", Path(__file__).with_name("zygote.py"))
assert _spec is not None
assert _spec.loader is not None
zygote = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(zygote)


class Place:
    """Where a test's store is. Key and anchors are named by the environment, which children inherit."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "volume" / "store"
        self.anchors = directory / "anchors"
        self.path.parent.mkdir()

    @property
    def vault(self) -> Path:
        """The file of the one tenant that the test has used."""
        (found,) = (self.path / "vaults").glob("*.db")
        return found

    def verify(self) -> dict[str, TenantReport]:
        """The whole check of the store, by tenant: every entry, item, session and anchor. Raises IntegrityError."""
        with SecureStore.open(self.path) as store:
            return {report.tenant: report for report in store.audit_verify()}

    def texts(self, session: str = "s", tenant: str = "default") -> list[str]:
        """The contents of a session's items in order, read by this process, proven."""
        with SecureStore.open(self.path) as store, store.session(session, tenant=tenant) as one:
            read: Any = asyncio.run(one.get_items())
            return [item["content"] for item in read]

    def actions(self, tenant: str | None = None) -> Counter[str]:
        """How often each action is in the ledgers."""
        with SecureStore.open(self.path) as store:
            return Counter(record.entry.action for record in store.audit_log(tenant=tenant))


class Child:
    """A running program, from the test's side."""

    def __init__(self, nursery: Nursery, pid: int, stdin: int, stdout: int, stderr: Any) -> None:
        self.pid = pid
        self._nursery = nursery
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._buffer = b""
        self._open = True

    def say(self, word: str = "go") -> None:
        """A line to the program."""
        os.write(self._stdin, f"{word}\n".encode())

    def hear(self) -> str:
        """The program's next line. Fails where it ended, or says nothing."""
        while b"\n" not in self._buffer:
            if not select.select([self._stdout], [], [], PATIENCE)[0]:
                pytest.fail(f"the child said nothing for {PATIENCE:g} s\n{self.errors()}")
            data = os.read(self._stdout, 65536)
            if not data:
                pytest.fail(f"the child ended, with {self.wait()}\n{self.errors()}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def rest(self) -> list[str]:
        """Every whole line that the program still says, up to its end."""
        while data := os.read(self._stdout, 65536):
            self._buffer += data
        return self._buffer.decode().split("\n")[:-1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it ended."""
        self._nursery.signal(self.pid, number)

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it. Fails where it does not end."""
        return self._nursery.wait(self.pid, self)

    def ends(self) -> list[str]:
        """The lines it still said, once it ended well. Fails where it ended otherwise."""
        code = self.wait()
        assert code == 0, f"the child ended with {code}\n{self.errors()}"
        lines = self.rest()
        self.close()
        return lines

    def errors(self) -> str:
        """What it wrote to standard error."""
        self._stderr.seek(0)
        return str(self._stderr.read())

    def close(self) -> None:
        """End it, and what it started, if that is still there."""
        if not self._open:
            return
        self._open = False
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        for fd in (self._stdin, self._stdout):
            os.close(fd)
        self._stderr.close()


class Nursery:
    """The zygote, from the test's side."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(zygote.__file__)), str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._codes: dict[int, int] = {}
        self._ended = threading.Condition()
        self._answers: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while (message := zygote.receive(self._sock)) is not None:
            told = message[0]
            if "ended" not in told:
                self._answers.put(told)
            else:
                with self._ended:
                    self._codes[told["ended"]] = told["code"]
                    self._ended.notify_all()

    def start(self, program: Callable[..., None], *args: object) -> Child:
        """Run a function of a test file in a process of its own, in this environment. `args` are JSON."""
        stdin, to_child = os.pipe()
        from_child, stdout = os.pipe()
        stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the child
        message = {
            "file": program.__code__.co_filename,
            "name": program.__name__,
            "args": args,
            "env": dict(os.environ),
            "cwd": os.getcwd(),
        }
        zygote.send(self._sock, message, (stdin, stdout, stderr.fileno()))
        for fd in (stdin, stdout):
            os.close(fd)
        return Child(self, self._answers.get(timeout=PATIENCE)["pid"], to_child, from_child, stderr)

    def signal(self, pid: int, number: int) -> None:
        zygote.send(self._sock, {"pid": pid, "signal": int(number)})
        assert {"signalled": pid} == self._answers.get(timeout=PATIENCE)

    def wait(self, pid: int, child: Child) -> int:
        with self._ended:
            if not self._ended.wait_for(lambda: pid in self._codes, PATIENCE):
                pytest.fail(f"the child did not end within {PATIENCE:g} s\n{child.errors()}")
            return self._codes[pid]

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._process.wait(PATIENCE)


@pytest.fixture(scope="session")
def _nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def start(_nursery: Nursery) -> Iterator[Callable[..., Child]]:
    """Start a program: a function of the test file, given a `Talk` and the arguments. Ended with the test."""
    children: list[Child] = []

    def start(program: Callable[..., None], *args: object) -> Child:
        children.append(_nursery.start(program, *args))
        return children[-1]

    yield start
    for child in children:
        child.close()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place for a store, its key in the environment, its anchors outside."""
    place = Place(tmp_path)
    monkeypatch.setenv("SECMEM_KEY", KEY)
    monkeypatch.setenv("SECMEM_ANCHOR", str(place.anchors))
    return place


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something is so that another process brings about; fail where it never is."""

    def eventually(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.01)

    return eventually
