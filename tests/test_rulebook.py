"""`rulebook.py`: what can be asked of policies without a store."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secure_memory import clock, rulebook
from secure_memory.errors import PolicyError
from secure_memory.policy.load import packs
from secure_memory.rulebook import Facts

FACTS = Facts(
    kind="message",
    tenant="default",
    created=clock.parse("2026-01-01"),
    session_created=clock.parse("2026-01-01"),
    last_activity=clock.parse("2026-01-10"),
)


def test_the_packs() -> None:
    """Each pack is told with what it extends and the laws that it cites itself, and not those of what it extends."""
    found = {pack.name: pack for pack in rulebook.packs()}
    assert packs() == tuple(found)
    assert (("baseline",), ("GDPR 5(1)(e), 5(2)", "GDPR 5(1)(e)")) == (found["gdpr"].extends, found["gdpr"].laws)
    assert rulebook.read("gdpr").policy.digest == found["gdpr"].sha256


@pytest.mark.parametrize("name", packs())
def test_the_packs_do_what_they_say(name: str) -> None:
    """Each pack's examples come out as expected, with the real detectors."""
    assert [] == [(one.name, one.differences) for one in rulebook.test(name) if not one.passed]


def test_an_example_that_fails(tmp_path: Path) -> None:
    """An example of a text is run through the detectors: what is found, what stands there then, and what is blocked."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        """metadata: {name: a}
redaction: {rules: [{id: a, entity: EMAIL, store: redact, model: block}]}
examples:
  - {name: good, given: {text: a@example.com, surface: store}, expect: {text: "[EMAIL]", entities: [EMAIL]}}
  - {name: stopped, given: {text: a@example.com, surface: model}, expect: {blocked: true, entities: [EMAIL]}}
  - {name: bad, given: {text: a@example.com, surface: view}, expect: {entities: [EMAIL]}}
"""
    )
    good, stopped, bad = rulebook.test(path)
    assert (True, True) == (good.passed, stopped.passed)
    assert ("entities is nothing, expected EMAIL",) == bad.differences


def test_explaining() -> None:
    """What happens to an item is told with each rule that is about it, its law, and when it says what."""
    policy = rulebook.read("gdpr").policy
    explained = rulebook.explain(policy, FACTS, clock.parse("2026-01-20"))
    (rule,) = explained.rules
    assert ("gdpr", policy.digest) == (explained.policy, explained.sha256)
    assert ("kept", "delete", clock.parse("2026-02-09")) == (
        explained.outcome.state,
        explained.outcome.action,
        explained.outcome.at,
    )
    assert ("chat-storage-limit", "session.last_activity", None, clock.parse("2026-02-09"), "ceiling", "GDPR 5(1)(e)") == (
        rule.id,
        rule.begins,
        rule.keep_until,
        rule.due,
        rule.mark,
        rule.law,
    )


def test_explaining_what_has_not_begun() -> None:
    """Of a session that has not ended, a rule that begins with its end has no times yet."""
    policy = rulebook.read("hipaa").policy
    explained = rulebook.explain(policy, replace(FACTS, tags={"record": "phi"}), clock.parse("2026-01-20"))
    (rule,) = explained.rules
    assert ("open", "phi-record", None, None) == (explained.outcome.state, rule.id, rule.keep_until, rule.due)
    assert "session.ended (or P30D idle)" == rule.begins


def test_explaining_what_no_rule_is_about() -> None:
    """Where no rule is about an item, that is the explanation."""
    explained = rulebook.explain(rulebook.read("baseline").policy, FACTS, clock.parse("2026-01-20"))
    assert ("unmatched", ()) == (explained.outcome.state, explained.rules)


def test_a_broken_file(tmp_path: Path) -> None:
    """What can't be read can't be tried either."""
    path = tmp_path / "policy.yaml"
    path.write_text("metadata: {name: a}\naudit: {durability: slow}\n")
    for ask in (rulebook.read, rulebook.test):
        with pytest.raises(PolicyError, match=r"policy\.yaml:2: audit\.durability"):
            ask(path)


def test_a_pattern_that_could_take_long(tmp_path: Path) -> None:
    """A pattern that could backtrack without end is refused where it stands, and a bounded one is taken."""
    path = tmp_path / "policy.yaml"
    text = "metadata: {name: a}\nredaction:\n  patterns:\n    - entity: STAFF\n      pattern: '%s'\n"
    path.write_text(text % "(a+)+b")
    with pytest.raises(PolicyError) as refused:
        rulebook.read(path)
    assert ("redaction.patterns[STAFF].pattern", 5) == (refused.value.key, refused.value.line)
    path.write_text(text % "EMP-[0-9]{6}")
    assert "STAFF" == rulebook.read(path).policy.redaction.patterns[0].entity


def test_no_driver_is_loaded() -> None:
    """Policies are read on a machine that has no store, and no driver for one."""
    code = "import sys; from secure_memory import rulebook; rulebook.test('gdpr'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"secure_memory.rulebook"} == {"secure_memory.rulebook", "sqlcipher3", "agents"} & {*done.stdout.split()}
