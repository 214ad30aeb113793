"""Where personal data is: the protocol that detectors have, the built-in detector, and what becomes of overlaps.

- A detector is given a batch of segments and answers with the findings of each; offsets are characters of its text.
- Text comes folded (`normalise`): a detector sees plain digits, dashes and spaces.
- A detector never changes text and keeps none. The same text gives the same findings, with google-re2 and without: RE2
  says in one pass which words and prefixes are there, and the standard library looks for the shapes that go with them.

Called by `pipeline`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from secure_memory.redaction.candidate import Batch, Candidate, Shape, Spot, parted
from secure_memory.redaction.entities import shapes
from secure_memory.redaction.walk import Segment

_BETWEEN = "\0"
"""Between the segments of a batch: no shape has it, so that no candidate spans two."""
_MEMORY = 64 << 20
"""Bytes that RE2's automaton may take: it has to hold, since a set that runs out of memory answers with nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A piece of personal data: `text[start:end]` of its segment, and why we think so."""

    entity: str
    start: int
    end: int
    score: float
    """How sure the detector is, from 0 to 1."""
    validator: str | None
    """What proved it (a checksum, a numbering plan), where something did."""
    context: str | None
    """The word near it, or the JSON key, that spoke for it, where one was needed or there."""
    detector: str


class Detector(Protocol):
    """What finds personal data. May be slow, and may be called from any thread."""

    name: str

    def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
        """The findings of each segment, in the order of the segments."""
        ...


class BuiltinDetector:
    """Finds what `entities` knows, of the entities asked for. `region` is where phone numbers without a country code belong;
    `linear=False` leaves google-re2 alone."""

    name = "builtin"

    def __init__(self, entities: Collection[str], *, region: str | None = None, linear: bool = True) -> None:
        self._shapes = [(shape, re.compile(shape.pattern, re.ASCII)) for shape in shapes(entities, region)]
        texts = {text for shape, _ in self._shapes for text in (*shape.triggers, *parted(shape.words)[0])}
        self._spot = spotting(sorted(texts)) if linear else None
        # By number: the shapes that want no text to be there, and those that each text may be enough for.
        self._always: list[int] = []
        self._with: dict[str, list[int]] = {text: [] for text in texts}
        for number, (shape, _) in enumerate(self._shapes):
            wanted = {*shape.triggers, *parted(shape.words)[0]}
            for numbers in (self._with[text] for text in wanted) if wanted else (self._always,):
                numbers.append(number)

    def detect(self, segments: Sequence[Segment]) -> list[list[Finding]]:
        """The findings of each segment, in the order of the segments; they may overlap."""
        texts = [segment.text for segment in segments]
        joined = texts[0] if len(texts) == 1 else _BETWEEN.join(texts)
        found: list[list[Finding]] = [[] for _ in segments]
        starts: list[int] = []
        for shape, pattern in self._plausible(joined, segments):
            starts = starts or _starts(texts)
            for match in pattern.finditer(joined):
                place = bisect_right(starts, match.start()) - 1
                seen = Candidate(match, segments[place], starts[place])
                found[place].extend(_findings(shape, seen))
        return found

    def _plausible(self, joined: str, segments: Sequence[Segment]) -> Iterator[tuple[Shape, re.Pattern[str]]]:
        """The shapes that may be in the text, by tests that cost next to nothing."""
        batch = Batch(joined, {segment.keys for segment in segments if segment.keys}, self._spot)
        numbers: Iterable[int] = range(len(self._shapes))
        if batch.spotted is not None:  # nearly always, next to nothing
            numbers = sorted({*self._always, *(n for text in batch.spotted for n in self._with[text])})
        return (self._shapes[number] for number in numbers if batch.may_have(self._shapes[number][0]))


def spotting(texts: Sequence[str]) -> Spot | None:
    """What says, in one pass, which of the texts are in another; None where google-re2 is not installed."""
    try:
        import re2
    except ImportError:
        return None
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    several = re2.Set.SearchSet(options)
    for text in texts:
        several.Add(re2.escape(text))
    several.Compile()

    def spot(text: str) -> frozenset[str] | None:
        try:
            return frozenset(texts[index] for index in several.Match(text) or ())
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8
            return None

    return spot


def _starts(texts: Sequence[str]) -> list[int]:
    """Where each text starts in the joined one."""
    starts, at = [], 0
    for text in texts:
        starts.append(at)
        at += len(text) + len(_BETWEEN)
    return starts


def _findings(shape: Shape, seen: Candidate) -> Iterator[Finding]:
    """The hits as findings of the segment. A bare digit run of a tool is none where no word or key names it."""
    for hit in shape.check(seen):
        if seen.segment.tool and hit.context is None and seen.whole[hit.start : hit.end].isdigit():
            continue
        start, end = hit.start - seen.first, hit.end - seen.first
        yield Finding(shape.entity, start, end, hit.score, hit.validator, hit.context, BuiltinDetector.name)


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stay where some overlap, by place: validated before not, then the higher score, then the longer.

    What a loser covers beyond the winner stays covered, by what is left of the loser: nothing is half covered.
    """
    kept: list[Finding] = []
    cluster: list[Finding] = []
    end = 0
    for finding in sorted(findings, key=lambda f: f.start):
        if cluster and finding.start >= end:
            kept.extend(_settle(cluster))
            cluster = []
        cluster.append(finding)
        end = max(end, finding.end) if len(cluster) > 1 else finding.end
    return kept + _settle(cluster)


def _settle(cluster: list[Finding]) -> list[Finding]:
    """`resolve` for findings that overlap, each with another."""
    if len(cluster) < 2:
        return cluster
    kept: list[Finding] = []  # by place; nothing in it overlaps
    starts: list[int] = []
    for finding in sorted(cluster, key=lambda f: (f.validator is None, -f.score, f.start - f.end, f.start, f.entity)):
        at, pieces = finding.start, []
        number = bisect_right(starts, at)
        for other in kept[max(number - 1, 0) : bisect_left(starts, finding.end)]:
            if at < other.start:
                pieces.append((at, other.start))
            at = max(at, other.end)
        if at < finding.end:
            pieces.append((at, finding.end))
        for start, end in pieces:
            place = bisect_right(starts, start)
            starts.insert(place, start)
            kept.insert(place, replace(finding, start=start, end=end))
    return kept
