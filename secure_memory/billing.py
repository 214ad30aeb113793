"""What was spent, added up for whoever pays: by tenant, subject, session, branch, model and day; and what it cost.

Everything that was spent counts, in turns that were popped, cleared or deleted since as well: the provider charges for it.
A row is counted on the day (UTC) on which its run first spent something in its turn. Every row is checked against its MAC
before it counts; that no older copy was put in its place is found by `secmem audit verify`.

Adding up is an `audit.read` entry in the ledger of every tenant that is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from secure_memory import audit, clock, prices
from secure_memory.actor import Actor
from secure_memory.audit import names_of
from secure_memory.errors import KeyManagementError, TamperedError
from secure_memory.facet import Facet
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.prices import Prices
from secure_memory.shared import SYSTEM_TENANT, SharedStore, record
from secure_memory.tenancy import Tenant
from secure_memory.vault import branches, erasures, sessions, usage
from secure_memory.vault.branches import BranchRow
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.usage import Owner, UsageRow

BY = ("tenant", "subject", "session", "branch", "model", "day")
"""What can be added up by. A subject is one of its tenant, a session too, and a branch is one of its session."""
_WITHIN = {"subject": ("tenant",), "session": ("tenant",), "branch": ("tenant", "session")}


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What was spent in one group; the first fields are None where it was not added up by them. Where the name of a
    subject, session or branch is gone with its key, its uid stands in its place; a model that is not known is ''.

    `popped_tokens` are those of the total that were spent in turns that are gone. `cost` is None where there are no prices
    or none for any of the tokens; `unpriced_tokens` are those that it leaves out.
    """

    tenant: str | None = None
    subject: str | None = None
    session: str | None = None
    branch: str | None = None
    model: str | None = None
    day: str | None = None
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    popped_tokens: int = 0
    cost: Decimal | None = None
    currency: str | None = None
    unpriced_tokens: int = 0

    @property
    def group(self) -> tuple[str, ...]:
        """Which group it is, as an order."""
        return tuple(getattr(self, name) or "" for name in BY)


class Billing(Facet):
    """The method of a store that knows what was spent in it. `SecureStore` has the rest."""

    def usage(
        self,
        *,
        by: str | Sequence[str] = "tenant",
        since: int | None = None,
        until: int | None = None,
        tenant: str | None = None,
        prices: str | os.PathLike[str] | None = None,
    ) -> list[UsageTotal]:
        """What was spent, added up by one or several of tenant, subject, session, branch, model and day; of every tenant
        where none is named. Times are in microseconds, `until` exclusive. `prices` is the path of a price list.

        It is an `audit.read` entry of each tenant. Raises ValueError for what can't be added up by, ConfigurationError,
        IntegrityError.
        """
        return _usage(self._open(), by, since, until, tenant, prices, self._who())


def _usage(
    shared: SharedStore,
    by: str | Sequence[str],
    since: int | None,
    until: int | None,
    tenant: str | None,
    price_list: str | os.PathLike[str] | None,
    actor: Actor | None,
) -> list[UsageTotal]:
    wanted = [by] if isinstance(by, str) else list(by)
    for name in wanted:
        if name not in BY:
            raise ValueError(f"usage can't be added up by {name!r}: {', '.join(BY)} are what it can be")
    wanted = sorted({*wanted, *(outer for name in wanted for outer in _WITHIN.get(name, ()))}, key=BY.index)
    priced = None if price_list is None else prices.load(price_list)
    totals: dict[tuple[str, ...], UsageTotal] = {}
    for one in audit.tenants(shared, tenant):
        if one.keys.name == SYSTEM_TENANT:
            continue
        record(one, {"action": "audit.read", "detail": {"list": "usage", "by": wanted}}, actor)
        for place, row in _rows(shared, one, wanted, since, until):
            named: dict[str, Any] = dict(zip(wanted, place[1:], strict=True))
            known = totals.get(place) or UsageTotal(**named)
            totals[place] = _added(known, row, priced)
    return sorted(totals.values(), key=lambda total: total.group)


def _rows(
    shared: SharedStore, tenant: Tenant, wanted: Sequence[str], since: int | None, until: int | None
) -> Iterator[tuple[tuple[str, ...], UsageRow]]:
    """The rows of a tenant, each with its group: what makes it one, and then what it is called."""
    with tenant.vault.database.snapshot() as execute:
        key = tenant.keys.ledger
        owners = {row.id: row for row in sessions.rows(execute)}
        labels = _Labels(shared, tenant)
        where = "created >= ? AND created < ?"
        period = (0 if since is None else max(0, since), 2**62 if until is None else until)
        branch, session = None, None
        for found in execute(f"SELECT * FROM usage WHERE {where} ORDER BY id", period):  # noqa: S608 - our own words
            row = UsageRow(*found)
            if branch is None or session is None or branch.id != row.branch:  # a branch's rows lie together
                branch = branches.by_id(execute, row.branch)
                session = owners.get(row.session)
                if branch is None or session is None:
                    raise TamperedError("there is usage of a session or branch that is not there", hint=VERIFY_HINT)
                sessions.check(key, tenant.keys.uid, session)
                branches.check(key, session.uid, branch)
            usage.check(key, Owner(branch.session, session.uid, branch.id, branch.uid), row)
            label = {name: labels.of(name, session, branch, row) for name in wanted}
            uids = {"subject": session.subject, "session": session.uid, "branch": branch.uid}
            if erasures.is_stub(session):
                uids = {}  # of whoever was erased, what was spent is told together
            unique = "".join(uids.get(name, b"").hex() for name in wanted)
            yield (unique, *label.values()), row


ERASED = "(erased)"
"""What everybody is called who was erased."""


class _Labels:
    """What tenants, subjects, sessions, branches, models and days are called, each looked up once."""

    def __init__(self, shared: SharedStore, tenant: Tenant) -> None:
        self._shared = shared
        self._tenant = tenant
        self._names: dict[int, tuple[str, str]] = {}
        self._branches: dict[int, str] = {}

    def of(self, what: str, session: SessionRow, branch: BranchRow, row: UsageRow) -> str:
        """What that is called."""
        if what == "tenant":
            return self._tenant.keys.name
        if what == "model":
            return row.model
        if what == "day":
            return clock.rfc3339(row.created)[:10]
        if erasures.is_stub(session):
            return ERASED
        if what == "branch":
            if branch.id not in self._branches:
                self._branches[branch.id] = self._branch(session, branch)
            return self._branches[branch.id]
        if session.id not in self._names:
            names = names_of(self._shared, self._tenant, session)
            uids = session.uid.hex(), session.subject.hex()
            self._names[session.id] = uids if names is None else (names.session, names.subject)
        return self._names[session.id][what == "subject"]

    def _branch(self, session: SessionRow, branch: BranchRow) -> str:
        try:
            keys = self._shared.keyring.session(self._tenant.keys, session.name, session.key_version)
        except KeyManagementError:
            keys = None
        return branch.uid.hex() if keys is None else branches.open_name(keys.subject_key, branch)


def _added(total: UsageTotal, row: UsageRow, priced: Prices | None) -> UsageTotal:
    cached = _cached(row)
    price = None if priced is None else priced.of(row.model)
    cost = None if price is None else price.of(row.input, row.output, cached)
    return replace(
        total,
        requests=total.requests + row.requests,
        input_tokens=total.input_tokens + row.input,
        output_tokens=total.output_tokens + row.output,
        total_tokens=total.total_tokens + row.total,
        cached_tokens=total.cached_tokens + cached,
        popped_tokens=total.popped_tokens + (row.total if row.popped else 0),
        cost=total.cost if cost is None else cost + (total.cost or 0),
        currency=None if priced is None else priced.currency,
        unpriced_tokens=total.unpriced_tokens + (row.total if priced is not None and price is None else 0),
    )


def _cached(row: UsageRow) -> int:
    details: Any = row.spent.input_details or {}
    found = details.get("cached_tokens")
    return found if isinstance(found, int) else 0
