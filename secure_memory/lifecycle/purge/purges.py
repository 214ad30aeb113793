"""What is due is deleted, redacted or archived: planned first, then applied, one session after the other.

1. Everything that is active is asked: the policy in force, the holds, erasures that wait, the clock.
2. Each session is surveyed in a snapshot (`surveying`), and counted (`purge_plan`). A `retention.plan` entry says how many.
3. Applied, a session is one transaction: it is surveyed once more, with the holds of that moment, so that what is done is
   what was planned or less; every copy of an item goes, in whatever branch; each branch has a `retention.purge` entry,
   which moves its head and is the tombstone. What is archived is in a file on disk before.
4. Afterwards the WAL is truncated, so that nothing deleted stands in it.

Whoever dies in between leaves sessions that are done and sessions that are not: the next purge does the rest. Many sessions
share a commit, and agents go on in between. `SecureStore` has its methods from `Purges`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from secure_memory import audit, clock
from secure_memory.directory import ARCHIVES
from secure_memory.errors import SafetyLimitError
from secure_memory.facet import Facet
from secure_memory.lifecycle import reserve
from secure_memory.lifecycle.purge import purge_plan
from secure_memory.lifecycle.purge.purge_plan import PurgeDone, PurgePlan, TenantPlan
from secure_memory.lifecycle.purge.purging import VaultPurge
from secure_memory.lifecycle.purge.safety import Limit
from secure_memory.shared import SYSTEM_TENANT, SharedStore

Progress = Callable[[str, int, int], None]
"""Called now and then with a tenant, how many of its items are done, and how many there are to do."""
PathLike = str | os.PathLike[str]


class Purges(Facet):
    """The methods of a store that are about what is due. `SecureStore` has the rest."""

    def purge(
        self,
        *,
        tenant: str | None = None,
        apply: bool = False,
        plan: PathLike | None = None,
        out: PathLike | None = None,
        max_delete: str | None = None,
        max_clock_jump: str = "P30D",
        archive_to: PathLike | None = None,
        progress: Progress | None = None,
    ) -> PurgePlan:
        """Plan what is due in one tenant or all, and with `apply` do it; `out` keeps the plan in a file, `plan` with
        `apply` does exactly what such a file says. `max_delete` ("5%", "1000") is how much of a tenant's items may go at
        most; above it nothing goes there. `max_clock_jump` is how far the clock may stand past a ledger's last entry, or
        "any".

        Raises SafetyLimitError where a limit stopped a tenant, after the others were done; StalePlanError, StoreBusyError
        where another purge is at it, DiskFullError, AccessDeniedError, IntegrityError, ValueError for bad arguments.
        """
        if plan is not None and (not apply or out is not None or tenant is not None):
            raise ValueError("a plan is applied as it is: give apply=True with it, and neither out nor tenant")
        limit = Limit.parse(max_delete, max_clock_jump)
        shared, who = self._open(), self._who()
        shared.reload_policy(0)
        place = Path(archive_to) if archive_to is not None else None if shared.path is None else shared.path / ARCHIVES
        with reserve.at_hand(shared.path):
            if plan is not None:
                made = _kept(shared, Path(plan))
                purges = [
                    VaultPurge(shared, one, who, made.as_of)
                    for planned in made.tenants
                    for one in audit.tenants(shared, planned.tenant)
                ]
                for purge, one in zip(purges, made.tenants, strict=True):
                    purge.begin(limit, continuing=one)
            else:
                now = clock.now()
                found = [VaultPurge(shared, one, who, now) for one in audit.tenants(shared, tenant)]
                purges = [one for one in found if one.name != SYSTEM_TENANT or one.prunes]
                for purge in purges:
                    purge.begin(limit)
                planned = tuple(purge.plan(units=out is not None) for purge in purges)
                policy = shared.policy
                metadata = policy.policy.metadata
                uid = shared.manifest.uid.hex()
                made = PurgePlan(uid, metadata.name, metadata.version, policy.digest, now, planned)
                if out is not None:
                    purge_plan.write(Path(out), made.to_json(shared.keyring.store_key("plan")))
            return _applied(made, purges, limit, place, progress) if apply else made


def _applied(
    made: PurgePlan, purges: Sequence[VaultPurge], limit: Limit, place: Path | None, progress: Progress | None
) -> PurgePlan:
    stopped: list[str] = []
    done = PurgeDone(0, 0, 0, 0, 0, 0)
    for purge, planned in zip(purges, made.tenants, strict=True):
        most = limit.most(planned.items)
        if most is not None and planned.leaving > most:
            stopped.append(
                f"tenant {planned.tenant!r}: {planned.leaving} of {planned.items} items would go, more than {most}"
            )
            continue
        tell = None if progress is None else _telling(progress, planned)
        done = _sum(done, purge.apply(planned, place, tell))
    if stopped:
        others = "" if len(stopped) == len(purges) else "; the other tenants are done"
        raise SafetyLimitError(
            f"{'; '.join(stopped)}: nothing was deleted there{others}",
            hint="look at the plan (`secmem purge`); if it is meant, raise --max-delete for this run",
        )
    return replace(made, done=done)


def _telling(progress: Progress, planned: TenantPlan) -> Callable[[int], None]:
    total = planned.count("delete", "archive", "redact")
    return lambda done: progress(planned.tenant, done, total)


def _sum(one: PurgeDone, other: PurgeDone) -> PurgeDone:
    return PurgeDone(
        one.deleted + other.deleted,
        one.redacted + other.redacted,
        one.archived + other.archived,
        one.sessions + other.sessions,
        one.passed_over + other.passed_over,
        one.freed + other.freed,
        one.archives + other.archives,
        one.pruned + other.pruned,
    )


def _kept(shared: SharedStore, path: Path) -> PurgePlan:
    """The plan of a file, checked. Raises StalePlanError, ConfigurationError where there is no such file."""
    made = purge_plan.from_json(purge_plan.read(path), shared.keyring.store_key("plan"))
    purge_plan.check(made, shared.manifest.uid.hex(), shared.policy.digest, clock.now())
    return made
