"""Erasing a person or a conversation: the keys are destroyed, the rows deleted, and a certificate says so.

1. **intent**: an entry and a row say what is to be erased; what a hold or a law keeps is moved under other keys
   (`withhold`).
2. **keys**: the keys of the subject and of every session are destroyed and listed beside the anchors: from here on it is
   erased, in every copy of the vault too.
3. **rows**: items, names and tokens are deleted in every branch; a stub stays (`vault.erasures`).
4. **files**: the WALs are truncated, and the files searched for bytes that stood in them (`searching`).
5. **done**: the certificate is signed, kept and recorded.

Each step is recorded in the transaction that ends it, so whoever dies is finished by running the erasure again; and a later
one of the same name, where nobody came back under it, is answered by the same certificate. A subject that returns has new
uids and keys. The store's methods are in `erasing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from secure_memory import clock
from secure_memory.actor import Actor, program, resolve
from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.keys.erasing import Held
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.lifecycle import records
from secure_memory.lifecycle.erasure import certificate, searching, traces, withhold
from secure_memory.shared import SharedStore, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import branches, erasures, history, sessions, tokens, wal
from secure_memory.vault.erasures import Erasure
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction

ACTION = "subject.erase"
Kind = Literal["subject", "session"]


class SessionErasure:
    """One erasure of a subject with all its sessions, or of one session, as it goes on."""

    def __init__(self, shared: SharedStore, tenant: Tenant, kind: Kind, name: str, actor: Actor | None) -> None:
        self._shared = shared
        self._tenant = tenant
        self._kind = kind
        self._name = name
        self._actor = actor
        self._mac = tenant.keys.name_mac(f"erased {kind}", name)
        self._known: Erasure | None = None

    def run(self) -> tuple[Erasure, bool]:
        """The erasure, done, and whether it had been before.

        Raises ConfigurationError where nobody has that name, StorageError, IntegrityError, AccessDeniedError.
        """
        erasure = self.intent()
        already = erasure.is_past("done")
        if not erasure.is_past("keys"):
            erasure = self.withheld(erasure)
        for stage, step in (("keys", self.keys), ("rows", self.rows), ("files", self.files), ("done", self.done)):
            if not erasure.is_past(stage):
                erasure = step(erasure)
        return erasure, already

    # ---- the steps ----------------------------------------------------------------------------------------------

    def intent(self) -> Erasure:
        """(1) The erasure to go on with, or the one that was done, or a new one."""
        keys = self._tenant.keys
        subject, held = self._found()
        who = resolve(None, None, self._actor) or program()

        def work(tx: Transaction) -> Erasure:
            known = erasures.newest(tx.execute, keys.ledger, keys.uid, self._mac)
            if known is not None and not known.is_past("done"):
                tx.record({"subject": known.subject, "detail": {"erasure": known.id, "resumed": known.stage}})
                return known
            rows = self._rows(tx.execute, subject)
            if not rows and subject is None:
                if known is None:
                    raise unknown(keys.name, self._kind)
                tx.record({"subject": known.subject, "detail": {"erasure": known.id, "already": True}})
                return known
            asked = clock.now()
            about, uids = subject or rows[0].subject, [row.uid.hex() for row in rows]
            new = Erasure(0, self._kind, about.hex(), uids, asked, who.id, reason=who.reason)
            new = self._put(tx, replace(new, traces=traces.noted(traces.gather(tx, rows, held))))
            tx.record({"subject": new.subject, "detail": {"erasure": new.id, "stage": new.stage, "sessions": len(rows)}})
            return new

        self._known = transact(self._tenant, work, ACTION, self._actor)
        return self._known

    def withheld(self, erasure: Erasure) -> Erasure:
        """(1) Of each session, in one transaction, what is kept goes under other keys, and the rest goes."""
        for row in self._left(erasure):
            erasure = self._withhold_one(row, erasure)
        return erasure

    def keys(self, erasure: Erasure) -> Erasure:
        """(2) No key opens it any more."""
        keyring = self._shared.keyring
        owners = [bytes.fromhex(uid) for uid in erasure.sessions]
        if self._kind == "subject":
            owners.append(bytes.fromhex(erasure.subject))
            self._settle_moved(erasure)
            done = keyring.erase(subject=owners[-1])
        else:
            with self._tenant.vault.database.snapshot() as execute:
                row = erasures.by_uid(execute, owners[0])
            done = keyring.erase(session=owners[0], below=row.key_version if row is not None and erasure.kept else None)
        stones = {stone[:3]: stone for stone in (*keyring.buried(owners), *done.tombstones)}
        keys = [certificate.key_of(stone) for stone in stones.values()]
        erasure = replace(erasure, stage="keys", keys=keys, listed=done.listed)
        return self._move(erasure, {"keys": len(keys), "listed": done.listed}, action="key.destroy")

    def rows(self, erasure: Erasure) -> Erasure:
        """(3) One transaction a session, until none is left: one may have begun after the intent."""
        while True:
            before = erasure
            erasure = self._step(partial(self._empty_next, erasure=before))
            if erasure is before:
                return self._move(replace(erasure, stage="rows"), {"items": sum(erasure.items.values())})

    def files(self, erasure: Erasure) -> Erasure:
        """(4) Nothing of it stands in the files."""
        keyring = self._shared.keyring
        for uid in (bytes.fromhex(uid) for uid in erasure.sessions if uid not in erasure.kept):
            if keyring.held(session=uid):  # a version that was prepared for another subject, and never used
                keyring.erase(session=uid)
        wal.truncate(self._tenant.vault.database)
        searched = search(self._shared, self._tenant, traces.from_note(erasure.traces))
        return self._move(replace(erasure, stage="files", traces=(), searched=searched), {"searched": searched})

    def done(self, erasure: Erasure) -> Erasure:
        """(5) The certificate, and the entry that has its digest."""
        with self._tenant.vault.database.snapshot() as execute:
            uids = [erasure.subject] if erasure.kind == "subject" else erasure.sessions
            archives = records.archives_of(execute, self._tenant, uids)
        erasure = replace(erasure, archives=archives)
        signed = certificate.of_erasure(self._shared, self._tenant, erasure)
        erasure = replace(erasure, stage="done", certificate=signed.to_json())
        return self._move(erasure, {"certificate": signed.digest})

    # ---- how ----------------------------------------------------------------------------------------------------

    def _found(self) -> tuple[bytes | None, list[Held]]:
        """Whose name it is, and the rows of the keys that will go."""
        keyring, keys = self._shared.keyring, self._tenant.keys
        subject = keyring.subject(keys, keys.name_mac("subject", self._name)) if self._kind == "subject" else None
        if subject is not None:
            return subject, keyring.held(subject=subject)
        with self._tenant.vault.database.snapshot() as execute:
            rows = self._rows(execute, subject)
        return None, [key for row in rows for key in keyring.held(session=row.uid)]

    def _rows(self, execute: Any, subject: bytes | None) -> list[SessionRow]:
        """The rows of what has the name, checked."""
        if self._kind == "session":
            row = sessions.find(execute, self._tenant.keys.name_mac("session", self._name))
            found = [] if row is None else [row]
        else:
            found = [] if subject is None else erasures.of_subject(execute, subject)
        for row in found:
            sessions.check(self._tenant.keys.ledger, self._tenant.keys.uid, row)
        return found

    def _left(self, erasure: Erasure) -> list[SessionRow]:
        """The rows of the sessions that are neither emptied nor kept."""
        with self._tenant.vault.database.snapshot() as execute:
            return self._not_kept(execute, erasure)

    def _not_kept(self, execute: Any, erasure: Erasure) -> list[SessionRow]:
        rows = self._rows(execute, bytes.fromhex(erasure.subject))
        named = [row for row in rows if self._kind == "subject" or row.uid.hex() in erasure.sessions]
        return [row for row in named if row.uid.hex() not in erasure.kept]

    def _withhold_one(self, row: SessionRow, erasure: Erasure) -> Erasure:
        keys, keyring = self._tenant.keys, self._shared.keyring
        old = withhold.keys_of(self._shared, self._tenant, row)

        def weigh(tx: Transaction) -> withhold.Weighed:
            return withhold.weigh(tx, self._tenant, row, old, erasure.begun)

        if not transact(self._tenant, weigh, ACTION, self._actor).kept:
            return erasure
        name = keys.name_mac("withheld session", row.uid.hex())
        nobody = keys.name_mac("withheld by erasure", f"{erasure.id} {erasure.subject}")
        new = keyring.prepare_session(keys, row.uid, nobody, name)

        def work(tx: Transaction) -> Erasure:
            kept = weigh(tx).kept  # something may have come since
            deleted = Counter(erasure.items) + Counter(_kinds(tx, row)) - Counter(item.kind for item, _ in kept)
            withhold.move(tx, self._tenant, row, kept, old, new, name, erasure.subject)
            said = [*erasure.withheld, *withhold.said_of(row, kept)]
            return self._put(tx, replace(erasure, items=dict(deleted), kept=[*erasure.kept, row.uid.hex()], withheld=said))

        return self._step(work)

    def _settle_moved(self, erasure: Erasure) -> None:
        """Let the keys stand of sessions that went to another subject, where whoever moved them died before."""
        for key in self._shared.keyring.held(subject=bytes.fromhex(erasure.subject)):
            if key.purpose == "session":
                with self._tenant.vault.database.snapshot() as execute:
                    row = erasures.by_uid(execute, key.owner)
                if row is not None and row.subject.hex() != erasure.subject and row.key_version > key.version:
                    self._shared.keyring.settle(row.uid, row.key_version)

    def _empty_next(self, tx: Transaction, erasure: Erasure) -> Erasure:
        """Empty the next session, or delete the tokens; the erasure itself where nothing is left."""
        keys = self._tenant.keys
        left = self._not_kept(tx.execute, erasure)
        if left:
            row = left[0]
            items = dict(Counter(erasure.items) + Counter(_kinds(tx, row)))
            erasures.empty(tx, keys.ledger, keys.uid, row, action=ACTION, subject=erasure.subject)
            uids = [*erasure.sessions, *({row.uid.hex()} - set(erasure.sessions))]
            return self._put(tx, replace(erasure, sessions=uids, items=items))
        if self._kind == "session":
            return erasure  # tokens are the subject's, and her other sessions may have the same
        subject = bytes.fromhex(erasure.subject)
        live_on = tokens.elsewhere(tx.execute, subject)
        gone = tokens.drop(tx.execute, subject)
        return self._put(tx, replace(erasure, tokens=erasure.tokens + gone - live_on)) if gone else erasure

    def _move(self, erasure: Erasure, detail: Mapping[str, Any], action: str = ACTION) -> Erasure:
        """Keep how far the erasure is, with an entry."""
        session = erasure.sessions[0] if self._kind == "session" else None

        def work(tx: Transaction) -> Erasure:
            moved = self._put(tx, erasure)
            told = {"erasure": moved.id, "stage": moved.stage, **detail}
            tx.record({"action": action, "subject": moved.subject, "session": session, "detail": told})
            return moved

        return self._step(work)

    def _step(self, work: Callable[[Transaction], Erasure]) -> Erasure:
        """The erasure as `work` leaves it. Raises StoreBusyError where somebody else goes on with it meanwhile."""
        keys = self._tenant.keys

        def alone(tx: Transaction) -> Erasure:
            erasures.refuse_other(tx.execute, keys.ledger, keys.uid, self._mac, self._known)
            return work(tx)

        self._known = transact(self._tenant, alone, ACTION, self._actor)
        return self._known

    def _put(self, tx: Transaction, erasure: Erasure) -> Erasure:
        return erasures.put(tx.execute, self._tenant.keys.ledger, self._tenant.keys.uid, self._mac, erasure)


def search(shared: SharedStore, tenant: Tenant, pieces: Sequence[bytes]) -> dict[str, int]:
    """Search the tenant's file and keys.db for the pieces; returns how many pages and pieces that were.

    Raises TamperedError where one is still there, StorageError.
    """
    vault, keys = tenant.vault.database, shared.path_of_keys
    if vault.identity.path is None or keys is None:
        return {"traces": len(pieces), "pages": 0}
    found = searching.search([(vault.identity.path, vault.key.bytes), (keys, shared.keyring.file_key())], pieces)
    if found.found:
        raise TamperedError(
            f"tenant {tenant.keys.name!r}: {len(found.found)} of {len(pieces)} erased pieces still stand in its files",
            hint=VERIFY_HINT,
        )
    return {"traces": len(pieces), "pages": found.pages}


def unknown(tenant: str, kind: str) -> ConfigurationError:
    """What is raised where nobody has the name that was to be erased."""
    return ConfigurationError(
        f"tenant {tenant!r} has no such {kind}, and none of that name was erased",
        hint="names are exact; `secmem session list` shows the sessions and whose they are",
    )


def _kinds(tx: Transaction, row: SessionRow) -> dict[str, int]:
    """How many items of each kind the session has; one that stands in several branches is one."""
    found: dict[bytes, str] = {}
    for branch in branches.of_session(tx.execute, row.id):
        span = branch.id * history.SPAN, (branch.id + 1) * history.SPAN
        found.update(tx.execute("SELECT uid, kind FROM items WHERE id >= ? AND id < ?", span).fetchall())
    return dict(Counter(found.values()))
