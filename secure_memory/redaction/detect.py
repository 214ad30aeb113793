"""Where personal data is: the protocol that detectors have, and what becomes of findings that overlap.

- A detector is given a batch of segments and answers with the findings of each; offsets are characters of its text.
- Text comes folded (`normalise`): a detector sees plain digits, dashes and spaces.
- A detector never changes text and keeps none.

Called by `pipeline`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from secure_memory.redaction.walk import Segment


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
    kept: list[Finding] = []
    for finding in sorted(cluster, key=lambda f: (f.validator is None, -f.score, f.start - f.end, f.start, f.entity)):
        pieces = [(finding.start, finding.end)]
        for other in kept:
            pieces = [
                piece
                for start, end in pieces
                for piece in ((start, min(end, other.start)), (max(start, other.end), end))
                if piece[0] < piece[1]
            ]
        kept.extend(replace(finding, start=start, end=end) for start, end in pieces)
    return sorted(kept, key=lambda f: f.start)
