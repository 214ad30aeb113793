"""A policy taken apart, and put together again. Pure.

A part is the smallest thing that one policy can take from another, or replace, or differ in: a rule, a role, a member, the
patterns of one entity, a setting. Its key is where it belongs: `("retention", "rules", "chat-storage-limit")`. Merging,
comparing and checking are then questions about two dictionaries.

- Only what was written is a part; a section that was written has a part of its own, `("access",)`, even if it is empty.
- Put together, rules are sorted by id, so that the same parts are the same policy, in whatever order they were written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from secure_memory.policy.model import Example, Metadata, Policy
from secure_memory.policy.written import Path, Written

Key = tuple[str, ...]
SECTIONS = ("redaction", "retention", "access", "audit")
LISTS = {("redaction", "rules"), ("retention", "rules"), ("redaction", "patterns"), ("redaction", "allow")}
MAPS = {("access", "roles"), ("access", "members")}


@dataclass(frozen=True, slots=True)
class Part:
    """A part's value, and where it was written."""

    value: Any
    written: Written
    path: Path


def named(key: Key) -> str:
    """A part's key, as a person reads it: `retention.rules[chat-storage-limit]`, `audit.durability`."""
    return f"{key[0]}.{key[1]}[{key[2]}]" if len(key) == 3 else ".".join(key)


def values_of(policy: Policy, *, everything: bool = False) -> dict[Key, Any]:
    """The parts' values of a policy; with `everything` also those that nobody wrote."""
    return {key: value for key, value, _ in _taken(policy, everything=everything)}


def parts_of(policy: Policy, written: Written) -> dict[Key, Part]:
    """The parts of the policy that a file is. Ids are unique in it, which reading it has checked."""
    return {key: Part(value, written, path) for key, value, path in _taken(policy, everything=False)}


def _taken(policy: Policy, *, everything: bool) -> Iterator[tuple[Key, Any, Path]]:
    for section in SECTIONS:
        if not everything and section not in policy.model_fields_set:
            continue
        content = getattr(policy, section)
        yield (section,), True, (section,)
        for field in type(content).model_fields if everything else sorted(content.model_fields_set):
            value, place = getattr(content, field), (section, field)
            if place in LISTS:
                yield from _of_list(place, value)
            elif place in MAPS:
                yield from (((*place, name), each, (*place, name)) for name, each in value.items())
            else:
                yield place, value, place


def _of_list(place: tuple[str, str], value: tuple[Any, ...]) -> Iterator[tuple[Key, Any, Path]]:
    numbered = list(enumerate(value))
    if place[1] == "rules":
        yield from (((*place, rule.id), rule, (*place, number)) for number, rule in numbered)
    elif place[1] == "allow":
        yield from (((*place, text), text, (*place, number)) for number, text in numbered)
    else:  # an entity's patterns, of which it may have several, are one part
        numbered.sort(key=lambda pair: pair[1].entity)
        for entity, group in groupby(numbered, key=lambda pair: pair[1].entity):
            several = list(group)
            patterns = sorted((pattern for _, pattern in several), key=lambda pattern: pattern.pattern)
            yield (*place, entity), tuple(patterns), (*place, several[0][0])


def assembled(
    metadata: Metadata, extends: tuple[str, ...], values: Mapping[Key, Any], examples: tuple[Example, ...]
) -> Policy:
    """The policy that has these parts. What no part says is the model's default."""
    sections: dict[str, dict[str, Any]] = {}
    for key in sorted(values):
        content = sections.setdefault(key[0], {})
        if key[:2] in MAPS:
            content.setdefault(key[1], {})[key[2]] = values[key]
        elif key[:2] in LISTS:
            several = values[key] if key[1] == "patterns" else (values[key],)
            content[key[1]] = (*content.get(key[1], ()), *several)
        elif len(key) == 2:
            content[key[1]] = values[key]
    return Policy(
        metadata=metadata,
        extends=extends,
        examples=examples,
        **{name: Policy.model_fields[name].annotation(**content) for name, content in sections.items()},  # type: ignore[misc]
    )
