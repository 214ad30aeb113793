"""What a purge would do, before it does it: counts for people, and what identifies each session's part of it.

- A plan is of one store, one policy and one time. Kept in a file it carries a MAC under the store's plan key, so that what
  is applied is what was planned; it has uids and counts, no names and no content.
- It is stale where the policy in force is another one, where the store is another one or went back, where it is older than
  `VALID`, or where it was edited.
- A session that changed since is passed over when the plan is applied: its part is no longer what was planned.

Called by `lifecycle.purge.purges`.
"""

from __future__ import annotations

import hmac
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from secure_memory import clock
from secure_memory.errors import ConfigurationError, StalePlanError, StorageError
from secure_memory.keys.key import Key
from secure_memory.lifecycle.purge.fates import Fate, Unit
from secure_memory.lifecycle.purge.surveying import OVERDUE_AFTER

VALID = 7 * 86_400_000_000
"""How long a plan may be applied, in microseconds: after a week what is due is another question."""
_PLAN_HINT = "plan again: `secmem purge --out FILE`"
_SIGNS = {
    "delete": "-",
    "prune": "-",
    "redact": "~",
    "archive": ">",
    "deferred": "=",
    "held": "#",
    "conflict": "?",
    "unmatched": "!",
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What happens to some items of a tenant, and by what: `state` is delete, redact or archive, or prune, of
    entries of the ledger; or why nothing happens:
    deferred, held, conflict, unmatched. `by` are rules, a matter, or, of what is unmatched, the kind; `until` is the
    earliest time at which one of them may be due, `paired` how many are redacted because what they belong to stays."""

    state: str
    by: str
    law: str | None
    items: int
    sessions: int
    until: int | None = None
    paired: int = 0

    @property
    def sign(self) -> str:
        """One character for the state: - ~ > = # ? !"""
        return _SIGNS[self.state]


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """What happens in one tenant. `items` are all that it has, `overdue` those that were due for more than a day; `size` and
    `root` are the ledger's head when it was planned; `units` identify what is done to which session, by its uid."""

    tenant: str
    items: int
    sessions: int
    overdue: int
    lines: tuple[PlanLine, ...]
    size: int
    root: str
    units: Mapping[str, str] = field(default_factory=dict)

    def count(self, *states: str) -> int:
        """How many items are in one of these states."""
        return sum(line.items for line in self.lines if line.state in states)

    @property
    def leaving(self) -> int:
        """How many items would no longer be in the vault."""
        return self.count("delete", "archive")


@dataclass(frozen=True, slots=True)
class PurgeDone:
    """What a purge did. `passed_over` are sessions that had changed; `freed` is in bytes, for the database to use again;
    `archives` are the files that were written; `pruned` are entries of the ledger, which have no body any more."""

    deleted: int
    redacted: int
    archived: int
    sessions: int
    passed_over: int
    freed: int
    archives: tuple[str, ...] = ()
    pruned: int = 0


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """A plan; and, where it was applied, what was `done`."""

    store: str
    policy: str
    version: int
    sha256: str
    as_of: int
    tenants: tuple[TenantPlan, ...]
    done: PurgeDone | None = None

    def count(self, *states: str) -> int:
        """How many items are in one of these states, in all tenants."""
        return sum(one.count(*states) for one in self.tenants)

    @property
    def overdue(self) -> int:
        """How many items had been due for more than a day."""
        return sum(one.overdue for one in self.tenants)

    def to_json(self, key: Key) -> bytes:
        """The plan as a file keeps it, under its MAC."""
        said = orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)
        return orjson.dumps({"plan": orjson.Fragment(said), "mac": _mac(key, said)}) + b"\n"


def from_json(data: bytes, key: Key) -> PurgePlan:
    """The plan of a file. Raises StalePlanError where it is none of this store's, or was edited."""
    try:
        found = orjson.loads(data)
        said = orjson.dumps(found["plan"], option=orjson.OPT_SORT_KEYS)
        if hmac.compare_digest(_mac(key, said), found["mac"]):
            plan = dict(found["plan"])
            plan["tenants"] = tuple(_tenant(one) for one in plan["tenants"])
            return PurgePlan(**plan)
    except (ValueError, TypeError, KeyError):
        raise StalePlanError("the file is no purge plan", hint=_PLAN_HINT) from None
    raise StalePlanError("the plan was edited, or made by another store", hint=_PLAN_HINT)


def read(path: Path) -> bytes:
    """A plan's file. Raises ConfigurationError where it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise ConfigurationError(f"the plan can't be read: {why}", hint="check its path") from None


def write(path: Path, data: bytes) -> None:
    """Keep a plan in a file, for its owner's eyes. Raises StorageError."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise StorageError(f"the plan can't be written: {why}", hint="check its directory and modes") from None


def _tenant(fields: Mapping[str, Any]) -> TenantPlan:
    return TenantPlan(**{**fields, "lines": tuple(PlanLine(**line) for line in fields["lines"])})


def _mac(key: Key, said: bytes) -> str:
    return hmac.digest(key.bytes, b"secmem/plan/v1" + said, "sha256").hex()


def check(plan: PurgePlan, store: str, sha256: str, now: int) -> None:
    """Raise StalePlanError where the plan is not of this store, under this policy, or no longer valid."""
    if plan.store != store:
        raise StalePlanError("the plan is of another store", hint=_PLAN_HINT)
    if plan.sha256 != sha256:
        raise StalePlanError("the plan is of another policy than the one in force", hint=_PLAN_HINT)
    if plan.done is not None:
        raise StalePlanError("the plan was applied already", hint=_PLAN_HINT)
    if not 0 <= now - plan.as_of <= VALID:
        raise StalePlanError(f"the plan is of {clock.rfc3339(plan.as_of)}, and valid for 7 days", hint=_PLAN_HINT)


# ---- counting -------------------------------------------------------------------------------------------------------


class _Key(NamedTuple):
    state: str
    by: str
    law: str | None


class Tally:
    """Counts what is found, session after session."""

    def __init__(self) -> None:
        self.items = self.sessions = self.overdue = 0
        self._items: Counter[_Key] = Counter()
        self._sessions: Counter[_Key] = Counter()
        self._paired: Counter[_Key] = Counter()
        self._until: dict[_Key, int] = {}

    def add(self, unit: Unit, now: int) -> None:
        """Count what becomes of a session."""
        self.sessions += 1
        seen: set[_Key] = set()
        for fate in unit.fates:
            self.items += fate.found.size
            for key in _keys(fate):
                seen.add(key)
                self._items[key] += fate.found.size
                if fate.paired:
                    self._paired[key] += fate.found.size
                if fate.outcome.at is not None and not fate.done:
                    self._until[key] = min(fate.outcome.at, self._until.get(key, fate.outcome.at))
            if fate.done and fate.outcome.at is not None and fate.outcome.at <= now - OVERDUE_AFTER:
                self.overdue += fate.found.size
        self._sessions.update(seen)

    def lines(self) -> tuple[PlanLine, ...]:
        """The counts, in the order in which a plan shows them."""
        order = list(_SIGNS)
        keys: Sequence[_Key] = sorted(self._items, key=lambda key: (order.index(key.state), key.by, str(key.law)))
        return tuple(
            PlanLine(*key, self._items[key], self._sessions[key], self._until.get(key), self._paired[key]) for key in keys
        )


def _keys(fate: Fate) -> list[_Key]:
    """Under what an item is counted: nothing where it is kept, or waits for a session's end."""
    state = fate.done or fate.outcome.state
    if state == "held":
        return [_Key(state, f"matter {matter}", None) for matter in fate.outcome.matters[:1]]
    if state == "unmatched":
        return [_Key(state, f"kind={fate.found.kind}", None)]
    if state not in _SIGNS:
        return []
    by = ", ".join(rule.id for rule in fate.outcome.rules)
    laws = [rule.law for rule in fate.outcome.rules if rule.law]
    return [_Key(state, by or ("erasure" if not fate.found.discarded else "deleted by the agent"), "; ".join(laws) or None)]
