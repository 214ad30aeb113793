"""`vault/sessions.py`: a session's row is bound by its MAC, and its names go with the subject's key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key
from secure_memory.vault import sessions
from secure_memory.vault.sessions import Names, SessionRow, check, open_names, row_mac, seal_names

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

LEDGER, SUBJECT = Key(bytes(32)), Key(bytes([1]) * 32)
TENANT, SESSION = bytes([2]) * 16, bytes([3]) * 16
ROW = SessionRow(1, SESSION, bytes([4]) * 32, bytes([5]) * 16, 7, 1, 1_795_000_000_000_000, b"sealed", b"")
ROW = ROW._replace(mac=row_mac(LEDGER, TENANT, ROW))


def test_our_row_is_ours() -> None:
    """A row passes as it was written, and under any row id, which is only where it lies."""
    check(LEDGER, TENANT, ROW)
    check(LEDGER, TENANT, ROW._replace(id=2))


@pytest.mark.parametrize(
    "change",
    [
        {"uid": bytes(16)},
        {"name": bytes(32)},
        {"subject": bytes(16)},
        {"branch": 8},
        {"key_version": 2},
        {"created": 0},
        {"sealed": b"other"},
        {"mac": bytes(32)},
        {"mac": b""},
        {"branch": -1},
        {"created": -1},
    ],
)
def test_no_column_can_change(change: dict[str, Any]) -> None:
    """One edited column, to a value that a row could have or could not, and the row is not ours."""
    with pytest.raises(TamperedError, match="edited or moved"):
        check(LEDGER, TENANT, ROW._replace(**change))


def test_a_row_is_its_tenant_s() -> None:
    """Under another tenant, or another ledger key, the row is not ours."""
    for key, tenant in ((LEDGER, bytes(16)), (SUBJECT, TENANT)):
        with pytest.raises(TamperedError):
            check(key, tenant, ROW)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_come_back(session: str, subject: str) -> None:
    """What a session and its subject are called is read with the subject's key."""
    sealed = seal_names(SUBJECT, TENANT, SESSION, Names(session, subject))
    assert Names(session, subject) == open_names(SUBJECT, TENANT, ROW._replace(sealed=sealed))
    assert session.encode() not in sealed or len(session.encode()) < 4


def test_what_was_said_of_a_session_comes_back() -> None:
    """Tags, metadata, the end and its reason are sealed with the names, and none of it can be read without the key."""
    names = Names("s", "ana", {"record": "phi"}, {"ticket": [4711, None, 0.5]}, 1_795_000_000_000_000, "moved away")
    sealed = seal_names(SUBJECT, TENANT, SESSION, names)
    assert names == open_names(SUBJECT, TENANT, ROW._replace(sealed=sealed))
    assert not any(word in sealed for word in (b"phi", b"ticket", b"away"))


def test_a_row_is_updated(bench: Bench) -> None:
    """What can change is written under a new MAC, so that a row that was read before is known to be another; what can't
    change stays."""
    bench.made()
    connection = bench.connect()
    row = sessions.insert(
        connection.execute,
        LEDGER,
        TENANT,
        uid=SESSION,
        name=bytes(32),
        subject=bytes(16),
        branch=7,
        key_version=1,
        sealed=b"names",
    )
    new = sessions.update(connection.execute, LEDGER, TENANT, row._replace(subject=SESSION, key_version=2, sealed=b"new"))
    assert new == sessions.by_id(connection.execute, row.id)
    check(LEDGER, TENANT, new)
    assert sessions.digest(row) != sessions.digest(new)
    assert not sessions.unchanged(connection.execute, row)
    connection.close()


def test_names_open_in_their_place_only() -> None:
    """Another key, another session, another tenant, cut or empty: the names do not open."""
    row = ROW._replace(sealed=seal_names(SUBJECT, TENANT, SESSION, Names("a", "b")))
    for key, tenant, moved in (
        (LEDGER, TENANT, row),
        (SUBJECT, bytes(16), row),
        (SUBJECT, TENANT, row._replace(uid=bytes(16))),
        (SUBJECT, TENANT, row._replace(sealed=row.sealed[:20])),
        (SUBJECT, TENANT, row._replace(sealed=b"")),
    ):
        with pytest.raises(TamperedError, match="names do not open"):
            open_names(key, tenant, moved)


def test_names_are_sealed_anew_each_time() -> None:
    """Two sessions of one name can't be told by their sealed names."""
    names = Names("a", "b")
    assert seal_names(SUBJECT, TENANT, SESSION, names) != seal_names(SUBJECT, TENANT, SESSION, names)


def test_a_session_is_found_by_its_name(bench: Bench) -> None:
    """What was inserted is found by the HMAC of its name and by its id, unchanged until someone changes it."""
    bench.made()
    name, connection = os.urandom(32), bench.connect()
    for row_id in (1, 2):
        row = sessions.insert(
            connection.execute,
            LEDGER,
            TENANT,
            uid=os.urandom(16),
            name=name if row_id == 2 else os.urandom(32),
            subject=bytes(16),
            branch=7,
            key_version=1,
            sealed=b"names",
        )
        assert row_id == row.id
    assert row == sessions.find(connection.execute, name) == sessions.by_id(connection.execute, 2)
    assert row == list(sessions.rows(connection.execute))[1]
    assert sessions.find(connection.execute, bytes(32)) is None
    assert sessions.by_id(connection.execute, 3) is None
    check(LEDGER, TENANT, row)
    assert sessions.unchanged(connection.execute, row)
    connection.execute("UPDATE sessions SET mac = zeroblob(32) WHERE id = 2")
    assert not sessions.unchanged(connection.execute, row)
    connection.close()


def test_the_ledger_knows_which_sessions_were_begun(bench: Bench) -> None:
    """A session whose row is gone is told from one that never was."""
    bench.made()
    connection = bench.connect()
    assert sessions.was_created(connection.execute, bytes([2]) * 16)
    assert not sessions.was_created(connection.execute, os.urandom(16))
    connection.close()
