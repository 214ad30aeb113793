"""`policy/examples.py`: what stands beside a policy is run, and what comes out otherwise is told."""

from __future__ import annotations

from typing import Any

import pytest

from secure_memory.policy.examples import Redacted, Surface, run
from secure_memory.policy.load import load, packs


def redact(text: str, surface: Surface) -> Redacted:
    """A detector that knows one secret, as `rulebook` joins a real one: here only what is compared is tested."""
    return Redacted(
        None if "blocked" in text else text.replace("4111", "[CARD]"), ("CARD_NUMBER",) if "4111" in text else ()
    )


def differences(given: dict[str, Any], expect: dict[str, Any], pack: str = "gdpr") -> tuple[str, ...]:
    """How an example beside a pack comes out."""
    policy = load(pack).policy
    example = {"name": "x", "given": given, "expect": expect}
    whole = policy.model_validate(policy.model_dump(exclude={"examples"}) | {"examples": [example]})
    (tested,) = run(whole, redact)
    assert tested.passed == (not tested.differences)
    return tested.differences


@pytest.mark.parametrize("name", packs())
def test_the_packs_examples(name: str) -> None:
    """Every pack does what its own examples say, and has some that are about retention or access."""
    policy = load(name).policy
    of_texts = {one.name for one in policy.examples if one.given.text is not None}
    tested = [one for one in run(policy, redact) if one.name not in of_texts]
    assert tested
    assert [] == [(one.name, one.differences) for one in tested if not one.passed]


@pytest.mark.parametrize(
    ("given", "expect", "told"),
    [
        ({"created": "2026-01-01"}, {"state": "due"}, "state is kept, expected due"),
        ({"created": "2026-01-01"}, {"action": "none"}, "action is delete, expected none"),
        ({"created": "2026-01-01"}, {"at": "2026-01-30"}, "at is 2026-01-31T00:00:00.000000Z, expected 2026-01-30"),
        ({"created": "2026-01-01"}, {"by": ["audit"]}, "by is chat-storage-limit, expected audit"),
        ({"created": "2026-01-01", "held_by": ["M"]}, {"at": "2026-01-30"}, "at is never, expected 2026-01-30"),
        ({}, {"state": "due"}, "the example gives no `created`"),
        ({"text": "4111"}, {"text": "4111"}, "text is [CARD], expected 4111"),
        ({"text": "4111"}, {"entities": []}, "entities is CARD_NUMBER, expected nothing"),
        ({"text": "fine"}, {"entities": ["EMAIL"]}, "entities is nothing, expected EMAIL"),
        ({"text": "blocked"}, {"blocked": False}, "blocked is true, expected false"),
        ({"created": "2026-01-01"}, {"text": "x"}, "the example gives no `text`"),
        ({"actor": "user:a", "action": "audit.read"}, {"access": "denied"}, "access is allowed, expected denied"),
        ({"actor": "user:a"}, {"access": "denied"}, "the example gives no `actor`, or no `action`"),
        ({"created": "2026-01-01"}, {}, "it expects nothing"),
    ],
)
def test_what_comes_out_otherwise(given: dict[str, Any], expect: dict[str, Any], told: str) -> None:
    """Each expectation can fail, and says what was found instead."""
    assert (told,) == differences(given, expect)


def test_what_comes_out_as_expected() -> None:
    """All that an example says is compared, and a time is as exact as it is written."""
    given = {"created": "2026-01-01", "now": "2026-02-01"}
    assert () == differences(given, {"state": "due", "action": "delete", "at": "2026-01-31", "by": ["chat-storage-limit"]})
    assert () == differences({"created": "2026-01-01"}, {"at": "2026-01-31T00:00:00Z"})
    assert () == differences({"text": "4111"}, {"text": "[CARD]", "blocked": False, "entities": ["CARD_NUMBER"]})
    assert () == differences({"actor": "user:a", "action": "audit.read"}, {"access": "allowed", "view": "clear"})
