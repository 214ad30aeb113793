"""Files that vanished, that are older than they were, that were copied: found, never made anew, and no false alarm."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import ConfigurationError, KeyNotFoundError, NotAStoreError, RollbackError, StorageError
from secure_memory.store import SecureStore


def add(session: SecureSession, *texts: str) -> None:
    asyncio.run(session.add_items([{"role": "user", "content": text} for text in texts]))


def texts(session: SecureSession) -> list[str]:
    return [item["content"] for item in asyncio.run(session.get_items())]


def keep(place: Any, text: str = "kept", *, session: str = "s", tenant: str = "default") -> None:
    """Append an item, in a store that is opened, or made, for it and closed again."""
    with SecureSession(session, place.path, tenant=tenant) as one:
        add(one, text)


@contextmanager
def sessions(place: Any, *tenants: str) -> Iterator[list[SecureSession]]:
    """The session `s` of each tenant, none of which is opened before it is used."""
    with SecureStore.open(place.path) as store, ExitStack() as stack:
        yield [stack.enter_context(store.session("s", tenant=tenant)) for tenant in tenants]


def contents(path: Path) -> dict[str, bytes]:
    """Every file below `path`."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# ---- vanished ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["file", "directory"])
def test_vault(place: Any, tmp_path: Path, gone: str) -> None:
    """A vault that vanished is a rollback: nothing is made in its place, and all is well when it is back."""
    keep(place)
    lost = place.vault if gone == "file" else place.vault.parent
    lost.rename(tmp_path / "lost")
    with sessions(place, "default", "other") as (session, other):
        for operation in (session.get_items, session.pop_item, session.clear_session):
            with pytest.raises(RollbackError) as caught:
                asyncio.run(operation())
            assert caught.value.hint
        with pytest.raises(RollbackError):
            add(session, "new")
        with pytest.raises(RollbackError):
            SecureSession("s", place.path)
        if gone == "file":
            add(other, "another tenant's")
    assert not lost.exists()

    (tmp_path / "lost").rename(lost)
    assert ["kept"] == place.texts()
    place.verify()


def test_vault_in_use(place: Any, tmp_path: Path) -> None:
    """A vault that vanished, or was replaced, under a process that has it open takes no more of its writes."""
    keep(place)
    older = tmp_path / "older"
    shutil.copy(place.vault, older)
    with SecureSession("s", place.path) as session:
        add(session, "more")
        name = place.vault
        name.rename(tmp_path / "lost")
        with pytest.raises(RollbackError, match="missing"):
            add(session, "into nowhere")
        shutil.copy(older, name)
        with pytest.raises(RollbackError, match="another file"):
            add(session, "into nowhere")
        (tmp_path / "lost").replace(name)
        add(session, "back")
        assert ["kept", "more", "back"] == texts(session)
    place.verify()


def test_keys(place: Any, tmp_path: Path) -> None:
    """Without keys.db nothing opens, and no new keys are made; all is well when it is back."""
    keep(place)
    lost = place.path / "keys.db"
    lost.rename(tmp_path / "lost")
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            SecureStore.open(place.path)
        assert "keys.db" in str(caught.value)
        assert "backup" in (caught.value.hint or "")
        with pytest.raises(StorageError):
            SecureSession("s", place.path)
    assert not lost.exists()

    (tmp_path / "lost").rename(lost)
    assert ["kept"] == place.texts()


def test_keys_in_use(place: Any, tmp_path: Path) -> None:
    """A keys.db that vanished under a process that has it open takes no new keys: what they seal could never be read."""
    keep(place)
    with SecureStore.open(place.path) as store, store.session("s") as session, store.session("new") as new:
        add(session, "more")
        (place.path / "keys.db").rename(tmp_path / "lost")
        with pytest.raises(StorageError):
            add(new, "lost")
        with pytest.raises(StorageError):
            store.tenant_create("new")
        (tmp_path / "lost").rename(place.path / "keys.db")
        add(new, "kept")
    assert ["kept", "more"] == place.texts()
    assert ["kept"] == place.texts("new")
    place.verify()


def test_system_vault(place: Any, tmp_path: Path) -> None:
    """Without the system vault the store does not open, and no new one is made."""
    keep(place)
    lost = place.path / "system.db"
    lost.rename(tmp_path / "lost")
    for _ in range(2):
        with pytest.raises(RollbackError):
            SecureStore.open(place.path)
    assert not lost.exists()
    (tmp_path / "lost").rename(lost)
    assert ["kept"] == place.texts()


@pytest.mark.parametrize("marked", [False, True], ids=["whole", "killed while made"])
def test_manifest(place: Any, tmp_path: Path, marked: bool) -> None:
    """Without store.json there is no store to open and none to make: what is there is left as it is.

    Not even where the process that made the store was killed before it could take its mark away.
    """
    SecureStore.create(place.path).close()
    if marked:
        (place.path / ".creating").touch()
    keep(place)
    (place.path / "store.json").rename(tmp_path / "lost")
    before = contents(place.path)
    for begin in (SecureStore.open, SecureStore.create, lambda path: SecureSession("s", path)):
        with pytest.raises(NotAStoreError) as caught:
            begin(place.path)
        assert "store.json" in (caught.value.hint or "")
    assert before == contents(place.path)
    (tmp_path / "lost").rename(place.path / "store.json")
    assert ["kept"] == place.texts()


# ---- copied -----------------------------------------------------------------------------------------------------------


def test_copy(place: Any, tmp_path: Path) -> None:
    """A store and its copy live on side by side, each with its own anchor, and neither raises a false alarm."""
    keep(place, "both")
    copy = tmp_path / "copy"
    shutil.copytree(place.path, copy)
    original = place.path
    for number in range(3):
        for path in (original, copy):
            place.path = path
            keep(place, f"{path.name} {number}")
            place.verify()
    for path, gaps in ((original, 0), (copy, 2)):  # the copy's two vaults began anchors of their own, once
        place.path = path
        assert ["both", *(f"{path.name} {number}" for number in range(3))] == place.texts()
        actions = place.actions()
        assert (gaps, 0) == (actions["audit.gap"], actions["session.tampered"])


# ---- rolled back ------------------------------------------------------------------------------------------------------


def test_store_rolled_back(place: Any, tmp_path: Path) -> None:
    """A whole store that is older than its anchor, which is elsewhere, does not open."""
    keep(place, "one")
    older = tmp_path / "older"
    shutil.copytree(place.path, older)
    keep(place, "two")
    newer = tmp_path / "newer"
    place.path.rename(newer)
    shutil.copytree(older, place.path)
    for _ in range(2):
        with pytest.raises(RollbackError) as caught:
            SecureStore.open(place.path)
        assert caught.value.hint

    shutil.rmtree(place.path)
    newer.rename(place.path)
    assert ["one", "two"] == place.texts()
    place.verify()


def test_vault_rolled_back(place: Any, tmp_path: Path) -> None:
    """One vault that is older than its anchor is refused; the store's other tenants go on."""
    keep(place, "one")
    older = tmp_path / "older"
    shutil.copy(place.vault, older)
    keep(place, "two")
    shutil.copy(older, place.vault)
    with sessions(place, "default", "other") as (session, other):
        with pytest.raises(RollbackError):
            texts(session)
        with pytest.raises(RollbackError):
            add(session, "three")
        add(other, "theirs")
        assert ["theirs"] == texts(other)
    with pytest.raises(RollbackError):
        place.verify()


def test_rolled_back_while_shut(place: Any, tmp_path: Path) -> None:
    """A process that has shut a vault finds it rolled back when it opens it again, without any anchor."""
    keep(place, "one")
    older = tmp_path / "older"
    shutil.copy(place.vault, older)
    with SecureSession("s", place.path) as session:
        add(session, "two")
        assert session._handle.shared.tenant("default").vault.database.shut()
        shutil.copy(older, place.vault)
        shutil.rmtree(place.anchors)
        with pytest.raises(RollbackError):
            texts(session)
        with pytest.raises(RollbackError):
            add(session, "three")


def test_older_keys(place: Any, tmp_path: Path) -> None:
    """A keys.db from before a session opens what it knows; of that session it says which key is missing, and to what end."""
    keep(place, "old")
    older = tmp_path / "older"
    shutil.copy(place.path / "keys.db", older)
    keep(place, "new", session="new")
    shutil.copy(place.path / "keys.db", newer := tmp_path / "newer")
    shutil.copy(older, place.path / "keys.db")

    with SecureSession("s", place.path) as old, SecureSession("new", place.path) as new:
        add(old, "older yet")
        for _ in range(2):
            with pytest.raises(KeyNotFoundError) as caught:
                texts(new)
            assert "backup" in (caught.value.hint or "")
            with pytest.raises(KeyNotFoundError) as caught:
                add(new, "newer yet")
            assert "backup" in (caught.value.hint or "")

    shutil.copy(newer, place.path / "keys.db")
    assert ["old", "older yet"] == place.texts()
    assert ["new"] == place.texts("new")
    place.verify()


def test_keys_older_than_a_tenant(place: Any, tmp_path: Path) -> None:
    """A keys.db from before a tenant makes no second tenant of that name, whose conversations would all be new."""
    keep(place, "old")
    older = tmp_path / "older"
    shutil.copy(place.path / "keys.db", older)
    keep(place, "new", tenant="acme")
    shutil.copy(place.path / "keys.db", newer := tmp_path / "newer")
    shutil.copy(older, place.path / "keys.db")

    before = set(os.listdir(place.path / "vaults"))
    with SecureStore.open(place.path) as store, store.session("s", tenant="acme") as session:
        for attempt in (lambda: texts(session), lambda: add(session, "newer yet")):
            with pytest.raises(RollbackError) as caught:
                attempt()
            assert "keys.db" in (caught.value.hint or "")
        with pytest.raises(RollbackError):
            store.tenant_create("acme")
    assert before == {name for name in os.listdir(place.path / "vaults") if not name.endswith(("-wal", "-shm"))}
    assert ["old"] == place.texts()

    shutil.copy(newer, place.path / "keys.db")
    assert ["new"] == place.texts(tenant="acme")
    place.verify()


def test_replaced_while_open(place: Any, tmp_path: Path) -> None:
    """A store that was removed and made anew under a process that has it open is not taken for the one that it knows."""
    keep(place)
    with SecureStore.open(place.path):
        place.path.rename(tmp_path / "old")
        with pytest.raises(ConfigurationError, match="another store"):
            SecureStore.create(place.path)
        with pytest.raises(ConfigurationError, match="another store"):
            SecureStore.open(place.path)
    keep(place, "in the new one")
    assert ["in the new one"] == place.texts()
