"""`lifecycle/holding.py`: legal holds as a person places, sees and releases them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory.actor import Actor, acting_as
from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.lifecycle.holding import MAX_MATTER, HoldInfo
from secure_memory.store import SecureStore

MARIA = Actor("user:maria", purpose="litigation", reason="claim of 3 March")


@pytest.fixture
def desk(store: SecureStore) -> SecureStore:
    """A store with two tenants: ana's conversations "first" and "second" in acme, one of ben's in globex."""
    for name, subject, tenant in (("first", "ana", "acme"), ("second", "ana", "acme"), ("third", "ben", "globex")):
        store.session(name, subject=subject, tenant=tenant).blocking.add_items([{"role": "user", "content": "hello"}])
    return store


def entries(store: SecureStore, action: str) -> list[Any]:
    return [record.entry for record in store.audit_log(action=action)]


def test_a_hold_is_told_by_names(desk: SecureStore, noon: Any) -> None:
    """Placed, listed and released, a hold is told with the names that a person knows, and with who said what when; its
    entries have the uids, the matter, and the reason."""
    with acting_as(MARIA):
        placed = desk.hold_place(
            "M-14", tenant="acme", session="first", subject="ana", tags={"a": "b"}, since=1, until=noon.now
        )
    expected = HoldInfo(
        "acme", 1, "M-14", noon.now, "user:maria", "claim of 3 March", "first", "ana", {"a": "b"}, 1, noon.now
    )
    assert expected == placed
    assert [expected] == desk.hold_list() == desk.hold_list(tenant="acme")
    assert [] == desk.hold_list(tenant="globex")
    noon.now += 1
    with acting_as("user:eve", reason="settled"):
        released = desk.hold_release(1, tenant="acme")
    assert (noon.now, "user:eve", "settled") == (released.released, released.released_by, released.released_why)
    assert ([], [released]) == (desk.hold_list(), desk.hold_list(released=True))
    (place,), (release,) = entries(desk, "hold.place"), entries(desk, "hold.release")
    info = next(info for info in desk.sessions(tenant="acme") if info.name == "first")
    assert ("user:maria", "litigation", "claim of 3 March", info.uid) == (
        place.actor,
        place.purpose,
        place.reason,
        place.session,
    )
    assert ({"hold": 1, "matter": "M-14"}, "user:eve", "settled") == (release.detail, release.actor, release.reason)


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ({}, (None, None)),
        ({"session": "second"}, ("second", None)),
        ({"subject": "ana"}, (None, "ana")),
        ({"session": "second", "subject": "ana"}, ("second", "ana")),
    ],
)
def test_its_scope_is_told_as_it_was_said(desk: SecureStore, scope: Any, told: tuple[Any, Any]) -> None:
    """What was not said of a hold's scope is not told of it, and what was said is told by its name."""
    placed = desk.hold_place("M-1", tenant="acme", **scope)
    assert told == (placed.session, placed.subject)
    assert [placed] == desk.hold_list()


def test_what_has_lost_its_name_is_told_by_its_uid(desk: SecureStore) -> None:
    """A hold on a session that went to another subject goes on; one on a subject without any session is told by uid."""
    desk.hold_place("M-1", tenant="acme", subject="ana")
    with desk.session("first", tenant="acme") as session:
        uid = entries(desk, "hold.place")[0].subject
        desk.hold_release(1, tenant="acme")
        session.blocking.assign_subject("zoe")
    desk.session("second", tenant="acme").blocking.assign_subject("zoe")
    assert [uid] == [info.subject for info in desk.hold_list(released=True)]


@pytest.mark.parametrize(
    "bad",
    [
        {"matter": ""},
        {"matter": "  "},
        {"matter": "a\nb"},
        {"matter": "a" * (MAX_MATTER + 1)},
        {"matter": 7},
        {"since": 5, "until": 5},
        {"tags": {"a": 1}},
        {"tags": {1: "a"}},
    ],
)
def test_bad_arguments(desk: SecureStore, bad: dict[str, Any]) -> None:
    """What is no matter, no time range or no tag is a ValueError, and nothing is placed."""
    with pytest.raises(ValueError, match=r"matter|time range|tags"):
        desk.hold_place(**{"matter": "M-1", "tenant": "acme", **bad})
    assert [] == desk.hold_list(released=True)


@pytest.mark.parametrize(
    "unknown", [{"session": "nobody"}, {"subject": "nobody"}, {"tenant": "nobody"}, {"session": "third"}]
)
def test_nothing_is_held_that_there_is_not(desk: SecureStore, unknown: dict[str, Any]) -> None:
    """A session, subject or tenant that is not there is refused: who mistyped a name must not believe that it is held."""
    with pytest.raises(ConfigurationError, match=r"no such|no tenant"):
        desk.hold_place("M-1", **{"tenant": "acme", **unknown})
    assert [] == desk.hold_list() == entries(desk, "hold.place")


def test_a_hold_is_released_once_and_in_its_tenant(desk: SecureStore) -> None:
    """Numbers are a tenant's own; releasing what is not there, or again, is refused."""
    desk.hold_place("M-1", tenant="acme")
    with pytest.raises(ConfigurationError, match="there is no hold 1"):
        desk.hold_release(1, tenant="globex")
    desk.hold_release(1, tenant="acme")
    with pytest.raises(ConfigurationError, match="was released already"):
        desk.hold_release(1, tenant="acme")


def test_looking_is_an_entry(desk: SecureStore) -> None:
    """Listing holds is an `audit.read` of each tenant that was looked at."""
    desk.hold_list()
    found = [r for r in desk.audit_log(action="audit.read") if r.entry.detail.get("list") == "holds"]
    assert ["acme", "globex"] == sorted(record.tenant_name for record in found)


LIST = """
import sys
from secure_memory import SecureStore
with SecureStore.open(sys.argv[1]) as store:
    print([(hold.tenant, hold.matter, hold.session) for hold in store.hold_list()])
"""


def test_another_process_knows_it(desk: SecureStore, place: Path, elsewhere: Callable[..., str]) -> None:
    """A hold is everybody's who opens the store."""
    desk.hold_place("M-1", tenant="acme", session="first")
    assert "[('acme', 'M-1', 'first')]\n" == elsewhere(LIST, place)


@pytest.mark.parametrize("statement", ["DELETE FROM holds", "UPDATE holds SET said = replace(said, 'M-1', 'M-2')"])
def test_a_hold_that_was_taken_away_is_an_incident(desk: SecureStore, insider: Callable[..., Any], statement: str) -> None:
    """Where a hold's row is gone or edited, nobody is told that nothing is held: listing, placing, releasing, deleting and
    the whole check raise, and it is in the ledger."""
    desk.hold_place("M-1", tenant="acme")
    insider("acme").sql(statement)
    with desk.session("first", tenant="acme") as session:
        asks: list[Callable[[], Any]] = [
            desk.hold_list,
            lambda: desk.hold_place("M-2", tenant="acme"),
            lambda: desk.hold_release(1, tenant="acme"),
            lambda: desk.audit_verify(tenant="acme"),
            session.blocking.pop_item,
            session.blocking.clear_session,
        ]
        for ask in asks:
            with pytest.raises(TamperedError, match="legal hold"):
                ask()
        assert 1 == len(session.blocking.get_items())
    during = [entry.detail["during"] for entry in entries(desk, "session.tampered")]
    assert ["audit.read", "hold.place", "hold.release", "session.pop", "session.clear"] == during


def test_a_hold_that_was_taken_away_with_its_digest_is_found(
    desk: SecureStore, place: Path, insider: Callable[..., Any]
) -> None:
    """Who deletes a hold and makes the control state fit does not make fit what this process knows, nor the ledger, which
    who opens the store next goes by."""
    desk.hold_place("M-1", tenant="acme")
    thief = insider("acme")
    thief.sql("DELETE FROM holds")
    thief.sql("DELETE FROM control WHERE name = 'holds'")
    with pytest.raises(TamperedError, match="a legal hold is gone"):
        desk.hold_list()
    desk.close()
    with SecureStore.open(place) as store, pytest.raises(TamperedError, match="control state was edited"):
        store.hold_list()


def test_the_control_state_changes_only_with_an_entry_that_says_so(desk: SecureStore, insider: Callable[..., Any]) -> None:
    """Where somebody with every key took a hold away and went on in the ledger without it, the whole check finds where."""
    desk.hold_place("M-1", tenant="acme")
    thief = insider("acme")
    placed = thief.newest()
    before = json.loads(thief.row(placed.seq - 1).entry)["control"]
    desk.session("first", tenant="acme").blocking.get_items()
    thief.edit(placed.seq + 1, control=before)
    with pytest.raises(TamperedError, match=f"ledger entry {placed.seq + 1} carries another control state"):
        desk.audit_verify(tenant="acme")
