"""`lifecycle/purge/archive.py`: what is written is read back, and nothing else is; a disk that fills up leaves nothing."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_memory.errors import ConfigurationError, DiskFullError, StorageError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.lifecycle.purge import archive
from secure_memory.lifecycle.purge.archive import ArchiveWriter

KEY = Key(bytes(range(32)))
FEW = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, *texts: str) -> Path:
    writer = ArchiveWriter(path, KEY, {"store": "s", "tenant": "t"})
    writer.session({"session": "one"})
    for number, text in enumerate(texts):
        writer.item({"turn": number}, json.dumps({"content": text}).encode())
    return writer.finish()


def read(path: Path, key: Key = KEY) -> list[Any]:
    return [said for kind, said in archive.read(path, key) if kind == "item"]


@FEW
@given(st.lists(st.text(max_size=300) | st.integers(1, 4).map(lambda n: "x" * (n * 40_000)), max_size=8))
def test_what_is_written_is_read_back(tmp_path: Path, texts: list[str]) -> None:
    """Items of any size and number come back in order, from as many chunks as they take."""
    path = written(tmp_path / "a", *texts)
    assert texts == [json.loads(item["json"])["content"] for item in read(path)]
    assert {"store": "s", "tenant": "t"}.items() <= archive.header_of(path).items()
    assert [path] == list(tmp_path.iterdir())


def test_nothing_stands_in_the_clear(tmp_path: Path) -> None:
    """Neither content nor a session's name can be seen in the file."""
    data = written(tmp_path / "a", "a secret").read_bytes()
    assert (False, False) == (b"secret" in data, b"one" in data)


def test_every_edit_is_found(tmp_path: Path) -> None:
    """Whichever byte is changed, whatever is cut off, repeated or put behind, the file is no longer what was written."""
    path = written(tmp_path / "a", "x" * 70_000, "y")
    data = path.read_bytes()
    edits = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), len(data) // 97)]
    edits += [data[:end] for end in (len(data) - 1, len(data) - 100, 66_000, 300, 20, 18)] + [data + b"!", data + data]
    for edited in edits:
        path.write_bytes(edited)
        with pytest.raises((TamperedError, ConfigurationError, ValueError)) as caught:
            read(path)
        assert not isinstance(caught.value, ValueError)


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    """An archive is read with its store's key only."""
    with pytest.raises(TamperedError, match="under another key"):
        read(written(tmp_path / "a", "x"), Key(bytes(32)))


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, DiskFullError), (errno.EIO, StorageError)])
def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]) -> None:
    """Where the end can't be made durable the file never has its name, and abandoning it leaves nothing."""

    def fail(_: int) -> None:
        raise OSError(code, "no room")

    writer = ArchiveWriter(tmp_path / "a", KEY, {})
    writer.item({}, b"{}")
    monkeypatch.setattr(archive.os, "fsync", fail)
    with pytest.raises(error):
        writer.finish()
    writer.abandon()
    assert [] == list(tmp_path.iterdir())


def test_an_existing_name_is_written_over(tmp_path: Path) -> None:
    """A purge that writes the same archive again, since it died before, leaves one file."""
    written(tmp_path / "a", "x")
    assert ["x"] == [json.loads(item["json"])["content"] for item in read(written(tmp_path / "a", "x"))]
    assert 1 == len(list(tmp_path.iterdir()))


def test_what_is_no_archive(tmp_path: Path) -> None:
    """Another file, and none, are told apart from an archive that was edited."""
    (tmp_path / "a").write_bytes(b"hello")
    with pytest.raises(ConfigurationError, match="is no archive"):
        read(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="can't be opened"):
        archive.header_of(tmp_path / "b")
