"""The log, as auditors ask for it.

A `LogRecord` is an entry with the names that a person knows: the tenant's, and the session's and the subject's where their
keys still exist. Names are looked up for the reader; the ledger itself has uids only, and keeps them when names are gone.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from secure_memory import clock
from secure_memory.actor import Actor
from secure_memory.errors import KeyManagementError, TamperedError
from secure_memory.ledger.entry import Entry
from secure_memory.ledger.ledger import Row, entry_of
from secure_memory.shared import SYSTEM_TENANT, SharedStore, record, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import sessions
from secure_memory.vault.sessions import Names

POLL_SECONDS = 0.5
"""How often a followed log is looked at again."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """An entry, and what a person calls what it names. Names are None where there are none, or none any more."""

    entry: Entry
    tenant_name: str
    session_name: str | None = None
    subject_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field that applies, as JSON."""
        entry = asdict(self.entry)
        entry["time"] = clock.rfc3339(self.entry.time)
        entry["head"] = None if self.entry.head is None else self.entry.head.to_json()
        names = {"tenant_name": self.tenant_name, "session_name": self.session_name, "subject_name": self.subject_name}
        return {key: value for key, value in {**entry, **names}.items() if value not in (None, (), {}, "")}


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries are wanted: those that match everything given. Times are in microseconds, `until` is exclusive.

    `action` may end in `.*`. `session` and `subject` are names, or uids in hex. `actor_as_subject` is filled in.
    """

    since: int | None = None
    until: int | None = None
    session: str | None = None
    subject: str | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    actor_as_subject: str | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether the entry is wanted, where `session` and `subject` are uids (see `_in_tenant`)."""
        return (
            (self.since is None or entry.time >= self.since)
            and (self.until is None or entry.time < self.until)
            and (self.session is None or self.session == entry.session)
            and (self.subject is None or self.subject == entry.subject)
            and (self.actor is None or entry.actor in (self.actor, self.actor_as_subject))
            and (self.outcome is None or self.outcome == entry.outcome)
            and (self.action is None or _action_matches(self.action, entry.action))
        )


def _action_matches(wanted: str, action: str) -> bool:
    return action.startswith(wanted[:-1]) if wanted.endswith(".*") else action == wanted


def tenants(shared: SharedStore, tenant: str | None) -> list[Tenant]:
    """The tenant of that name, or the system vault and every tenant."""
    if tenant is not None:
        return [shared.system if tenant == SYSTEM_TENANT else shared.existing_tenant(tenant)]
    names = [name for _, name, state, _ in shared.keyring.tenants() if name != SYSTEM_TENANT and state == "active"]
    return [shared.system, *(shared.tenant(name) for name in names)]


# ---- the log --------------------------------------------------------------------------------------------------------


def log(
    shared: SharedStore, tenant: str | None, wanted: LogFilter, limit: int | None, actor: Actor | None
) -> list[LogRecord]:
    """The newest `limit` matching records, or all, in order of time. Reading is an `audit.read` entry of each ledger."""
    found: list[list[LogRecord]] = []
    for one in tenants(shared, tenant):
        record(one, {"action": "audit.read"}, actor)
        with one.vault.database.snapshot() as execute:
            names = _Names(shared, one, execute)
            found.append(_newest(execute, one, names, _in_tenant(wanted, shared, one, execute), limit))
    merged = list(heapq.merge(*found, key=lambda r: r.entry.time))
    return merged if limit is None else merged[max(0, len(merged) - limit) :]


def follow(shared: SharedStore, tenant: str | None, wanted: LogFilter, actor: Actor | None) -> Iterator[LogRecord]:
    """Matching records as they come, as long as the actor may. It is one `audit.read` of each ledger, at its beginning."""
    places: dict[str, int] = {}
    begun = False
    while True:
        if begun:
            transact(shared.system, lambda _: None, "audit.read", actor)  # a later policy may not allow it any more
        for one in tenants(shared, tenant):
            if one.keys.name not in places:
                record(one, {"action": "audit.read", "detail": {"follow": True}}, actor)
            with one.vault.database.snapshot() as execute:
                names = _Names(shared, one, execute)
                size = execute("SELECT coalesce(max(seq), -1) + 1 FROM ledger").fetchone()[0]
                start = places.get(one.keys.name, 0 if begun else size)  # of a tenant that is new, everything is
                rows = list(_rows(execute, one, start, "ASC"))
                matching = _in_tenant(wanted, shared, one, execute)
                new = [names.named(row, entry) for row, entry in rows if matching.matches(entry)]
            places[one.keys.name] = size
            yield from new
        begun = True
        time.sleep(POLL_SECONDS)


def _newest(
    execute: Callable[..., Any], tenant: Tenant, names: _Names, wanted: LogFilter, limit: int | None
) -> list[LogRecord]:
    found: list[LogRecord] = []
    for row, entry in _rows(execute, tenant, 0, "DESC"):
        if limit is not None and len(found) >= limit:
            break
        if wanted.matches(entry):
            found.append(names.named(row, entry))
    return found[::-1]


def _rows(execute: Callable[..., Any], tenant: Tenant, start: int, order: str) -> Iterator[tuple[Row, Entry]]:
    for columns in execute(f"SELECT * FROM ledger WHERE seq >= ? ORDER BY seq {order}", (start,)):  # noqa: S608
        row = Row(*columns)
        tenant.vault.ledger.check(row)
        if row.entry:  # else its time has passed (see `ledger.pruning`)
            yield row, entry_of(row)


def _in_tenant(wanted: LogFilter, shared: SharedStore, tenant: Tenant, execute: Callable[..., Any]) -> LogFilter:
    """The filter with names turned into this tenant's uids. What is no name here stays, and may be a uid."""
    session, subject = wanted.session, wanted.subject
    if session is not None and (row := sessions.find(execute, tenant.keys.name_mac("session", session))):
        session = row.uid.hex()
    if subject is not None and (uid := shared.keyring.subject(tenant.keys, tenant.keys.name_mac("subject", subject))):
        subject = uid.hex()
    if wanted.actor is not None and (
        uid := shared.keyring.subject(tenant.keys, tenant.keys.name_mac("subject", wanted.actor))
    ):
        wanted = replace(wanted, actor_as_subject=f"subject:{uid.hex()}")  # so an actor who is the subject is recorded
    return replace(wanted, session=session, subject=subject)


class _Names:
    """The names of a tenant's sessions and subjects, looked up once each, when an entry that names them is shown."""

    def __init__(self, shared: SharedStore, tenant: Tenant, execute: Callable[..., Any]) -> None:
        self._shared = shared
        self._tenant = tenant
        self._execute = execute
        self._known: dict[str, Names | None] = {}

    def named(self, row: Row, entry: Entry) -> LogRecord:
        """The entry with its names."""
        names = None
        if entry.session is not None:
            if entry.session not in self._known:
                self._known[entry.session] = self._look_up(row, entry.session)
            names = self._known[entry.session]
        tenant = self._tenant.keys.name
        return LogRecord(entry, tenant) if names is None else LogRecord(entry, tenant, names.session, names.subject)

    def _look_up(self, row: Row, uid: str) -> Names | None:
        found = None if row.session is None else sessions.by_id(self._execute, row.session)
        if found is None:  # what failed has no row id; it is rare
            found = next((one for one in sessions.rows(self._execute) if one.uid.hex() == uid), None)
        try:
            return None if found is None else names_of(self._shared, self._tenant, found)
        except TamperedError:
            return None  # whoever looks into an incident needs the log, and the session's reads and `verify` say it


def names_of(shared: SharedStore, tenant: Tenant, row: sessions.SessionRow) -> Names | None:
    """What a session and its subject are called; None where the key is gone. Raises TamperedError."""
    sessions.check(tenant.keys.ledger, tenant.keys.uid, row)
    try:
        keys = shared.keyring.session(tenant.keys, row.name, row.key_version)
    except KeyManagementError:
        return None
    return None if keys is None else sessions.open_names(keys.subject_key, tenant.keys.uid, row)
