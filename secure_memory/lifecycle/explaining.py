"""What happens to a conversation, when, why, and by which rule and law: `secmem policy explain --session`.

It is decided by what a purge decides with (`surveying`), so that the explanation is what the purge would do now. Items of
one fate are told together. Nothing is changed, and no content is opened but what tells which items belong together; that
somebody asked is a `retention.plan` entry. `SecureStore` has its method from `Explaining`.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_memory import clock
from secure_memory.errors import ConfigurationError
from secure_memory.facet import Facet
from secure_memory.lifecycle.purge.fates import Fate, Known
from secure_memory.lifecycle.purge.surveying import Survey
from secure_memory.policy.retention import Cited
from secure_memory.shared import transact
from secure_memory.vault import erasures, holds, sessions
from secure_memory.vault.holds import Hold
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ItemsExplained:
    """Items of one kind and one fate: `items` of them, made from `first` to `last`. `done` is what a purge would do to them
    now; `action` what happens at `at`, as far as that is known. `why` is one sentence, `rules` are those that decide, with
    their laws, `matters` the holds. Times are in microseconds."""

    kind: str
    items: int
    first: int
    last: int
    state: str
    action: str | None
    at: int | None
    done: str | None
    why: str
    rules: tuple[Cited, ...]
    matters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionExplained:
    """What happens to a conversation, by the policy in force, as of a time in microseconds."""

    session: str
    tenant: str
    policy: str
    sha256: str
    as_of: int
    items: tuple[ItemsExplained, ...]


class Explaining(Facet):
    """The method of a store that explains a conversation's fate. `SecureStore` has the rest."""

    def policy_explain(self, session_id: str, *, tenant: str = "default", as_of: int | None = None) -> SessionExplained:
        """What the policy in force does with each item of a conversation, as of now or a time in microseconds, with the
        holds and erasure requests that there are. It is a `retention.plan` entry.

        Raises ConfigurationError where there is no such session, AccessDeniedError, IntegrityError.
        """
        shared = self._open()
        one = shared.existing_tenant(tenant)
        keys, now = one.keys, clock.now() if as_of is None else as_of

        def work(tx: Transaction) -> tuple[SessionRow, list[Hold], dict[str, int]]:
            row = sessions.find(tx.execute, keys.name_mac("session", session_id))
            if row is None or erasures.is_stub(row):
                raise ConfigurationError(
                    f"tenant {tenant!r} has no such session", hint="`secmem session list` shows the sessions"
                )
            sessions.check(keys.ledger, keys.uid, row)
            tx.record({"session": row.uid.hex(), "subject": row.subject.hex(), "detail": {"explained": True}})
            held = holds.active(tx.execute, tx.control, keys.ledger, keys.uid)
            return row, held, erasures.asked_for(tx.execute, keys.ledger, keys.uid)

        row, held, asked = transact(one, work, "retention.plan", self._who())
        policy = shared.policy
        survey = Survey(one, policy.policy, now, asked)
        with one.vault.database.snapshot() as execute:
            unit = survey.unit(execute, Known(one, row), held, exact=True)
        return SessionExplained(session_id, tenant, policy.policy.metadata.name, policy.digest, now, _together(unit.fates))


def _together(fates: list[Fate]) -> tuple[ItemsExplained, ...]:
    """Items of one fate together, in the order in which they were made."""
    groups: dict[object, list[Fate]] = {}
    for fate in sorted(fates, key=lambda fate: fate.found.created):
        outcome = fate.outcome
        groups.setdefault(
            (fate.found.kind, fate.done, outcome.state, outcome.action, outcome.rules, outcome.matters), []
        ).append(fate)
    return tuple(_told(group) for group in groups.values())


def _told(group: list[Fate]) -> ItemsExplained:
    """`at` and `why` are the first item's, whose day comes first."""
    first, outcome = group[0], group[0].outcome
    why = f"{outcome.why}; it stays with what it belongs to" if first.paired else outcome.why
    return ItemsExplained(
        first.found.kind,
        sum(fate.found.size for fate in group),
        first.found.created,
        group[-1].found.created,
        outcome.state,
        outcome.action,
        outcome.at,
        first.done,
        why,
        outcome.rules,
        outcome.matters,
    )
