"""A person's keys, replaced: everything about her is sealed anew.

1. In keys.db her new key is a version beside the old one, and so is each of her sessions', below it.
2. One transaction of the vault seals names, items and tokens of all of it anew.
3. In keys.db the new versions stand, and those before them are destroyed, while nobody can begin a session below the old.

As where a session is given to another subject (`particulars`), whatever dies in between leaves sessions that open, and
running it again goes on. Tokens in items stay what they are; the same text gets another token from now on.
"""

from __future__ import annotations

from typing import NamedTuple

from secure_memory.actor import Actor
from secure_memory.errors import StoreBusyError, TamperedError
from secure_memory.keys.key import Key
from secure_memory.keys.opened import SessionKeys
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.lifecycle.erasure import withhold
from secure_memory.lifecycle.erasure.erase import unknown
from secure_memory.particulars import resealing
from secure_memory.shared import SharedStore, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import branches, erasures, history, sessions, tokens
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.tokens import TokenRow
from secure_memory.vault.transaction import Transaction

ACTION = "key.rotate"


class Resealed(NamedTuple):
    """How many sessions and items were sealed anew, and the version of the subject's key."""

    sessions: int
    items: int
    version: int


def rotate_subject(shared: SharedStore, tenant: Tenant, name: str, actor: Actor | None) -> Resealed:
    """Replace the keys of that person. Raises ConfigurationError where nobody has the name, StoreBusyError where one of her
    sessions was given to somebody else meanwhile."""
    keyring, keys = shared.keyring, tenant.keys
    mac = keys.name_mac("subject", name)
    subject = keyring.subject(keys, mac)
    if subject is None:
        raise unknown(keys.name, "subject")
    transact(tenant, lambda tx: tx.record(_said(subject, "begun")), ACTION, actor)
    version = keyring.prepare_subject(keys, subject, mac)  # (1)
    known = keyring.subject_keys(keys, subject)
    with tenant.vault.database.snapshot() as execute:
        rows = _rows(tenant, erasures.of_subject(execute, subject))
    before = {row.uid: withhold.keys_of(shared, tenant, row) for row in rows}
    after = {row.uid: keyring.prepare_session(keys, row.uid, mac) for row in rows}

    def work(tx: Transaction) -> int:  # (2)
        items = sum(_reseal(tx, tenant, row, before[row.uid], after[row.uid]) for row in rows)
        _reseal_tokens(tx, tenant, subject, known)
        tx.record(_said(subject, "sealed"))
        return items

    items = transact(tenant, work, ACTION, actor)
    for made in after.values():  # (3)
        keyring.settle(made.uid, made.version)

    def settle(tx: Transaction) -> None:
        tx.record(_said(subject, "done"))
        known = {row.uid for row in erasures.of_subject(tx.execute, subject)}
        if not keyring.settle_subject(keys, subject, version, known):  # in here nobody can begin one
            raise StoreBusyError(f"tenant {keys.name!r}: a session began meanwhile", hint="rotate the keys again")

    transact(tenant, settle, ACTION, actor)
    return Resealed(len(rows), items, version)


def _rows(tenant: Tenant, rows: list[SessionRow]) -> list[SessionRow]:
    for row in rows:
        sessions.check(tenant.keys.ledger, tenant.keys.uid, row)
    return rows


def _reseal(tx: Transaction, tenant: Tenant, row: SessionRow, old: SessionKeys, new: SessionKeys) -> int:
    """Seal one session anew; returns how many items it has, in all branches."""
    keys = tenant.keys
    if not (sessions.unchanged(tx.execute, row) and tenant.store.keyring.stands(new.uid, "session", new.version)):
        raise StoreBusyError(
            f"tenant {keys.name!r}: a session was tagged, resealed or erased by someone else meanwhile",
            hint="rotate the keys again",
        )
    names = sessions.open_names(old.subject_key, keys.uid, row)
    sealed = sessions.seal_names(new.subject_key, keys.uid, row.uid, names)
    anew = sessions.update(tx.execute, keys.ledger, keys.uid, row._replace(key_version=new.version, sealed=sealed))
    said = {"key_version": new.version, "session_row": sessions.digest(anew)}
    count, make = 0, resealing(keys.uid, old, new, set())
    for one in branches.of_session(tx.execute, row.id):
        branches.check(keys.ledger, row.uid, one)
        name = branches.seal_name(new.subject_key, one.uid, branches.open_name(old.subject_key, one))
        branches.rename(tx.execute, keys.ledger, anew, one, name)
        known = tx.head(one.id)
        head, items = history.reseal(tx, one.id, known.head, make)
        detail = {**said, "deleted": True} if known.gone else said
        tx.record_write(
            {"items": items, "subject": row.subject.hex(), "detail": detail},
            branch=one.id,
            branch_uid=known.branch,
            head=head,
            session=row.id,
            uid=known.session,
        )
        count += items
    return count


def _reseal_tokens(tx: Transaction, tenant: Tenant, subject: bytes, keys: list[Key]) -> None:
    """Seal what the subject's tokens stand for under the first of these keys; each is under one of them."""
    uid = tenant.keys.uid
    for found in tx.execute("SELECT * FROM tokens WHERE subject = ?", (subject,)).fetchall():
        row = TokenRow(*found)
        original = _original(keys, uid, row)
        tx.execute("DELETE FROM tokens WHERE token = ? AND subject = ?", (row.token, subject))
        tokens.keep(tx.execute, keys[0], uid, subject, [original])


def _original(keys: list[Key], tenant: bytes, row: TokenRow) -> tokens.Original:
    for key in keys:
        try:
            return tokens.open_original(key, tenant, row)
        except TamperedError:
            continue
    raise TamperedError("what a token stands for does not open in its place", hint=VERIFY_HINT)


def _said(subject: bytes, stage: str) -> dict[str, object]:
    return {"subject": subject.hex(), "detail": {"what": "subject", "stage": stage}}
