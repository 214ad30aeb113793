"""`vault/prefix.py`: what is remembered is a part of the history that was proven, or nothing."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from secure_memory.vault import prefix
from secure_memory.vault.prefix import Prefix

BASE = b"the link before"


def links(start: int, end: int) -> list[bytes]:
    """The links of a history that nobody changes, at start < position <= end."""
    return [b"link %d" % position for position in range(start + 1, end + 1)]


def texts(start: int, end: int) -> list[bytes]:
    return [b'"item %d"' % position for position in range(start + 1, end + 1)]


def link_at(position: int) -> bytes:
    return b"link %d" % position if position else BASE


@pytest.fixture
def ten() -> Prefix:
    """A prefix that remembers positions 1 to 10."""
    remembered = Prefix()
    remembered.extend(0, BASE, texts(0, 10), links(0, 10))
    return remembered


def test_nothing_is_remembered_at_first() -> None:
    """A new prefix knows nothing of any position."""
    assert Prefix().take(0, 0) is None
    assert Prefix().take(0, 5) is None


@pytest.mark.parametrize(
    ("after", "end", "expected"),
    [
        (0, 10, (10, 0)),
        (7, 10, (10, 7)),
        (0, 14, (10, 0)),  # there is more, which is not known
        (0, 8, (8, 0)),  # someone popped two
        (9, 10, (10, 9)),
        (10, 10, None),
        (10, 14, None),
        (12, 14, None),
    ],
)
def test_what_is_taken(ten: Prefix, after: int, end: int, expected: tuple[int, int] | None) -> None:
    """What is remembered behind a position comes with the position it reaches to and the link there."""
    position, start = expected or (0, 0)
    assert (expected and (position, link_at(position), texts(start, position))) == ten.take(after, end)


def test_before_what_is_remembered() -> None:
    """A read that begins before the memory does is not served from it."""
    remembered = Prefix()
    remembered.extend(5, link_at(5), texts(5, 8), links(5, 8))
    assert remembered.take(4, 8) is None
    assert (8, link_at(8), texts(5, 8)) == remembered.take(5, 8)


def test_another_history_takes_the_place_of_the_one_remembered(ten: Prefix) -> None:
    """Where the link at the border is another one, all that was remembered is forgotten."""
    ten.extend(6, b"another link", [b'"new"'], [b"new link"])
    assert ten.take(0, 7) is None
    assert (7, b"new link", [b'"new"']) == ten.take(6, 7)


def test_what_follows_the_border_is_replaced(ten: Prefix) -> None:
    """Where the link at the border is the one remembered, what comes before stays and what came behind goes."""
    ten.extend(6, link_at(6), [b'"new"'], [b"new link"])
    assert (7, b"new link", [*texts(0, 6), b'"new"']) == ten.take(0, 10)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, ten: Prefix) -> None:
    """Past the bound everything is dropped, and remembering begins again."""
    monkeypatch.setattr(prefix, "MAX_BYTES", 200)
    ten.extend(10, link_at(10), [b"x" * 200], links(10, 11))
    assert ten.take(0, 11) is None
    ten.extend(11, link_at(11), texts(11, 12), links(11, 12))
    assert (12, link_at(12), texts(11, 12)) == ten.take(11, 12)


def test_bytes_that_go_no_longer_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was replaced gives its room back."""
    monkeypatch.setattr(prefix, "MAX_BYTES", 250)
    remembered = Prefix()
    remembered.extend(0, BASE, [b"x" * 100], links(0, 1))
    for _ in range(5):
        remembered.extend(1, link_at(1), [b"x" * 100], links(1, 2))
    assert remembered.take(0, 2) is not None


class Remembering(RuleBasedStateMachine):
    """One prefix beside a history that others change too: whoever finds the link right finds the items right."""

    @initialize()
    def begin(self) -> None:
        self.remembered = Prefix()
        self.history: list[tuple[bytes, bytes]] = []  # link and text
        self.base = 0

    def link(self, position: int) -> bytes:
        return self.history[position - 1][0] if position else BASE

    @rule(count=st.integers(1, 4), seen=st.booleans())
    def append(self, count: int, seen: bool) -> None:
        head = len(self.history)
        new = [(os.urandom(8), os.urandom(4)) for _ in range(count)]
        if seen:
            self.remembered.extend(head, self.link(head), [text for _, text in new], [link for link, _ in new])
        self.history += new

    @rule()
    def pop(self) -> None:
        if len(self.history) > self.base:
            self.history.pop()

    @rule()
    def clear(self) -> None:
        self.base = len(self.history)

    @rule(limit=st.integers(0, 8))
    def read(self, limit: int) -> None:
        head = len(self.history)
        after = max(self.base, head - limit)
        known: list[bytes] = []
        taken = self.remembered.take(after, head)
        if taken is not None and self.link(taken[0]) == taken[1]:
            position, _, known = taken
        else:
            position = after
        tail: list[Any] = self.history[position:]
        self.remembered.extend(position, self.link(position), [text for _, text in tail], [link for link, _ in tail])
        assert [text for _, text in self.history[after:]] == known + [text for _, text in tail]

    @invariant()
    def texts_and_links_go_together(self) -> None:
        assert len(self.remembered._texts) == len(self.remembered._links)
        assert sum(map(len, self.remembered._texts)) == self.remembered._bytes


TestRemembering = Remembering.TestCase


@given(st.integers(0, 12), st.integers(0, 12))
def test_nothing_is_made_up(after: int, end: int) -> None:
    """Whatever is asked for, what is given back is at the positions asked for."""
    ten = Prefix()
    ten.extend(0, BASE, texts(0, 10), links(0, 10))
    if after <= end and (taken := ten.take(after, end)):
        assert after < taken[0] <= end
        assert texts(after, taken[0]) == taken[2]
