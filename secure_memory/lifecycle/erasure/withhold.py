"""What an erasure may not delete yet, since a hold or a law keeps it: sealed anew, out of everybody's sight but one role's.

- What is kept moves, in one transaction a session and before any key is destroyed, below a new session key of a subject that
  nobody is called. The rest of the session is deleted in the same transaction. Then the old keys can go, and with them every
  copy of what was sealed under them: backups of the vault as well.
- The session can't be found by its name any more, and its names are gone; it keeps the subject's uid, by which holds cover
  it, and its tags, by which rules do. The purge deletes it when it may.
- Where everything is kept, everything moves: the request was made, no agent sees anything of it any more, and only the
  reason that the certificate states keeps it.

Called by `lifecycle.erasure.erase`; whoever may export a subject's data may read it (`Erasures.subject_withheld`).
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory import items as sdk_items
from secure_memory.errors import KeyNotFoundError, LegalHoldError, RetentionError
from secure_memory.keys.opened import SessionKeys
from secure_memory.policy import retention
from secure_memory.policy.retention import Facts, Outcome
from secure_memory.shared import SharedStore
from secure_memory.tenancy import Tenant
from secure_memory.vault import activity, branches, erasures, history, holds, seal, sessions, tokens
from secure_memory.vault.history import ItemRow, NewItem
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.transaction import Transaction

ERASED = "(erased)"
"""What a subject is called whose name is gone."""


class Weighed(NamedTuple):
    """A session's items: those that are kept, with why, in the order of their making; and how many are not."""

    kept: list[tuple[ItemRow, Outcome]]
    free: int


def keys_of(shared: SharedStore, tenant: Tenant, row: SessionRow) -> SessionKeys:
    """The session's keys. Raises KeyManagementError."""
    keys = shared.keyring.session(tenant.keys, row.name, row.key_version)
    if keys is None:
        raise KeyNotFoundError(
            f"tenant {tenant.keys.name!r}: the keyring has no key for session {row.uid.hex()}",
            hint="is keys.db an older copy than the vault? restore its newest backup",
        )
    return keys


def weigh(tx: Transaction, tenant: Tenant, row: SessionRow, keys: SessionKeys | None, asked: int) -> Weighed:
    """What an erasure that was asked for at `asked` (microseconds) finds in the session. Raises TamperedError."""
    policy = tenant.store.policy.policy
    about = [
        hold
        for hold in holds.active(tx.execute, tx.control, tenant.keys.ledger, tenant.keys.uid)
        if hold.session in (None, row.uid.hex())
    ]
    if keys is None or (not about and not tenant.store.policy.has_floors(tenant.keys.name)):
        return Weighed([], 1)  # whether it has items makes no difference then
    names = sessions.open_names(keys.subject_key, tenant.keys.uid, row)
    about = [hold for hold in about if hold.covers_session(row.uid.hex(), row.subject.hex(), names.tags)]
    newest = activity.last_append(tx.execute, tenant.vault.ledger, row.id)
    now = max(clock.now(), asked)  # whoever resumes it may have a clock that is behind
    kept: list[tuple[ItemRow, Outcome]] = []
    free = 0
    for item in _unique(tx, row):
        facts = Facts(
            kind=item.kind,
            role=item.role,
            tool=item.tool,
            tenant=tenant.keys.name,
            tags=names.tags,
            created=item.created,
            session_created=row.created,
            last_activity=newest,
            ended=names.ended,
            holds=tuple(hold.matter for hold in about if hold.covers_time(item.created)),
            erasure=asked,
        )
        outcome = retention.resolve(policy.retention, facts, now, policy.metadata.jurisdiction)
        if outcome.state == "due":
            free += 1
        else:
            kept.append((item, outcome))
    return Weighed(kept, free)


def _unique(tx: Transaction, row: SessionRow) -> list[ItemRow]:
    """The session's items in the order of their making, one that stands in several branches once."""
    found: dict[bytes, ItemRow] = {}
    for branch in branches.of_session(tx.execute, row.id):
        for item in history.rows(tx.execute, branch.id):
            found.setdefault(item.uid, item)
    return sorted(found.values(), key=lambda item: (item.created, item.id))


def refuse_kept(tenant: str, found: list[Weighed]) -> None:
    """Raise LegalHoldError or RetentionError where anything may not be deleted: a tenant goes whole or not at all."""
    reasons = _reasons([outcome for one in found for _, outcome in one.kept])
    if not reasons:
        return
    told = "; ".join(f"{count} {'item' if count == 1 else 'items'} {one.words()}" for one, (count, _) in reasons)
    message = f"tenant {tenant!r}: nothing may be erased yet, since something has to be kept: {told}"
    if any(one.state == "held" for one, _ in reasons):
        raise LegalHoldError(message, hint="`secmem hold list` shows the holds; erase again when they are released")
    raise RetentionError(message, hint="`secmem policy explain` shows the rule; erase again when its time has passed")


class _Reason(NamedTuple):
    """Why items are kept: the state of their outcome, by which rules (with their law), for which matters."""

    state: str
    rules: tuple[str, ...]
    matters: tuple[str, ...]

    def words(self) -> str:
        """For whoever asked."""
        if self.state == "held":
            return f"held for matter {', '.join(self.matters)}"
        return f"kept by {', '.join(self.rules)}"


def _reasons(outcomes: list[Outcome]) -> list[tuple[_Reason, tuple[int, int | None]]]:
    """Each reason, how many items it keeps, and until when it keeps the last of them (microseconds; None: nobody knows)."""
    found: dict[_Reason, list[int | None]] = {}
    for outcome in outcomes:
        rules = tuple(f"{rule.id}: {rule.law}" if rule.law else rule.id for rule in outcome.rules)
        until = None if outcome.state == "held" else outcome.keep_until
        found.setdefault(_Reason(outcome.state, rules, outcome.matters), []).append(until)
    return [
        (reason, (len(times), None if None in times else max(time for time in times if time is not None)))
        for reason, times in sorted(found.items())
    ]


def said_of(row: SessionRow, kept: list[tuple[ItemRow, Outcome]]) -> list[dict[str, Any]]:
    """What the certificate says of the items that are kept: one record for each reason, with the day of its last item."""
    return [
        {
            "session": row.uid.hex(),
            "why": reason.state,
            "rules": list(reason.rules),
            "matters": list(reason.matters),
            "until": None if until is None else clock.rfc3339(until),
            "items": count,
        }
        for reason, (count, until) in _reasons([outcome for _, outcome in kept])
    ]


def move(
    tx: Transaction,
    tenant: Tenant,
    row: SessionRow,
    kept: list[tuple[ItemRow, Outcome]],
    old: SessionKeys,
    new: SessionKeys,
    name: bytes,
    subject: str,
) -> None:
    """Delete the session's items in every branch, and put those that are kept back, sealed under the `new` keys.

    The whole session is proven first; it is found by `name` from now on. Raises TamperedError.
    """
    keys = tenant.keys
    for branch in branches.of_session(tx.execute, row.id):
        head = tx.head(branch.id).head
        history.prove(history.rows(tx.execute, branch.id), branch.id, head.base_position, head.base_link, head)
    named: set[str] = set()
    sealed = [_sealed(tenant, item, old, new, named) for item, _ in kept]
    _keep_tokens(tx, tenant, row, old, new, named)
    names = sessions.open_names(old.subject_key, keys.uid, row)
    said = Names(f"withheld {row.uid.hex()[:8]}", ERASED, names.tags, {}, names.ended)
    said_sealed = sessions.seal_names(new.subject_key, keys.uid, row.uid, said)
    anew = row._replace(name=name, key_version=new.version, sealed=said_sealed)
    anew = erasures.hide(tx, keys.ledger, keys.uid, anew, lambda uid: branches.seal_name(new.subject_key, uid, ERASED))
    erasures.clear(
        tx, keys.ledger, anew, action="subject.erase", subject=subject, detail={"session_row": sessions.digest(anew)}
    )
    main = tx.head(row.branch)
    head, _ = history.append(tx, row.branch, main.head, sealed)
    tx.record_write(
        {"action": "session.withhold", "subject": subject, "items": len(sealed)},
        branch=row.branch,
        branch_uid=main.branch,
        head=head,
        session=row.id,
        uid=row.uid.hex(),
    )


def _keep_tokens(
    tx: Transaction, tenant: Tenant, row: SessionRow, old: SessionKeys, new: SessionKeys, named: set[str]
) -> None:
    """What tokens in kept items stand for is kept with them, under the new keys: it was said, and the reason keeps it."""
    uid, execute = tenant.keys.uid, tx.execute
    found = [one for token in sorted(named) for one in tokens.find(execute, token) if one.subject == old.subject]
    originals = [tokens.open_original(old.subject_key, uid, one) for one in found]
    tokens.keep(execute, new.subject_key, uid, new.subject, originals)
    if old.subject != row.subject:  # it was withheld before, by the erasure of this session alone
        tokens.drop(execute, old.subject)


def _sealed(tenant: Tenant, item: ItemRow, old: SessionKeys, new: SessionKeys, named: set[str]) -> NewItem:
    (text,) = history.unsealed([item], old.key.aead, tenant.keys.uid, old.uid)
    named.update(tokens.named_in(text))
    place = Place(tenant.keys.uid, new.uid, os.urandom(16), item.kind, item.role, item.tool, item.created)
    sealed = seal.seal(new.key.aead, new.version, os.urandom(12), place, text, item.sealed[0])
    return NewItem(place, sdk_items.starts_turn(sdk_items.load(text)), sealed)
