"""What a policy does to a text, and why: for whoever writes a policy or wonders about it. Nothing is stored.

Everything that the detectors know is looked for; of each finding it is told which rule treats it, how on each surface, and
what spoke for it. Pseudonyms and tokens are under a key that everybody knows: a text by itself has no tenant and no subject.
`secmem redact test` prints what comes from here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from secure_memory.errors import BlockedContentError
from secure_memory.inforce import SURFACES, InForce, Surface, inline, slow
from secure_memory.items import Item
from secure_memory.policy.model import Policy
from secure_memory.redaction.entities import ENTITIES
from secure_memory.redaction.operators import Keyed
from secure_memory.redaction.pipeline import Redactor, Rule, Treated

_ALL = "all"


@dataclass(frozen=True, slots=True)
class Noticed:
    """A finding: its text, from `start` to `end` of the whole; what it is taken for and why, and what the policy does with
    it on each surface. There are no such places inside JSON, where `path` says where it is (RFC 6901), nor of what came to
    light only once something else was gone. `rule` and `law` are None where no rule treats it."""

    text: str
    path: str | None
    start: int | None
    end: int | None
    entity: str
    validator: str | None
    context: str | None
    score: float
    detector: str
    rule: str | None
    law: str | None
    store: str
    model: str
    view: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What becomes of a text on each surface, None where it is blocked there, and the findings in order."""

    policy: str
    before: str
    after: Mapping[str, str | None]
    noticed: tuple[Noticed, ...]


def preview(policy: Policy, text: str) -> Preview:
    """What the policy does to a text. One that is a JSON object or list is looked at as what a tool was given or gave.

    Raises ConfigurationError where a detector is not installed, RedactionError.
    """
    governing = InForce(policy, 0)
    item = as_item(text)
    rules = {rule.entity: rule for rule in policy.redaction.rules}
    everything = [Rule("all", entity, "redact") for entity in sorted({*ENTITIES, *rules})]
    look = Redactor({_ALL: everything}, inline(policy), slow(policy), allow=policy.redaction.allow)
    found = look.redact([item], _ALL, EXAMPLE).treated
    after: dict[str, str | None] = {surface: becomes(governing, item, surface)[0] for surface in SURFACES}
    noticed = tuple(_noticed(one, rules) for one in found)
    return Preview(policy.metadata.name, text, after, noticed)


def becomes(governing: InForce, item: Item, surface: Surface) -> tuple[str | None, tuple[str, ...]]:
    """The text that an item's text becomes on a surface, None where it is blocked, and the entities that were treated."""
    try:
        done = governing.redactor().redact([item], surface, EXAMPLE)
    except BlockedContentError as blocked:
        return None, (blocked.entity,)
    entities = tuple(sorted({one.entity for one in done.treated}))
    return str(done.items[0].get("output", done.items[0].get("content"))), entities


def as_item(text: str) -> Item:
    """An item that has the text: a message, or, of JSON, what a tool gave."""
    try:
        structured = isinstance(orjson.loads(text), dict | list)
    except orjson.JSONDecodeError:
        structured = False
    return (
        {"type": "function_call_output", "call_id": "", "output": text} if structured else {"role": "user", "content": text}
    )


def _noticed(one: Treated, rules: Mapping[str, Any]) -> Noticed:
    rule = rules.get(one.entity)
    treated = {surface: "keep" if rule is None else getattr(rule, surface) for surface in SURFACES}
    basis = None if rule is None else rule.basis
    in_json = one.path not in ("/content", "/output")
    in_place = not in_json and one.look == 0
    return Noticed(
        one.text,
        one.path.removeprefix("/output") if in_json else None,
        one.start if in_place else None,
        one.end if in_place else None,
        one.entity,
        one.validator,
        one.context,
        one.score,
        one.detector,
        None if rule is None else rule.id,
        None if basis is None else basis.law,
        **treated,
    )


def _known_key(kind: bytes, data: bytes) -> bytes:
    return hmac.digest(b"secure-memory example " + kind, data, "sha256")


EXAMPLE = Keyed(partial(_known_key, b"pseudonym"), partial(_known_key, b"token"))
"""Functions under a key that everybody knows."""
