"""`agents_sdk/particulars.py`: tags, metadata, the end; and finding sessions by them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from secure_memory import AccessDeniedError, AsyncSecureStore, ConfigurationError, SecureStore, acting_as
from secure_memory.agents_sdk.particulars import MAX_METADATA, MAX_TAGS

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def names(store: SecureStore, **wanted: Any) -> list[str | None]:
    return [info.name for info in store.sessions(**wanted)]


def test_tags(store: SecureStore) -> None:
    """Tags are added to those that are there, changed, and taken away by None; every handle reads them."""
    session = store.session("s").blocking
    assert {} == session.get_tags()
    session.add_items(HELLO)
    session.set_tags(record="phi", region="eu")
    session.set_tags(record="other", desk="two", region=None)
    assert {"record": "other", "desk": "two"} == session.get_tags() == store.session("s").blocking.get_tags()
    assert HELLO == session.get_items()
    store.audit_verify()


def test_a_session_begins_with_its_tags(store: SecureStore) -> None:
    """A session can be tagged before anything was said in it."""
    store.session("s", subject="ana").blocking.set_tags(record="phi")
    (info,) = store.sessions()
    assert ("s", "ana", {"record": "phi"}, 0) == (info.name, info.subject, info.tags, info.items)
    store.session("s").blocking.add_items(HELLO)
    assert ["s"] == names(store, tags={"record": "phi"})
    store.audit_verify()


def test_metadata(store: SecureStore) -> None:
    """Metadata is whatever JSON the program notes, and is not what sessions are found by."""
    session = store.session("s").blocking
    session.set_metadata(ticket=4711, path=["a", {"b": None}], channel="mail")
    session.set_metadata(channel=None, record="phi")
    assert {"ticket": 4711, "path": ["a", {"b": None}], "record": "phi"} == session.get_metadata()
    assert {} == session.get_tags()
    assert [] == names(store, tags={"record": "phi"})


def test_what_tags_and_metadata_can_t_be(store: SecureStore) -> None:
    """Values that are no text, empty, too long, too many or no JSON are refused, and nothing is written."""
    session = store.session("s").blocking
    bad: Any
    for bad in (1, "", "x" * 501, "\ud800", b"x"):
        with pytest.raises(ValueError, match="tag 'record'"):
            session.set_tags(record=bad)
    with pytest.raises(ValueError, match=f"{MAX_TAGS} tags"):
        session.set_tags(**{f"tag{n}": "x" for n in range(MAX_TAGS + 1)})
    for bad in ({1, 2}, object(), (1, 2), 2**70, "\ud800"):
        with pytest.raises(ValueError, match="JSON"):
            session.set_metadata(note=bad)
    with pytest.raises(ValueError, match="16384"):
        session.set_metadata(note="x" * MAX_METADATA)
    assert ({}, {}) == (session.get_tags(), session.get_metadata())


def test_the_end(store: SecureStore, noon: Any) -> None:
    """A session that ended says when and why; it can be read and go on."""
    session = store.session("s").blocking
    with pytest.raises(ConfigurationError, match="no such session"):
        session.end("solved")
    session.add_items(HELLO)
    session.end(reason="solved")
    (info,) = store.sessions()
    assert (noon.now, "solved") == (info.ended, info.reason)
    noon.now += 1
    session.end()
    (info,) = store.sessions()
    assert (noon.now, None) == (info.ended, info.reason)
    assert HELLO == session.get_items()
    for bad in ("", "x" * 501):
        with pytest.raises(ValueError, match="a reason"):
            session.end(bad)


def test_what_the_ledger_says(store: SecureStore) -> None:
    """Changes and looks are entries with who asked; neither tags nor reasons stand in them."""
    session = store.session("s").blocking
    with acting_as("user:maria"):
        session.set_tags(record="phi")
        session.set_metadata(note="private")
        session.end(reason="moved away")
        session.get_tags()
    records = [one for one in store.audit_log(tenant="default", session="s") if one.entry.actor == "user:maria"]
    assert ["session.create", "session.tag", "session.tag", "session.end", "session.read"] == [
        one.entry.action for one in records
    ]
    assert not any(word in str(records) for word in ("phi", "private", "moved away"))


def test_who_may(store: SecureStore, place: Any) -> None:
    """Where the store wants to know who asks, nobody tags, ends, assigns or reviews without saying so."""
    store.session("s").blocking.add_items(HELLO)
    with SecureStore.open(place, require_actor=True) as strict:
        session = strict.session("s").blocking
        for attempt in (
            lambda: session.set_tags(record="phi"),
            lambda: session.end("x"),
            lambda: session.assign_subject("ben"),
            session.get_metadata,
            lambda: strict.review("s", purpose="quality"),
        ):
            with pytest.raises(AccessDeniedError):
                attempt()
        with acting_as("user:maria"):
            session.set_tags(record="phi")


def test_assigning_what_is_not_there(store: SecureStore) -> None:
    """A session that has not begun can't be assigned, and no name is no subject."""
    session = store.session("s").blocking
    with pytest.raises(ConfigurationError, match="no such session"):
        session.assign_subject("ben")
    session.add_items(HELLO)
    for bad in ("", "\ud800", None, 7):
        with pytest.raises(ValueError, match="new_subject"):
            session.assign_subject(bad)  # type: ignore[arg-type]
    assert ["s"] == names(store, subject="s")


def test_finding_sessions(store: SecureStore, noon: Any) -> None:
    """By subject, by several tags, by time, by all of it; the newest first, so many as asked."""
    for number, (name, subject) in enumerate([("a1", "ana"), ("b1", "ben"), ("a2", "ana")]):
        noon.now += 10
        session = store.session(name, subject=subject).blocking
        session.add_items(HELLO)
        session.set_tags(record="phi", number=str(number))
    start = noon.now - 20
    assert ["a2", "b1", "a1"] == names(store)
    assert ["a2", "a1"] == names(store, subject="ana")
    assert ["a2"] == names(store, subject="ana", limit=1)
    assert ["a2", "b1", "a1"] == names(store, tags={"record": "phi"})
    assert ["b1"] == names(store, tags={"record": "phi", "number": "1"})
    assert ["a2", "b1"] == names(store, since=start + 10)
    assert ["b1", "a1"] == names(store, until=start + 20)
    assert ["a1"] == names(store, subject="ana", tags={"record": "phi"}, since=start, until=start + 10)
    assert [] == names(store, subject="nobody")
    with pytest.raises(ConfigurationError, match="no tenant"):
        store.sessions(tenant="acme")


def test_what_a_branch_did_last(store: SecureStore, noon: Any) -> None:
    """A session was last active when any of its branches was."""
    session = store.session("s").blocking
    session.add_items([*HELLO, *HELLO])
    session.create_branch_from_turn(2)
    noon.now += 10
    session.add_items(HELLO)
    (info,) = store.sessions()
    assert (noon.now, 2) == (info.last_activity, info.items)


def test_assigned_sessions_are_found_at_their_new_subject(store: SecureStore) -> None:
    """A session that is assigned is found at who it belongs to, and what was said of it is kept."""
    session = store.session("s", subject="ana").blocking
    session.add_items(HELLO)
    session.set_tags(record="phi")
    session.end("done")
    session.assign_subject("ben")
    assert ([], ["s"]) == (names(store, subject="ana"), names(store, subject="ben", tags={"record": "phi"}))
    assert ["done"] == [info.reason for info in store.sessions()]


def test_awaited(store: SecureStore, place: Any) -> None:
    """A service finds and reviews without holding up its event loop."""
    store.session("s", subject="ana").blocking.add_items(HELLO)

    async def look() -> tuple[list[str | None], list[Any]]:
        async with await AsyncSecureStore.open(place) as service:
            found = await service.sessions(subject="ana", limit=1)
            return [info.name for info in found], await service.review("s", purpose="quality")

    assert (["s"], HELLO) == asyncio.run(look())


def test_review(store: SecureStore) -> None:
    """A supervisor reads any conversation, says what for, and is told from those who take part."""
    store.session("s", subject="ana").blocking.add_items([*HELLO, {"role": "assistant", "content": "hi"}])
    with acting_as("user:eve", roles=("supervisor",)):
        assert HELLO == store.review("s", purpose="quality")[:1]
        assert 1 == len(store.review("s", purpose="quality", limit=1))
    first, _ = (one.entry for one in store.audit_log(tenant="default", action="session.review"))
    assert ("user:eve", ("supervisor",), "quality", 2) == (first.actor, first.roles, first.purpose, first.items)
    assert [] == store.audit_log(tenant="default", action="session.read")
    for purpose in ("", " ", None):
        with pytest.raises(ValueError, match="purpose"):
            store.review("s", purpose=purpose)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no such session"):
        store.review("other", purpose="quality")
