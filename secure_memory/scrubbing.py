"""Personal data out of what others keep, log events and traces: whatever the policy in force treats on any surface.

A log has no subject and no tenant, so there are no tokens and no pseudonyms: `[ENTITY]` stands where it was. What can't be
redacted is not let through.
"""

from __future__ import annotations

import sys
import traceback
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
_NAME = 24
"""Letters of a field's name that is taken for one of a program's."""


class Scrubber:
    """Takes personal data out of any value that JSON has. Safe to use from any thread."""

    def __init__(self, policy: InForce) -> None:
        told = policy.policy.redaction
        treated = {rule.entity: rule.id for rule in told.rules if {getattr(rule, name) for name in SURFACES} != {"keep"}}
        rules = [Rule(id_, entity, "redact") for entity, id_ in treated.items()]
        self._redactor = Redactor({_LOG: rules}, inline(policy.policy), allow=told.allow)

    def value(self, value: Any, key: str = "value") -> Any:
        """The value, which stands under `key`, without personal data, in the names of its fields neither. What is none of
        JSON's is looked at as what would be printed of it, and is that where something was found. Raises RedactionError."""
        if isinstance(value, Mapping):
            return {self.name(name): self.value(inner, str(name)) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner, key) for inner in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str | int | float):
            # A key says what a text is. Of an item some fields are never touched, its name for one: here they are, too.
            return self._clean(self._clean(value, key), "value")
        for shown in (repr(value), str(value)):
            clean = self.value(shown, key)
            if clean != shown:
                return clean
        return value

    def name(self, name: Any) -> Any:
        """The name of a field. Short ones of letters, as programs have them, are not looked at: nobody's data is in them."""
        plain = isinstance(name, str) and len(name) <= _NAME and name.replace("_", "").isalpha()
        return name if plain else self.value(name)

    def _clean(self, value: Any, key: str) -> Any:
        return self._redactor.redact([{key: value}], _LOG, _KEYLESS).items[0][key]


def scrubber_of(policy: InForce) -> Scrubber:
    """The policy's scrubber, made once."""
    known = _known.get(policy)
    if known is None:
        known = _known[policy] = Scrubber(policy)
    return known


_known: weakref.WeakKeyDictionary[InForce, Scrubber] = weakref.WeakKeyDictionary()


def structlog_processor(policy: Callable[[], InForce]) -> Callable[[Any, str, MutableMapping[str, Any]], Mapping[str, Any]]:
    """A processor for structlog's chain (structlog.org, "Processors"): the event and its fields without personal data.

    Put it before the renderer. An exception that nothing before it has made a text of becomes one here: what comes after
    would print it as it is.
    """

    def scrub(logger: Any, method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        try:
            scrubber = scrubber_of(policy())
        except (SecureMemoryError, RuntimeError):  # the store is closed, or broken
            return {key: WITHHELD for key in event}
        if info := event.pop("exc_info", None):
            event["exception"] = _traceback(info)
        return dict(_scrubbed(scrubber, key, value) for key, value in event.items())

    return scrub


def _scrubbed(scrubber: Scrubber, key: str, value: Any) -> tuple[Any, Any]:
    try:
        return scrubber.name(key), scrubber.value(value, key)
    except Exception:  # whatever its repr raises: a program must not end for what it logs
        return key if key.isidentifier() else WITHHELD, WITHHELD  # the name may be what could not be looked at


def _traceback(info: Any) -> str:
    """The text of what the standard library's logging takes for `exc_info`: an exception, its triple, or True."""
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else sys.exc_info()[1]
    return "".join(traceback.format_exception(error)).rstrip("\n") if isinstance(error, BaseException) else ""


def _keyless(data: bytes) -> bytes:
    raise RedactionError("a log has no tokens and no pseudonyms")  # pragma: no cover - its only operator is redact


_KEYLESS = Keyed(_keyless, _keyless)
