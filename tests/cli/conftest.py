"""A store to run commands on, and three ways to run them: in this process, in one of its own, and in a terminal."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from secure_memory import SecureStore
from secure_memory.cli.main import main

SECMEM = Path(sys.executable).with_name("secmem")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store of this test will be, as the environment says it; key and anchors are named there too."""
    monkeypatch.setenv("SECMEM_KEY", base64.b64encode(bytes(range(32))).decode())
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path / "anchors"))
    monkeypatch.setenv("SECMEM_STORE", str(tmp_path / "desk.secmem"))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return tmp_path / "desk.secmem"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `secmem` in this process."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def process() -> Run:
    """Run the installed `secmem` in a process of its own, its output in pipes."""

    def process(*arguments: str, **environ: str) -> Done:
        done = subprocess.run(
            [SECMEM, *arguments], capture_output=True, env={**os.environ, **environ}, timeout=60, check=False
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return process


@pytest.fixture
def terminal() -> Run:
    """Run the installed `secmem` in a terminal of so many columns; what it prints, errors too, is in `out`."""

    def terminal(*arguments: str, columns: int = 120, **environ: str) -> Done:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        child = subprocess.Popen(
            [SECMEM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environ}
        )
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # Linux: EIO when the other side is closed
            pass
        finally:
            os.close(ours)
        return Done(child.wait(60), shown.decode().replace("\r\n", "\n"), "")

    return terminal


@pytest.fixture
def desk(place: Path) -> Path:
    """A store with the tenant acme: user_123 is ana's conversation of four items, kept by an agent of maria's."""
    SecureStore.create(place).close()
    say(
        place,
        "user_123",
        {"role": "user", "content": "I was charged twice"},
        {"type": "function_call", "name": "create_ticket", "call_id": "c1", "arguments": '{"subject":"charge"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "T-1"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ticket T-1.\nBye"}]},
        subject="ana",
        actor="user:maria",
    )
    return place


def say(path: Path, session_id: str, *items: dict[str, Any], **how: Any) -> None:
    """Append items to a conversation of the tenant acme, and close everything."""

    async def append() -> None:
        with SecureStore.open(path) as store:
            session = store.session(session_id, tenant="acme", **how)
            await session.add_items(list(items))
            session.close()

    asyncio.run(append())


@pytest.fixture
def talk(place: Path) -> Callable[..., None]:
    """`say`, in the store of this test."""
    return lambda session_id, *items, **how: say(place, session_id, *items, **how)
