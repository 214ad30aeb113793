"""One vault's purge: asked, planned, applied.

- `begin` asks, in a transaction, for what is active: whether the actor may, the holds, the erasures that wait, the clock.
- `plan` surveys each session in a snapshot, beside the agents.
- `apply` gives each session a transaction of its own, many of them in one commit; what is archived is in a file before.

A session that is not as it was planned is passed over: it may be that a hold came, that it was purged by the run that died,
or that its agent took something away. The next plan has it again. Called by `lifecycle.purge.purges`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory.actor import Actor, resolve
from secure_memory.errors import KeyManagementError, StalePlanError
from secure_memory.inforce import InForce, StalePolicyError, govern
from secure_memory.ledger.ledger import stored_nodes
from secure_memory.ledger.merkle import root_at
from secure_memory.lifecycle.erasure import withhold
from secure_memory.lifecycle.purge import archiving
from secure_memory.lifecycle.purge.disposing import Disposed, dispose
from secure_memory.lifecycle.purge.entries import EntryPruning
from secure_memory.lifecycle.purge.fates import Known, Unit
from secure_memory.lifecycle.purge.purge_plan import PurgeDone, Tally, TenantPlan
from secure_memory.lifecycle.purge.safety import Limit, only_one
from secure_memory.lifecycle.purge.surveying import Survey
from secure_memory.shared import SharedStore, asking, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import erasures, holds, sessions, tokens, wal
from secure_memory.vault.commits import Operation, perform_all
from secure_memory.vault.holds import Hold
from secure_memory.vault.transaction import Transaction

SESSIONS_AT_ONCE = 32
"""Sessions of one commit: it holds up the agents for as long as they take."""
ITEMS_AT_ONCE = 1000
"""Items, likewise; a session is never split."""
_ACTION = "retention.purge"


class _Asked(NamedTuple):
    """What was active when the purge began."""

    held: list[Hold]
    erasures: dict[str, int]


class VaultPurge:
    """One purge of one vault, as of `now`."""

    def __init__(self, shared: SharedStore, tenant: Tenant, actor: Actor | None, now: int) -> None:
        self._shared = shared
        self._tenant = tenant
        self._actor = actor
        self._now = now
        self._policy: InForce = shared.policy
        self._asked = _Asked([], {})
        self._survey = Survey(tenant, self._policy.policy, now, {})
        self._pruning = EntryPruning(tenant, self._policy.policy, now)
        self._sizes: dict[int, int] = {}  # of the sessions of which something goes, in items, as far as it was planned here

    @property
    def name(self) -> str:
        """The tenant's."""
        return self._tenant.keys.name

    @property
    def prunes(self) -> bool:
        """Whether a rule is about entries of the vault's ledger."""
        return self._pruning.rules is not None

    @property
    def _where(self) -> str:
        return f"tenant {self._tenant.keys.name!r}"

    def begin(self, limit: Limit, continuing: TenantPlan | None = None) -> None:
        """Ask for what is active. `continuing` is a plan whose ledger this one has to be.

        Raises SafetyLimitError, StalePlanError, AccessDeniedError, IntegrityError.
        """
        keys = self._tenant.keys

        def work(tx: Transaction) -> _Asked:
            newest = next(self._tenant.vault.ledger.entries(tx.execute, tx.tail.size - 1))
            limit.check_clock(self._where, clock.now(), newest.time)
            if continuing is not None:
                size = continuing.size
                if tx.tail.size < size or root_at(size, stored_nodes(tx.execute)).hex() != continuing.root:
                    raise StalePlanError(f"{self._where}: the store went back since the plan was made", hint="plan again")
            held = holds.active(tx.execute, tx.control, keys.ledger, keys.uid)
            return _Asked(held, erasures.asked_for(tx.execute, keys.ledger, keys.uid))

        self._asked = transact(self._tenant, work, "retention.plan", self._actor)
        self._policy = self._shared.policy
        self._survey = Survey(self._tenant, self._policy.policy, self._now, self._asked.erasures)
        self._pruning = EntryPruning(self._tenant, self._policy.policy, self._now)

    def plan(self, *, units: bool) -> TenantPlan:
        """What would be done, with an entry that says how many; `units` identifies what is done to which session."""
        survey, tally, doomed = self._survey, Tally(), dict[str, str]()
        with self._tenant.vault.database.snapshot() as execute:
            for known in self._known(execute):
                unit = survey.unit(execute, known, self._asked.held)
                tally.add(unit, self._now)
                if unit.acts:
                    self._sizes[known.row.id] = sum(fate.found.size for fate in unit.fates)
                    if units and not unit.exact:
                        unit = survey.unit(execute, known, self._asked.held, exact=True)
                    doomed[str(known.row.id)] = unit.digest().hex() if units else ""
            pruned = None if self._asked.held else self._pruning.planned(execute)
            size, root = execute("SELECT seq + 1, root FROM ledger ORDER BY seq DESC LIMIT 1").fetchone()
        name = self._tenant.keys.name
        lines = tally.lines() if pruned is None else (*tally.lines(), pruned)
        made = TenantPlan(name, tally.items, tally.sessions, tally.overdue, lines, size, root.hex(), doomed)
        counts = {state: made.count(state) for state in ("delete", "redact", "archive", "deferred", "held", "unmatched")}
        detail = {"policy": self._policy.digest, "as_of": clock.rfc3339(self._now), **counts}
        transact(self._tenant, lambda tx: tx.record({"detail": detail}), "retention.plan", self._actor)
        return made

    def _known(self, execute: Callable[..., Any]) -> Iterator[Known]:
        keys = self._tenant.keys
        for row in sessions.rows(execute):
            if not erasures.is_stub(row):
                sessions.check(keys.ledger, keys.uid, row)
                yield Known(self._tenant, row)

    # ---- applying -----------------------------------------------------------------------------------------------

    def apply(self, planned: TenantPlan, archives: Path | None, tell: Callable[[int], None] | None) -> PurgeDone:
        """Do what was planned. Raises StoreBusyError, DiskFullError, IntegrityError, AccessDeniedError."""
        database = self._tenant.vault.database
        done = Disposed()
        files: list[str] = []
        sessions_done = passed_over = 0
        with only_one(database.identity.path, self._where):
            before = self._free_bytes()
            for batch in self._batches(planned):
                archived = archiving.Archived(frozenset(), [])
                if planned.count("archive"):
                    archived = archiving.write(self._shared, self._survey, self._surveyed(batch), archives)
                files += archived.files
                for outcome in self._dispose(batch, planned.units, archived):
                    passed_over += outcome is None
                    sessions_done += outcome is not None
                    done += outcome or Disposed()
                with database.lock:  # often, so that no agent waits for a large one
                    database.checkpoint()
                if tell is not None:
                    tell(done.deleted + done.redacted + done.archived)
            transact(self._tenant, self._drop_tokens, _ACTION, self._actor)  # of a run that died, too
            pruned = self._prune(planned.count("prune"))
            wal.truncate(database)
            freed = max(0, self._free_bytes() - before)
        return PurgeDone(done.deleted, done.redacted, done.archived, sessions_done, passed_over, freed, tuple(files), pruned)

    def _drop_tokens(self, tx: Transaction) -> None:
        """What a token stands for goes with the last item of its subject, or of what an erasure withheld of them."""
        dropped = tokens.drop_unused(tx.execute)
        for erasure in erasures.every(tx.execute, self._tenant.keys.ledger, self._tenant.keys.uid):
            if erasure.kept and not erasures.left(tx.execute, erasure):
                row = erasures.by_uid(tx.execute, bytes.fromhex(erasure.kept[0]))
                if row is not None and not erasures.is_stub(row):
                    with suppress(KeyManagementError):  # nobody can open them, then
                        dropped += tokens.drop(tx.execute, withhold.keys_of(self._shared, self._tenant, row).subject)
        if dropped:
            tx.record({"detail": {"policy": self._policy.digest, "tokens": dropped}})

    def _prune(self, planned: int) -> int:
        """Drop the bodies of so many entries, a part in each transaction; returns how many."""
        keys, done = self._tenant.keys, 0

        def work(tx: Transaction) -> int:
            held = holds.active(tx.execute, tx.control, keys.ledger, keys.uid)
            return 0 if held else self._pruning.prune(tx, planned - done, self._policy.digest)

        while done < planned and (count := transact(self._tenant, work, _ACTION, self._actor)):
            done += count
        return done

    def _batches(self, planned: TenantPlan) -> Iterator[list[Known]]:
        """The sessions of the plan as they are now, so many at a time that agents need not wait for long."""
        ids = list(map(int, planned.units))
        for start in range(0, len(ids), SESSIONS_AT_ONCE):
            batch: list[Known] = []
            size = 0
            with self._tenant.vault.database.snapshot() as execute:
                found = [sessions.by_id(execute, row_id) for row_id in ids[start : start + SESSIONS_AT_ONCE]]
            for row in found:
                if row is None or erasures.is_stub(row):
                    continue
                known = Known(self._tenant, row)
                known.keys  # noqa: B018 - from keys.db, since the transaction may need them and must not wait for that
                batch.append(known)
                size += self._sizes.get(row.id, ITEMS_AT_ONCE // 8)
                if size >= ITEMS_AT_ONCE:
                    yield batch
                    batch, size = [], 0
            if batch:
                yield batch

    def _surveyed(self, batch: Sequence[Known]) -> list[Unit]:
        with self._tenant.vault.database.snapshot() as execute:
            return [self._survey.unit(execute, known, self._asked.held) for known in batch]

    def _dispose(
        self, batch: Sequence[Known], digests: Mapping[str, str], archived: archiving.Archived
    ) -> list[Disposed | None]:
        """Each session in a transaction of its own; None where it was passed over."""
        fields = {**asking(self._actor), "action": _ACTION}
        operations = [
            Operation(self._work(known, digests[str(known.row.id)], archived), _same, True, fields) for known in batch
        ]
        perform_all(self._tenant.vault, operations)
        try:
            return [operation.result() for operation in operations]
        except StalePolicyError:
            raise StalePlanError("another policy was put in force while the purge was at it", hint="purge again") from None

    def _work(self, known: Known, digest: str, archived: archiving.Archived) -> Callable[[Transaction], Disposed | None]:
        keys, survey, who = self._tenant.keys, self._survey, resolve(None, None, self._actor)

        def work(tx: Transaction) -> Disposed | None:
            govern(tx, self._policy)
            self._policy.authorise(who, _ACTION, self._where)
            if not sessions.unchanged(tx.execute, known.row):
                return None
            held = holds.active(tx.execute, tx.control, keys.ledger, keys.uid)
            now = survey.unit(tx.execute, known, held, exact=bool(digest))
            if not now.acts or (digest and now.digest().hex() != digest):
                return None
            filed = [fate.found.uid for fate in now.fates if fate.done == "archive"]
            if not archived.uids.issuperset(filed):
                return None  # it came to be due for the archive since the archive was written
            said = {"policy": self._policy.digest, "as_of": clock.rfc3339(self._now)}
            where = {"archives": [Path(file).name for file in archived.files]} if filed else {}
            return dispose(tx, self._tenant, now, {**said, **where})

        return work

    def _free_bytes(self) -> int:
        """Bytes of the database's pages that nothing is in."""
        with self._tenant.vault.database.snapshot() as execute:
            (free,), (size,) = execute("PRAGMA freelist_count").fetchone(), execute("PRAGMA page_size").fetchone()
        return int(free) * int(size)


def _same(outcome: Disposed | None) -> Disposed | None:
    return outcome
