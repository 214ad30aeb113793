"""`vault/holds.py`: what holds, holds until it is released, and nobody takes a hold away unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.ledger.entry import Entry
from secure_memory.vault import holds
from secure_memory.vault.holds import Hold
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

if TYPE_CHECKING:
    from conftest import Bench  # type: ignore[import-not-found]

NOON = 1_795_000_000_000_000
TENANT = bytes(16)
LEDGER_KEY = bytes(range(32, 64))
MATTER = Hold(0, "M-14", NOON, "user:maria", "claim of 3 March", session="ab" * 16, tags={"record": "phi"}, since=NOON)

UIDS = st.sampled_from(["aa", "bb"])
TAGS = st.dictionaries(st.sampled_from(["record", "region"]), st.sampled_from(["phi", "eu"]))
TIMES = st.integers(min_value=NOON - 3, max_value=NOON + 3)


class Matters:
    """The holds of one vault, as one process has it."""

    def __init__(self, bench: Bench, vault: Vault) -> None:
        self._bench = bench
        self._vault = vault

    def place(self, hold: Hold = MATTER) -> Hold:
        placed: Hold = self._bench.run(self._vault, lambda tx: holds.place(tx, Key(LEDGER_KEY), TENANT, hold))
        return placed

    def release(self, number: int) -> Hold:
        def work(tx: Transaction) -> Hold:
            return holds.release(tx, Key(LEDGER_KEY), TENANT, number, actor="user:eve", reason="settled")

        released: Hold = self._bench.run(self._vault, work)
        return released

    def ask(self, question: Callable[..., list[Hold]]) -> list[Hold]:
        found: list[Hold] = self._bench.run(
            self._vault, lambda tx: question(tx.execute, tx.control, Key(LEDGER_KEY), TENANT), durable=False
        )
        return found

    def entries(self) -> list[Entry]:
        connection = self._bench.connect()
        found = [e for e in self._vault.ledger.entries(connection.execute) if e.action.startswith("hold.")]
        connection.close()
        return found


@pytest.fixture
def matters(bench: Bench) -> Matters:
    """The holds of a new vault."""
    return Matters(bench, bench.made())


# ---- scope


@given(st.none() | UIDS, st.none() | UIDS, TAGS, UIDS, UIDS, TAGS)
def test_what_is_given_has_to_match_all_together(
    session: str | None, subject: str | None, tags: dict[str, str], its: str, whose: str, tagged: dict[str, str]
) -> None:
    """A hold is about a session where each part of its scope that is given says so, and about all where none is."""
    hold = Hold(1, "M", NOON, "a", session=session, subject=subject, tags=tags)
    expected = session in (None, its) and subject in (None, whose) and tags.items() <= tagged.items()
    assert expected == hold.covers_session(its, whose, tagged)
    assert Hold(1, "M", NOON, "a").covers_session(its, whose, tagged)


@given(st.none() | TIMES, st.none() | TIMES, TIMES)
def test_the_end_of_a_time_range_is_outside(since: int | None, until: int | None, created: int) -> None:
    """An item is held where it was created at `since` or later and before `until`; either may be open."""
    hold = Hold(1, "M", NOON, "a", since=since, until=until)
    assert (created in range(since or 0, until or 2**62)) == hold.covers_time(created)


# ---- placing and releasing


def test_a_hold_is_kept_as_it_was_placed(matters: Matters) -> None:
    """What was said of a hold is said by all who ask, and its number is the next one; it is an entry of its scope."""
    first, second = matters.place(), matters.place(replace(MATTER, matter="M-15", session=None))
    assert [replace(MATTER, id=1), replace(MATTER, id=2, matter="M-15", session=None)] == [first, second]
    assert [first, second] == matters.ask(holds.active) == matters.ask(holds.all_holds)
    assert [
        ("hold.place", "ab" * 16, {"hold": 1, "matter": "M-14"}),
        ("hold.place", None, {"hold": 2, "matter": "M-15"}),
    ] == [(entry.action, entry.session, entry.detail) for entry in matters.entries()]


def test_what_is_released_holds_no_longer_and_is_remembered(matters: Matters, noon: Any) -> None:
    """A released hold is no longer active; who released it, when and why stays, and its number is not given again."""
    matters.place()
    released = matters.release(1)
    assert replace(MATTER, id=1, released=noon.now, released_by="user:eve", released_why="settled") == released
    assert [] == matters.ask(holds.active)
    assert [released] == matters.ask(holds.all_holds)
    assert 2 == matters.place().id
    assert ["hold.place", "hold.release", "hold.place"] == [entry.action for entry in matters.entries()]


def test_nothing_is_released_twice_or_out_of_nowhere(matters: Matters) -> None:
    """Releasing a hold that there is not, or that is released, is refused and is no entry."""
    matters.place()
    matters.release(1)
    for number, why in ((1, "was released already"), (2, "there is no hold 2")):
        with pytest.raises(ConfigurationError, match=why):
            matters.release(number)
    assert ["hold.place", "hold.release"] == [entry.action for entry in matters.entries()]


def test_another_process_meets_the_hold(bench: Bench) -> None:
    """A hold that one process placed holds in one that had the vault open already."""
    one, other = Matters(bench, bench.made()), Matters(bench, bench.vault())
    assert [] == other.ask(holds.active)
    placed = one.place()
    assert [placed] == other.ask(holds.active)


# ---- whoever would take one away

REMEMBERED = "CREATE TABLE was AS SELECT * FROM holds"
ATTACKS = {
    "it is gone": ["DELETE FROM holds"],
    "one of two is gone": ["DELETE FROM holds WHERE id = 2"],
    "its words were edited": ["UPDATE holds SET said = replace(said, 'M-14', 'M-99') WHERE id = 1"],
    "its scope was edited": ["UPDATE holds SET said = replace(said, 'phi', 'xxx') WHERE id = 1"],
    "its MAC was edited": ["UPDATE holds SET mac = zeroblob(32) WHERE id = 1"],
    "it has another number": ["UPDATE holds SET id = 7 WHERE id = 2"],
    "it has a number that none has": ["UPDATE holds SET id = -1 WHERE id = 2"],
    "two changed places": ["UPDATE holds SET id = 9 WHERE id = 1", "UPDATE holds SET id = 1 WHERE id = 2"],
    "one was made up": ["INSERT INTO holds VALUES (3, '{}', zeroblob(32))"],
    "one was copied": ["INSERT INTO holds SELECT 3, said, mac FROM holds WHERE id = 1"],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hold_that_was_edited_or_is_gone_is_noticed(bench: Bench, matters: Matters, attack: str) -> None:
    """Whoever asks which holds there are is told of tampering, in this process and in one that opens the vault anew."""
    matters.place()
    matters.place()
    for statement in ATTACKS[attack]:
        bench.sql(statement)
    for anyone in (matters, Matters(bench, bench.vault())):
        for question in (holds.active, holds.all_holds):
            with pytest.raises(TamperedError, match="a legal hold"):
                anyone.ask(question)


@pytest.mark.parametrize("change", ["release", "place"])
def test_an_older_copy_of_the_rows_is_noticed(bench: Bench, matters: Matters, change: str) -> None:
    """Rows put back as they were before a hold was placed or released have right MACs, and are found nevertheless."""
    matters.place()
    bench.sql(REMEMBERED)
    if change == "release":
        matters.release(1)
    else:
        matters.place()
    bench.sql("DELETE FROM holds")
    bench.sql("INSERT INTO holds SELECT * FROM was")
    for anyone in (matters, Matters(bench, bench.vault())):
        with pytest.raises(TamperedError, match="a legal hold is gone, or one was put back"):
            anyone.ask(holds.active)


def test_a_hold_that_is_gone_with_its_digest_is_noticed(bench: Bench, matters: Matters) -> None:
    """Who deletes the row and puts the control state back as well meets the ledger, whose newest entry carries the hold."""
    before = bench.sql("SELECT * FROM control WHERE name = 'holds'")
    other = Matters(bench, bench.vault())
    other.ask(holds.active)
    matters.place()
    assert [] == before
    bench.sql("DELETE FROM holds")
    bench.sql("DELETE FROM control WHERE name = 'holds'")
    for anyone in (other, Matters(bench, bench.vault())):
        with pytest.raises(TamperedError, match="control state was edited"):
            anyone.ask(holds.active)
    with pytest.raises(TamperedError, match="a legal hold is gone"):
        matters.ask(holds.active)


def test_another_tenants_hold_is_none_of_ours(bench: Bench, matters: Matters) -> None:
    """A hold's row is bound to its tenant."""
    matters.place()
    vault = bench.vault()
    with pytest.raises(TamperedError, match="a legal hold was edited"):
        bench.run(vault, lambda tx: holds.all_holds(tx.execute, tx.control, Key(LEDGER_KEY), bytes([1]) * 16))
