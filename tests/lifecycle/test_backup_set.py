"""The manifest of a backup set: one form, one MAC, and no byte that may be another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import ConfigurationError, StorageError, StoreBusyError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.lifecycle.backup import backup_set
from secure_memory.lifecycle.backup.backup_set import BackupSet, CopiedVault

KEY = Key(bytes(range(32)))
HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
SETS = st.builds(
    BackupSet,
    path=st.just(Path("set")),
    kind=st.sampled_from(["vaults", "keys"]),
    store=HEX,
    created=st.integers(0, 4_000_000_000_000_000),
    finished=st.integers(0, 4_000_000_000_000_000),
    files=st.dictionaries(NAMES, st.tuples(st.integers(0, 2**60), HEX), max_size=3),
    vaults=st.dictionaries(HEX, st.builds(CopiedVault, HEX, st.integers(1, 2**40), HEX), max_size=3),
    tombstones=st.none() | st.integers(0, 2**40),
)


def signed(made: BackupSet) -> BackupSet:
    return BackupSet(
        made.path,
        made.kind,
        made.store,
        made.created,
        made.finished,
        made.files,
        made.vaults,
        made.tombstones,
        made.signed(KEY),
    )


def read_back(tmp: Path, data: bytes) -> BackupSet:
    (tmp / "manifest.json").write_bytes(data)
    return backup_set.read(tmp)


@given(made=SETS)
def test_a_manifest_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, made: BackupSet) -> None:
    """What is read of a manifest is what was written, and its MAC is right."""
    place = tmp_path_factory.getbasetemp() / "round"
    place.mkdir(exist_ok=True)
    found = read_back(place, signed(made).text())
    found.check_mac(KEY)
    assert signed(made).text() == found.text()


@given(made=SETS, place=st.floats(0, 1, exclude_max=True), other=st.integers(1, 255))
def test_no_byte_may_be_another(tmp_path_factory: pytest.TempPathFactory, made: BackupSet, place: float, other: int) -> None:
    """A manifest of which one byte is another one is not read, or its MAC is wrong."""
    tmp = tmp_path_factory.getbasetemp() / "flip"
    tmp.mkdir(exist_ok=True)
    data = bytearray(signed(made).text())
    data[int(place * len(data))] ^= other
    with pytest.raises(TamperedError):
        read_back(tmp, bytes(data)).check_mac(KEY)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'{"kind": "vaults"}', b"\xff\xfe", b"9" * 5000, b"[" * 50_000]
)
def test_what_is_no_manifest(tmp_path: Path, data: bytes) -> None:
    """Whatever else stands in its place is damage, and is said without a driver's or a parser's words."""
    with pytest.raises(TamperedError, match="its manifest is damaged"):
        read_back(tmp_path, data)


def test_what_is_no_set(tmp_path: Path) -> None:
    """A directory without a manifest, a file, and nothing at all are no sets."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(ConfigurationError, match="no backup set"):
            backup_set.read(place)


def test_files_are_compared(tmp_path: Path) -> None:
    """A file that is longer, other, missing, or one too many is damage; what lies in a subdirectory counts too."""
    (tmp_path / "vaults").mkdir()
    (tmp_path / "vaults" / "a.db").write_bytes(b"12345")
    made = BackupSet(tmp_path, "vaults", "00", 0, 0, {"vaults/a.db": backup_set.measured(tmp_path / "vaults" / "a.db")})
    (tmp_path / "manifest.json").write_bytes(made.text())
    made.check_files()
    for data in (b"123456", b"12346", b""):
        (tmp_path / "vaults" / "a.db").write_bytes(data)
        with pytest.raises(TamperedError, match="is not what was written"):
            made.check_files()
    (tmp_path / "vaults" / "a.db").unlink()
    with pytest.raises(TamperedError, match="missing"):
        made.check_files()


def test_one_writer(tmp_path: Path) -> None:
    """A set that is being written is nobody else's to write or to sweep, and what a death left is swept."""
    with backup_set.being_written(tmp_path, "a-keys") as partial:
        backup_set.write(partial / "file", b"data")
        backup_set.sweep(tmp_path)
        assert (partial / "file").exists()
        with pytest.raises(StorageError), backup_set.being_written(tmp_path, "a-keys"):
            pass
        assert [] == backup_set.sets_in(tmp_path, "keys")
        kept = backup_set.keep(partial, "a-keys")
    assert ([kept], b"data") == (backup_set.sets_in(tmp_path, "keys"), (kept / "file").read_bytes())
    (tmp_path / ".b-keys.secmem-partial").mkdir()
    (tmp_path / ".other.partial").mkdir()
    backup_set.sweep(tmp_path)
    assert ["a-keys", ".other.partial"] == sorted(os.listdir(tmp_path), reverse=True)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    """An error while a set is written removes it."""
    with pytest.raises(StorageError), backup_set.being_written(tmp_path, "a-keys") as partial:
        backup_set.write(partial / "no directory" / "file", b"data")
    assert [] == os.listdir(tmp_path)


def test_a_place_that_another_one_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process holds the very directory it is StoreBusyError."""
    monkeypatch.setattr(backup_set, "_locked", lambda partial: None)
    with pytest.raises(StoreBusyError), backup_set.being_written(tmp_path, "a-keys"):
        pass
