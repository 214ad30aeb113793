"""`policy/merging.py` and `policy/parts.py`: policies taken apart and put together; what extends what."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from secure_memory.errors import PolicyError
from secure_memory.policy.load import Loaded, load
from secure_memory.policy.model import Policy, from_canonical
from secure_memory.policy.parts import assembled, values_of

HEAD = "metadata: {name: a}\n"
NOW = 1_780_000_000_000_000


def loaded(folder: Path, **files: str) -> Loaded:
    """The policy of the file `own`, beside others that it can extend."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(HEAD + text)
    return load(folder / "own.yaml", now=NOW)


def test_a_rule_of_the_same_id_replaces(tmp_path: Path) -> None:
    """A rule takes the place of the one that has its id; the others stay."""
    policy = loaded(
        tmp_path,
        own="extends: [gdpr]\nretention:\n  rules:\n    - {id: chat-storage-limit, trigger: item.created, max: P7D}\n",
    ).policy
    assert {"audit": None, "audit-storage-limit": "P7Y", "chat-storage-limit": "P7D"} == {
        rule.id: rule.max for rule in policy.retention.rules
    }


def test_weakening_that_is_meant(tmp_path: Path) -> None:
    """What says that it weakens may, on each level; the policy keeps saying so."""
    policy = loaded(
        tmp_path,
        own="""extends: [gdpr]
audit: {durability: normal, weakens: true}
access:
  roles: {supervisor: {allow: [session.review], weakens: true}}
retention:
  rules:
    - {id: chat-storage-limit, trigger: session.last_activity, max: P90D, weakens: true}
""",
    ).policy
    assert ("normal", True) == (policy.audit.durability, policy.audit.weakens)
    assert ("clear", True) == (policy.access.roles["supervisor"].view, policy.access.roles["supervisor"].weakens)
    assert {"chat-storage-limit"} == {rule.id for rule in policy.retention.rules if rule.weakens}


def test_weakening_that_weakens_nothing(tmp_path: Path) -> None:
    """A `weakens: true` that isn't needed is told: it would cover for what comes later."""
    own = "extends: [gdpr]\nretention:\n  rules:\n    - {id: mine, max: P1D, weakens: true}\n"
    assert f"{tmp_path}/own.yaml:5: retention.rules[mine].weakens weakens nothing that this policy extends" in (
        loaded(tmp_path, own=own).warnings
    )


def test_a_weakened_base_is_not_weakened_again(tmp_path: Path) -> None:
    """What a file in between weakened, and said so, is what the next one is compared with."""
    middle = (
        "extends: [gdpr]\nretention:\n  rules:\n"
        "    - {id: chat-storage-limit, trigger: session.last_activity, max: P90D, weakens: true}\n"
    )
    own = (
        "extends: [./middle.yaml]\nretention:\n  rules:\n"
        "    - {id: chat-storage-limit, trigger: session.last_activity, max: P60D}\n"
    )
    assert "P60D" == next(r.max for r in loaded(tmp_path, middle=middle, own=own).policy.retention.rules if "chat" in r.id)


def test_who_names_members_has_named_them_all(tmp_path: Path) -> None:
    """That everybody may do everything, as the baseline says, is gone once members are named, and stays where roles are."""
    named = 'extends: [gdpr]\naccess: {members: {"user:maria": [supervisor], "user:root": [owner]}}\n'
    assert {"user:maria": ("supervisor",), "user:root": ("owner",)} == loaded(tmp_path, own=named).policy.access.members
    assert {"*": ("owner",)} == loaded(tmp_path, own="extends: [gdpr]\n").policy.access.members
    own = 'extends: [./site.yaml]\naccess: {members: {"user:otto": [owner]}}\n'
    both = loaded(tmp_path, site=named, own=own).policy.access.members
    assert {"user:maria", "user:root", "user:otto"} == set(both)


def test_patterns_are_replaced_by_entity(tmp_path: Path) -> None:
    """A file's patterns for an entity take the place of what it extends; texts that are allowed are added."""
    rules = "redaction:\n  rules:\n    - {id: staff, entity: STAFF, view: mask}\n"
    base = f"{rules}  patterns:\n    - {{entity: STAFF, pattern: 'A[0-9]+'}}\n  allow: [one]\n"
    own = "extends: [./site.yaml]\nredaction:\n  patterns:\n    - {entity: STAFF, pattern: 'B[0-9]+'}\n    "
    own += "- {entity: STAFF, pattern: 'C[0-9]+'}\n  allow: [two]\n"
    redaction = loaded(tmp_path, site=base, own=own).policy.redaction
    assert ["B[0-9]+", "C[0-9]+"] == [pattern.pattern for pattern in redaction.patterns]
    assert ("one", "two") == redaction.allow


def test_of_two_that_differ_the_file_itself_decides(tmp_path: Path) -> None:
    """Where of two extended files neither is the stricter, the file has to say it; its word is compared with both."""
    low = "retention:\n  rules:\n    - {id: case, min: P1Y, max: P2Y}\n"
    high = "retention:\n  rules:\n    - {id: case, min: P6Y, max: P9Y}\n"
    own = "extends: [./low.yaml, ./high.yaml]\n"
    with pytest.raises(PolicyError, match="of which neither is the stricter in retention"):
        loaded(tmp_path, low=low, high=high, own=own)
    mine = own + "retention:\n  rules:\n    - {id: case, min: P6Y, max: P9Y%s}\n"
    with pytest.raises(PolicyError, match=r"is weaker than in .*low\.yaml: max may be longer"):
        loaded(tmp_path, low=low, high=high, own=mine % "")
    assert loaded(tmp_path, low=low, high=high, own=mine % ", weakens: true")


@pytest.mark.parametrize(
    ("one", "other", "part"),
    [
        ("retention: {timezone: UTC}\n", "retention: {timezone: Europe/Berlin}\n", "retention.timezone"),
        (
            "redaction:\n  patterns: [{entity: STAFF, pattern: 'A[0-9]'}]\n",
            "redaction:\n  patterns: [{entity: STAFF, pattern: 'B[0-9]'}]\n",
            "redaction.patterns[STAFF]",
        ),
        (
            "access:\n  roles: {a: {allow: ['*']}}\n  members: {'user:x': [a]}\n",
            "access:\n  roles: {a: {allow: ['*']}}\n  members: {'user:x': []}\n",
            "access.members[user:x]",
        ),
    ],
)
def test_what_nobody_can_tell_is_not_guessed(tmp_path: Path, one: str, other: str, part: str) -> None:
    """Of two patterns, time zones or lists of roles none is the stricter: the file that extends both has to choose."""
    own = "extends: [./one.yaml, ./other.yaml]\n"
    with pytest.raises(PolicyError) as refused:
        loaded(tmp_path, one=one, other=other, own=own)
    assert str(refused.value).endswith(f"of which neither is the stricter in {part}")
    assert loaded(tmp_path, one=one, other=other, own=own + one)


# ---- properties -----------------------------------------------------------------------------------------------------

IDS = st.sampled_from(["chat", "case", "audit", "x.y", "Z-1"])
ENTITIES = st.sampled_from(["EMAIL", "PHONE", "IBAN", "SECRET"])
OPERATORS = st.sampled_from(["keep", "redact", "mask", "pseudonymise", "tokenise", "block"])
# No colon: ruamel writes `:0` without quotes into a flow mapping, and can't read it there. `test_json_is_yaml` has colons.
TEXTS = st.text("abcä#-'\"{}[]0 ", min_size=1, max_size=12).map(str.strip).filter(bool)
REDACTION = st.fixed_dictionaries(
    {},
    optional={
        "rules": st.lists(
            st.fixed_dictionaries({"id": IDS, "entity": ENTITIES}, optional={"store": OPERATORS, "view": OPERATORS}),
            max_size=4,
            unique_by=(lambda rule: rule["id"], lambda rule: rule["entity"]),
        ),
        "allow": st.lists(TEXTS, max_size=3, unique=True),
        "detectors": st.just(["builtin"]),
    },
)
RETENTION = st.fixed_dictionaries(
    {},
    optional={
        "timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
        "on_conflict": st.just("retain"),
        "rules": st.lists(
            st.fixed_dictionaries(
                {"id": IDS, "max": st.sampled_from(["P30D", "P1M", "P7Y"])},
                optional={
                    "action": st.sampled_from(["delete", "redact"]),
                    "select": st.fixed_dictionaries({"tag": st.dictionaries(TEXTS, TEXTS, max_size=2)}),
                    "basis": st.fixed_dictionaries({"law": TEXTS, "note": TEXTS}),
                },
            ),
            max_size=3,
            unique_by=lambda rule: rule["id"],
        ),
    },
)
ACCESS = st.fixed_dictionaries(
    {"roles": st.dictionaries(IDS, st.fixed_dictionaries({"allow": st.lists(st.sampled_from(["*", "audit.read"]))}))}
)
FILES = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": IDS}, optional={"version": st.integers(1, 9), "owner": TEXTS})},
    optional={
        "redaction": REDACTION,
        "retention": RETENTION,
        "access": ACCESS,
        "audit": st.fixed_dictionaries({"durability": st.sampled_from(["normal", "full"])}),
    },
)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def as_yaml(value: Any, *, flow: bool, width: int = 80) -> str:
    """The value as YAML, in one of its styles."""
    yaml, out = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style, yaml.width = flow, width
    yaml.dump(value, out)
    return out.getvalue()


@in_one_folder
@given(FILES)
def test_the_digest_is_of_what_is_said(tmp_path: Path, value: dict[str, Any]) -> None:
    """However a policy is written (flow or block, wide or narrow, as JSON, in whatever order), its digest is the same."""
    path = tmp_path / "policy.yaml"
    turned = json.loads(json.dumps(value))
    for section in ("redaction", "retention"):
        turned.get(section, {}).get("rules", []).reverse()
    texts = [
        as_yaml(value, flow=False),
        as_yaml(value, flow=True, width=20),
        "# a comment\n" + json.dumps(value, indent=2),
        json.dumps(dict(reversed(turned.items()))),
    ]
    digests = set()
    for text in texts:
        path.write_text(text, encoding="utf-8")
        digests.add(load(path, now=NOW).policy.digest)
    assert 1 == len(digests)


@in_one_folder
@given(FILES)
def test_canonical_and_back(tmp_path: Path, value: dict[str, Any]) -> None:
    """A policy's canonical form is that policy, and so are its parts, put together."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(value))
    policy = load(path, now=NOW).policy
    assert policy == from_canonical(policy.canonical())
    again = assembled(policy.metadata, policy.extends, values_of(policy, everything=True), policy.examples)
    assert policy.canonical() == again.canonical()


@in_one_folder
@given(FILES, FILES)
def test_merging_is_deterministic(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two files extended in either order are the same policy, or the same refusal; merged twice, they are the same."""
    for name, value in (("one", one), ("other", other)):
        (tmp_path / f"{name}.yaml").write_text(json.dumps(value))
    results = {merged(tmp_path, *order) for order in (("one", "other"), ("other", "one"), ("one", "other", "one"))}
    assert 1 == len(results)


def merged(folder: Path, *names: str) -> str:
    """The digest of what extends these, or what is refused about it."""
    path = folder / "own.yaml"
    path.write_text(HEAD + f"extends: [{', '.join(f'./{name}.yaml' for name in names)}]\n")
    try:
        policy: Policy = load(path, now=NOW).policy
    except PolicyError as error:
        return sorted(str(one).partition(": ")[2] for one in (error, *error.others))[0]
    return policy.model_copy(update={"extends": ()}).digest
