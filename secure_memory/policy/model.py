"""What a policy can say: the pydantic models. The JSON Schema of policy files comes from here. Pure.

- A `Policy` is whole: what it extends is merged in (`load`), and a section that nobody wrote is the baseline's.
- Nothing that is not known is accepted, and no value is taken for what it is not: `"30"` is no number, `no` is a text.
- `digest` is the SHA-256 of the canonical form (RFC 8785), the same for the same policy however its file was written.

Laws are cited in `basis`, each rule marked as a floor (at least so long), a ceiling (at most so long) or your choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from hashlib import sha256
from typing import Annotated, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from secure_memory import clock
from secure_memory.actions import GRANTED
from secure_memory.policy import durations
from secure_memory.policy.durations import Duration

API_VERSION: Literal["secmem/v1"] = "secmem/v1"


def _duration(text: str) -> str:
    durations.parse(text)
    return text


def _date(value: object) -> object:
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)):
        return value  # pydantic takes numbers for times since 1970, too
    raise ValueError("not a date: write 2027-06-30")


def _time(text: str) -> str:
    try:
        clock.parse(text)
    except ValueError:
        raise ValueError("not a time: write 2026-11-22 or 2026-11-22T03:00:00Z") from None
    return text


def _action(text: str) -> str:
    noun, _, verb = text.partition(".")
    if text != "*" and text not in GRANTED and not (verb == "*" and any(a.startswith(f"{noun}.") for a in GRANTED)):
        raise ValueError(f"{text!r} is no action")
    return text


Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Glob = Annotated[str, Field(min_length=1, max_length=200)]
DurationText = Annotated[str, AfterValidator(_duration), Field(pattern=r"^P[0-9YMWDTHS]+$", examples=["P30D", "P6Y"])]
Action = Annotated[str, AfterValidator(_action)]
TimeText = Annotated[str, AfterValidator(_time), Field(examples=["2026-11-22", "2026-11-22T03:00:00Z"])]
EntityName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,59}$")]
Operator = Literal["keep", "redact", "mask", "pseudonymise", "tokenise", "block"]
Kind = Literal["message", "tool_call", "tool_output", "reasoning", "approval", "compaction", "other", "audit_entry"]
Trigger = Literal["item.created", "session.created", "session.last_activity", "session.ended"]


class Model(BaseModel):
    """A part of a policy: frozen, strict, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Basis(Model):
    """Why a rule is: the law with its clause, or whose choice. `binding: law` where no erasure request shortens it;
    `jurisdiction` says whose law."""

    law: Text | None = None
    note: Text | None = None
    mark: Literal["floor", "ceiling", "choice"] = "choice"
    binding: Literal["law", "choice"] = "choice"
    jurisdiction: Text | None = None


class Metadata(Model):
    """What a policy is called. `jurisdiction` is where the data subjects' rights come from, "EU" for the GDPR's."""

    name: Id
    version: Annotated[int, Field(ge=1, lt=2**31)] = 1
    owner: Text | None = None
    review_by: Annotated[date, BeforeValidator(_date), Field(strict=False)] | None = None
    description: Text | None = None
    jurisdiction: Text | None = None


# ---- redaction ------------------------------------------------------------------------------------------------------


class RedactionRule(Model):
    """What becomes of one kind of personal data on each surface: `store` is what is written, `model` what the model sees,
    `view` what a reviewer sees."""

    id: Id
    entity: EntityName
    store: Operator = "keep"
    model: Operator = "keep"
    view: Operator = "keep"
    basis: Basis | None = None
    weakens: bool = False


class Pattern(Model):
    """An entity of your own: a regular expression, and words of which one has to stand near it, if any are given."""

    entity: EntityName
    pattern: Annotated[str, Field(min_length=1, max_length=500)]
    context: tuple[Text, ...] = Field(default=(), strict=False)


class Redaction(Model):
    """Which personal data is looked for, by what, and what becomes of it. `allow` are texts that are none; `region` (ISO
    3166) is where telephone numbers without a country code belong."""

    detectors: tuple[Literal["builtin", "presidio"], ...] = Field(default=("builtin",), strict=False, min_length=1)
    on_error: Literal["refuse"] = "refuse"
    rules: tuple[RedactionRule, ...] = Field(default=(), strict=False)
    patterns: tuple[Pattern, ...] = Field(default=(), strict=False)
    allow: tuple[Text, ...] = Field(default=(), strict=False)
    region: Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["DE"])] | None = None
    weakens: bool = False


# ---- retention ------------------------------------------------------------------------------------------------------


class Select(Model):
    """What a retention rule is about: items that match everything given. `tenant` has globs, `tag` names and values (a
    value may be a glob); kind `audit_entry` is the ledger's entries."""

    kind: tuple[Kind, ...] = Field(default=(), strict=False)
    tenant: tuple[Glob, ...] = Field(default=(), strict=False)
    tag: Mapping[Text, Glob] = Field(default_factory=dict)
    role: tuple[Literal["user", "assistant", "system", "developer", "tool"], ...] = Field(default=(), strict=False)
    tool: tuple[Glob, ...] = Field(default=(), strict=False)


class RetentionRule(Model):
    """Keep at least `min`, at most `max`, from the trigger on; then the action. `idle`: a session that nobody ended counts
    as ended so long after its last activity."""

    id: Id
    basis: Basis | None = None
    select: Select = Field(default_factory=Select)
    trigger: Trigger = "item.created"
    min: DurationText | None = None
    max: DurationText | None = None
    idle: DurationText = "P30D"
    action: Literal["delete", "redact", "archive"] = "delete"
    weakens: bool = False

    @property
    def floor(self) -> Duration | None:
        """`min`, parsed."""
        return None if self.min is None else durations.parse(self.min)

    @property
    def ceiling(self) -> Duration | None:
        """`max`, parsed."""
        return None if self.max is None else durations.parse(self.max)


class Retention(Model):
    """How long what is kept. `unmatched: report`: what no rule is about is told, never silently kept or deleted."""

    timezone: Text = "UTC"
    unmatched: Literal["report"] = "report"
    on_conflict: Literal["retain", "fail"] = "retain"
    weakens: bool = False
    rules: tuple[RetentionRule, ...] = Field(default=(), strict=False)


# ---- access, audit --------------------------------------------------------------------------------------------------


class Role(Model):
    """What a role may do, what it has to say (`require`), and whether it sees what it reads masked."""

    allow: tuple[Action, ...] = Field(default=(), strict=False)
    view: Literal["clear", "masked"] = "clear"
    require: tuple[Literal["purpose", "reason"], ...] = Field(default=(), strict=False)
    weakens: bool = False


class Access(Model):
    """Who may do what: what no role allows is denied. `members` are actors (globs) and their roles."""

    roles: Mapping[Id, Role] = Field(default_factory=dict)
    members: Mapping[Glob, Annotated[tuple[Id, ...], Field(strict=False)]] = Field(default_factory=dict)


class Audit(Model):
    """`durability: full` syncs each read's entry to disk before the read returns; `normal` survives a killed process."""

    durability: Literal["normal", "full"] = "normal"
    weakens: bool = False


# ---- the whole ------------------------------------------------------------------------------------------------------


class Given(Model):
    """The facts of an example: of an item (`created` and what is known besides), of a text (`text`, `surface`), or of
    somebody who asks (`actor`, `action`). Times that are left out are `created`; so is `now`."""

    kind: Kind = "message"
    role: str = ""
    tool: str = ""
    tenant: Text = "default"
    tag: Mapping[Text, Text] = Field(default_factory=dict)
    created: TimeText | None = None
    session_created: TimeText | None = None
    last_activity: TimeText | None = None
    ended: TimeText | None = None
    held_by: tuple[Text, ...] = Field(default=(), strict=False)
    erasure: TimeText | None = None
    now: TimeText | None = None
    text: Annotated[str, Field(max_length=10_000)] | None = None
    surface: Literal["store", "model", "view"] = "store"
    actor: Text | None = None
    roles: tuple[Text, ...] = Field(default=(), strict=False)
    purpose: Text | None = None
    reason: Text | None = None
    action: Action | None = None


class Expect(Model):
    """What an example expects, as much of it as it says. Of an item: `state`, `action`, `at` (a time, or its beginning),
    `by` (the rules that decide). Of a text: `text` after, `blocked`, `entities` found. Of who asks: `access`, `view`."""

    state: Literal["held", "conflict", "deferred", "due", "kept", "open", "unmatched"] | None = None
    action: Literal["delete", "redact", "archive", "none"] | None = None
    at: TimeText | None = None
    by: tuple[Id, ...] | None = Field(default=None, strict=False)
    text: str | None = None
    blocked: bool | None = None
    entities: tuple[EntityName, ...] | None = Field(default=None, strict=False)
    access: Literal["allowed", "denied"] | None = None
    view: Literal["clear", "masked"] | None = None


class Example(Model):
    """A test that stands beside a policy: facts, and what it is expected to do. `secmem policy test` runs them."""

    name: Text
    given: Given
    expect: Expect


class Policy(Model):
    """A whole policy: what it extends is merged in, and no section is missing."""

    api_version: Literal["secmem/v1"] = Field(default=API_VERSION, alias="apiVersion")
    kind: Literal["Policy"] = "Policy"
    metadata: Metadata
    extends: tuple[Text, ...] = Field(default=(), strict=False)
    redaction: Redaction = Field(default_factory=Redaction)
    retention: Retention = Field(default_factory=Retention)
    access: Access = Field(default_factory=Access)
    audit: Audit = Field(default_factory=Audit)
    examples: tuple[Example, ...] = Field(default=(), strict=False)

    def canonical(self) -> bytes:
        """The policy as JSON, sorted, every default written out, so that a later version reads it as it was meant; without
        examples. Same policy, same bytes."""
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"examples"})
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hex."""
        return sha256(self.canonical()).hexdigest()


def from_canonical(data: bytes) -> Policy:
    """The policy of its canonical form. Raises ValueError where it is none."""
    return Policy.model_validate_json(data)
