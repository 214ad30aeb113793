"""A file checked against the models, and what pydantic finds said in our words. Pure.

Each problem is one sentence that says where and what, and a hint that says what to write instead. Called by `load`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from secure_memory.actions import GRANTED
from secure_memory.errors import PolicyError
from secure_memory.policy.entities import BUILT_IN, PRESIDIO
from secure_memory.policy.model import Policy
from secure_memory.policy.written import Path, Written, in_order

_DURATIONS = {"min", "max", "idle"}
_IN_WORDS = re.compile(r"p?\s*(\d{1,5})\s*(d|w|m|y)?(?:ays?|eeks?|onths?|ears?)?", re.IGNORECASE)


def checked(written: Written) -> Policy:
    """The policy that one file is, by itself. Raises PolicyError: the first problem, with the others."""
    if not isinstance(written.value, Mapping):
        raise written.error((), "a policy is a mapping of keys", "begin with `apiVersion: secmem/v1`")
    try:
        policy = Policy.model_validate(written.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise in_order([_told(written, one) for one in _apart(error.errors(include_url=False))]) from None
    if errors := list(_twice(written, policy)):
        raise in_order(errors)
    return policy


def _apart(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without those that are only there because of another: a list whose one member is wrong is not empty."""
    places = [error["loc"] for error in errors]
    inside = {place[:length] for place in places for length in range(len(place))}
    return [error for error in errors if not (error["type"] == "too_short" and error["loc"] in inside)]


def _twice(written: Written, policy: Policy) -> Iterator[PolicyError]:
    ids = {section: [rule.id for rule in getattr(policy, section).rules] for section in ("redaction", "retention")}
    for section, numbered in ids.items():
        first: dict[str, int] = {}
        for number, name in enumerate(numbered):
            path: Path = (section, "rules", number)
            if name in first:
                line = written.line((section, "rules", first[name]))
                yield written.error(
                    (*path, "id"), f"is there twice: the other one is on line {line}", "give each rule its own id"
                )
            first.setdefault(name, number)


def _told(written: Written, error: ErrorDetails) -> PolicyError:
    path = _real(written, error["loc"])
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return written.error(path, "is not known here", _meant(path))
    if kind == "missing":
        return written.error(path, "is missing", _missing(path))
    if kind == "literal_error":
        return written.error(path, f"is {_shown(given)}, which is not known", _one_of(path, given))
    if path[-1:] and path[-1] in _DURATIONS and kind in ("string_type", "string_pattern_mismatch", "value_error"):
        return written.error(path, f"is {_shown(given)}, which is not a duration", _duration(str(given)))
    if kind == "string_pattern_mismatch":
        return written.error(path, *_form(str(given), entity=context["pattern"].startswith("^[A-Z]")))
    if kind == "value_error":
        return _ours(written, path, given, str(context["error"]))
    if kind in _WORDS:
        problem, hint = _WORDS[kind]
        return written.error(path, problem.format(**context), hint.format(value=_shown(given), **context))
    return written.error(path, "is not as it has to be", "see docs/policy.md")


def _real(written: Written, location: tuple[int | str, ...]) -> Path:
    """The path without what pydantic adds to it: `[key]` after a mapping's key, names of union members."""
    path: Path = ()
    value = written.value
    for number, part in enumerate(location):
        last = number == len(location) - 1
        known = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(part, int) and isinstance(value, list) and part < len(value):
            known = value[part]
        if known is None and not last:
            return (*path, part)
        if known is None and part == "[key]":
            return path
        path, value = (*path, part), known
    return path


def _ours(written: Written, path: Path, given: Any, said: str) -> PolicyError:
    problem, _, hint = said.partition(": ")
    if problem.endswith("is no action"):
        nouns = {f"{action.partition('.')[0]}.*" for action in GRANTED}
        close = get_close_matches(str(given), sorted(GRANTED | nouns), 1, 0.6)
        hint = f"did you mean `{close[0]}`?" if close else "actions are as in audit entries: session.read, audit.*, *"
    return written.error(
        path, problem if problem.startswith("is ") else f"is {problem.removeprefix(repr(given) + ' is ')}", hint
    )


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


_WORDS = {
    "string_type": ("must be a text", "write {value}, in quotes"),
    "string_too_short": ("is empty", "write something, or leave the key out"),
    "string_too_long": ("is longer than {max_length} characters", "make it shorter"),
    "int_type": ("must be a whole number", "write a number without quotes, such as 3"),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "greater_than_equal": ("must be at least {ge}", "count from {ge}"),
    "less_than": ("must be less than {lt}", "choose a smaller number"),
    "tuple_type": ("must be a list", "write it in brackets, [...], or each on its own line after a dash"),
    "model_type": ("must be a mapping of keys", "write keys and values: `key: value`"),
    "dict_type": ("must be a mapping of keys", "write keys and values: `key: value`"),
    "mapping_type": ("must be a mapping of keys", "write keys and values: `key: value`"),
    "too_short": ("is empty", "write something, or leave the key out"),
    "date_from_datetime_parsing": ("is not a date", "write 2027-06-30"),
    "date_parsing": ("is not a date", "write 2027-06-30"),
    "date_type": ("is not a date", "write 2027-06-30"),
    "date_from_datetime_inexact": ("is not a date", "write 2027-06-30"),
}


# ---- what was meant -------------------------------------------------------------------------------------------------


def _meant(path: Path) -> str:
    known = _keys(path[:-1])
    wanted = str(path[-1])
    if close := get_close_matches(wanted.lower(), known, 1, 0.7) or [key for key in known if wanted.startswith(key)]:
        return f"did you mean `{close[0]}`?"
    homes = [name for name in ("metadata", "redaction", "retention", "access", "audit") if wanted in _keys((name,))]
    homes += [f"{name}.rules" for name in ("redaction", "retention") if wanted in _keys((name, "rules", 0))]
    if homes:
        return f"`{wanted}` belongs into {' or '.join(f'`{home}`' for home in homes)}"
    return f"known here are {', '.join(known)}"


def _duration(text: str) -> str:
    found = _IN_WORDS.fullmatch(text.strip())
    if found and int(found[1]):
        return f"did you mean `P{found[1]}{(found[2] or 'd').upper()}`?"
    return "write P30D, P6M, P3Y6M or PT12H (ISO 8601)"


def _form(text: str, *, entity: bool) -> tuple[str, str]:
    if not entity:
        return f"is {text!r}, which is no id", "use letters, digits, dots, dashes and underscores, as in chat-storage-limit"
    meant = text.upper().replace("-", "_").replace(" ", "_")
    hint = (
        f"did you mean `{meant}`?"
        if meant in BUILT_IN | PRESIDIO
        else "use capitals, digits and underscores, as in EMPLOYEE_ID"
    )
    return f"is {text!r}, which is no entity's name", hint


def _missing(path: Path) -> str:
    examples = {"name": "name: acme-support", "metadata": "metadata: {name: acme-support}", "id": "id: chat-storage-limit"}
    examples |= {"entity": "entity: EMAIL", "pattern": "pattern: 'EMP-[0-9]{6}'"}
    return f"write `{examples.get(str(path[-1]), f'{path[-1]}: ...')}`"


def _one_of(path: Path, given: Any) -> str:
    choices = [str(one) for one in _choices(_annotation(path))]
    if isinstance(given, str) and (close := get_close_matches(given.lower(), choices, 1, 0.7)):
        return f"did you mean `{close[0]}`?"
    return f"write `{choices[0]}`" if len(choices) == 1 else f"one of {', '.join(choices)}"


def _keys(path: Path) -> list[str]:
    model = _annotation(path)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)


def _annotation(path: Path) -> Any:
    """The type of what stands at that path: a model, or a Literal, or whatever it is."""
    kind: Any = Policy
    for part in path:
        kind = _plain(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
            kind = fields.get(str(part))
        elif get_args(kind):  # a list's parts are of its first type, a mapping's of its second
            kind = get_args(kind)[0 if isinstance(part, int) else -1]
    return _plain(kind)


def _plain(kind: Any) -> Any:
    while hasattr(kind, "__metadata__") or get_origin(kind) in (Union, type(int | None)):
        kind = get_args(kind)[0]
    return kind
