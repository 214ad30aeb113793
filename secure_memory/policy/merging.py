"""What a policy extends, merged into it: rules by id, roles and members by name, patterns by entity. Pure.

- A file's own part replaces that of what it extends; where the new one is weaker (see `weakening`), only if it says so.
- Of what two extended files say of one part, the stricter counts; where neither is, the file itself has to say it. So the
  order of `extends` never matters.
- A section that nobody wrote is the baseline's. And the baseline's members, which let everybody do everything, are gone as
  soon as any other file writes members.

Called by `load`, with files that are valid each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from secure_memory.errors import PolicyError
from secure_memory.policy.model import Policy
from secure_memory.policy.parts import SECTIONS, Key, Part, assembled, named, parts_of
from secure_memory.policy.weakening import as_strict, weakenings
from secure_memory.policy.written import Written, in_order

BASELINE = "pack baseline"
"""What errors call the baseline pack's file."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A policy, with what it extends merged in: of each part those candidates of which none is the stricter, mostly one.
    `files` are those that it is from, its own first."""

    policy: Policy
    written: Written
    parts: Mapping[Key, tuple[Part, ...]]
    warnings: tuple[str, ...]
    files: tuple[str, ...]


def layer(policy: Policy, written: Written, bases: Sequence[Layer]) -> Layer:
    """A file over those that it extends. Raises PolicyError where it weakens them and doesn't say so."""
    parts = _together(bases)
    warnings = [warning for base in bases for warning in base.warnings]
    errors = []
    for key, own in parts_of(policy, written).items():
        before = parts.get(key, ())
        weaker = [(part, reason) for part in before for reason in weakenings(key, part.value, own.value)]
        if weaker and not _meant(key, own, policy):
            errors.append(_weaker(key, own, *weaker[0]))
        if len(key) == 3 and getattr(own.value, "weakens", False) and not weaker:
            warnings.append(str(written.error((*own.path, "weakens"), "weakens nothing that this policy extends")))
        parts[key] = (own,)
    if errors:
        raise in_order(errors)
    files = (written.file, *(file for base in bases for file in base.files))
    return Layer(policy, written, parts, tuple(dict.fromkeys(warnings)), tuple(dict.fromkeys(files)))


def _together(bases: Sequence[Layer]) -> dict[Key, tuple[Part, ...]]:
    found: dict[Key, tuple[Part, ...]] = {}
    for base in bases:
        for key, candidates in base.parts.items():
            for candidate in candidates:
                found[key] = _strictest(key, found.get(key, ()), candidate)
    return found


def _strictest(key: Key, known: tuple[Part, ...], new: Part) -> tuple[Part, ...]:
    """The candidates, once another one is there. Of two that are as strict as each other the baseline's is left out; else
    their text decides, which is the same in whatever order they come."""
    for old in known:
        if as_strict(key, new.value, old.value) and not (as_strict(key, old.value, new.value) and _rank(new) < _rank(old)):
            return known
    return (*(old for old in known if not as_strict(key, old.value, new.value)), new)


def _rank(part: Part) -> tuple[bool, str]:
    return part.written.file == BASELINE, repr(part.value)


def _meant(key: Key, own: Part, policy: Policy) -> bool:
    if len(key) == 3:
        return bool(getattr(own.value, "weakens", False))
    return bool(getattr(policy, key[0]).weakens)


def _weaker(key: Key, own: Part, old: Part, reason: str) -> PolicyError:
    where = "it" if len(key) == 3 else key[0]
    return own.written.error(
        own.path,
        f"is weaker than in {old.written.file}: {reason}",
        f"write `weakens: true` in {where} if that is meant, and why in `basis.note`"
        if key[1] == "rules"
        else f"write `weakens: true` in {where} if that is meant",
    )


# ---- the whole ------------------------------------------------------------------------------------------------------


def whole(top: Layer, baseline: Layer) -> tuple[Policy, dict[Key, Part]]:
    """The policy that a file is in the end, and its parts with their places. Raises PolicyError where what it extends
    differs and it doesn't say which counts."""
    if errors := list(_undecided(top)):
        raise in_order(errors)
    parts = {key: candidates[0] for key, candidates in top.parts.items()}
    missing = [section for section in SECTIONS if (section,) not in parts]
    parts.update((key, candidates[0]) for key, candidates in baseline.parts.items() if key[0] in missing)
    members = [key for key in parts if key[:2] == ("access", "members")]
    if any(parts[key].written.file != BASELINE for key in members):
        for key in members:
            if parts[key].written.file == BASELINE:
                del parts[key]
    policy = top.policy
    values = {key: part.value for key, part in parts.items()}
    return assembled(policy.metadata, policy.extends, values, policy.examples), parts


def _undecided(top: Layer) -> Iterator[PolicyError]:
    for key, candidates in sorted(top.parts.items()):
        if len(candidates) > 1:
            files = " and ".join(sorted({part.written.file for part in candidates}))
            yield top.written.error(
                ("extends",),
                f"has {files}, of which neither is the stricter in {named(key)}",
                "write that part in your own file",
            )
