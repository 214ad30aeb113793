"""An audit entry and its canonical bytes. Pure.

An entry is RFC 8785 canonical JSON: sorted ASCII keys, no floats, integers below 2^53, times in UTC by RFC 3339 with
microseconds. A key stands only where it applies. Sessions, subjects and branches are named by their random uids, never
by name, and no content ever comes in. `salt` is 16 random bytes, so that the hash of an entry tells nothing of it.

    v seq time tenant actor roles purpose reason action outcome subject session branch items head run control detail
    host salt

`head` is on writes alone: the branch's new head. `control` is the digest of the vault's control state at the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from secure_memory import clock

VERSION = 1
MAX_INTEGER = 2**53  # RFC 8785 3.2.2.3 by way of I-JSON (RFC 7493 2.2)

OUTCOMES = frozenset({"ok", "denied", "failed"})


@dataclass(frozen=True, slots=True)
class BranchHead:
    """A branch's head: `link` is the newest link, `position` and `turn` the newest item's; `base` is what was cut off
    below: the position, turn and link from which the chain now starts. Links are 32 bytes."""

    position: int
    turn: int
    link: bytes
    base_position: int
    base_turn: int
    base_link: bytes

    def to_json(self) -> dict[str, Any]:
        """The head as it stands in an entry."""
        return {
            "base": {"link": self.base_link.hex(), "position": self.base_position, "turn": self.base_turn},
            "link": self.link.hex(),
            "position": self.position,
            "turn": self.turn,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BranchHead:
        """The head of an entry. Raises KeyError, TypeError or ValueError where it is none."""
        base = value["base"]
        return cls(
            value["position"],
            value["turn"],
            bytes.fromhex(value["link"]),
            base["position"],
            base["turn"],
            bytes.fromhex(base["link"]),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as a reader sees it. Uids are hex; `time` is in microseconds."""

    seq: int
    time: int
    tenant: str
    action: str
    outcome: str
    actor: str
    roles: tuple[str, ...] = ()
    purpose: str | None = None
    reason: str | None = None
    subject: str | None = None
    session: str | None = None
    branch: str | None = None
    items: int | None = None
    head: BranchHead | None = None
    run: str | None = None
    control: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = None
    salt: str = ""


def canonical(fields: Mapping[str, Any]) -> bytes:
    """The canonical bytes of an entry's fields; those that are None are left out.

    orjson with sorted keys writes RFC 8785 as long as keys are ASCII and no number is a float, which holds for every
    entry; a property test holds it against the package rfc8785. Raises TypeError or ValueError for what has no such form.
    """
    if _has_float(fields.get("detail")):  # elsewhere an entry has no place for one
        raise ValueError("an audit entry has no floats")
    return orjson.dumps({key: value for key, value in fields.items() if value is not None}, option=_OPTIONS)


_OPTIONS = (
    orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)


def _has_float(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return isinstance(value, float) or (isinstance(value, list) and any(map(_has_float, value)))


def fields_of(data: bytes) -> dict[str, Any]:
    """The fields of canonical bytes. Raises ValueError where they are not the canonical form of an entry."""
    fields = orjson.loads(data)
    try:
        if isinstance(fields, dict) and fields.get("v") == VERSION and not _has_float(fields) and canonical(fields) == data:
            return fields
    except (TypeError, RecursionError):  # nested too deep to be written
        pass
    raise ValueError("not a canonical audit entry of version 1")


def parse(data: bytes) -> Entry:
    """The entry of canonical bytes. Raises ValueError where it is not one."""
    fields = fields_of(data)
    try:
        fields.pop("v")
        fields["time"] = clock.parse(fields["time"])
        fields["roles"] = tuple(fields.get("roles", ()))
        if "head" in fields:
            fields["head"] = BranchHead.from_json(fields["head"])
        return Entry(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a malformed audit entry ({type(error).__name__})") from None
