"""Rules, detectors and operators in one: what becomes of items on a surface, and why.

- An item in which nothing was found is the same object. Otherwise it is a copy, in which nothing else changed.
- Only what some rule of the surface treats is looked for: a policy that redacts card numbers costs next to nothing.
- Looking ends when nothing is found any more, in what came out too. So the result is a fixed point, whatever the detectors
  are: `redact(redact(x)) == redact(x)`.
- Same input, same output: no time, no randomness, no order of arrival.
- Fails closed: a detector that raises, hangs or answers nonsense is a RedactionError, and nothing comes back.

A `Redactor` is built from plain values by whoever knows the policy, and keeps nothing of what it saw; any number of
threads may use one. The builtin detector runs where it is called: its time is bounded by the length of the text, and
handing it to a thread would cost more than itself. Others run in a thread with a time limit (`deadline`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from secure_memory.errors import BlockedContentError, RedactionError
from secure_memory.items import Item
from secure_memory.redaction.deadline import Answer, Slow, ask
from secure_memory.redaction.detect import Detector, Finding, resolve
from secure_memory.redaction.entities import ENTITIES, canonical
from secure_memory.redaction.literals import pointer
from secure_memory.redaction.normalise import View, plain, views
from secure_memory.redaction.operators import BLOCKED, KEPT, Keyed, Token, keyed, masked, redacted, standing
from secure_memory.redaction.parts import Part, Spot, Text, edited, filled, only_within, parts, spots
from secure_memory.redaction.walk import NONE, Segment, leaves, rewrite

MAX_ROUNDS = 8
"""Most texts settle in two: one that finds, and one that finds nothing more."""
AT_ONCE = 1_000
"""Segments of one batch: all of a long JSON text in one call of the engine would keep the other threads waiting."""
SECONDS = 10.0
"""For a detector that is not builtin to answer for one batch."""


class Rule(NamedTuple):
    """What a rule of the policy does to an entity on one surface. `operator` is one of `operators.OPERATORS`."""

    id: str
    entity: str
    operator: str


@dataclass(frozen=True, slots=True)
class Treated:
    """A finding, its text, and what was done to it. `start` and `end` are of the text at `path` (RFC 6901) in the item, as
    it stood at that `look`: at the first, 0, as it was given. Its repr has neither text nor keys, which could be personal
    data themselves."""

    item: int
    path: str = field(repr=False)
    entity: str
    text: str = field(repr=False)
    start: int
    end: int
    look: int
    rule: str
    operator: str
    detector: str
    validator: str | None
    score: float
    context: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Redacted:
    """Items as they may be on a surface, what was done to them, and the tokens whose originals are to be kept."""

    items: list[Item] = field(repr=False)
    treated: tuple[Treated, ...] = ()
    tokens: tuple[Token, ...] = ()


class Redactor:
    """What a policy's redaction section does."""

    def __init__(
        self,
        surfaces: Mapping[str, Collection[Rule]],
        builtin: Callable[[frozenset[str]], Detector],
        others: Sequence[Detector] = (),
        *,
        allow: Collection[str] = (),
        seconds: float = SECONDS,
    ) -> None:
        """`surfaces`: the rules of each. `builtin` makes a detector for a set of entities; `others` may be slow. `allow` are
        texts that are never personal data."""
        self._rules = {
            surface: {rule.entity: rule for rule in rules if rule.operator != KEPT} for surface, rules in surfaces.items()
        }
        slow = [Slow(detector, seconds) for detector in others]
        self._detect: dict[str, list[Callable[[Sequence[Segment]], Answer]]] = {
            surface: [_inline(builtin(frozenset(rules))), *(detector.ask for detector in slow)]
            for surface, rules in self._rules.items()
        }
        self._allow = frozenset(plain(text).casefold() for text in allow)
        named = {rule.entity for rules in surfaces.values() for rule in rules}
        self._standing = standing(named | set(ENTITIES))

    def treats(self, surface: str) -> bool:
        """Whether any rule does anything on the surface."""
        return bool(self._rules.get(surface))

    def redact(self, items: Sequence[Item], surface: str, functions: Keyed) -> Redacted:
        """The items as they may be on the surface. Raises ValueError for a surface that has no rules, BlockedContentError
        where a rule blocks, and RedactionError where it can't be told."""
        if surface not in self._rules:
            raise ValueError(f"no such surface: {surface!r}")
        if not self._rules[surface]:
            return Redacted(list(items))
        texts: list[Text] = []
        for number, item in enumerate(items):
            first = len(texts)
            texts += [Text(number, leaf, leaf.after + first if leaf.after != NONE else NONE) for leaf in leaves(item)]
        treatment = _Treatment(self._rules[surface], functions)
        for look in range(MAX_ROUNDS):
            spots = self._look(texts, surface)
            if not spots:
                break
            treatment.treat(texts, spots, look)
        else:
            raise RedactionError(
                "a text did not settle: what came out was personal data again", hint="report this text's shape"
            )
        if not treatment.treated:
            return Redacted(list(items))
        return Redacted(_written(items, texts), tuple(treatment.treated), tuple(treatment.tokens.values()))

    def _look(self, texts: list[Text], surface: str) -> list[Spot]:
        """What is found in the texts that changed since the last look, in the order of the texts."""
        looks: list[tuple[int, View]] = []
        segments: list[Segment] = []
        looked_at = parts(texts)
        for number, part in enumerate(looked_at):
            spans = self._standing(part.text)
            text, keys, tool = part.segment
            for view in views(filled(part.text, spans) if spans else part.text):
                looks.append((number, view))
                segments.append(part.segment if view.text is text else Segment(view.text, keys, tool))
        found: dict[int, list[Finding]] = {}
        for detect in self._detect[surface] if segments else ():
            answers = [one for batch in _batches(segments) for one in detect(batch)]
            for (number, view), findings in zip(looks, answers, strict=True):
                for finding in findings:
                    if finding.entity in self._rules[surface]:
                        start, end = view.back(finding.start, finding.end)
                        found.setdefault(number, []).append(replace(finding, start=start, end=end))
        return spots([(looked_at[n], resolve(self._undismissed(looked_at[n], found[n]))) for n in sorted(found)])

    def _undismissed(self, part: Part, findings: list[Finding]) -> list[Finding]:
        """The findings but those that are what an operator wrote, or on the allow list."""
        written = self._standing(part.text)
        return [
            finding
            for finding in findings
            if not (written and only_within(written, part.text, finding.start, finding.end))
            and not (self._allow and plain(part.text[finding.start : finding.end]).casefold() in self._allow)
        ]


class _Treatment:
    """What is done to the texts of one call."""

    def __init__(self, rules: Mapping[str, Rule], functions: Keyed) -> None:
        self._rules = rules
        self._functions = functions
        self.treated: list[Treated] = []
        self.tokens: dict[str, Token] = {}

    def treat(self, texts: list[Text], spots: list[Spot], look: int) -> None:
        """Change the texts: what was found goes, and what the operator says stands where it began."""
        edits: dict[int, list[tuple[int, int, str]]] = {}
        for spot in spots:
            finding, (index, start, end) = spot.finding, spot.pieces[0]
            rule, text = self._rules[finding.entity], texts[index]
            new = self._replacement(rule, spot.covered, text.item)
            for number, (piece, first, last) in enumerate(spot.pieces):
                edits.setdefault(piece, []).append((first, last, "" if number else new))
            self.treated.append(
                Treated(
                    text.item, pointer(text.leaf.path), finding.entity, spot.covered, start, end, look, rule.id,
                    rule.operator, finding.detector, finding.validator, finding.score, finding.context,
                )
            )  # fmt: skip
        for index, changes in edits.items():
            texts[index].text = edited(texts[index].text, changes)
            texts[index].changed = True

    def _replacement(self, rule: Rule, original: str, item: int) -> str:
        entity = rule.entity
        if rule.operator == BLOCKED:
            raise BlockedContentError(
                f"item {item} holds what the policy refuses: {entity} (rule {rule.id!r})",
                entity=entity,
                item=item,
                rule=rule.id,
                hint="take it out and try again; nothing was stored, sent or shown",
            )
        if rule.operator == "redact":
            return redacted(entity)
        value = plain(original)
        if rule.operator == "mask":
            return masked(entity, value)
        if rule.operator == "pseudonymise":
            return keyed(entity, canonical(entity, value), self._functions.pseudonym)
        token = keyed(entity, canonical(entity, value), self._functions.token)
        self.tokens.setdefault(token, Token(token, entity, original))
        return token


def _batches(segments: Sequence[Segment]) -> Iterable[Sequence[Segment]]:
    return (segments[start : start + AT_ONCE] for start in range(0, len(segments), AT_ONCE))


def _inline(detector: Detector) -> Callable[[Sequence[Segment]], Answer]:
    return lambda segments: ask(detector, segments)


def _written(items: Sequence[Item], texts: list[Text]) -> list[Item]:
    """The items with their texts as they are by now; those whose texts are as they were are the same objects."""
    of: dict[int, list[Text]] = {}
    for text in texts:
        of.setdefault(text.item, []).append(text)
    changed = {text.item for text in texts if text.text != text.leaf.segment.text}
    return [
        rewrite(item, [text.text for text in of[number]]) if number in changed else item for number, item in enumerate(items)
    ]
