"""What a conversation is, besides what was said in it: its tags and metadata, whose it is, that it ended.

- All of it is sealed in the session's row, under the subject's key; an entry says that it changed, never to what.
- A session that is assigned to another subject is sealed anew: every item, under a new session key below the new subject's.
  1. The new key is made in keys.db, beside the old one, which stands.
  2. One transaction of the vault reseals the items of every branch and lets the row name the new key's version.
  3. In keys.db the new key stands, and the old one is destroyed.
  Tokens go along: their originals are sealed anew for the new subject, and go with the old one's last session.
  Whatever dies in between leaves a session that opens: before (2) nothing has happened, and after it whoever opens the
  session next does (3), since the row names the version (see `Keyring.session`).
- Of two who assign one session at once, one is refused: the row's version only grows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from secure_memory import clock
from secure_memory.accounting import Accounting
from secure_memory.errors import StoreBusyError
from secure_memory.keys.opened import SessionKeys
from secure_memory.service import Spot, erased
from secure_memory.tenancy import Asker, Opened, not_begun
from secure_memory.vault import branches, history, seal, sessions, tokens
from secure_memory.vault.commits import Operation
from secure_memory.vault.history import ItemRow
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.transaction import Transaction


class Particulars(Accounting):
    """One session of one tenant, with what it is besides its items."""

    async def names(self, asker: Asker) -> Names:
        """What the session is called, tagged with and noted of; whether it ended. Empty where it has not begun."""
        return await self._perform(lambda opened: self._names(opened, asker), create=False)

    async def describe(self, change: Callable[[Names], Names], asker: Asker) -> None:
        """Change tags or metadata; the session begins with it where it has not begun. Raises LegalHoldError where that would
        take it out of a hold."""
        await self._perform(lambda opened: self._change(opened, change, "session.tag", asker), create=True)

    async def end(self, reason: str | None, asker: Asker) -> None:
        """Say that the conversation has ended, and why. Raises ConfigurationError where it has not begun."""
        now = clock.now()

        def ended(names: Names) -> Names:
            return names._replace(ended=now, reason=reason)

        await self._perform(lambda opened: self._change(opened, ended, "session.end", asker), create=False)

    async def assign(self, subject: str, asker: Asker) -> None:
        """Let the session belong to another subject; returns when the old key is destroyed.

        Raises ConfigurationError where it has not begun, StoreBusyError where someone else assigns it meanwhile,
        LegalHoldError where that would take it out of a hold.
        """
        made = await self._aside(self._door.prepare, subject)
        await self._perform(lambda opened: self._assign(opened, made, subject, asker), create=False)
        await self._aside(self._door.settle, made)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _names(self, opened: Opened, asker: Asker) -> Operation[Any, Names]:
        def run(tx: Transaction) -> Names:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None or opened.keys is None:
                self._record_unknown(tx, opened)
                return Names(self.name, self.subject or self.name)
            tx.record({"items": 0, "detail": {"list": "particulars"}}, session=row.id)
            return sessions.open_names(opened.keys.subject_key, opened.tenant.keys.uid, row)

        return Operation(
            run, lambda names: names, opened.policy.durable_reads, self._door.fields("session.read", opened, asker)
        )

    def _change(self, opened: Opened, change: Callable[[Names], Names], action: str, asker: Asker) -> Operation[Any, None]:
        tenant, keys = opened.tenant.keys, opened.keys

        def run(tx: Transaction) -> SessionRow:
            if keys is None:
                raise not_begun(self.tenant)
            row = self._enter(tx, opened, asker, action)
            if row is None:
                if action == "session.end":
                    raise not_begun(self.tenant)
                row = self._begin(tx, opened.tenant, keys)
            before = sessions.open_names(keys.subject_key, tenant.uid, row)
            names = change(before)
            self._refuse_escape(tx, opened, row, before, row, names)
            sealed = sessions.seal_names(keys.subject_key, tenant.uid, row.uid, names)
            row = sessions.update(tx.execute, tenant.ledger, tenant.uid, row._replace(sealed=sealed))
            tx.record({"detail": {"session_row": sessions.digest(row)}}, session=row.id)
            return row

        def finish(row: SessionRow) -> None:
            self._row = row

        return Operation(run, finish, True, self._door.fields(action, opened, asker))

    def _assign(self, opened: Opened, made: SessionKeys, subject: str, asker: Asker) -> Operation[Any, None]:
        tenant, keys = opened.tenant.keys, opened.keys

        def run(tx: Transaction) -> SessionRow:
            row = self._enter(tx, opened, asker, "session.assign")
            if row is None or keys is None:
                raise not_begun(self.tenant)
            if row.uid != made.uid or row.key_version >= made.version:
                raise StoreBusyError(
                    f"tenant {self.tenant!r}: the session was assigned by someone else meanwhile",
                    hint="see whose it is now, then try again",
                )
            if not opened.tenant.store.keyring.stands(made.uid, "session", made.version):
                raise erased(self.tenant)  # the subject that it was to belong to was, meanwhile
            before = sessions.open_names(keys.subject_key, tenant.uid, row)
            names = before._replace(subject=subject)
            sealed = sessions.seal_names(made.subject_key, tenant.uid, row.uid, names)
            new = row._replace(subject=made.subject, key_version=made.version, sealed=sealed)
            self._refuse_escape(tx, opened, row, before, new, names)
            new = sessions.update(tx.execute, tenant.ledger, tenant.uid, new)
            said = {"to": made.subject.hex(), "key_version": made.version, "session_row": sessions.digest(new)}
            named: set[str] = set()
            anew = resealing(tenant.uid, keys, made, named)
            for one in branches.of_session(tx.execute, row.id):
                branches.check(tenant.ledger, row.uid, one)
                name = branches.seal_name(made.subject_key, one.uid, branches.open_name(keys.subject_key, one))
                branches.rename(tx.execute, tenant.ledger, new, one, name)
                spot = self._spot(tx, row, one.id)
                if spot.id == one.id:  # else it is gone, and has no items
                    head, count = history.reseal(tx, one.id, spot.head, anew)
                    self._record_write(tx, new, Spot(one.id, spot.uid, head), count, detail=said)
            originals = [
                tokens.open_original(keys.subject_key, tenant.uid, found)
                for token in sorted(named)
                for found in tokens.find(tx.execute, token)
                if found.subject == keys.subject
            ]
            tokens.keep(tx.execute, made.subject_key, tenant.uid, made.subject, originals)
            if tx.execute("SELECT 1 FROM sessions WHERE subject = ? LIMIT 1", (keys.subject,)).fetchone() is None:
                tokens.drop(
                    tx.execute, keys.subject
                )  # the last session of theirs has gone: so does what its tokens stand for
            return new

        def finish(row: SessionRow) -> None:
            self._row, self.subject = row, subject
            self._door.moved(subject)

        return Operation(run, finish, True, self._door.fields("session.assign", opened, asker))


def resealing(
    tenant: bytes, old: SessionKeys, new: SessionKeys, named: set[str]
) -> Callable[[ItemRow], tuple[bytes, bytes]]:
    """What makes of an item a new uid and its sealed bytes under the new key; the same for each copy of it in branches.

    What may be a token in an item's text is added to `named`.
    """
    known: dict[bytes, tuple[bytes, bytes]] = {}

    def anew(row: ItemRow) -> tuple[bytes, bytes]:
        if row.uid not in known:
            (text,) = history.unsealed([row], old.key.aead, tenant, old.uid)
            named.update(tokens.named_in(text))
            place = Place(tenant, new.uid, os.urandom(16), row.kind, row.role, row.tool, row.created)
            sealed = seal.seal(new.key.aead, new.version, os.urandom(12), place, text, row.sealed[0])  # redacted stays so
            known[row.uid] = place.uid, sealed
        return known[row.uid]

    return anew


def updated(old: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The old values and the new ones above them; None takes one away."""
    return {name: value for name, value in {**old, **values}.items() if value is not None}
