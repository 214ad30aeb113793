"""`deadline.py`: a detector that fails or hangs stops everything, and says nothing of what it read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from secure_memory.errors import RedactionError
from secure_memory.redaction.deadline import MAX_STUCK, Slow, ask
from secure_memory.redaction.detect import Finding
from secure_memory.redaction.walk import Segment

SEGMENTS = [Segment("secret words", (), False)]
FOUND = [[Finding("EMAIL", 0, 6, 1.0, None, None, "one")]]


class One:
    """A detector that answers what it was told to."""

    name = "one"

    def __init__(self, answer: Sequence[Sequence[Finding]]) -> None:
        self.answer = answer

    def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
        return self.answer


class Failing:
    """A detector that raises what it read."""

    name = "failing"

    def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
        raise KeyError(segments[0].text)


class Hanging:
    """A detector that answers when it is let go."""

    name = "hanging"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0

    def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
        self.calls += 1
        self.go.wait()
        return FOUND


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    detector = Hanging()
    yield detector
    detector.go.set()


def test_an_answer_comes_through() -> None:
    """What a detector finds is what is answered, with a time limit and without."""
    assert FOUND == ask(One(FOUND), SEGMENTS)
    assert FOUND == Slow(One(FOUND), 60).ask(SEGMENTS)


@pytest.mark.parametrize("slow", [False, True])
def test_a_failing_detector_stops_everything(slow: bool) -> None:
    """What a detector raises is a RedactionError with the kind of fault, and without its words."""
    with pytest.raises(RedactionError, match=r"'failing' failed \(KeyError\)") as caught:
        Slow(Failing(), 60).ask(SEGMENTS) if slow else ask(Failing(), SEGMENTS)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [[], [[], []], [[Finding("EMAIL", 0, 13, 1.0, None, None, "x")]], [[Finding("EMAIL", 4, 4, 1.0, None, None, "x")]]],
)
def test_an_answer_that_cannot_be_stops_everything(answer: list[list[Finding]]) -> None:
    """Too few answers, too many, a finding outside the text or an empty one: nothing of it is believed."""
    with pytest.raises(RedactionError):
        ask(One(answer), SEGMENTS)


def test_a_hanging_detector_is_given_up(hanging: Hanging) -> None:
    """A detector that does not answer in its time is a RedactionError, and answers again once it can."""
    slow = Slow(hanging, 0.01)
    with pytest.raises(RedactionError, match=r"did not answer within 0\.01 s"):
        slow.ask(SEGMENTS)
    hanging.go.set()
    assert FOUND == Slow(hanging, 60).ask(SEGMENTS)


def test_hanging_calls_do_not_pile_up(hanging: Hanging) -> None:
    """Where some calls hang, no further one is begun."""
    slow = Slow(hanging, 0.001)
    for _ in range(MAX_STUCK + 2):
        with pytest.raises(RedactionError):
            slow.ask(SEGMENTS)
    assert MAX_STUCK == hanging.calls
