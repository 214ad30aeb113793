"""Personal data out of what others keep, log events and traces: whatever the policy in force treats on any surface.

A log has no subject and no tenant, so there are no tokens and no pseudonyms: `[ENTITY]` stands where it was. What can't be
redacted is not let through.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from secure_memory.errors import RedactionError, SecureMemoryError
from secure_memory.inforce import SURFACES, InForce, inline
from secure_memory.redaction.operators import Keyed
from secure_memory.redaction.pipeline import Redactor, Rule

WITHHELD = "[withheld]"
"""What stands in the place of what could not be looked at."""
_LOG = "log"


class Scrubber:
    """Takes personal data out of any value that JSON has. Safe to use from any thread."""

    def __init__(self, policy: InForce) -> None:
        told = policy.policy.redaction
        treated = {rule.entity: rule.id for rule in told.rules if {getattr(rule, name) for name in SURFACES} != {"keep"}}
        rules = [Rule(id_, entity, "redact") for entity, id_ in treated.items()]
        self._redactor = Redactor({_LOG: rules}, inline(policy.policy), allow=told.allow)

    def value(self, value: Any, key: str = "value") -> Any:
        """The value, which stands under `key`, without personal data. Raises RedactionError."""
        if isinstance(value, dict):
            return {name: self.value(inner, str(name)) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner, key) for inner in value]
        if not isinstance(value, str):
            return value
        # A key says what a text is. Of an item some fields are never touched, its name for one: here they are texts, too.
        return self._text(self._text(value, key), "value")

    def _text(self, text: str, key: str) -> Any:
        return self._redactor.redact([{key: text}], _LOG, _KEYLESS).items[0][key]


def scrubber_of(policy: InForce) -> Scrubber:
    """The policy's scrubber, made once."""
    known = _known.get(policy)
    if known is None:
        known = _known[policy] = Scrubber(policy)
    return known


_known: weakref.WeakKeyDictionary[InForce, Scrubber] = weakref.WeakKeyDictionary()


def structlog_processor(policy: Callable[[], InForce]) -> Callable[[Any, str, MutableMapping[str, Any]], Mapping[str, Any]]:
    """A processor for structlog's chain (structlog.org, "Processors"): the event and its fields without personal data.

    Put it behind what makes texts of values (`format_exc_info`), and before the renderer. A value that is none of JSON's is
    looked at as its `repr`, and shown so where something was found.
    """

    def scrub(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        try:
            scrubber = scrubber_of(policy())
        except (SecureMemoryError, RuntimeError):  # the store is closed, or broken
            return {key: WITHHELD for key in event}
        return {key: _scrubbed(scrubber, key, value) for key, value in event.items()}

    return scrub


def _scrubbed(scrubber: Scrubber, key: str, value: Any) -> Any:
    try:
        if isinstance(value, str | int | float | bool | None | list | dict | tuple):
            return scrubber.value(value, key)
        shown = repr(value)
        clean = scrubber.value(shown, key)
    except (RedactionError, TypeError, ValueError):
        return WITHHELD
    return value if clean == shown else clean


def _keyless(data: bytes) -> bytes:
    raise RedactionError("a log has no tokens and no pseudonyms")  # pragma: no cover - its only operator is redact


_KEYLESS = Keyed(_keyless, _keyless)
