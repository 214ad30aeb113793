"""YAML -> policy: a file, with what it extends, read strictly, merged and checked; errors name file, line and key.

- A file is bounded in size before anything is made of it, and so is the depth of what it extends. `strict` says how YAML is
  read.
- `extends` names packs (`gdpr`) or files, relative to the one that names them.

Called when a policy is applied or looked at, never when a store is opened. Merging is `merging`'s, the
sentences are `wording`'s, and what a policy can't mean is `checking`'s.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from secure_memory import clock, policies
from secure_memory.errors import PolicyError
from secure_memory.policy.checking import CheckPattern, Finding, findings
from secure_memory.policy.merging import Layer, layer, whole
from secure_memory.policy.model import Policy
from secure_memory.policy.parts import Key, Part
from secure_memory.policy.strict import parsed
from secure_memory.policy.wording import checked
from secure_memory.policy.written import Path as KeyPath
from secure_memory.policy.written import Written, in_order

MAX_BYTES = 2**18
"""Bytes of a file: the longest pack has a twentieth of it, and reading so many takes about a second."""
MAX_EXTENDED = 8
"""How deep policies may extend one another."""
_PACKS = Path(policies.__file__).parent
_PACK = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, whole, the warnings about it, and the files that it is from, its own first."""

    policy: Policy
    warnings: tuple[str, ...]
    files: tuple[str, ...]


def load(source: str | os.PathLike[str], *, check_pattern: CheckPattern | None = None, now: int | None = None) -> Loaded:
    """The policy of a pack (`"gdpr"`) or a file. `check_pattern` raises ValueError for a pattern that can't be used; without
    it a pattern has only to compile. Raises PolicyError: the first problem, whose `others` are the rest."""
    found_at = _found(os.fspath(source))
    top = _pack(found_at.path.stem) if found_at.pack else _layer(found_at, ())
    policy, parts = whole(top, _pack("baseline"))
    today = datetime.fromtimestamp((clock.now() if now is None else now) // 1_000_000, timezone.utc).date()
    found = findings(policy, check_pattern or _compiles, today)
    if errors := [_placed(finding, parts, top.written) for finding in found if not finding.warning]:
        raise in_order(errors)
    warnings = [str(_placed(finding, parts, top.written)) for finding in found]
    return Loaded(policy, (*top.warnings, *warnings), top.files)


def packs() -> tuple[str, ...]:
    """The names of the packs that ship with secure-memory, by which `load` and `extends` know them."""
    return tuple(sorted((path.stem for path in _PACKS.glob("*.yaml")), key=lambda name: (name != "baseline", name)))


@lru_cache(maxsize=1)
def baseline() -> Policy:
    """What is in force where nobody declared anything. Read once a process."""
    return load("baseline").policy


def _compiles(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a regular expression: {str(error).partition(' at position')[0]}") from None


def _placed(finding: Finding, parts: dict[Key, Part], top: Written) -> PolicyError:
    """The finding, where its part is written."""
    part = parts.get(finding.key)
    if part is None:  # what is missing is missing in the policy itself
        return top.error(finding.key, finding.problem, finding.hint)
    return part.written.error((*part.path, *finding.inside), finding.problem, finding.hint)


# ---- files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A file to read: where it is, and what it is called in errors."""

    path: Path
    name: str
    pack: bool


def _found(source: str) -> _Found:
    if _PACK.fullmatch(source) and (_PACKS / f"{source}.yaml").is_file():
        return _Found(_PACKS / f"{source}.yaml", f"pack {source}", True)
    return _Found(Path(source).expanduser(), source, False)


@lru_cache(maxsize=16)
def _pack(name: str) -> Layer:
    """A pack over all that it extends. Read once a process: packs come with the program."""
    return _layer(_found(name), ())


def _layer(found: _Found, chain: tuple[Path, ...]) -> Layer:
    """A file over all that it extends."""
    written = _read(found)
    extended, problems = _all_extended(found, written)
    try:
        policy = checked(written)
    except PolicyError as error:  # who has misspelt a pack too hears of both at once
        raise in_order([error, *error.others, *problems]) from None
    if problems:
        raise in_order(problems)
    here = (*chain, found.path.resolve())
    bases = []
    for number, (name, base) in enumerate(extended):
        if base.path.resolve() in here:
            raise written.error(
                ("extends", number), f"is {name!r}, which extends this file in turn", "leave one of them out"
            )
        if len(here) > MAX_EXTENDED:
            raise written.error(
                ("extends", number), f"goes deeper than {MAX_EXTENDED} files", "extend fewer files by way of others"
            )
        bases.append(_pack(name) if base.pack else _layer(base, here))
    return layer(policy, written, bases)


def _all_extended(found: _Found, written: Written) -> tuple[list[tuple[str, _Found]], list[PolicyError]]:
    """What a file names in `extends`, and what is wrong with these names. What isn't a name at all, `checked` tells."""
    extended, problems = [], []
    names = written.value.get("extends") if isinstance(written.value, dict) else None
    for number, name in enumerate(names if isinstance(names, list) else []):
        if isinstance(name, str) and name:
            try:
                extended.append((name, _extended(name, found, written, ("extends", number))))
            except PolicyError as error:
                problems.append(error)
    return extended, problems


def _extended(name: str, by: _Found, written: Written, path: KeyPath) -> _Found:
    """What one name in `extends` is: a pack, or a file beside the one that names it."""
    if _PACK.fullmatch(name):
        if name in packs():
            return _found(name)
        close = get_close_matches(name, packs(), 1, 0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"packs are {', '.join(packs())}; files end in .yaml"
        raise written.error(path, f"is {name!r}, which is no pack", hint)
    if Path(name).is_absolute() or by.pack:
        raise written.error(
            path, f"is {name!r}, which is not relative to this file", "write a pack's name, or ./shared.yaml"
        )
    file = by.path.parent / name
    if not file.is_file():
        raise written.error(
            path, f"is {name!r}, and there is no such file", "name it relative to this file, as in ./shared.yaml"
        )
    return _Found(file, os.path.normpath(os.path.join(os.path.dirname(by.name), name)), False)


def _read(found: _Found) -> Written:
    """A file's content. Raises PolicyError where it can't be read, is too large or no text."""
    try:
        if found.path.exists() and not found.path.is_file():
            raise PolicyError(f"{found.name} is no file", file=found.name, hint="name a YAML file")
        with open(found.path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        close = get_close_matches(found.name, packs(), 1, 0.6)
        hint = f"did you mean the pack `{close[0]}`?" if close else f"name a YAML file, or a pack: {', '.join(packs())}"
        reason = (error.strerror or "unknown error").lower()
        raise PolicyError(f"the policy {found.name} can't be read: {reason}", file=found.name, hint=hint) from None
    if len(data) > MAX_BYTES:
        hint = "a policy is settings; is this another file?"
        raise PolicyError(f"{found.name} is larger than {MAX_BYTES:,} bytes", file=found.name, hint=hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "save it as UTF-8"
        raise PolicyError(f"{found.name}:{line}: not text in UTF-8", file=found.name, line=line, hint=hint) from None
    return parsed(text, found.name)
