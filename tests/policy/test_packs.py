"""`policies/`: the packs are whole, say what the design says, go together, and do what their examples say."""

from __future__ import annotations

import re
from itertools import combinations, permutations
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from secure_memory import policies
from secure_memory.policy import baseline as canonical
from secure_memory.policy import entities
from secure_memory.policy.load import Loaded, baseline, load, packs
from secure_memory.policy.model import Policy, RetentionRule, Role
from secure_memory.policy.schema import schema, text

FOLDER = Path(policies.__file__).parent
NAMES = ("baseline", "eu-ai-act", "gdpr", "hipaa", "pci-dss", "sec-17a-4")
NOW = 1_780_000_000_000_000


def extending(folder: Path, *names: str) -> Loaded:
    """The policy that extends these and says nothing else."""
    path = folder / "policy.yaml"
    path.write_text(f"metadata: {{name: a}}\nextends: [{', '.join(names)}]\n")
    return load(path, now=NOW)


def test_the_packs() -> None:
    """These are the packs, the baseline first; each file has the name of its policy, and no pack has a warning."""
    assert packs() == NAMES
    assert NAMES == tuple(load(name).policy.metadata.name for name in NAMES)
    assert [()] * len(NAMES) == [load(name).warnings for name in NAMES]


def test_what_baseline_does() -> None:
    """The baseline is what the design promises: it changes no ordinary conversation by a byte, and deletes nothing."""
    base = baseline()
    stored = {rule.entity: rule.store for rule in base.redaction.rules if rule.store != "keep"}
    assert {"CARD_CVV": "redact", "CARD_TRACK": "redact", "CARD_NUMBER": "tokenise", "SECRET": "redact"} == stored
    assert {"keep"} == {rule.model for rule in base.redaction.rules}
    assert {(entity, "mask") for entity in entities.BUILT_IN} == {(rule.entity, rule.view) for rule in base.redaction.rules}
    assert ("report", [("audit", "P6Y", None)]) == (
        base.retention.unmatched,
        [(rule.id, rule.min, rule.max) for rule in base.retention.rules],
    )
    assert ({"owner": Role(allow=("*",))}, {"*": ("owner",)}) == (base.access.roles, base.access.members)
    assert "normal" == base.audit.durability


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_regulated_pack_is_durable(name: str) -> None:
    """Each pack for a regulated field syncs the entries of reads, too."""
    assert "full" == load(name).policy.audit.durability


@pytest.mark.parametrize("name", NAMES)
def test_each_retention_rule_says_why(name: str) -> None:
    """Each rule has its clause, or says in words that it is a choice; a floor or a ceiling cites a law."""
    for rule in load(name).policy.retention.rules:
        assert rule.basis is not None, rule.id
        assert rule.basis.law if rule.basis.mark != "choice" else rule.basis.note, rule.id


@pytest.mark.parametrize(
    ("name", "rule", "low", "high", "law"),
    [
        ("hipaa", "hipaa-documentation", "P6Y", None, "45 CFR 164.316(b)(2)(i)"),
        ("pci-dss", "pci-audit-trail", "P1Y", None, "PCI DSS 4.0.1 10.5.1"),
        ("sec-17a-4", "broker-communications", "P3Y", "P3Y6M", "17 CFR 240.17a-4(b)(4)"),
        ("sec-17a-4", "finra-records", "P6Y", "P6Y6M", "FINRA 4511(b)"),
        ("eu-ai-act", "ai-act-ledger", "P6M", None, "Regulation (EU) 2024/1689 19(1), 26(6)"),
        ("gdpr", "chat-storage-limit", None, "P30D", "GDPR 5(1)(e)"),
    ],
)
def test_the_periods(name: str, rule: str, low: str | None, high: str | None, law: str) -> None:
    """The periods are those of the design's list of laws."""
    found = rule_of(load(name).policy, rule)
    assert found.basis is not None
    assert (low, high, law) == (found.min, found.max, found.basis.law)


def rule_of(policy: Policy, name: str) -> RetentionRule:
    """The retention rule of that id."""
    (found,) = (rule for rule in policy.retention.rules if rule.id == name)
    return found


@pytest.mark.parametrize("some", [some for size in (2, 3, 6) for some in combinations(NAMES, size)])
def test_packs_go_together(tmp_path: Path, some: tuple[str, ...]) -> None:
    """Any packs can be extended at once, and the result protects as much as each of them."""
    whole = extending(tmp_path, *some).policy
    for name in some:
        for rule in load(name).policy.retention.rules:
            assert rule in whole.retention.rules
    assert "full" == whole.audit.durability


def test_the_order_of_extends_never_matters(tmp_path: Path) -> None:
    """Packs that disagree about a rule agree on the stricter one, whichever is named first."""
    digests = {
        extending(tmp_path, *order).policy.model_copy(update={"extends": ()}).digest for order in permutations(NAMES[1:], 5)
    }
    assert 1 == len(digests)
    card = next(rule for rule in extending(tmp_path, "gdpr", "pci-dss").policy.redaction.rules if rule.id == "card-number")
    assert ("tokenise", "tokenise") == (card.store, card.model)


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_the_packs(name: str) -> None:
    """What editors check a pack by finds nothing wrong with it, and each pack tells them where that is."""
    path = FOLDER / f"{name}.yaml"
    jsonschema.validate(YAML(typ="safe", pure=True).load(as_texts(path)), schema(), cls=jsonschema.Draft202012Validator)
    assert "# yaml-language-server: $schema=./schema.json" == path.read_text().splitlines()[0]


def as_texts(path: Path) -> str:
    """The file with its dates in quotes: ruamel's own loader makes objects of them, of which JSON knows none."""
    return re.sub(r"(?<=: )(\d{4}-\d\d-\d\d)(?=[,}\s])", r'"\1"', path.read_text())


def test_the_schema_finds_something() -> None:
    """The schema knows names and shapes."""
    jsonschema.Draft202012Validator.check_schema(schema())
    for broken in ({}, {"metadata": {"name": "a"}, "retentions": {}}, {"metadata": {"name": "a", "version": "3"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema())


def test_the_schema_is_current() -> None:
    """`policies/schema.json` is what `make schema` writes."""
    assert text() == (FOLDER / "schema.json").read_text()


def test_the_canonical_baseline_is_current() -> None:
    """What a new store is governed by is what `baseline.yaml` says (`make schema` writes it)."""
    assert load("baseline").policy.canonical() == canonical.text()
