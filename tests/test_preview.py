"""`preview.py`: what a policy does to a text, told before anything happens."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import rulebook
from secure_memory.errors import ConfigurationError
from secure_memory.inforce import InForce
from secure_memory.policy.model import Policy
from secure_memory.preview import EXAMPLE, Preview, preview

CARD, MAIL = "4111 1111 1111 1111", "jane.doe@example.com"
BASELINE = rulebook.read("baseline").policy
PACKS = ("baseline", "gdpr", "hipaa", "pci-dss", "sec-17a-4", "eu-ai-act")


def policy(*rules: dict[str, Any], **redaction: Any) -> Policy:
    return Policy.model_validate({"metadata": {"name": "test"}, "redaction": {"rules": rules, **redaction}})


def look(text: str, governing: Policy = BASELINE) -> Preview:
    return preview(governing, text)


def test_each_surface_has_its_text() -> None:
    """What is stored, what the model sees and what a reviewer sees, as the rules say."""
    found = look(f"card {CARD}, mail {MAIL}")
    assert ("baseline", f"card {CARD}, mail {MAIL}") == (found.policy, found.before)
    assert found.after["store"] is not None
    assert found.after["store"].startswith("card CARD_NUMBER_")
    assert found.after["store"].endswith(f", mail {MAIL}")
    assert found.before == found.after["model"]
    assert "card ************1111, mail j***@***.com" == found.after["view"]


def test_each_finding_has_its_reason() -> None:
    """Where it is, what proved it, the word that spoke for it, the rule, its law, and what it does where."""
    (card,) = look(f"my card {CARD}").noticed
    assert (CARD, 8, 8 + len(CARD), None) == (card.text, card.start, card.end, card.path)
    assert ("CARD_NUMBER", "Luhn and issuer range", "card", "builtin") == (
        card.entity,
        card.validator,
        card.context,
        card.detector,
    )
    assert ("card-number", "PCI DSS 4.0.1 3.5.1") == (card.rule, card.law)
    assert ("tokenise", "keep", "mask") == (card.store, card.model, card.view)


def test_what_no_rule_is_about_is_told_too() -> None:
    """Everything that the detectors know is looked for: of what no rule treats, it is said that it stays."""
    (mail,) = look(MAIL, policy()).noticed
    assert ("EMAIL", None, None, "keep", "keep", "keep") == (
        mail.entity,
        mail.rule,
        mail.law,
        mail.store,
        mail.model,
        mail.view,
    )


def test_what_is_blocked_has_no_text() -> None:
    """On a surface where the policy refuses it nothing comes out, and the finding is told like any other."""
    found = look(f"mail {MAIL}", policy({"id": "m", "entity": "EMAIL", "store": "block", "view": "redact"}))
    assert {"store": None, "model": f"mail {MAIL}", "view": "mail [EMAIL]"} == dict(found.after)
    assert ["block"] == [one.store for one in found.noticed]


def test_json_is_what_a_tool_gave() -> None:
    """An object or a list is looked at leaf by leaf, and a finding says where in it it stands; all else is a message."""
    found = look(f'{{"customer": {{"mail": "{MAIL}"}}, "n": 4111111111111111}}')
    assert [("EMAIL", MAIL, "/customer/mail", None)] == [(o.entity, o.text, o.path, o.start) for o in found.noticed]
    assert '{"customer": {"mail": "j***@***.com"}, "n": 4111111111111111}' == found.after["view"]
    assert [("EMAIL", None)] == [(one.entity, one.path) for one in look(f'"{MAIL}').noticed]
    assert "4111111111111111" != look("4111111111111111 is my card").after["store"]


def test_what_comes_to_light_later_is_told_without_a_place() -> None:
    """A finding that only a later look made has its text, and no place: its offsets are of a text that nobody has seen."""
    mail = "a" * 50 + "@" + "example-" * 3 + "example.com"
    first, later = look(f"ssn {mail} 078051120 ok").noticed
    assert (mail, 4) == (first.text, first.start)
    assert ("US_SSN", "078051120", None, None) == (later.entity, later.text, later.start, later.end)


def test_a_policys_own_patterns_and_what_it_allows() -> None:
    """Patterns of the policy are findings like others, and what is on its allow list is none."""
    own = policy(
        {"id": "emp", "entity": "EMPLOYEE_ID", "store": "redact"},
        patterns=[{"entity": "EMPLOYEE_ID", "pattern": "EMP-[0-9]{6}"}],
        allow=[MAIL],
    )
    found = look(f"EMP-123456 wrote to {MAIL}", own)
    assert f"[EMPLOYEE_ID] wrote to {MAIL}" == found.after["store"]
    assert ["EMPLOYEE_ID"] == [one.entity for one in found.noticed]


def test_a_detector_that_is_not_there_is_told() -> None:
    """A policy that wants Presidio says, where that is not installed, what to install."""
    pytest.importorskip("secure_memory.redaction.presidio")
    wanted = policy({"id": "p", "entity": "PERSON", "store": "redact"}, detectors=["builtin", "presidio"])
    try:
        import presidio_analyzer  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigurationError, match="presidio"):
            look("Jane", wanted)
    else:
        assert "[PERSON] called" == look("Jane Miller called", wanted).after["store"]


@pytest.mark.parametrize("pack", PACKS)
@given(
    words=st.lists(st.sampled_from([CARD, MAIL, "DE89 3704 0044 0532 0130 00", "cvv 123", "\n", "ok", "{", '"']), max_size=6)
)
def test_it_is_what_an_operation_does(pack: str, words: list[str]) -> None:
    """What is shown of a surface is what the policy in force does to a message there; places are those of the text."""
    governing, text = rulebook.read(pack).policy, " ".join(words)
    found = look(text, governing)
    done = InForce(governing, 1).redactor().redact([{"role": "user", "content": text}], "view", EXAMPLE)
    assert done.items[0]["content"] == found.after["view"]
    assert all(text[one.start : one.end] == one.text for one in found.noticed if one.start is not None)
    assert asdict(found) == asdict(look(text, governing))


def test_a_policy_says_where_numbers_belong() -> None:
    """A telephone number without a country code is one where the policy names its region."""
    rules = [{"id": "phone", "entity": "PHONE", "store": "redact"}]
    text = "030 901820"
    for told, expected in (({}, text), ({"region": "DE"}, "[PHONE]")):
        policy = Policy.model_validate({"metadata": {"name": "t"}, "redaction": {"rules": rules, **told}})
        assert expected == preview(policy, text).after["store"]
