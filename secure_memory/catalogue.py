"""Which conversations there are, and how a supervisor looks into one: what `secmem session` calls.

Names, tags and reasons are sealed under the subjects' keys, so they are looked through one session after the other: no index
of them outlives a key. Looking is itself an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from secure_memory import audit
from secure_memory.actor import Actor, program, resolve
from secure_memory.conversation import Conversation
from secure_memory.errors import ConfigurationError
from secure_memory.facet import Facet
from secure_memory.items import Item
from secure_memory.revealing import need_reason, unknown
from secure_memory.service import run_blocking
from secure_memory.shared import SharedStore, record, transact
from secure_memory.tenancy import Asker, Tenant
from secure_memory.vault import erasures, tokens
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.tokens import TokenRow
from secure_memory.vault.transaction import Transaction


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session. Times are in microseconds: `created` is when it began, wherever that was, `last_activity` the newest write
    to any branch. `items` and `turns` are those of its main branch. `name`, `subject`, tags and the rest of what was said of
    it are None or empty where their key is gone."""

    uid: str
    name: str | None
    subject: str | None
    created: int
    last_activity: int
    items: int
    turns: int
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    ended: int | None = None
    reason: str | None = None


class Catalogue(Facet):
    """The methods of a store that are about its conversations. `SecureStore` has the rest."""

    def sessions(
        self,
        *,
        tenant: str = "default",
        subject: str | None = None,
        tags: Mapping[str, str] | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[SessionInfo]:
        """The tenant's sessions that match everything given, the newest `limit` of them, the newest first; none that were
        erased.

        `subject` is whose they are; `tags` are tags that a session must have; its last activity is to be at `since` or
        later and before `until` (microseconds). It is an `audit.read` entry. Raises ConfigurationError, IntegrityError.
        """
        shared = self._open()
        one = shared.existing_tenant(tenant)
        record(one, {"action": "audit.read", "detail": {"list": "sessions"}}, self._who())
        owner = None
        if subject is not None:
            owner = shared.keyring.subject(one.keys, one.keys.name_mac("subject", subject))
            if owner is None:
                return []
        found: list[SessionInfo] = []
        with one.vault.database.snapshot() as execute:
            for columns in execute("SELECT * FROM sessions ORDER BY id DESC"):
                if limit is not None and len(found) >= limit:
                    break
                row = SessionRow(*columns)
                if erasures.is_stub(row) or (owner is not None and row.subject != owner):
                    continue
                info = _info(shared, one, execute, row)
                if (
                    (since is None or info.last_activity >= since)
                    and (until is None or info.last_activity < until)
                    and all(info.tags.get(name) == value for name, value in (tags or {}).items())
                ):
                    found.append(info)
        return found

    def session_show(self, session_id: str, *, tenant: str = "default", limit: int | None = None) -> list[Item]:
        """The items of a conversation, the newest `limit` of them. It is a `session.read` entry like any other read.

        Raises ConfigurationError where there is no such session, IntegrityError, AccessDeniedError.
        """
        return self._shown(session_id, tenant, limit, "session.read", self._who())

    def review(self, session_id: str, *, tenant: str = "default", purpose: str, limit: int | None = None) -> list[Item]:
        """The items of anyone's conversation, for a supervisor, who says for which purpose. It is a `session.review` entry,
        so that an auditor tells reviews from the reads of those who take part. Nothing can be changed by it.

        Raises ValueError where no purpose is given, and otherwise as `session_show`.
        """
        if not isinstance(purpose, str) or not purpose.strip():
            raise ValueError("a review needs a purpose")
        who = self._who()
        if who is None and not self._require_actor:
            who = program()
        who = None if who is None else replace(who, purpose=purpose)
        return self._shown(session_id, tenant, limit, "session.review", who)

    def reveal(self, token: str, *, tenant: str = "default") -> str:
        """What a token of this tenant stands for. It is a `session.reveal` entry, and wants the actor's reason.

        Raises ValueError where the tenant never issued such a token, AccessDeniedError where the actor may not or gives no
        reason, KeyDestroyedError where its subject was erased, IntegrityError.
        """
        shared, who = self._open(), self._who()
        one = shared.existing_tenant(tenant)

        def work(tx: Transaction) -> TokenRow:
            need_reason(resolve(None, None, who), f"tenant {tenant!r}")
            found = tokens.find(tx.execute, token)
            if not found:
                raise unknown(token)
            tx.record({"items": 1, "subject": found[-1].subject.hex(), "detail": {"token": token}})
            return found[-1]

        row = transact(one, work, "session.reveal", who)
        return tokens.open_original(shared.keyring.subject_key(one.keys, row.subject), one.keys.uid, row).text

    def _shown(self, session_id: str, tenant: str, limit: int | None, action: str, who: Actor | None) -> list[Item]:
        shared = self._open()
        one = shared.existing_tenant(tenant)
        conversation = Conversation(
            shared, session_id, tenant=tenant, subject=None, actor=None, require_actor=self._require_actor, cache=False
        )
        items = run_blocking(conversation.read(limit, Asker(who), action))
        if not items and shared.keyring.session(one.keys, one.keys.name_mac("session", session_id)) is None:
            raise ConfigurationError(
                f"tenant {tenant!r} has no such session", hint="`secmem session list` shows the sessions"
            )
        return items


def _info(shared: SharedStore, tenant: Tenant, execute: Callable[..., Any], row: SessionRow) -> SessionInfo:
    ledger = tenant.vault.ledger
    names = audit.names_of(shared, tenant, row)
    head = ledger.head(execute, row.branch).head
    newest = execute(
        "SELECT max(newest) FROM (SELECT (SELECT max(seq) FROM ledger WHERE ledger.branch = branches.id) AS newest"
        " FROM branches WHERE session = ?)",
        (row.id,),
    ).fetchone()[0]
    info = SessionInfo(
        row.uid.hex(),
        None,
        None,
        row.created,
        next(ledger.entries(execute, newest)).time,
        head.position - head.base_position,
        head.turn,
    )
    if names is None:
        return info
    return replace(
        info,
        name=names.session,
        subject=names.subject,
        tags=dict(names.tags),
        metadata=dict(names.metadata),
        ended=names.ended,
        reason=names.reason,
    )
