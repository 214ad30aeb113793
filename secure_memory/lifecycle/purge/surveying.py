"""What a purge would do to one session: decided by SQL where that is enough, and item by item where it is not.

- SQL counts a session's items by all that a rule can select by, and by where their time of making stands against each
  period of the rules that count from it. A month has no fixed length, so around each period there is a band in which only
  the exact rule can tell. A group outside of every band has one outcome, which `policy.retention` gives for its oldest item.
- Where a group is in a band, a hold is about a range of time, the session has several branches, or something is done to a
  part of it only, its rows are read and each is resolved, and what belongs together is decided together (`closure`).

The two agree: a property test holds the counts of both against the naive resolver. Nothing here writes. Called by
`lifecycle.purge.purges`, which plans with it in a snapshot, and decides with it once more in the transaction that deletes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from secure_memory import items as sdk_items
from secure_memory.lifecycle.purge import closure
from secure_memory.lifecycle.purge.fates import Fate, Found, Known, Unit, in_place
from secure_memory.policy import matching, retention
from secure_memory.policy.matching import Facts
from secure_memory.policy.model import Policy, Retention
from secure_memory.redaction.blanking import WHOLLY_CONTENT
from secure_memory.tenancy import Tenant
from secure_memory.vault import activity, branches, history
from secure_memory.vault.branches import BranchRow
from secure_memory.vault.history import SPAN
from secure_memory.vault.holds import Hold

DAY = 86_400_000_000
OVERDUE_AFTER = DAY
"""A purge runs daily: what has been due for longer was missed."""

Execute = Callable[..., Any]
_REDACTED = "substr(sealed, 1, 1) = x'02'"


@dataclass(frozen=True)
class Survey:
    """How one vault's sessions are decided, as of `now`. `asked` says when erasures were asked for, by the session's uid."""

    tenant: Tenant
    policy: Policy
    now: int
    asked: Mapping[str, int]

    @cached_property
    def retention(self) -> Retention:
        """The policy's rules that can be about this tenant's items."""
        rules = self.policy.retention.rules
        ours = tuple(r for r in rules if matching.of_tenant(r, self.tenant.keys.name) and r.select.kind != ("audit_entry",))
        return self.policy.retention.model_copy(update={"rules": ours})

    @cached_property
    def _edges(self) -> tuple[list[int], set[int]]:
        """The times by which items are told apart, in order; and the numbers of the buckets between them that are bands."""
        found: set[tuple[int, int]] = set()
        for rule in self.retention.rules:
            for period in (rule.floor, rule.ceiling):
                if rule.trigger == "item.created" and period is not None:
                    slack = DAY if period.months else 0  # summer time may begin or end in it
                    for now in (self.now, self.now - OVERDUE_AFTER):
                        found.add((now - period.longest - slack, now - period.shortest + slack))
        edges: list[int] = []
        bands: set[int] = set()
        for low, high in sorted(found):
            if edges and low < edges[-1]:  # in the band before
                edges[-1] = max(edges[-1], high)
                bands.add(len(edges) - 1)
                continue
            edges.append(low)
            if low < high:
                bands.add(len(edges))
                edges.append(high)
        return edges, bands

    def unit(self, execute: Execute, known: Known, held: Sequence[Hold], *, exact: bool = False) -> Unit:
        """What is done to the session, with the active holds `held`; `exact` asks for the fate of each item.

        Raises TamperedError, KeyManagementError.
        """
        facts, about = self._facts(execute, known, held)
        stored = branches.of_session(execute, known.row.id)
        groups = {branch.id: found for branch in stored if (found := self._groups(execute, branch.id))}
        if not groups:
            return Unit(known, [], True)
        paused, withheld = branches.hidden(self.tenant.keys, known.row.uid)
        simple = len(groups) == 1 and all(hold.since is hold.until is None for hold in about)
        if (
            simple
            and not exact
            and {branch.id for branch in stored if branch.name not in (paused, withheld)} & groups.keys()
        ):
            found = next(iter(groups.values()))
            if not self._edges[1] & {group.bucket for group in found}:
                fates = [self._fate(group, facts, about) for group in found]
                if len({fate.done for fate in fates}) == 1 and fates[0].done in (None, "delete"):
                    return Unit(known, fates, False)
        here = [branch for branch in stored if branch.id in groups]
        items = self._items(execute, here, paused, withheld)
        return Unit(known, self._closed(execute, known, here, self._fates(items, facts, about)), True)

    # ---- how ----------------------------------------------------------------------------------------------------

    @cached_property
    def _triggers(self) -> set[str]:
        return {rule.trigger for rule in self.retention.rules}

    @cached_property
    def _by_tag(self) -> bool:
        return any(rule.select.tag for rule in self.retention.rules)

    def _facts(self, execute: Execute, known: Known, held: Sequence[Hold]) -> tuple[Facts, list[Hold]]:
        """What is to be known of each item of the session, besides what its row says; and the holds that are about it."""
        row, tenant = known.row, self.tenant
        named = self._by_tag or "session.ended" in self._triggers or any(hold.tags for hold in held)
        tags = known.names.tags if named else {}
        active = {"session.last_activity", "session.ended"} & self._triggers
        facts = Facts(
            kind="",
            tenant=tenant.keys.name,
            created=0,
            session_created=row.created,
            last_activity=activity.last_append(execute, tenant.vault.ledger, row.id) if active else row.created,
            tags=tags,
            ended=known.names.ended if named else None,
            erasure=self.asked.get(row.uid.hex()),
        )
        return facts, [hold for hold in held if hold.covers_session(row.uid.hex(), row.subject.hex(), tags)]

    @cached_property
    def _grouping(self) -> str:
        """The query that counts a branch's items by what can make a difference: fewer columns are fewer to sort by."""
        rules = self.retention.rules
        role = "role" if any(rule.select.role for rule in rules) else "''"
        tool = "tool" if any(rule.select.tool for rule in rules) else "''"
        redacted = f"{_REDACTED}" if any(rule.action == "redact" for rule in rules) else "0"
        bucket = " + ".join(["0", *["(created > ?)"] * len(self._edges[0])])
        return (
            f"SELECT kind, {role}, {tool}, {redacted}, {bucket}, count(*), min(created)"  # noqa: S608 - our own words
            " FROM items WHERE id >= ? AND id < ? GROUP BY 1, 2, 3, 4, 5"
        )

    def _groups(self, execute: Execute, branch: int) -> list[Found]:
        span = branch * SPAN, (branch + 1) * SPAN
        found = execute(self._grouping, (*self._edges[0], *span)).fetchall()
        return [Found(kind, role, tool, bool(redacted), *rest) for kind, role, tool, redacted, *rest in found]

    def _items(self, execute: Execute, here: Sequence[BranchRow], paused: bytes, withheld: bytes) -> list[Found]:
        """The session's items, each once, in whatever branches it stands."""
        query = (
            f"SELECT kind, role, tool, {_REDACTED}, 0, 1, created, uid FROM items"  # noqa: S608 - our own words
            " WHERE id >= ? AND id < ? ORDER BY id"
        )
        found: dict[bytes, Found] = {}
        for branch in sorted(
            here, key=lambda branch: branch.name == withheld
        ):  # what is somewhere else too is not discarded
            for row in execute(query, (branch.id * SPAN, (branch.id + 1) * SPAN)):
                item = Found(*row)._replace(discarded=branch.name == withheld, paused=branch.name == paused)
                if item.paused:
                    item = item._replace(kind="message", role="", tool="")
                found.setdefault(item.uid, item._replace(bucket=bisect_left(self._edges[0], item.created)))
        return list(found.values())

    def _fates(self, items: Sequence[Found], facts: Facts, about: Sequence[Hold]) -> list[Fate]:
        known: dict[Any, Fate] = {}
        fates: dict[bytes, Fate] = {}
        for item in sorted(items, key=lambda item: item.created):  # of alike ones the oldest says when
            alike = item._replace(uid=b"", created=0 if item.bucket not in self._edges[1] else item.created)
            key = alike, *(hold.covers_time(item.created) for hold in about)
            fate = known.get(key)
            if fate is None:
                fate = known[key] = self._fate(item, facts, about)
            fates[item.uid] = fate._replace(found=item)
        return [fates[item.uid] for item in items]

    def _fate(self, found: Found, facts: Facts, about: Sequence[Hold]) -> Fate:
        matters = tuple(hold.matter for hold in about if hold.covers_time(found.created))
        item = replace(
            facts,
            kind=found.kind,
            role=found.role,
            tool=found.tool,
            created=found.created,
            redacted=found.redacted,
            discarded=found.discarded,
            holds=matters,
        )
        outcome = retention.resolve(self.retention, item, self.now, self.policy.metadata.jurisdiction)
        done = outcome.action if outcome.state == "due" else None
        if done == "redact" and (found.paused or found.kind in WHOLLY_CONTENT):
            done = "delete"
        return Fate(found, outcome, done)

    def _closed(self, execute: Execute, known: Known, here: Sequence[BranchRow], fates: list[Fate]) -> list[Fate]:
        """The fates, with what belongs together kept together."""
        leaves = [fate.done in ("delete", "archive") for fate in fates]
        if all(leaves) or not any(leaves) or not any(fate.found.kind in closure.LINKING for fate in fates):
            return fates
        units = closure.Units()
        for branch in here:
            closure.join(units, list(self._opened(execute, known, branch.id)))
        by_uid = {fate.found.uid: fate for fate in fates}
        for group in units.groups(by_uid):
            members = [by_uid[uid] for uid in group]
            if any(fate.done not in ("delete", "archive") for fate in members):
                by_uid.update((fate.found.uid, in_place(fate)) for fate in members)
        return list(by_uid.values())

    def _opened(self, execute: Execute, known: Known, branch: int) -> Iterator[tuple[bytes, sdk_items.Item | None]]:
        for row in history.rows(execute, branch):
            item = None
            if row.kind in closure.LINKING:
                (text,) = history.unsealed([row], known.keys.key.aead, self.tenant.keys.uid, known.row.uid)
                item = sdk_items.load(text)
            yield row.uid, item
