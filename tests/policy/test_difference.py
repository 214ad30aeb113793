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
    return difference(load(folder / base if "/" in base else base).policy, load(path, now=NOW).policy)


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


def access_changes(folder: Path, old: str, new: str) -> dict[str, str]:
    """What each part of the access section does to protection, from one list of members to another."""
    loaded = []
    for number, members in enumerate((old, new)):
        path = folder / f"{number}.yaml"
        path.write_text(f"metadata: {{name: a}}\nextends: [gdpr]\naccess: {{members: {members}}}\n")
        loaded.append(load(path, now=NOW).policy)
    return {change.part: change.effect for change in difference(*loaded)}


def test_what_is_granted_is_weaker(tmp_path: Path) -> None:
    """Who may do more than before is told as weaker, who may do less as stricter; an allowed text more protects less."""
    less = {"access.members[*]": "stricter", "access.members[user:x]": "other"}
    assert less == access_changes(tmp_path, "{'*': [owner]}", "{'user:x': [owner]}")
    more = {"access.members[user:y]": "weaker"}
    assert more == access_changes(tmp_path, "{'user:x': [owner]}", "{'user:x': [owner], 'user:y': [auditor]}")
    back = {"access.members[user:y]": "stricter"}
    assert back == access_changes(tmp_path, "{'user:x': [owner], 'user:y': [auditor]}", "{'user:x': [owner]}")
    text = changed(tmp_path, "redaction: {allow: [me@example.com]}\n")
    assert (Change("redaction.allow[me@example.com]", None, "me@example.com", "weaker"),) == text


def test_who_could_do_it_before_is_granted_nothing(tmp_path: Path) -> None:
    """A member who was one already by a group's glob, or who gets a role beside one that has it all, is neither."""
    assert {"access.members[user:x]": "other"} == access_changes(
        tmp_path, "{'user:*': [owner]}", "{'user:*': [owner], 'user:x': [auditor]}"
    )


def test_a_member_with_other_roles(tmp_path: Path) -> None:
    """A member who gets a role more may do more, and one who loses a role may do less."""
    one, both = "{'user:o': [owner], 'user:x': [auditor]}", "{'user:o': [owner], 'user:x': [auditor, supervisor]}"
    assert {"access.members[user:x]": "weaker"} == access_changes(tmp_path, one, both)
    assert {"access.members[user:x]": "stricter"} == access_changes(tmp_path, both, one)


def test_a_role_that_anybody_can_claim(tmp_path: Path) -> None:
    """A new role that members give to nobody lets anybody claim it: weaker, unless everybody could do all of it before."""
    role = "access:\n  roles: {clerk: {allow: [session.review]}}\n"
    assert ["other"] == [change.effect for change in changed(tmp_path, role)]
    members = "  members: {'user:x': [owner]}\n"
    (tmp_path / "mine.yaml").write_text("metadata: {name: b}\nextends: [gdpr]\naccess:\n" + members)
    told = {change.part: change.effect for change in changed(tmp_path, role, base="./mine.yaml")}
    assert {"access.roles[clerk]": "weaker"} == told


@pytest.mark.parametrize("name", packs())
def test_nothing_differs_from_itself(name: str) -> None:
    """A policy is as it is."""
    policy = load(name).policy
    assert () == difference(policy, policy)


@pytest.mark.parametrize("name", packs()[1:])
def test_a_pack_never_weakens_the_baseline(name: str) -> None:
    """What a pack changes of the baseline is stricter, or another way: roles grant nothing to whoever has them all."""
    assert [] == [c for c in difference(load("baseline").policy, load(name).policy) if c.effect == "weaker"]


def test_back_is_the_other_way() -> None:
    """Seen from the other side, what was added is gone, and what was stricter is weaker."""
    there = difference(load("baseline").policy, load("pci-dss").policy)
    back = difference(load("pci-dss").policy, load("baseline").policy)
    other = {"weaker": "stricter", "stricter": "weaker", "other": "other"}
    assert [Change(c.part, c.after, c.before, other[c.effect]) for c in there] == list(back)  # type: ignore[arg-type]
