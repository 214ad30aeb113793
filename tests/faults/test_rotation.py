"""Keys are replaced while other processes write as fast as they can: nobody is refused anything, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from secure_memory.errors import StoreBusyError
from secure_memory.store import SecureStore

WRITER = """
import asyncio, sys
from secure_memory import SecureStore

async def main(path, name, turns):
    with SecureStore.open(path) as store:
        session = store.session(name, subject="ana")
        print("up", flush=True)
        for n in range(1, turns + 1):
            await session.add_items([{"role": "user", "content": f"this is turn {n}"}])
            assert n == len(await session.get_items())
            if n % 10 == 0:
                await store.session(f"{name}-{n}", subject="ana").add_items([{"role": "user", "content": "a new one"}])

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""
WRITERS, TURNS = 3, 60


def test_every_key_is_replaced_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault's key, the person's and the store root are replaced again and again until the writers are done: each of them
    read what it had written after each write, all of it is there, and the store is whole."""
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path / "anchors"))
    monkeypatch.delenv("SECMEM_KEY", raising=False)
    monkeypatch.setenv("SECMEM_KEY_FILE", str(tmp_path / "key"))
    with SecureStore.create(tmp_path / "store") as store:
        store.tenant_create("default")
        command = [sys.executable, "-c", WRITER, str(tmp_path / "store")]
        writers = [
            subprocess.Popen([*command, f"w{n}", str(TURNS)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for n in range(WRITERS)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert "up\n" == writer.stdout.readline()
        rotated = 0
        while any(writer.poll() is None for writer in writers):
            with suppress(StoreBusyError):  # a session began meanwhile
                store.key_rotate(subject="ana")
            store.key_rotate(vault="default")
            store.key_rotate(epoch=True, new_key=True)
            rotated += 1
        said = [writer.communicate()[1] for writer in writers]
        assert [0] * WRITERS == [writer.returncode for writer in writers], said
        assert rotated > 0
        assert WRITERS * (TURNS + TURNS // 10) == store.audit_verify(tenant="default")[0].items
