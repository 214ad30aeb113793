"""Where one retention rule keeps what another one ends: pairs of a floor and a ceiling that can meet. Pure.

Two rules meet where an item can be that both select. Kinds and roles are compared exactly; globs, and values of tags, meet
unless it is plain that they don't: a contradiction that can't be ruled out is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from secure_memory.policy.matching import KINDS
from secure_memory.policy.model import RetentionRule
from secure_memory.policy.weakening import surely_not_shorter

Contradiction = tuple[RetentionRule, RetentionRule, bool]
"""The rule that keeps, the rule that ends, and whether the floor is surely the longer one."""


def contradictions(rules: Sequence[RetentionRule]) -> Iterator[Contradiction]:
    """Pairs of rules that can meet, of which one's floor may be longer than the other's ceiling."""
    for keeping in rules:
        for ending in rules:
            if keeping is ending or keeping.floor is None or ending.ceiling is None:
                continue
            if not surely_not_shorter(ending.ceiling, keeping.floor) and can_meet(keeping, ending):
                yield keeping, ending, surely_not_shorter(keeping.floor, ending.ceiling)


def can_meet(one: RetentionRule, other: RetentionRule) -> bool:
    """Whether both rules can be about one item."""
    a, b = one.select, other.select
    return (
        bool(set(a.kind or KINDS) & set(b.kind or KINDS))
        and (not a.role or not b.role or bool(set(a.role) & set(b.role)))
        and _globs_meet(a.tenant, b.tenant)
        and _globs_meet(a.tool, b.tool)
        and _tags_meet(a.tag, b.tag)
    )


def _tags_meet(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(_meet(value, other[name]) for name, value in one.items() if name in other)


def _globs_meet(some: Sequence[str], others: Sequence[str]) -> bool:
    return not some or not others or any(_meet(one, other) for one in some for other in others)


def _meet(one: str, other: str) -> bool:
    """Whether a text can match both globs. Of two with wildcards what stands before the first one is compared."""
    if not _is_glob(one):
        return fnmatchcase(one, other)
    if not _is_glob(other):
        return fnmatchcase(other, one)
    first, second = _prefix(one), _prefix(other)
    return first.startswith(second) or second.startswith(first)


def _is_glob(text: str) -> bool:
    return bool(set(text) & set("*?["))


def _prefix(glob: str) -> str:
    return glob[: min(glob.find(sign) for sign in "*?[" if sign in glob)]
