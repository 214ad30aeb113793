"""What a tenant's vault has about one subject, besides what was said: sessions, usage, accesses; each checked as it is read.

Called by `subject_export`, which has recorded that it asks; `erase` asks for the archives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from secure_memory import audit, clock
from secure_memory.ledger.entry import Entry
from secure_memory.shared import SharedStore
from secure_memory.tenancy import Tenant
from secure_memory.vault import branches, erasures, usage
from secure_memory.vault.sessions import Names, SessionRow
from secure_memory.vault.usage import Owner, UsageRow


def archives_of(execute: Callable[..., Any], tenant: Tenant, uids: Sequence[str]) -> list[str]:
    """The names of the archives that purges wrote of these subjects or sessions, as far as the ledger's entries go back.

    Raises TamperedError.
    """
    like = "SELECT seq FROM ledger WHERE instr(entry, ?) AND instr(entry, ?) ORDER BY seq"
    found: set[str] = set()
    for uid in uids:
        for (seq,) in execute(like, (b'"archives":', uid.encode())).fetchall():
            for entry in tenant.vault.ledger.entries(execute, seq, seq + 1):
                if entry.action == "retention.purge" and uid in (entry.subject, entry.session):
                    found.update(entry.detail["archives"])
    return sorted(found)


class Records:
    """The records about the subject with this uid."""

    def __init__(self, shared: SharedStore, tenant: Tenant, subject: bytes) -> None:
        self._shared = shared
        self._tenant = tenant
        self._subject = subject
        with tenant.vault.database.snapshot() as execute:
            self._rows = erasures.of_subject(execute, subject)
        self._names = {
            row.uid.hex(): found for row in self._rows if (found := audit.names_of(shared, tenant, row)) is not None
        }

    @property
    def count(self) -> int:
        """How many sessions the subject has."""
        return len(self._names)

    def sessions(self) -> Iterator[tuple[Names, dict[str, Any]]]:
        """The names of each session, and what is said of it as JSON; the oldest first."""
        for row in self._rows:
            names = self._names.get(row.uid.hex())
            if names is None:
                continue  # it was erased this moment
            about = {
                "session": names.session,
                "uid": row.uid.hex(),
                "created": clock.rfc3339(row.created),
                "ended": None if names.ended is None else clock.rfc3339(names.ended),
                "reason": names.reason,
                "tags": dict(names.tags),
                "metadata": dict(names.metadata),
            }
            yield names, about

    def archives(self) -> list[str]:
        """The names of the archives that have something of the subject. Raises TamperedError."""
        with self._tenant.vault.database.snapshot() as execute:
            return archives_of(execute, self._tenant, [self._subject.hex()])

    def usage(self) -> Iterator[dict[str, Any]]:
        """Every row of usage of the sessions, in turns that are gone too. Raises TamperedError."""
        with self._tenant.vault.database.snapshot() as execute:
            for row in self._rows:
                for branch in branches.of_session(execute, row.id):
                    branches.check(self._tenant.keys.ledger, row.uid, branch)
                    span = branch.id * usage.SPAN, (branch.id + 1) * usage.SPAN
                    owner = Owner(row.id, row.uid, branch.id, branch.uid)
                    for found in execute("SELECT * FROM usage WHERE id >= ? AND id < ? ORDER BY id", span):
                        yield self._usage(row, usage.check(self._tenant.keys.ledger, owner, UsageRow(*found)))

    def _usage(self, session: SessionRow, row: UsageRow) -> dict[str, Any]:
        names = self._names.get(session.uid.hex())
        detail = {key: value for key, value in row.to_detail().items() if key not in ("row", "run")}
        gone = {"of_a_turn_that_is_gone": True} if row.popped else {}
        return {"session": None if names is None else names.session, "time": clock.rfc3339(row.created), **detail, **gone}

    def accesses(self) -> Iterator[dict[str, Any]]:
        """The ledger's entries about the subject, in order. Raises TamperedError."""
        with self._tenant.vault.database.snapshot() as execute:
            for entry in self._tenant.vault.ledger.entries(execute):
                if entry.subject == self._subject.hex() or entry.session in self._names:
                    yield self._access(entry)

    def _access(self, entry: Entry) -> dict[str, Any]:
        names = None if entry.session is None else self._names.get(entry.session)
        said = {
            "time": clock.rfc3339(entry.time),
            "action": entry.action,
            "outcome": entry.outcome,
            "actor": "the subject" if entry.actor == f"subject:{self._subject.hex()}" else entry.actor,
            "on_behalf_of": entry.detail.get("on_behalf_of"),
            "roles": list(entry.roles) or None,
            "purpose": entry.purpose,
            "reason": entry.reason,
            "session": None if names is None else names.session,
            "items": entry.items,
        }
        return {key: value for key, value in said.items() if value is not None}
