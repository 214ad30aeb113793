"""Erasing, as a store's methods: `SecureStore` has them from `Erasures`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secure_memory import audit
from secure_memory import items as sdk_items
from secure_memory.actor import Actor, program, resolve
from secure_memory.errors import ConfigurationError
from secure_memory.facet import Facet
from secure_memory.items import Item
from secure_memory.lifecycle import reserve
from secure_memory.lifecycle.erasure import certificate, withhold
from secure_memory.lifecycle.erasure.certificate import Certificate
from secure_memory.lifecycle.erasure.erase import Kind, SessionErasure
from secure_memory.lifecycle.erasure.erase_tenant import TenantErasure
from secure_memory.shared import record, transact
from secure_memory.vault import erasures, history, sessions
from secure_memory.vault.erasures import Erasure
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did. `already`: it had been done before, and this is what was said then. `items` are counts by kind;
    `withheld` says what is kept, by which law or matter and until when."""

    tenant: str
    kind: str
    already: bool
    sessions: int
    items: Mapping[str, int]
    withheld: Sequence[Mapping[str, Any]]
    certificate: Certificate
    left: int = 0
    """How many items of those that were withheld are left: the purge deletes them when it may."""

    @property
    def all_withheld(self) -> bool:
        """Whether nothing could be deleted yet: a hold or a law keeps all that there was, out of the agent's sight."""
        return self.left > 0 and not any(self.items.values())


@dataclass(frozen=True, slots=True)
class ErasureInfo:
    """An erasure, done or not: `stage` is how far it is (begun, keys, rows, files, done), `uid` what was erased, of its
    `kind`. `begun` is in microseconds; `certificate` is None until it is done."""

    tenant: str
    number: int
    kind: str
    uid: str
    stage: str
    begun: int
    actor: str
    reason: str | None
    items: int
    withheld: int
    certificate: Certificate | None


class Erasures(Facet):
    """The methods of a store that erase. `SecureStore` has the rest."""

    def subject_erase(self, subject: str, *, tenant: str = "default", reason: str | None = None) -> ErasureReport:
        """Erase a person: destroy her keys and those of all her sessions, delete what they sealed, certify it. What a hold
        or a law keeps is withheld, as the certificate says: no agent sees it any more, and the purge deletes it when it may.
        That can be all there is (`ErasureReport.all_withheld`). `reason` stands in the ledger and the certificate.

        Raises ConfigurationError where there is no such subject and never was, StoreBusyError, AccessDeniedError,
        IntegrityError. Where it was interrupted, run it again.
        """
        return self._erase("subject", subject, tenant, reason)

    def session_erase(self, session_id: str, *, tenant: str = "default", reason: str | None = None) -> ErasureReport:
        """Erase one conversation. As `subject_erase`; her other sessions, and her tokens, are left alone."""
        return self._erase("session", session_id, tenant, reason)

    def tenant_erase(self, name: str, *, reason: str | None = None) -> ErasureReport:
        """Erase a tenant: archive its ledger, destroy its keys, remove its file, certify it. Its name stays taken.

        Raises ConfigurationError where there is no such tenant, LegalHoldError and RetentionError where anything has to be
        kept, and otherwise as `subject_erase`.
        """
        shared, who = self._open(), self._asking(reason)
        with reserve.at_hand(shared.path):
            erasure, already = TenantErasure(shared, name, who).run()
        signed = certificate.parse(erasure.certificate or "")
        return ErasureReport(name, "tenant", already, erasure.figures["count"], erasure.items, (), signed)

    def subject_erased(self, *, tenant: str | None = None) -> list[ErasureInfo]:
        """The erasures of one tenant, or of all and of tenants themselves, in order; those among them that were interrupted,
        which are to be run again. It is an `audit.read` entry of each. Raises ConfigurationError, IntegrityError."""
        shared, who, found = self._open(), self._who(), []
        for one in audit.tenants(shared, tenant):
            record(one, {"action": "audit.read", "detail": {"list": "erasures"}}, who)
            with one.vault.database.snapshot() as execute:
                for erasure in erasures.every(execute, one.keys.ledger, one.keys.uid):
                    found.append(_info(one.keys.name, erasure, erasures.left(execute, erasure)))
        return found

    def subject_withheld(self, session: str, *, tenant: str = "default") -> list[Item]:
        """What was withheld of a session when it was erased, for who may export a subject's data. `session` is its uid, as
        the certificate says it. It is a `subject.export` entry. Raises ConfigurationError, AccessDeniedError,
        IntegrityError.
        """
        shared, who = self._open(), self._who()
        one = shared.existing_tenant(tenant)

        def work(tx: Transaction) -> tuple[SessionRow, list[history.ItemRow]]:
            kept = erasures.asked_for(tx.execute, one.keys.ledger, one.keys.uid)
            row = erasures.by_uid(tx.execute, bytes.fromhex(session)) if session in kept else None
            if row is None or erasures.is_stub(row):
                raise ConfigurationError(
                    f"tenant {tenant!r} withholds nothing of such a session", hint="the certificate says the uid of each"
                )
            sessions.check(one.keys.ledger, one.keys.uid, row)
            head = tx.head(row.branch).head
            link, rows = history.fetch(tx, row.branch, head, head.base_position)
            history.prove(rows, row.branch, head.base_position, link, head)
            told = {"subject": row.subject.hex(), "session": session, "items": len(rows)}
            tx.record({**told, "detail": {"withheld": True}}, session=row.id)
            return row, rows

        row, rows = transact(one, work, "subject.export", who)
        keys = withhold.keys_of(shared, one, row)
        return sdk_items.load_all(history.unsealed(rows, keys.key.aead, one.keys.uid, row.uid))

    def certificate_verify(self, path: str | os.PathLike[str]) -> Certificate:
        """The certificate of an erasure in that file, whose signature is right and this store's own. Raises
        ConfigurationError where it is none, TamperedError."""
        found = Certificate.read(path)
        found.check(certificate.public_key(self._open()))
        return found

    def _erase(self, kind: Kind, name: str, tenant: str, reason: str | None) -> ErasureReport:
        if not isinstance(name, str) or not name:
            raise ValueError(f"a {kind} to erase has a name")
        shared, who = self._open(), self._asking(reason)
        one = shared.existing_tenant(tenant)
        with reserve.at_hand(shared.path):
            erasure, already = SessionErasure(shared, one, kind, name, who).run()
        signed = certificate.parse(erasure.certificate or "")
        with one.vault.database.snapshot() as execute:
            left = erasures.left(execute, erasure)
        return ErasureReport(tenant, kind, already, len(erasure.sessions), erasure.items, erasure.withheld, signed, left)

    def _asking(self, reason: str | None) -> Actor | None:
        """Who asks, with the reason that was given for this."""
        who = self._who()
        return who if reason is None else replace(resolve(None, None, who) or program(), reason=reason)


def _info(tenant: str, erasure: Erasure, left: int) -> ErasureInfo:
    return ErasureInfo(
        tenant,
        erasure.id,
        erasure.kind,
        erasure.sessions[0] if erasure.kind == "session" else erasure.subject,
        erasure.stage,
        erasure.begun,
        erasure.actor,
        erasure.reason,
        sum(erasure.items.values()),
        left,
        None if erasure.certificate is None else certificate.parse(erasure.certificate),
    )
