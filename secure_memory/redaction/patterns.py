"""A policy's own patterns: which regular expressions may be looked for, and what looks for them. Pure.

- What is accepted takes time that is linear in the text, whatever the text: every repeat has an end, but for one at the end
  of the pattern; the ways to match at one place are counted, and are at most `MAX_WAYS`. So no text backtracks without end
  on the standard library's engine, which is the only one used: a policy means the same with google-re2 and without.
- No look-around, no backreference, no anchor: a pattern is looked for anywhere in a text.
- A context word, where some are given, has to stand near, as a whole word, or in a JSON key.

`check_pattern` is for whoever loads a policy, `PatternDetector` for whoever has one in force.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from secure_memory.redaction.candidate import Candidate, spaced
from secure_memory.redaction.detect import Finding
from secure_memory.redaction.walk import Segment

MAX_WAYS = 1_000
"""So many ways a pattern may have to match, or fail, at one place: the product over its repeats and alternatives."""
MAX_WIDTH = 1_000
"""Characters that a match may have, before what repeats at its end."""
_parser: Any = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

_REFUSED = {
    "ASSERT": "looks around: write what stands there as part of the pattern, or use context words",
    "ASSERT_NOT": "looks around: write what stands there as part of the pattern, or use context words",
    "GROUPREF": "refers back to a group: write the group again",
    "GROUPREF_EXISTS": "depends on a group: write two patterns",
    "ATOMIC_GROUP": "has an atomic group: write (?:...)",
    "POSSESSIVE_REPEAT": "has a possessive repeat: write it without the second +",
}
_ENDLESS = "repeats without an end before its own end: write {1,40} in place of + or *"
_AROUND = {"AT_BOUNDARY", "AT_NON_BOUNDARY"}


class _Cost(NamedTuple):
    """The ways in which a part can match, and the characters that it has, at least and at most."""

    ways: int
    least: int
    most: int


def check_pattern(pattern: str) -> None:
    """Raises ValueError, which says why, where a pattern does not compile, matches nothing, or could take long."""
    try:
        tree = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {getattr(error, 'msg', 'it is too large')}") from None
    if tree.state.flags & ~(re.IGNORECASE | re.UNICODE):
        raise ValueError("has a flag other than (?i): leave it out")
    cost = _sequence(tree, last=True)
    if cost.least == 0:
        raise ValueError("can match an empty text: make one part of it obligatory")


class PatternDetector:
    """Finds what a policy's patterns match, each beside one of its context words, where it has some."""

    name = "patterns"

    def __init__(self, patterns: Iterable[tuple[str, str, Iterable[str]]]) -> None:
        """`patterns`: entity, regular expression, context words. Raises ValueError as `check_pattern` does."""
        self._patterns: list[tuple[str, re.Pattern[str], tuple[str, ...]]] = []
        for entity, pattern, context in patterns:
            check_pattern(pattern)
            self._patterns.append((entity, re.compile(pattern), tuple(map(spaced, context))))

    def detect(self, segments: Sequence[Segment]) -> list[list[Finding]]:
        """The findings of each segment. Bare digits of tools are among them: the policy says what they are."""
        return [list(self._in(segment)) for segment in segments]

    def _in(self, segment: Segment) -> Iterator[Finding]:
        for entity, pattern, words in self._patterns:
            for match in pattern.finditer(segment.text):
                context = Candidate(match, segment, 0).context(*match.span(), words)
                if context or not words:
                    yield Finding(entity, *match.span(), 0.9, None, context, self.name)


# ---- what a pattern costs --------------------------------------------------------------------------------------------


def _sequence(parts: Any, last: bool) -> _Cost:
    """Of one part after another. `last` where nothing of the pattern follows."""
    ways, least, most = 1, 0, 0
    items = list(parts)
    for number, (operation, argument) in enumerate(items):
        cost = _part(str(operation), argument, last and number == len(items) - 1)
        ways, least, most = ways * cost.ways, least + cost.least, most + cost.most
        if ways > MAX_WAYS:
            raise ValueError(f"has more than {MAX_WAYS:,} ways to match: give its repeats a smaller range")
        if most > MAX_WIDTH:
            raise ValueError(f"can match more than {MAX_WIDTH:,} characters: give its repeats a smaller range")
    return _Cost(ways, least, most)


def _part(operation: str, argument: Any, last: bool) -> _Cost:
    if operation in _REFUSED:
        raise ValueError(_REFUSED[operation])
    if operation == "AT":
        if str(argument) not in _AROUND:
            raise ValueError("has an anchor: leave out ^ and $, a pattern is looked for anywhere in a text")
        return _Cost(1, 0, 0)
    if operation == "BRANCH":
        branches = [_sequence(branch, last) for branch in argument[1]]
        return _Cost(sum(b.ways for b in branches), min(b.least for b in branches), max(b.most for b in branches))
    if operation == "SUBPATTERN":
        _, added, removed, inside = argument
        if removed or added & ~re.IGNORECASE:
            raise ValueError("has a flag other than (?i): leave it out")
        return _sequence(inside, last)
    if operation in ("MAX_REPEAT", "MIN_REPEAT"):
        fewest, most, inside = argument
        return _repeat(fewest, most, inside, last and operation == "MAX_REPEAT")
    return _Cost(1, 1, 1)  # a character, or one of a set


def _repeat(fewest: int, most: int, inside: Any, last: bool) -> _Cost:
    """A greedy repeat at the end of the pattern takes what it gets and never comes back: it may go on without end."""
    once = _sequence(inside, last=False)
    if most is _parser.MAXREPEAT:
        single = once == (1, 1, 1)
        if not (last and single):
            raise ValueError(_ENDLESS)
        return _Cost(1, fewest, fewest)
    if once.ways > 1 and most > 1:
        ways = sum(once.ways**times for times in range(fewest, min(most, 12) + 1)) if most <= 12 else MAX_WAYS + 1
    else:
        ways = most - fewest + 1
    if once.least == 0 and most > 1:
        raise ValueError("repeats what can be empty: make the inner part obligatory")
    return _Cost(max(1, min(ways, MAX_WAYS + 1)), once.least * fewest, min(once.most * most, MAX_WIDTH + 1))
