"""The list of erased keys: it keeps what it was given, and notices what was done to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import StorageError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.keys.tombstones import Tombstone, TombstoneList

KEY = Key(bytes(range(32)))
ANA = Tombstone(b"a" * 16, "subject", 1, 1_795_000_000_000_000)
HER_SESSION = Tombstone(b"s" * 16, "session", 1, 1_795_000_000_000_001)
AGAIN = Tombstone(b"s" * 16, "session", 2, 1_795_000_000_000_002)
TIMES = st.integers(0, 4_000_000_000_000_000)
STONES = st.builds(
    Tombstone, st.binary(min_size=16, max_size=16), st.sampled_from(["subject", "session"]), st.integers(1, 9), TIMES
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a list may be; its directory is not there yet."""
    return tmp_path / "anchors" / "tombstones"


def test_a_list_that_is_not_there_is_empty(place: Path) -> None:
    """A store in which nobody was erased has no list, and that is no error."""
    assert [] == TombstoneList(place, KEY).read()


def test_what_is_appended_is_read_by_another(place: Path) -> None:
    """What one process appended, another reads, in order."""
    assert 1 == TombstoneList(place, KEY).append([ANA])
    assert 3 == TombstoneList(place, KEY).append([HER_SESSION, AGAIN])
    assert [ANA, HER_SESSION, AGAIN] == TombstoneList(place, KEY).read()


def test_nothing_is_appended_twice(place: Path) -> None:
    """An erasure that is run again adds no second line, whatever time it gives."""
    tombstones = TombstoneList(place, KEY)
    tombstones.append([ANA, HER_SESSION])
    assert 2 == tombstones.append([ANA._replace(destroyed=1), HER_SESSION])
    assert [ANA, HER_SESSION] == tombstones.read()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("how", ["edited", "dropped", "twice", "swapped"])
def test_a_line_that_was_changed_is_named(place: Path, number: int, how: str) -> None:
    """A line that was edited, dropped, doubled or moved, is noticed."""
    tombstones = TombstoneList(place, KEY)
    tombstones.append([ANA, HER_SESSION, AGAIN])
    lines = place.read_bytes().splitlines(keepends=True)
    if how == "edited":
        lines[number] = lines[number].replace(b" session ", b" subject ")
    elif how == "dropped":
        del lines[number - 1]
    elif how == "twice":
        lines.insert(number, lines[number])
    else:
        lines[number - 1], lines[number] = lines[number], lines[number - 1]
    place.write_bytes(b"".join(lines))
    with pytest.raises(TamperedError, match=r"line \d of the tombstones"):
        tombstones.read()
    with pytest.raises(TamperedError):
        tombstones.append([ANA._replace(version=7)])


def test_a_list_of_another_store_is_refused(place: Path) -> None:
    """A list under another key is not this store's."""
    TombstoneList(place, Key(bytes(32))).append([ANA])
    with pytest.raises(TamperedError, match="line 1"):
        TombstoneList(place, KEY).read()


@pytest.mark.parametrize("noise", [b"\xff\xfe 1\n", b"\n", b"1 2 3\n", b"1 aa subject 1 noon 00\n", b"x" * 200 + b"\n"])
def test_noise_is_refused(place: Path, noise: bytes) -> None:
    """Bytes that are no line are refused as one that was edited."""
    place.parent.mkdir()
    place.write_bytes(noise)
    with pytest.raises(TamperedError, match="line 1"):
        TombstoneList(place, KEY).read()


def test_a_line_cut_off_by_a_crash_does_not_count(place: Path) -> None:
    """What was never acknowledged is written over by the next."""
    tombstones = TombstoneList(place, KEY)
    tombstones.append([ANA, HER_SESSION])
    whole = place.read_bytes()
    place.write_bytes(whole[:-1])
    assert [ANA] == tombstones.read()
    assert 2 == tombstones.append([HER_SESSION])
    assert whole == place.read_bytes()


def test_a_list_that_cannot_be_written_is_an_error(place: Path) -> None:
    """Where the list can't be kept, whoever erases is told, and how to go on."""
    place.mkdir(parents=True)
    with pytest.raises(StorageError, match="could not write the tombstones") as raised:
        TombstoneList(place, KEY).append([ANA])
    assert "erase again" in str(raised.value.hint)


def test_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    """A list is not written where a link would lead it."""
    place.parent.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    os.symlink(tmp_path / "elsewhere", place)
    with pytest.raises(StorageError):
        TombstoneList(place, KEY).append([ANA])


def test_a_list_is_written_anew_under_another_key(place: Path) -> None:
    """An epoch turn keeps every tombstone, and the old key opens the new list no more."""
    TombstoneList(place, KEY).append([ANA, AGAIN])
    TombstoneList(place, KEY).turn(Key(bytes(32)))
    assert [ANA, AGAIN] == TombstoneList(place, Key(bytes(32))).read()
    with pytest.raises(TamperedError):
        TombstoneList(place, KEY).read()


@given(st.lists(STONES, max_size=8), st.integers(0, 8))
def test_every_list_comes_back(tmp_path_factory: pytest.TempPathFactory, stones: list[Tombstone], first: int) -> None:
    """In however many steps it was written, a list is what was appended, each key once."""
    place = tmp_path_factory.mktemp("list") / "tombstones"
    unique = list({stone[:3]: stone for stone in reversed(stones)}.values())[::-1]
    for part in (unique[:first], unique[first:]):
        TombstoneList(place, KEY).append(part)
    assert unique == TombstoneList(place, KEY).read()
