"""A file checked against the models, and what pydantic finds said in our words. Pure.

Each problem is one sentence that says where and what, and a hint that says what to write instead. Called by `load`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from secure_memory.errors import PolicyError
from secure_memory.policy.model import ACTIONS, Policy
from secure_memory.policy.written import Path, Written, in_order

_FORMS = {
    "id": ("is no id", "letters, digits, dots, dashes and underscores, at most 100, as in chat-storage-limit"),
    "entity": ("is no entity's name", "capitals, digits and underscores, as in EMPLOYEE_ID"),
    "DURATION": ("is not a duration", "write P30D, P6M, P3Y6M or PT12H (ISO 8601)"),
}
_DURATIONS = {"min", "max", "idle"}


def checked(written: Written) -> Policy:
    """The policy that one file is, by itself. Raises PolicyError: the first problem, with the others."""
    if not isinstance(written.value, Mapping):
        raise written.error((), "a policy is a mapping of keys", "begin with `apiVersion: secmem/v1`")
    try:
        policy = Policy.model_validate(written.value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise in_order([_told(written, one) for one in error.errors(include_url=False)]) from None
    if errors := list(_twice(written, policy)):
        raise in_order(errors)
    return policy


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
    if kind == "string_pattern_mismatch":
        name = "DURATION" if path[-1] in _DURATIONS else "entity" if context["pattern"].startswith("^[A-Z]") else "id"
        problem, hint = _FORMS[name]
        return written.error(path, f"{problem}: {_shown(given)}", hint)
    if kind == "value_error":
        return _ours(written, path, given, str(context["error"]))
    if kind in _WORDS:
        problem, hint = _WORDS[kind]
        return written.error(path, problem.format(**context), hint.format(value=_shown(given)) or None)
    return written.error(path, "is not as it has to be", None)


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
        close = get_close_matches(str(given), sorted(ACTIONS), 1, 0.6)
        hint = f"did you mean `{close[0]}`?" if close else "actions are as in audit entries: session.read, audit.*, *"
    return written.error(
        path, problem if problem.startswith("is ") else f"is {problem.removeprefix(repr(given) + ' is ')}", hint
    )


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


_WORDS = {
    "string_type": ("must be a text", "put {value} in quotes if it is one"),
    "string_too_short": ("is empty", "write something, or leave the key out"),
    "string_too_long": ("is longer than {max_length} characters", ""),
    "int_type": ("must be a whole number", "write a number without quotes, such as 3"),
    "bool_type": ("must be true or false", "write true or false, without quotes"),
    "greater_than_equal": ("must be at least {ge}", ""),
    "less_than": ("must be less than {lt}", ""),
    "tuple_type": ("must be a list", "write it in brackets, [...], or each on its own line after a dash"),
    "model_type": ("must be a mapping of keys", "write keys and values: `key: value`"),
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
    if close := get_close_matches(wanted.lower(), known, 1, 0.6):
        return f"did you mean `{close[0]}`?"
    homes = [name for name in ("metadata", "redaction", "retention", "access", "audit") if wanted in _keys((name,))]
    homes += [f"{name}.rules" for name in ("redaction", "retention") if wanted in _keys((name, "rules", 0))]
    if homes:
        return f"`{wanted}` belongs into `{homes[0]}`"
    return f"known here are {', '.join(known)}"


def _missing(path: Path) -> str:
    examples = {"name": "name: acme-support", "metadata": "metadata: {name: acme-support}", "id": "id: chat-storage-limit"}
    examples |= {"entity": "entity: EMAIL", "pattern": "pattern: 'EMP-[0-9]{6}'"}
    return f"write `{examples.get(str(path[-1]), f'{path[-1]}: ...')}`"


def _one_of(path: Path, given: Any) -> str:
    choices = [str(one) for one in _choices(_annotation(path))]
    if isinstance(given, str) and (close := get_close_matches(given.lower(), choices, 1, 0.6)):
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
