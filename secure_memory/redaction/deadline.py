"""A detector that may fail, and one that may hang: nothing is stored, sent or shown for which it did not answer.

- What a detector raises never comes through: its message could hold what it read. Its type is told.
- A slow one runs in a thread of its own, and is given up after its time. The thread can't be ended: it is a daemon, so that
  it does not keep the program alive, and where `MAX_STUCK` of them hang at once, no further one is begun.
- The time limit holds for what lets other threads run: a model, a request, Python code. One call of `re` that backtracks
  does not; so patterns of a policy are checked, and run in linear time (`patterns`).

Called by `pipeline`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from secure_memory.errors import RedactionError
from secure_memory.redaction.detect import Detector, Finding
from secure_memory.redaction.walk import Segment

MAX_STUCK = 4
_HINT = "nothing was stored, sent or shown; try again, or take the detector out of the policy"

Answer = Sequence[Sequence[Finding]]


def ask(detector: Detector, segments: Sequence[Segment]) -> Answer:
    """What the detector finds, here and now: for those whose time is bounded by the length of the text. Raises
    RedactionError where it fails, or answers what can't be."""
    fault = None
    try:
        answer = detector.detect(segments)
        sound = len(answer) == len(segments)
        for segment, findings in zip(segments, answer, strict=False):
            for finding in findings:
                sound = sound and 0 <= finding.start < finding.end <= len(segment.text)
    except Exception as error:
        fault = type(error).__name__
    if fault is not None:  # raised here, so that not even as its context the error comes along
        raise RedactionError(f"the detector {detector.name!r} failed ({fault})", hint=_HINT)
    if not sound:
        raise RedactionError(f"the detector {detector.name!r} gave findings outside the text", hint=_HINT)
    return answer


class Slow:
    """A detector with a time limit."""

    def __init__(self, detector: Detector, seconds: float) -> None:
        self._detector = detector
        self._seconds = seconds
        self._stuck: list[threading.Thread] = []

    def ask(self, segments: Sequence[Segment]) -> Answer:
        """What the detector finds. Raises RedactionError where it fails, or takes longer than its time."""
        name = self._detector.name
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= MAX_STUCK:
            raise RedactionError(f"the detector {name!r} hangs: {MAX_STUCK} calls have not come back", hint=_HINT)
        answers: list[Answer] = []
        faults: list[RedactionError] = []

        def run() -> None:
            try:
                answers.append(ask(self._detector, segments))
            except RedactionError as error:
                faults.append(error)

        thread = threading.Thread(target=run, name=f"secure-memory-detector-{name}", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if faults:
            raise faults[0]
        if not answers:
            self._stuck.append(thread)
            raise RedactionError(f"the detector {name!r} did not answer within {self._seconds:g} s", hint=_HINT)
        return answers[0]
