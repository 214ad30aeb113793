"""Anchors that can't be written: no operation that is kept fails, it is said once, and who requires them is refused."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
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


class Heard(logging.Handler):
    """The events that were logged."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        logging.getLogger("secure_memory").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(record.getMessage())


def goes_on(talk: Any, path: str, anchors: str, trouble: str) -> None:
    """Use a store whose anchors can no longer be written, or never could be."""
    heard = Heard()
    talk.drop_privileges()
    session = SecureSession("s", path)
    add(session, "before")
    spoil(session, anchors, trouble)
    for number in range(3):
        add(session, str(number))
        assert ["before", *map(str, range(number + 1))] == texts(session)
    assert "anchor degraded" in heard.events
    degraded = heard.events.count("anchor degraded")
    add(session, "more")
    assert degraded == heard.events.count("anchor degraded")  # said once
    with SecureSession("t", path, tenant="new") as new:  # whose anchor does not exist yet
        add(new, "x")
        assert ["x"] == texts(new)
    session.close()
    with SecureSession("s", path) as session:
        assert ["before", "0", "1", "2", "more"] == texts(session)
    mend(anchors, trouble)


def spoil(session: SecureSession, anchors: str, trouble: str) -> None:
    """From here on no anchor can be written."""
    if trouble == "read-only":
        for tenant in session._handle.shared._tenants.values():
            tenant.vault.database.shut()  # as where there are many: modes don't bind who has the file open
        for place, _, files in os.walk(anchors, topdown=False):
            for name in files:
                os.chmod(Path(place, name), 0o400)
            os.chmod(place, 0o500)
    elif trouble == "a file":
        shutil.rmtree(anchors)
        Path(anchors).write_text("not a directory")


def ok_or_anew(state: str) -> bool:
    """Whether an anchor is there again, and said to have been begun anew where it was missing in between."""
    return state == "ok" or state.startswith("begun anew")


def mend(anchors: str, trouble: str) -> None:
    if trouble == "read-only":
        for place, _, files in os.walk(anchors):
            os.chmod(place, 0o700)
            for name in files:
                os.chmod(Path(place, name), 0o600)
    elif trouble == "a file":
        os.unlink(anchors)


@pytest.mark.parametrize("trouble", ["read-only", "a file"])
def test_degraded(start: Callable[..., Any], place: Any, trouble: str) -> None:
    """Where the anchors can't be written every operation goes through, the log says so once, and it mends itself."""
    start(goes_on, str(place.path), str(place.anchors), trouble).ends()
    with SecureSession("s", place.path) as session:
        add(session, "mended")
    assert all(ok_or_anew(report.anchor) for report in place.verify().values())
    assert not place.actions()["session.tampered"]


def is_full(talk: Any, path: str, anchors: str) -> None:
    """Anchors on a disk without room."""
    heard = Heard()
    try:
        talk.own_mounts()
    except PermissionError:
        talk.say("no mounts")
        return
    os.mkdir(anchors)
    talk.small_disk(anchors, 64 << 10)
    with SecureSession("s", path) as session:
        add(session, "before")
        with Path(anchors, "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, os.statvfs(anchors).f_bavail * os.statvfs(anchors).f_frsize)
        add(session, "old anchor")  # its file has its size already
        with SecureSession("s", path, tenant="new") as new:
            add(new, "no anchor")
            assert ["no anchor"] == texts(new)
        assert "anchor degraded" in heard.events
        required = SecureSession("s", path, tenant="required", anchor_required=True)
        with pytest.raises(StorageError, match="anchor"):
            add(required, "refused")
        required.close()
        Path(anchors, "ballast").unlink()
        assert ["before", "old anchor"] == texts(session)
    with SecureStore.open(path) as store:
        assert all(ok_or_anew(report.anchor) for report in store.audit_verify())
        assert "session.tampered" not in {record.entry.action for record in store.audit_log()}


def test_full(start: Callable[..., Any], place: Any) -> None:
    """Anchors on a full disk cost no operation, and are there again once there is room."""
    child = start(is_full, str(place.path), str(place.anchors))
    if child.rest() == ["no mounts"]:
        pytest.skip("needs root or user namespaces; a limit of file size shows as much")
    child.ends()


def holds_an_anchor(talk: Any, path: str) -> None:
    with SecureStore.open(path) as store:
        anchor = store._shared.tenant("default").vault.database.anchor
        assert anchor is not None
        with anchor._open_locked():
            talk.say("held")
            talk.hear()


def test_stopped(start: Callable[..., Any], place: Any) -> None:
    """A process that was stopped while it wrote an anchor holds up the others a little, and never for good."""
    heard = Heard()
    with SecureSession("s", place.path) as session:
        add(session, "before")
        child = start(holds_an_anchor, str(place.path))
        assert "held" == child.hear()
        child.signal(signal.SIGSTOP)
        began = time.monotonic()
        add(session, "meanwhile")
        assert ["before", "meanwhile"] == texts(session)
        assert time.monotonic() - began < 10
        assert "anchor degraded" in heard.events
        child.say()
        child.signal(signal.SIGCONT)
        child.ends()
        add(session, "after")
    assert {"ok"} == {report.anchor for report in place.verify().values()}


def is_cut_short(talk: Any, path: str) -> None:
    heard = Heard()
    with SecureSession("s", path) as session:
        add(session, "before")
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        # The second slot of an anchor begins at 4096: every second write of it is cut short, and what SQLite writes too
        # unless its files have been there for longer.
        session._handle.shared.tenant("default").vault.database.anchor.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + 50, hard))
        outcomes = []
        for number in range(4):
            try:
                add(session, str(number))
                outcomes.append(str(number))
            except StorageError:
                pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert ["before", *outcomes] == texts(session)
    talk.say(*heard.events)


def test_cut_short(start: Callable[..., Any], place: Any) -> None:
    """An anchor that is written by half, twice, is no alarm: the slot before it stands."""
    start(is_cut_short, str(place.path)).ends()
    place.verify()
    assert not place.actions()["session.tampered"]


def is_required(talk: Any, path: str, anchors: str, trouble: str) -> None:
    talk.drop_privileges()
    session = SecureSession("s", path, anchor_required=True)
    add(session, "before")
    assert ["before"] == texts(session)
    spoil(session, anchors, trouble)
    if trouble == "a file":  # read-only, the anchors are known to be in trouble as soon as the vault is opened again
        add(session, "kept, though its anchor is not")
    for operation in (session.get_items, session.pop_item, session.clear_session):
        with pytest.raises(StorageError, match="anchor") as caught:
            asyncio.run(operation())
        assert caught.value.hint
    with pytest.raises(StorageError, match="anchor"):
        add(session, "refused")
    mend(anchors, trouble)
    add(session, "mended")
    session.close()


@pytest.mark.parametrize("trouble", ["read-only", "a file"])
def test_required(start: Callable[..., Any], place: Any, trouble: str) -> None:
    """Where anchors are required the operation after the one whose anchor failed is refused, until they are back."""
    start(is_required, str(place.path), str(place.anchors), trouble).ends()
    kept = ["kept, though its anchor is not"] if trouble == "a file" else []
    assert ["before", *kept, "mended"] == place.texts()
    place.verify()


def test_required_and_missing(place: Any) -> None:
    """A store that requires anchors does not open without them; `audit anchor --init` begins them anew."""
    with SecureSession("s", place.path) as session:
        add(session, "before")
    shutil.rmtree(place.anchors)
    with pytest.raises(StorageError, match="anchor"):
        SecureStore.open(place.path, anchor_required=True)
    with SecureStore.open(place.path) as store:
        store.audit_anchor(begin=True)
    with SecureSession("s", place.path, anchor_required=True) as session:
        assert ["before"] == texts(session)
