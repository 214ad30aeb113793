"""The examples that stand beside a policy, run: given facts, what the policy does, and whether that was expected. Pure.

An example is about an item, a text or somebody who asks, by what is expected of it: `state`, `action`, `at` and `by` of an
item; `text`, `blocked` and `entities` of a text; `access` and `view` of who asks. What it doesn't say is not compared.

What a text becomes, detectors say, of which this knows nothing: it is given a function. Called by `rulebook`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from secure_memory import clock
from secure_memory.policy.access import decide
from secure_memory.policy.matching import Facts
from secure_memory.policy.model import Example, Expect, Given, Policy
from secure_memory.policy.retention import resolve

Surface = Literal["store", "model", "view"]
_OF_ITEM = {"state", "action", "at", "by"}
_OF_TEXT = {"text", "blocked", "entities"}
_OF_ASKING = {"access", "view"}


@dataclass(frozen=True, slots=True)
class Redacted:
    """What becomes of a text: None where it is blocked. `entities` are those that something was done to, sorted."""

    text: str | None
    entities: tuple[str, ...]


Redact = Callable[[str, Surface], Redacted]


@dataclass(frozen=True, slots=True)
class Tested:
    """How an example came out: in which respects otherwise than expected, in words; nothing where all is as expected."""

    name: str
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.differences


def run(policy: Policy, redact: Redact) -> tuple[Tested, ...]:
    """Each example of the policy, in order."""
    return tuple(Tested(one.name, tuple(_differences(policy, one, redact))) for one in policy.examples)


def facts_of(given: Given) -> tuple[Facts, int]:
    """The item that an example is about, and as of when. Raises ValueError where it says no time."""
    if given.created is None:
        raise ValueError("the example gives no `created`")
    created = clock.parse(given.created)

    def time(text: str | None) -> int:
        return created if text is None else clock.parse(text)

    facts = Facts(
        kind=given.kind,
        tenant=given.tenant,
        created=created,
        session_created=time(given.session_created),
        last_activity=time(given.last_activity),
        role=given.role,
        tool=given.tool,
        tags=dict(given.tag),
        ended=None if given.ended is None else clock.parse(given.ended),
        holds=given.held_by,
        erasure=None if given.erasure is None else clock.parse(given.erasure),
    )
    return facts, time(given.now)


def _differences(policy: Policy, example: Example, redact: Redact) -> Iterator[str]:
    said = example.expect.model_fields_set
    if not said:
        yield "it expects nothing"
    if said & _OF_ITEM:
        yield from _of_item(policy, example.given, example.expect)
    if said & _OF_TEXT:
        yield from _of_text(example.given, example.expect, redact)
    if said & _OF_ASKING:
        yield from _of_asking(policy, example.given, example.expect)


def _of_item(policy: Policy, given: Given, expect: Expect) -> Iterator[str]:
    try:
        facts, now = facts_of(given)
    except ValueError as error:
        yield str(error)
        return
    outcome = resolve(policy.retention, facts, now, policy.metadata.jurisdiction)
    yield from _differs("state", expect.state, outcome.state)
    yield from _differs("action", expect.action, outcome.action or "none")
    at = "never" if outcome.at is None else clock.rfc3339(outcome.at)
    if expect.at is not None and not at.startswith(expect.at.rstrip("Zz")):
        yield f"at is {at}, expected {expect.at}"
    if expect.by is not None:
        yield from _differs("by", ", ".join(sorted(expect.by)), ", ".join(sorted(rule.id for rule in outcome.rules)))


def _of_text(given: Given, expect: Expect, redact: Redact) -> Iterator[str]:
    if given.text is None:
        yield "the example gives no `text`"
        return
    became = redact(given.text, given.surface)
    yield from _differs("text", expect.text, "blocked" if became.text is None else became.text)
    yield from _differs("blocked", expect.blocked, became.text is None)
    if expect.entities is not None:
        yield from _differs("entities", ", ".join(sorted(expect.entities)), ", ".join(became.entities))


def _of_asking(policy: Policy, given: Given, expect: Expect) -> Iterator[str]:
    if given.actor is None or given.action is None:
        yield "the example gives no `actor`, or no `action`"
        return
    decision = decide(policy.access, given.actor, given.roles, given.purpose, given.reason, given.action)
    yield from _differs("access", expect.access, "allowed" if decision.allowed else "denied")
    yield from _differs("view", expect.view, decision.view)


def _differs(name: str, expected: object, found: object) -> Iterator[str]:
    if expected is not None and expected != found:
        yield f"{name} is {_said(found)}, expected {_said(expected)}"


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or "nothing"
