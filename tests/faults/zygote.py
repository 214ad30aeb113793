"""Forks the children of these tests: a process that has imported everything once, and has opened nothing.

`import agents` costs more than a second; a child that is forked from here starts in a few milliseconds, and is otherwise a
process like any other: it shares no store, no thread and no lock with the test. The test's side is in `conftest.py`.

A program is a function of a test file. It gets a `Talk`, by which it is heard, and then its arguments:

    def appends(talk: Talk, count: int) -> None: ...
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct(">I")
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_KEPT = {"NOSUID": 2, "NODEV": 4, "NOEXEC": 8, "NOATIME": 1024, "NODIRATIME": 2048, "RELATIME": 1 << 21}
"""Options that a user namespace must not take away from a mount that it got."""
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


class Talk:
    """What a program says and hears, line by line, over the pipes to its test; and what it can do to its surroundings."""

    def say(self, *words: object) -> None:
        """A line to the test."""
        os.write(1, (" ".join(map(str, words)) + "\n").encode())

    def hear(self) -> str:
        """The next line from the test; empty where the test has gone."""
        return sys.stdin.readline().strip()

    def drop_privileges(self) -> None:
        """Be bound by modes like anyone else: root keeps its name, and none of its capabilities."""
        header, nothing = struct.pack("<Ii", 0x20080522, 0), bytes(24)
        if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
            raise OSError(ctypes.get_errno(), "capset")

    def own_mounts(self) -> None:
        """Mount from here on for this process alone. Raises PermissionError where the kernel allows nobody but root."""
        libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
        if libc.unshare(_CLONE_NEWNS if uid == 0 else _CLONE_NEWNS | _CLONE_NEWUSER) != 0:
            raise PermissionError(ctypes.get_errno(), "unshare")
        if uid != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        self._mount(b"none", "/", None, _MS_REC | _MS_PRIVATE, b"")

    def small_disk(self, path: str, size: int) -> None:
        """Put an empty file system of `size` bytes at `path`."""
        self._mount(b"tmpfs", path, b"tmpfs", 0, b"size=%d" % size)

    def read_only(self, path: str) -> None:
        """Make a directory, and what is below, read-only."""
        self._mount(path.encode(), path, None, _MS_BIND, b"")
        self.read_only_mount(path)

    def read_only_mount(self, path: str) -> None:
        """Make the file system that is mounted at `path` read-only, and none that is mounted below it."""
        kept = sum(flag for name, flag in _KEPT.items() if os.statvfs(path).f_flag & getattr(os, f"ST_{name}"))
        self._mount(b"none", path, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept, b"")

    def _mount(self, what: bytes, where: str, kind: bytes | None, flags: int, options: bytes) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(what, os.fsencode(where), kind, ctypes.c_ulong(flags), options) != 0:
            raise PermissionError(ctypes.get_errno(), f"mount at {where}")


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """One message, as JSON behind its length, with file descriptors."""
    data = json.dumps(message).encode()
    socket.send_fds(sock, [_LENGTH.pack(len(data))], list(fds))
    sock.sendall(data)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message; None at the end."""
    head, fds, _, _ = socket.recv_fds(sock, _LENGTH.size, 3)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    data = b""
    while len(data) < length:
        data += sock.recv(length - len(data))
    return json.loads(data), fds


def serve(sock: socket.socket) -> None:
    """Fork a child for each request, signal children for the test, and tell of each that ended. Ends with the test."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    alive: set[int] = set()

    def ended(pid: int, status: int) -> None:
        if not os.WIFSTOPPED(status):
            alive.discard(pid)
            send(sock, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    while True:
        ready, _, _ = select.select([sock, woken], [], [])
        if woken in ready:
            os.read(woken, 100)
            while alive:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                ended(pid, status)
        if sock in ready:
            message = receive(sock)
            if message is None:
                for pid in alive:
                    os.killpg(pid, signal.SIGKILL)
                return
            request, fds = message
            if "signal" in request:
                if request["pid"] in alive:  # not yet waited for, so that the number is still its own
                    os.kill(request["pid"], request["signal"])
                    if request["signal"] == signal.SIGSTOP:  # wait until it stands still, in all its threads
                        ended(*os.waitpid(request["pid"], os.WUNTRACED))
                send(sock, {"signalled": request["pid"]})
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (woken, wake):
                    os.close(fd)
                sock.close()
                _become(request, fds)
                return
            os.setpgid(pid, pid)
            alive.add(pid)
            for fd in fds:
                os.close(fd)
            send(sock, {"pid": pid})


def _become(request: dict[str, Any], fds: list[int]) -> None:
    """In the child: run the program. The interpreter then ends as it always does, exit handlers and all."""
    os.setpgid(0, 0)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    try:
        _program(request["file"], request["name"])(Talk(), *request["args"])
    except Exception:
        os.write(2, traceback.format_exc().encode())
        sys.exit(1)


def _program(file: str, name: str) -> Callable[..., None]:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: Callable[..., None] = getattr(module, name)
    return found


if __name__ == "__main__":
    # What is imported here, no child has to import.
    for name in ("asyncio", "multiprocessing.pool", "pytest", "secure_memory.agents_sdk.session", "secure_memory.store"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what all of them share is not collected at the end of each: that takes eight times as long
    serve(socket.socket(fileno=int(sys.argv[1])))
