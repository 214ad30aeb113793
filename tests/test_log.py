"""`log.py`: silent until the program wants to hear, and never a word of what was said."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import TamperedError
from secure_memory.log import get_logger
from secure_memory.store import SecureStore

CANARY = "the canary sings"

LOUD = """
import secure_memory.store
from secure_memory.log import get_logger
log = get_logger("secure_memory.test")
log.warning("anchor missing", vault="00")
log.error("integrity", error="TamperedError")
"""


def test_nothing_is_printed_until_it_is_configured(elsewhere: Callable[..., str]) -> None:
    """A program that configures no logging sees nothing of ours, on either stream."""
    quiet = f"import contextlib, sys\nwith contextlib.redirect_stderr(sys.stdout):\n exec({LOUD!r})"
    assert "" == elsewhere(quiet)


def test_an_event_is_a_record_of_the_standard_library(caplog: pytest.LogCaptureFixture) -> None:
    """A handler gets the event's name as the message, and its fields as the record's own."""
    get_logger("secure_memory.test").warning("anchor missing", vault="00ff")
    (record,) = caplog.records
    assert ("secure_memory.test", logging.WARNING) == (record.name, record.levelno)
    assert ("anchor missing", "00ff") == (record.getMessage(), vars(record)["vault"])


def test_what_is_filtered_is_not_rendered(caplog: pytest.LogCaptureFixture) -> None:
    """The standard logger's level counts."""
    with caplog.at_level(logging.ERROR, "secure_memory"):
        get_logger("secure_memory.test").warning("anchor missing")
    assert [] == caplog.records


def test_no_event_tells_what_was_said(
    store: SecureStore, insider: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Through writes, reads, tampering and a lost anchor no field of any event holds content or a name."""
    caplog.set_level(logging.DEBUG)
    session = store.session(CANARY, subject=CANARY, cache=False)
    asyncio.run(session.add_items([{"role": "user", "content": CANARY}]))
    insider().sql("UPDATE items SET sealed = zeroblob(99)")
    with pytest.raises(TamperedError):
        asyncio.run(session.get_items())
    session.close()
    store.close()
    shutil.rmtree(tmp_path / "anchors")
    with SecureStore.open(tmp_path / "store") as again:
        again.sessions()
    assert {"integrity", "anchor missing"} <= {record.getMessage() for record in caplog.records}
    assert not [record for record in caplog.records if CANARY in repr(vars(record))]
