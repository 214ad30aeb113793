"""What can be asked of policies without a store: which packs there are, what a file says, means and changes, what it does.

It joins what knows nothing of each other: the policy language and the detectors. `secmem policy` prints what comes from
here; a store's own policy is the store's to tell (`SecureStore.policy_in_force`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from secure_memory.inforce import InForce
from secure_memory.policy import examples
from secure_memory.policy import load as loading
from secure_memory.policy.difference import Change, difference, shown
from secure_memory.policy.examples import Redacted, Tested
from secure_memory.policy.load import Loaded
from secure_memory.policy.matching import UNKNOWN, Facts, readings
from secure_memory.policy.model import Basis, Policy, RetentionRule
from secure_memory.policy.retention import Outcome, resolve
from secure_memory.preview import as_item, becomes
from secure_memory.redaction.patterns import check_pattern

__all__ = ["Change", "Facts", "Loaded", "Tested", "difference", "explain", "packs", "read", "rules", "test"]


@dataclass(frozen=True, slots=True)
class Pack:
    """A policy that ships with secure-memory. `laws` are those that it cites itself, with their clauses."""

    name: str
    version: int
    description: str
    extends: tuple[str, ...]
    laws: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy on one line. `mark` is floor, ceiling or choice; `law` what it cites."""

    section: str
    id: str
    says: str
    mark: str | None
    law: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Applied:
    """One rule that is about an item. Times are in microseconds, None where there is no such end, or it has not begun."""

    id: str
    says: str
    begins: str
    keep_until: int | None
    due: int | None
    mark: str | None
    law: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Explained:
    """What happens to an item, when and why, and each rule that is about it. Times are in microseconds."""

    policy: str
    sha256: str
    outcome: Outcome
    rules: tuple[Applied, ...]


def packs() -> tuple[Pack, ...]:
    """The packs, baseline first."""
    found = []
    for name in loading.packs():
        policy = read(name).policy
        under = {rule.id: rule.law for base in policy.extends for rule in rules(read(base).policy)}
        own = [rule.law for rule in rules(policy) if rule.law and under.get(rule.id) != rule.law]
        meta = policy.metadata
        laws = tuple(dict.fromkeys(own))
        found.append(Pack(name, meta.version, meta.description or "", policy.extends, laws, policy.digest))
    return tuple(found)


def read(source: str | os.PathLike[str]) -> Loaded:
    """The policy of a pack or a file, checked as `policy apply` checks it. Raises PolicyError."""
    return loading.load(source, check_pattern=check_pattern)


def rules(policy: Policy) -> tuple[Rule, ...]:
    """The rules of a policy as one reads them: redaction, then retention."""
    return tuple(
        Rule(
            section,
            rule.id,
            shown(rule) or "",
            *_why(rule.basis),
        )
        for section, some in (("redaction", policy.redaction.rules), ("retention", policy.retention.rules))
        for rule in some
    )


def _why(basis: Basis | None) -> tuple[str | None, str | None, str | None]:
    return (None, None, None) if basis is None else (basis.mark, basis.law, basis.note)


def explain(policy: Policy, facts: Facts, now: int) -> Explained:
    """What the policy does with an item, as of `now`."""
    outcome = resolve(policy.retention, facts, now, policy.metadata.jurisdiction)
    applied = [
        Applied(
            one.rule.id,
            shown(one.rule) or "",
            _begins(one.rule),
            _known(one.keep),
            _known(one.due),
            *_why(one.rule.basis),
        )
        for one in readings(policy.retention, facts, now)
    ]
    return Explained(policy.metadata.name, policy.digest, outcome, tuple(applied))


def _begins(rule: RetentionRule) -> str:
    return f"{rule.trigger} (or {rule.idle} idle)" if rule.trigger == "session.ended" else rule.trigger


def _known(us: int | None) -> int | None:
    return None if us is None or us == UNKNOWN else us


def test(source: str | os.PathLike[str]) -> tuple[Tested, ...]:
    """The examples of a pack or a file, run. Raises PolicyError, ConfigurationError where a detector is not installed."""
    policy = read(source).policy
    governing = InForce(policy, 0)
    return examples.run(policy, lambda text, surface: Redacted(*becomes(governing, as_item(text), surface)))
