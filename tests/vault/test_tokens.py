"""`vault/tokens.py`: a token tells nothing without its subject's key, and everything with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key
from secure_memory.vault import sqlcipher, tokens
from secure_memory.vault.tokens import Original

TENANT, ANNA, BEN = b"t" * 16, b"a" * 16, b"b" * 16


@pytest.fixture
def vault() -> Any:
    connection = sqlcipher.connect(None, bytes(48))
    sqlcipher.migrate(connection)
    yield connection
    connection.close()


@given(text=st.text())
def test_what_is_kept_comes_back(text: str) -> None:
    """`open_original` gives back what `keep` was given, whatever the text."""
    connection, key = sqlcipher.connect(None, bytes(48)), Key.random()
    sqlcipher.migrate(connection)
    tokens.keep(connection.execute, key, TENANT, ANNA, [Original("EMAIL_aaaa", "EMAIL", text)])
    (row,) = tokens.find(connection.execute, "EMAIL_aaaa")
    assert Original("EMAIL_aaaa", "EMAIL", text) == tokens.open_original(key, TENANT, row)
    connection.close()


def test_keeping_twice_keeps_once(vault: Any) -> None:
    """The same token of the same subject has one row, and the first one stays."""
    key = Key.random()
    for _ in range(2):
        tokens.keep(vault.execute, key, TENANT, ANNA, [Original("T", "EMAIL", "a@example.com")])
    assert 1 == len(tokens.find(vault.execute, "T"))


def test_a_row_that_was_moved_does_not_open(vault: Any) -> None:
    """A row under another token, subject or tenant is not what was kept there, and neither is an edited one."""
    key = Key.random()
    tokens.keep(vault.execute, key, TENANT, ANNA, [Original("T", "EMAIL", "a@example.com")])
    (row,) = tokens.find(vault.execute, "T")
    for moved in (
        row._replace(token="U"),
        row._replace(subject=BEN),
        row._replace(sealed=row.sealed[:-1]),
        row._replace(sealed=b""),
    ):
        with pytest.raises(TamperedError):
            tokens.open_original(key, TENANT, moved)
    with pytest.raises(TamperedError):
        tokens.open_original(key, b"u" * 16, row)
    with pytest.raises(TamperedError):
        tokens.open_original(Key.random(), TENANT, row)


def test_dropping_a_subject_leaves_the_others(vault: Any) -> None:
    """All rows of one subject go, and no other's."""
    for subject in (ANNA, BEN):
        tokens.keep(vault.execute, Key.random(), TENANT, subject, [Original(name, "EMAIL", "x") for name in "TU"])
    assert 2 == tokens.drop(vault.execute, ANNA)
    assert [BEN] == [row.subject for row in tokens.find(vault.execute, "T")]


def test_the_secret_is_the_subjects_own() -> None:
    """Two subjects' tokens for one text differ, and one subject's are the same each time."""
    anna, ben = Key.random(), Key.random()
    assert tokens.secret_of(anna)(b"x") == tokens.secret_of(Key(anna.bytes))(b"x")
    assert tokens.secret_of(anna)(b"x") != tokens.secret_of(ben)(b"x")


def test_an_original_does_not_show_itself() -> None:
    """The `repr` of an original has no content."""
    assert "a@example.com" not in repr(Original("T", "EMAIL", "a@example.com"))
