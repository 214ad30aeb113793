"""The texts of one call as they are by now, alone and joined where one follows another; what was found, in its places. Pure.

Text that is split over two parts of a message is found in both joined; what a part says alone is not said again joined. What
was found over several goes from all of them: what stands for it stands in the first. Called by `pipeline`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from secure_memory.redaction.detect import Finding
from secure_memory.redaction.walk import NONE, Leaf, Segment

Span = tuple[int, int]

_FILL = "\ufffc"
"""Stands for what an operator wrote, where detectors look: no letter, no digit, no space, no word of context."""


class Text:
    """The text of a leaf, as it is by now. `after` is the text that it follows, NONE if it follows none."""

    __slots__ = ("after", "changed", "item", "leaf", "text")

    def __init__(self, item: int, leaf: Leaf, after: int) -> None:
        self.item, self.leaf, self.after = item, leaf, after
        self.text = leaf.segment.text
        self.changed = True


class Part(NamedTuple):
    """A text to look at, made of one text (by index) or of several that follow one another, each with where it starts."""

    text: str
    indexes: Sequence[int]
    starts: Sequence[int]
    segment: Segment


class Spot(NamedTuple):
    """A finding, what it covers, and the pieces of texts that this is: (index of the text, start, end)."""

    finding: Finding
    covered: str
    pieces: list[tuple[int, int, int]]


def parts(texts: Sequence[Text]) -> list[Part]:
    """What is to be looked at of texts that changed, and is looked at now: each alone, then those that follow on."""
    found = []
    chains: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        if text.changed and text.text:
            found.append(Part(text.text, (index,), (), text.leaf.segment))
        if text.after != NONE:
            chains[index] = chains.pop(text.after, [text.after])
            chains[index].append(index)
    for chain in chains.values():
        if any(texts[index].changed for index in chain):
            whole = [texts[index].text for index in chain]
            starts = list(accumulate(map(len, whole), initial=0))
            found.append(Part("".join(whole), chain, starts, texts[chain[0]].leaf.segment))
    for text in texts:
        text.changed = False
    return found


def spots(found: Sequence[tuple[Part, list[Finding]]]) -> list[Spot]:
    """The findings in their places. `found` has single texts first, and findings that don't overlap, in order."""
    taken: dict[int, list[Span]] = {}
    placed = []
    for part, findings in found:
        for finding in findings:
            covered = part.text[finding.start : finding.end]
            if len(part.indexes) == 1:
                pieces = [(part.indexes[0], finding.start, finding.end)]
                taken.setdefault(part.indexes[0], []).append((finding.start, finding.end))
            else:
                pieces = _pieces(part, finding)
                if any(_touches(taken.get(index, []), start, end) for index, start, end in pieces):
                    continue
            placed.append(Spot(finding, covered, pieces))
    return placed


def _pieces(part: Part, finding: Finding) -> list[tuple[int, int, int]]:
    pieces = []
    number = bisect_right(part.starts, finding.start) - 1
    while number < len(part.indexes) and part.starts[number] < finding.end:
        first, last = part.starts[number], part.starts[number + 1]
        start, end = max(finding.start, first) - first, min(finding.end, last) - first
        if start < end:
            pieces.append((part.indexes[number], start, end))
        number += 1
    return pieces


def _touches(spans: list[Span], start: int, end: int) -> bool:
    """Whether one of these spans, which are in order and don't overlap, has a character of this one."""
    last = bisect_left(spans, (end, 0)) - 1
    return last >= 0 and spans[last][1] > start


def only_within(spans: list[Span], text: str, start: int, end: int) -> bool:
    """Whether what is found says nothing beyond one of these spans, which are in order and don't overlap."""
    nearest = bisect_right(spans, (start, len(text))) - 1
    for first, last in spans[max(nearest, 0) : nearest + 2]:
        if first < end and start < last:
            outside = text[start : max(start, first)] + text[min(end, last) : end]
            if not any(map(str.isalnum, outside)):
                return True
    return False


def filled(text: str, spans: list[Span]) -> str:
    """The text with something of the same length that says nothing in the place of these spans."""
    return edited(text, [(start, end, _FILL * (end - start)) for start, end in spans])


def edited(text: str, changes: list[tuple[int, int, str]]) -> str:
    """The text with what stands at some spans, which don't overlap, replaced."""
    pieces, at = [], 0
    for start, end, new in sorted(changes):
        pieces += [text[at:start], new]
        at = end
    return "".join([*pieces, text[at:]])
