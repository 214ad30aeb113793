"""Copying a live database: what is wrong with it is never made good by the copy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from secure_memory.errors import StorageError, TamperedError
from secure_memory.vault import copying, integrity, sqlcipher

RAW = bytes(48)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database of 200 rows on about 100 pages, closed."""
    connection = sqlcipher.connect(tmp_path / "a.db", RAW, create=True)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    sqlcipher.begin(connection)
    for n in range(200):
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, bytes(2000)))
    connection.execute("COMMIT")
    connection.close()
    return tmp_path / "a.db"


def copied(source: Path, progress: Any = None) -> Path:
    target = source.with_name("b.db")
    connection = sqlcipher.connect(source, RAW)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        copying.copy(connection, sqlcipher.connect(target, RAW, create=True), progress)
    finally:
        connection.close()
    return target


def damage(source: Path, page: int) -> None:
    with source.open("r+b") as file:
        file.seek(page * sqlcipher.PAGE_SIZE + 1000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def test_a_copy_has_everything_under_the_same_key(source: Path) -> None:
    """A copy opens with the same key, has every row, is for its owner alone, and no page of it is like the one it is of."""
    told: list[tuple[int, int]] = []
    target = copied(source, lambda done, total: told.append((done, total)))
    connection = sqlcipher.connect(target, RAW)
    assert (200, 400_000) == connection.execute("SELECT count(*), sum(length(b)) FROM t").fetchone()
    connection.close()
    assert (0o600, told[-1][1]) == (target.stat().st_mode & 0o777, told[-1][0])
    pages = [path.read_bytes()[n : n + 4096] for path in (source, target) for n in range(4096, path.stat().st_size, 4096)]
    assert len(pages) == len(set(pages))


@pytest.mark.parametrize("page", [1, 50, 100])
def test_damage_is_found(source: Path, page: int) -> None:
    """A page that was changed on disk is not copied as if nothing were wrong."""
    damage(source, page)
    with pytest.raises((TamperedError, sqlcipher.DriverError)):
        copied(source)


def test_damage_that_only_the_copy_shows(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged page that is not in the file, as one of the WAL, is found in the copy, where it is a page of zeros."""
    damage(source, 50)
    monkeypatch.setattr(integrity, "check", lambda connection: None)
    with pytest.raises(TamperedError, match="a page is not what was written"):
        copied(source)


def test_a_disk_that_refuses(source: Path) -> None:
    """What the disk refuses for another reason than room is StorageError."""

    class Refusing:
        def execute(self, *_: object) -> Any:
            raise AssertionError("not asked")

        def backup(self, *_: object, **__: object) -> None:
            raise sqlcipher.driver.OperationalError("disk I/O error")

    with pytest.raises(StorageError, match="the disk refused"):
        copying.copy(Refusing(), sqlcipher.connect(source.with_name("b.db"), RAW, create=True), None)
