"""Legal holds of a store: placed, listed, released. `SecureStore` has its methods from `Holding`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from secure_memory import audit, clock
from secure_memory.actor import program, resolve
from secure_memory.errors import ConfigurationError
from secure_memory.facet import Facet
from secure_memory.shared import SYSTEM_TENANT, SharedStore, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import holds, sessions
from secure_memory.vault.holds import Hold
from secure_memory.vault.transaction import Transaction

MAX_MATTER = 200
"""Characters of a matter's name: it stands in entries."""


@dataclass(frozen=True, slots=True)
class HoldInfo:
    """A hold, as a person knows it: sessions and subjects by name, or by uid where their names are gone. Times are in
    microseconds; `since` and `until` are about when an item was created."""

    tenant: str
    id: int
    matter: str
    placed: int
    placed_by: str
    reason: str | None
    session: str | None
    subject: str | None
    tags: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    released: int | None = None
    released_by: str | None = None
    released_why: str | None = None


class Holding(Facet):
    """The methods of a store that are about legal holds. `SecureStore` has the rest."""

    def hold_place(
        self,
        matter: str,
        *,
        tenant: str = "default",
        session: str | None = None,
        subject: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> HoldInfo:
        """Keep what matches everything given, the whole tenant where nothing is, whatever a policy, an agent or an erasure
        request says, until the hold is released. It is a `hold.place` entry; the reason is the actor's.

        Raises ValueError for a bad argument, ConfigurationError where there is no such session or subject,
        AccessDeniedError, IntegrityError.
        """
        if not isinstance(matter, str) or not matter.strip() or len(matter) > MAX_MATTER or not matter.isprintable():
            raise ValueError(f"a matter is 1 to {MAX_MATTER} printable characters")
        if not all(isinstance(text, str) for tag in (tags or {}).items() for text in tag):
            raise ValueError("tags are texts: names and values")
        if since is not None and until is not None and since >= until:
            raise ValueError("a hold's time range ends before it begins")
        shared, who = self._open(), self._who()
        one = shared.existing_tenant(tenant)
        asks = resolve(None, None, who) or program()
        about = None if subject is None else _subject(shared, one, subject)

        def work(tx: Transaction) -> Hold:
            within = None if session is None else _session(tx, one, session)
            said = Hold(0, matter, clock.now(), asks.id, asks.reason, within, about, dict(tags or {}), since, until)
            return holds.place(tx, one.keys.ledger, one.keys.uid, said)

        return _info(shared, one, transact(one, work, "hold.place", who))

    def hold_release(self, number: int, *, tenant: str = "default") -> HoldInfo:
        """Release a hold. It is a `hold.release` entry; the reason is the actor's.

        Raises ConfigurationError where there is no such hold or it is released, AccessDeniedError, IntegrityError.
        """
        shared, who = self._open(), self._who()
        one = shared.existing_tenant(tenant)
        asks = resolve(None, None, who) or program()

        def work(tx: Transaction) -> Hold:
            return holds.release(tx, one.keys.ledger, one.keys.uid, number, actor=asks.id, reason=asks.reason)

        return _info(shared, one, transact(one, work, "hold.release", who))

    def hold_list(self, *, tenant: str | None = None, released: bool = False) -> list[HoldInfo]:
        """The holds of one tenant or of all, with `released` those that hold no longer, too. It is an `audit.read` entry.

        Raises ConfigurationError where there is no such tenant, AccessDeniedError, IntegrityError.
        """
        shared, found = self._open(), []
        for one in audit.tenants(shared, tenant):
            if one.keys.name == SYSTEM_TENANT:
                continue
            known = transact(one, partial(_listed, one), "audit.read", self._who())
            found += [_info(shared, one, hold) for hold in known if released or hold.active]
        return found


def _listed(tenant: Tenant, tx: Transaction) -> list[Hold]:
    tx.record({"detail": {"list": "holds"}})
    return holds.all_holds(tx.execute, tx.control, tenant.keys.ledger, tenant.keys.uid)


def _session(tx: Transaction, tenant: Tenant, name: str) -> str:
    row = sessions.find(tx.execute, tenant.keys.name_mac("session", name))
    if row is None:
        raise ConfigurationError(
            f"tenant {tenant.keys.name!r} has no such session", hint="`secmem session list` shows the sessions"
        )
    return row.uid.hex()


def _subject(shared: SharedStore, tenant: Tenant, name: str) -> str:
    uid = shared.keyring.subject(tenant.keys, tenant.keys.name_mac("subject", name))
    if uid is None:
        raise ConfigurationError(
            f"tenant {tenant.keys.name!r} has no such subject", hint="`secmem session list` shows whose the sessions are"
        )
    return uid.hex()


def _info(shared: SharedStore, tenant: Tenant, hold: Hold) -> HoldInfo:
    session, subject = hold.session, hold.subject
    with tenant.vault.database.snapshot() as execute:
        for row in sessions.rows(execute) if session or subject else ():
            if row.uid.hex() == hold.session or (session is None and row.subject.hex() == hold.subject):
                names = audit.names_of(shared, tenant, row)
                if names is not None:
                    session = names.session if hold.session else None
                    subject = names.subject if hold.subject and row.subject.hex() == hold.subject else hold.subject
                break
    return HoldInfo(
        tenant.keys.name,
        hold.id,
        hold.matter,
        hold.placed,
        hold.actor,
        hold.reason,
        session,
        subject,
        hold.tags,
        hold.since,
        hold.until,
        hold.released,
        hold.released_by,
        hold.released_why,
    )
