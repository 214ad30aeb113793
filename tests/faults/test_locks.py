"""SQLite's locks stay where they are: no file that is open as a database is opened, and closed, by hand.

Closing any descriptor of a file takes away all locks that the process has on it (POSIX; sqlite.org/howtocorrupt.html 2.2).
Then another process that closes the store takes itself for the last one and deletes the WAL, with what is written to it
from then on. Newer engines notice; older ones, which we allow, don't.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from secure_memory.doctor import examine
from secure_memory.store import SecureStore

LOCKS = Path("/proc/locks")


def held(path: Path) -> Counter[str]:
    """How many locks this process has on each file of the store, by the kernel's own table (proc(5))."""
    names = {str(file.stat().st_ino): str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    found: Counter[str] = Counter()
    for line in LOCKS.read_text().splitlines():
        _, kind, _, _, pid, place, *_ = line.split()
        inode = place.split(":")[2]
        if kind == "POSIX" and pid == str(os.getpid()) and inode in names:
            found[names[inode]] += 1
    return found


@pytest.mark.skipif(not LOCKS.exists(), reason="needs Linux's table of locks")
def test_kept(place: Any) -> None:
    """Whatever is done with an open store, this process keeps the locks by which others know that it is there."""
    with SecureStore.create(place.path) as store, store.session("s") as session:

        def check(what: str) -> None:
            expected = {file.name for file in place.path.rglob("*.db")} | {f.name for f in place.path.rglob("*.db-shm")}
            assert expected == {Path(name).name for name in held(place.path)}, what

        asyncio.run(session.add_items([{"role": "user", "content": "x"}]))
        check("append")
        asyncio.run(session.get_items())
        store.audit_verify()
        check("verify")
        store.audit_log()
        store.audit_anchor()
        store.sessions()
        check("looking")
        SecureStore.open(place.path).close()
        check("a second handle")
        store.tenant_create("other")
        check("a new tenant")
        shared = store._shared
        shared.tenant("other").vault.database.create({"action": "tenant.create", "actor": "again"})
        shared._tenants.pop("other")
        shared.tenant("other")
        check("another way to the same vault")
        examine(place.path)
        check("doctor")


@pytest.mark.skipif(not LOCKS.exists(), reason="needs Linux's table of locks")
def test_lost(place: Any) -> None:
    """That a file opened by hand takes the locks away is so, and would be seen."""
    with SecureStore.create(place.path):
        assert held(place.path)["system.db"]
        (place.path / "system.db").read_bytes()
        assert not held(place.path)["system.db"]
