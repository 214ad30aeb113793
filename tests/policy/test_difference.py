"""`policy/difference.py`: what changes, in words, and whether it protects less."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_memory.policy.difference import Change, difference
from secure_memory.policy.load import load, packs

NOW = 1_780_000_000_000_000


def changed(folder: Path, text: str, base: str = "gdpr") -> tuple[Change, ...]:
    """What a policy that extends a pack changes of it."""
    path = folder / "policy.yaml"
    path.write_text(f"metadata: {{name: a}}\nextends: [{base}]\n{text}")
    return difference(load(base).policy, load(path, now=NOW).policy)


def test_a_change_of_a_rule(tmp_path: Path) -> None:
    """A rule that is in both is told by the field that differs, and by what it does to protection."""
    rule = "retention:\n  rules:\n    - {id: audit-storage-limit, select: {kind: [audit_entry]}, max: %s}\n"
    basis = load("gdpr").policy
    (before,) = (one.basis for one in basis.retention.rules if one.id == "audit-storage-limit")
    assert before is not None
    shorter = changed(tmp_path, rule % "P1Y")
    assert ("retention.rules[audit-storage-limit].max", "P7Y", "P1Y", "stricter") == (
        shorter[1].part,
        shorter[1].before,
        shorter[1].after,
        shorter[1].effect,
    )
    assert "retention.rules[audit-storage-limit].basis" == shorter[0].part
    assert "weaker" == changed(tmp_path, rule.replace("max:", "weakens: true, max:") % "P8Y")[-2].effect


def test_a_rule_that_is_new(tmp_path: Path) -> None:
    """A new rule is told whole: what it does, with its trigger and its action."""
    added = Change(
        "retention.rules[mine]", None, "select: {tag: {a: b}}, max: P1D, trigger: item.created, action: delete", "stricter"
    )
    assert (added,) == changed(tmp_path, "retention:\n  rules:\n    - {id: mine, max: P1D, select: {tag: {a: b}}}\n")


def test_what_is_granted_is_weaker(tmp_path: Path) -> None:
    """A member, a role or an allowed text more protects less; one less protects more."""
    site = "access:\n  members: {'user:x': [owner]}\nredaction: {allow: [me@example.com]}\n"
    assert [
        Change("access.members[*]", "[owner]", None, "stricter"),
        Change("access.members[user:x]", None, "[owner]", "weaker"),
        Change("redaction.allow[me@example.com]", None, "me@example.com", "weaker"),
    ] == list(changed(tmp_path, site))


@pytest.mark.parametrize("name", packs())
def test_nothing_differs_from_itself(name: str) -> None:
    """A policy is as it is."""
    policy = load(name).policy
    assert () == difference(policy, policy)


@pytest.mark.parametrize("name", packs()[1:])
def test_a_pack_never_weakens_the_baseline(name: str) -> None:
    """What a pack changes of the baseline is stricter, or another way; only roles are more."""
    changes = difference(load("baseline").policy, load(name).policy)
    assert {"access.roles"} >= {change.part.partition("[")[0] for change in changes if change.effect == "weaker"}


def test_back_is_the_other_way() -> None:
    """Seen from the other side, what was added is gone, and what was stricter is weaker."""
    there = difference(load("baseline").policy, load("pci-dss").policy)
    back = difference(load("pci-dss").policy, load("baseline").policy)
    other = {"weaker": "stricter", "stricter": "weaker", "other": "other"}
    assert [Change(c.part, c.after, c.before, other[c.effect]) for c in there] == list(back)  # type: ignore[arg-type]
