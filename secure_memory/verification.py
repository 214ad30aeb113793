"""The whole check of a store, and its anchors: what `secmem audit verify` and `secmem audit anchor` call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_memory.actor import Actor, resolve
from secure_memory.audit import tenants
from secure_memory.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    KeyNotFoundError,
    SecureMemoryError,
    TamperedError,
)
from secure_memory.ledger import anchor as anchors
from secure_memory.ledger.ledger import stored_nodes
from secure_memory.ledger.merkle import Head, root_at
from secure_memory.log import get_logger
from secure_memory.shared import SharedStore, record
from secure_memory.tenancy import Tenant
from secure_memory.vault import erasures, integrity, sessions
from secure_memory.vault import verify as vault_verify

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TenantReport:
    """One vault that was found whole."""

    tenant: str
    entries: int
    sessions: int
    items: int
    root: str
    anchor: str


@dataclass(frozen=True, slots=True)
class AnchorReport:
    """What is known outside the store of one vault: `state` is ok, missing, unreadable or off."""

    tenant: str
    state: str
    durable: int | None
    seen: int | None
    entries: int
    path: str | None


def verify(
    shared: SharedStore, tenant: str | None, actor: Actor | None, progress: Callable[[str, int], None] | None
) -> list[TenantReport]:
    """Check every vault whole, against its anchor too. Raises IntegrityError, which names the first thing that is wrong.

    The check is itself an `audit.verify` entry of each vault. Raises AccessDeniedError before anything is looked at.
    """
    _authorise(shared, actor)
    try:
        shared.keyring.check()
    except TamperedError as error:
        raise TamperedError(f"keys.db: {error}", hint=error.hint) from None
    _check_tombstones(shared, tenants(shared, tenant))
    return [_verify_one(shared, one, actor, progress) for one in tenants(shared, tenant)]


def _authorise(shared: SharedStore, actor: Actor | None) -> None:
    """Who may not verify is not told what is wrong. Raises AccessDeniedError, with an entry of the store's own ledger."""
    try:
        shared.policy.authorise(resolve(None, None, actor), "audit.verify", "the store")
    except AccessDeniedError as denial:
        detail = {"during": denial.action, "error": type(denial).__name__, "needed": denial.needed}
        shared.record({"action": "access.denied", "outcome": "denied", "detail": detail}, actor)
        raise


def _check_tombstones(shared: SharedStore, tenants: list[Tenant]) -> None:
    """Check the list of erased keys, where there is one: every line, and that its end is there. Raises TamperedError."""
    tombstones = shared.keyring.tombstones
    if tombstones is None or not tombstones.path.exists():
        return  # as with an anchor that is missing: nothing can be said
    said = 0
    for one in tenants:
        with one.vault.database.snapshot() as execute:
            known = erasures.every(execute, one.keys.ledger, one.keys.uid)
        said = max([said, *(erasure.listed for erasure in known)])
    if len(tombstones.read()) < said:  # read after what was said of it
        raise TamperedError(
            f"the list of erased keys is shorter than the {said} lines that it had",
            hint="treat it as an incident: a restore without them brings back what was erased; keep the file",
        )


def _verify_one(
    shared: SharedStore, tenant: Tenant, actor: Actor | None, progress: Callable[[str, int], None] | None
) -> TenantReport:
    name = tenant.keys.name
    state = _anchor_state(tenant)  # first the anchor, then the ledger
    try:
        whole = check_vault(shared, tenant, state if isinstance(state, anchors.State) else None, progress)
    except SecureMemoryError as error:
        if isinstance(error, IntegrityError):
            _record_failure(shared, tenant, actor, error)
        said = str(error)
        raise type(error)(said if repr(name) in said else f"tenant {name!r}: {said}", hint=error.hint) from None
    detail = {"entries": whole.entries, "items": whole.items}
    record(tenant, {"action": "audit.verify", "detail": detail}, actor)
    anchor = "ok" if isinstance(state, anchors.State) else state
    return TenantReport(name, whole.entries, whole.sessions, whole.items, whole.root.hex(), anchor)


def check_vault(
    shared: SharedStore,
    tenant: Tenant,
    anchor: anchors.State | None,
    progress: Callable[[str, int], None] | None,
) -> vault_verify.Whole:
    """Check one vault whole: what `verify` does, without the entry. Raises IntegrityError, KeyManagementError."""

    def key_of(row: sessions.SessionRow) -> AESGCM | None:
        keys = shared.keyring.session(tenant.keys, row.name, row.key_version)
        if keys is None and {row.uid.hex(), row.subject.hex()} & being_erased and shared.keyring.buried([row.uid]):
            return None  # `doctor` tells of an erasure that was interrupted, and running it again finishes it
        if keys is None:
            raise KeyNotFoundError(f"the keyring has no key for session {row.uid.hex()}")
        return keys.key.aead

    tell = None if progress is None else lambda done: progress(tenant.keys.name, done)
    with tenant.vault.database.snapshot() as execute:
        being_erased = erasures.unfinished(execute, tenant.keys.ledger, tenant.keys.uid)
    with tenant.vault.database.snapshot() as execute:
        whole = vault_verify.verify(execute, tenant.vault.database, key_of, tell)
        if anchor is not None:
            node = stored_nodes(execute)
            anchors.check(anchor, whole.entries, lambda size: root_at(size, node))
    try:
        _check_pages(tenant)
    except TamperedError:
        _check_pages(tenant)  # another process may have changed the file's key meanwhile
    return whole


def _check_pages(tenant: Tenant) -> None:
    with tenant.vault.database.beside() as connection:
        integrity.check(connection)


def _record_failure(shared: SharedStore, tenant: Tenant, actor: Actor | None, error: IntegrityError) -> None:
    """The entry of a check that failed, in the system ledger: the tenant's own is what can't be trusted now."""
    detail = {"tenant": tenant.keys.uid.hex(), "error": type(error).__name__}
    try:
        shared.record({"action": "audit.verify", "outcome": "failed", "detail": detail}, actor)
    except SecureMemoryError as another:
        log.error("failed check not recorded", error=type(another).__name__)


def _anchor_state(tenant: Tenant) -> anchors.State | str:
    """What the anchor says, or why that proves nothing: off, unreadable, missing; or missing when the store was opened."""
    if tenant.vault.database.anchor is None:
        return "off"
    if tenant.vault.database.gap is not None:
        return f"begun anew: {tenant.vault.database.gap}"
    try:
        return tenant.vault.database.anchor.read() or "missing"
    except SecureMemoryError:
        return "unreadable"


def anchor(shared: SharedStore, tenant: str | None, begin: bool, actor: Actor | None) -> list[AnchorReport]:
    """What the anchors say; with `begin`, begin them anew at the ledgers' present heads, which is recorded as a gap."""
    reports = []
    for one in tenants(shared, tenant):
        anchor_ = one.vault.database.anchor
        if begin:
            if anchor_ is None:
                raise ConfigurationError("a store in memory has no anchor")
            record(one, {"action": "audit.gap", "detail": {"why": "anchor begun anew"}}, actor)
            with one.vault.database.snapshot() as execute:
                newest = execute("SELECT seq, root FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
            try:
                anchor_.reset(Head(newest[0] + 1, newest[1]))
            except OSError as error:
                raise ConfigurationError(
                    f"the anchor can't be written: {error.strerror}", hint=f"check the directory {anchor_.path.parent}"
                ) from None
        state = _anchor_state(one)
        with one.vault.database.snapshot() as execute:
            entries = execute("SELECT count(*) FROM ledger").fetchone()[0]
        known = isinstance(state, anchors.State)
        reports.append(
            AnchorReport(
                one.keys.name,
                "ok" if known else str(state),
                state.durable.size if isinstance(state, anchors.State) else None,
                state.seen.size if isinstance(state, anchors.State) else None,
                entries,
                None if anchor_ is None else str(anchor_.path),
            )
        )
    return reports
