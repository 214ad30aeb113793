"""A disk that is full: refused with our error, nothing half written, all well again when there is room."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import DiskFullError, StorageError
from secure_memory.store import SecureStore
from secure_memory.vault import sqlcipher

PAGE = 4096
ALARMS = {"session.tampered", "audit.gap"}


def item(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def texts(session: SecureSession) -> list[str]:
    return [found["content"] for found in await session.get_items()]


def check_whole(path: str) -> None:
    """Reopened, the store is whole, and nothing in its ledgers says that anything was wrong."""
    with SecureStore.open(path) as store:
        store.audit_verify()
        assert not ALARMS & {record.entry.action for record in store.audit_log()}


@contextmanager
def full(volume: str, left: int = 0) -> Iterator[None]:
    """No more than `left` bytes of room on the volume."""
    ballast = Path(volume, "ballast")
    free = os.statvfs(volume).f_bavail * os.statvfs(volume).f_frsize
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - left))
    try:
        yield
    finally:
        ballast.unlink()


def on_a_small_disk(start: Callable[..., Any], program: Callable[..., None], place: Any, *args: object) -> None:
    child = start(program, str(place.path.parent), *args)
    if child.rest() == ["no mounts"]:
        pytest.skip("needs root or user namespaces; what a limit of file size shows is tested all the same")
    child.ends()


def small_disk(talk: Any, volume: str, size: int = 16 << 20) -> str:
    """Put a small disk at `volume`; the path of the store that is to be there."""
    try:
        talk.own_mounts()
    except PermissionError:
        talk.say("no mounts")
        raise SystemExit(0) from None
    talk.small_disk(volume, size)
    return str(Path(volume, "store"))


# ---- one session, whose disk fills up ---------------------------------------------------------------------------------


def fills(talk: Any, volume: str) -> None:
    path = small_disk(talk, volume)

    async def main() -> None:
        with SecureSession("s", path) as session, SecureSession("other", path, tenant="other") as other:
            await session.add_items([item("before")])
            await other.add_items([item("before")])
            with full(volume):
                for _ in range(3):
                    with pytest.raises(DiskFullError):
                        await session.add_items([item("x" * 10_000), item("y")])
                    with pytest.raises(DiskFullError):
                        await session.pop_item()
                    with pytest.raises(DiskFullError):  # what can't be audited doesn't happen
                        await session.get_items()
                outcomes = await asyncio.gather(
                    *(session.add_items([item("many")]) for _ in range(20)), return_exceptions=True
                )
                assert [DiskFullError] * 20 == list(map(type, outcomes))
            assert ["before"] == await texts(session)
            await session.add_items([item("after")])
            await other.add_items([item("after")])
            assert ["before", "after"] == await texts(session) == await texts(other)
        check_whole(path)
        with SecureSession("s", path) as session:
            assert ["before", "after"] == await texts(session)

    asyncio.run(main())


def test_full(start: Callable[..., Any], place: Any) -> None:
    """On a full disk reads and writes raise DiskFullError and leave nothing; with room again all of it works."""
    on_a_small_disk(start, fills, place)


# ---- the engine rolls back a whole batch ------------------------------------------------------------------------------


def rolls_back(talk: Any, volume: str) -> None:
    path = small_disk(talk, volume)

    async def main() -> None:
        with SecureSession("s", path) as session:
            await session.add_items([item("before")])
            vault = session._handle.shared.known_tenant("default").vault

            def add(text: str) -> asyncio.Task[None]:
                return asyncio.ensure_future(session.add_items([item(text)]))

            with vault.database.lock:  # the first is taken and waits; those behind it are one batch
                first = add("first")
                while vault._queue or not vault._scheduled:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.05)
                # Sealed, the large one is more than the page cache holds: the engine writes to the disk in the middle of
                # the transaction, finds it full, and rolls everything back by itself.
                batch = [add("small"), add("z" * (12 << 20)), add("small too")]
                while len(vault._queue) < 3:
                    await asyncio.sleep(0.001)
                room = ExitStack()
                room.enter_context(full(volume, 6 << 20))
            assert [DiskFullError] * 3 == list(map(type, await asyncio.gather(*batch, return_exceptions=True)))
            room.close()  # what the WAL has grown to stays taken until it is begun anew
            await first
            await session.add_items([item("after")])
            assert ["before", "first", "after"] == await texts(session)
        check_whole(path)

    asyncio.run(main())


def test_whole_batch(start: Callable[..., Any], place: Any) -> None:
    """Where the engine rolls back a commit of several operations, all of these fail, and none before or after them."""
    on_a_small_disk(start, rolls_back, place)


# ---- without an anchor ------------------------------------------------------------------------------------------------


def loses_its_anchor(talk: Any, volume: str, anchors: str) -> None:
    path = small_disk(talk, volume)
    with SecureSession("s", path) as session:
        asyncio.run(session.add_items([item("before")]))
        tenant = session._handle.shared.tenant("default")
        assert tenant.vault.identity.path is not None
        # As another process would: so that the WAL and the -shm stay, and opening fails no sooner than at its commit.
        beside = sqlcipher.connect(tenant.vault.identity.path, tenant.keys.vault_key.bytes + tenant.keys.vault)
        tenant.vault.database.shut()
        shutil.rmtree(anchors)
        with full(volume):
            for _ in range(2):
                with pytest.raises(DiskFullError):
                    asyncio.run(session.get_items())
        assert ["before"] == asyncio.run(texts(session))
        beside.close()
        asyncio.run(session.add_items([item("after")]))
    with SecureStore.open(path) as store:
        store.audit_verify()
        gaps = [record for record in store.audit_log(tenant="default") if record.entry.action == "audit.gap"]
        assert 1 == len(gaps)


def test_opening_on_a_full_disk(start: Callable[..., Any], place: Any) -> None:
    """A vault whose opening had something to record, and no room for it, opens when there is: it has not gone back."""
    on_a_small_disk(start, loses_its_anchor, place, str(place.anchors))


# ---- full at every point ----------------------------------------------------------------------------------------------


def at_every_point(talk: Any, volume: str) -> None:
    """A first tenant, session and append, with more and more room, until it goes through."""
    path = small_disk(talk, volume)
    SecureStore.create(path).close()
    failed = 0
    for left in range(0, 100 * PAGE, PAGE):
        with SecureSession("s", path, tenant=f"t{left}", cache=False) as session:
            try:
                with full(volume, left):
                    asyncio.run(session.add_items([item("a"), item("b")]))
            except StorageError:
                failed += 1
                asyncio.run(session.add_items([item("a"), item("b")]))
            else:
                break
            assert ["a", "b"] == asyncio.run(texts(session))
        check_whole(path)
    assert failed > 5


def test_every_point(start: Callable[..., Any], place: Any) -> None:
    """Wherever between the tenant's keys and the first item the disk is full: an error, and it works when there is room."""
    on_a_small_disk(start, at_every_point, place)


def creates(talk: Any, volume: str) -> None:
    small_disk(talk, volume)
    failed = 0
    for left in range(0, 100 * PAGE, PAGE):
        path = str(Path(volume, f"store{left}"))
        try:
            with full(volume, left):
                SecureStore.create(path).close()
        except StorageError:
            failed += 1
            SecureStore.create(path).close()
        else:
            break
        check_whole(path)
    assert failed > 10


def test_making_a_store(start: Callable[..., Any], place: Any) -> None:
    """A store that was begun on a full disk is made, at the same place, when there is room."""
    on_a_small_disk(start, creates, place)


# ---- a limit of file size ---------------------------------------------------------------------------------------------


def is_limited(talk: Any, path: str) -> None:
    async def main() -> None:
        with SecureSession("s", path) as session:
            await session.add_items([item("before")])
            (wal,) = Path(path, "vaults").glob("*.db-wal")
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            for more in range(0, 5 * PAGE, 1000):
                resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + more, hard))
                with pytest.raises(StorageError):
                    await session.add_items([item("x" * 5 * PAGE)])
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                assert "before" == (await texts(session))[0]
                await session.add_items([item(str(more))])
            assert ["before", *map(str, range(0, 5 * PAGE, 1000))] == await texts(session)
        check_whole(path)

    asyncio.run(main())


def test_limit_of_file_size(start: Callable[..., Any], place: Any) -> None:
    """A write that the system cuts short, by a limit of file size, is StorageError, and nothing of it is there."""
    start(is_limited, str(place.path)).ends()
