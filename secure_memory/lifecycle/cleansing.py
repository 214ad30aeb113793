"""What is stored already, held against the policy: counted (`redact_scan`), and redacted in place (`redact_apply`).

- Redacted is as if the items were written now: each has a new uid and seal in its old place and turn, in every branch that
  has it, in one transaction a session, with a `session.redact` entry for each branch.
- What is redacted already stays: a run that was stopped is gone on with by the next, and a second run changes nothing.
- What a hold or a floor keeps is left as it is, and counted. What the policy blocks is taken out: to refuse it is too late.
- Old bytes are overwritten in the file (`secure_delete`), and the WAL, which has them too, is truncated at the end.

`SecureStore` has its methods from `Cleansing`: ``secmem redact scan`` and ``secmem redact apply``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from secure_memory import items as sdk_items
from secure_memory.actor import resolve
from secure_memory.cleaning import Cleaning, originals
from secure_memory.facet import Facet
from secure_memory.ledger.entry import BranchHead
from secure_memory.lifecycle.scanning import Progress, ScanReport, scan_database, scan_tenant
from secure_memory.lifecycle.transfer.exporting import session_names
from secure_memory.service import Spot, run_blocking
from secure_memory.tenancy import Asker, Opened
from secure_memory.vault import branches, history, pruning, seal, wal
from secure_memory.vault.commits import Operation
from secure_memory.vault.history import ItemRow
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.tokens import Original
from secure_memory.vault.transaction import Transaction

ACTION = "session.redact"


@dataclass(frozen=True, slots=True)
class Cleansed:
    """What was redacted in place: sessions gone through, those that changed, how many items, and how often what was found.
    `kept` items have personal data that a hold or a floor keeps."""

    tenant: str
    sessions: int
    changed: int
    items: int
    kept: int
    entities: Mapping[str, int]


class Cleansing(Facet):
    """The methods of a store that hold what is stored against the policy. `SecureStore` has the rest."""

    def redact_scan(
        self,
        database: str | os.PathLike[str] | None = None,
        *,
        tenant: str = "default",
        encryption_key: str | None = None,
        progress: Progress | None = None,
    ) -> ScanReport:
        """What personal data a tenant's conversations hold, or a database of the SDK: counts, no values.

        Scanning a tenant is a `session.read` entry for each session. `progress(sessions so far, sessions)` is called now and
        then. Raises ConfigurationError, IntegrityError, RedactionError, AccessDeniedError, StorageError.
        """
        shared, who = self._open(), resolve(None, None, self._who())
        if database is not None:
            return scan_database(shared.policy, Path(database).expanduser(), encryption_key, progress)
        names = session_names(shared, shared.existing_tenant(tenant), None, who)
        return scan_tenant(shared, tenant, names, who, require_actor=self._require_actor, progress=progress)

    def redact_apply(
        self, *, tenant: str = "default", session_id: str | None = None, progress: Progress | None = None
    ) -> Cleansed:
        """Redact what is stored as the policy in force would store it now: one session, or all of a tenant.

        It is a `session.redact` entry for each branch that changes, and one for each session that is looked at. Raises
        ConfigurationError where there is no such tenant or session, IntegrityError, RedactionError, AccessDeniedError,
        StorageError: the sessions before the one that failed are done. StoreBusyError at the end says that all are, and that
        another process still reads what was there before.
        """
        shared, who = self._open(), resolve(None, None, self._who())
        count: Counter[str] = Counter()
        entities: Counter[str] = Counter()
        names = session_names(shared, shared.existing_tenant(tenant), session_id, who)
        for number, name in enumerate(names, 1):
            one = InPlace(shared, name, tenant=tenant, subject=None, actor=who, require_actor=self._require_actor)
            swept = run_blocking(one.clean(Asker(who)))
            count.update(changed=bool(swept.items), items=swept.items, kept=swept.kept)
            entities.update(swept.entities)
            if progress is not None:
                progress(number, len(names))
        wal.truncate(shared.tenant(tenant).vault.database)
        return Cleansed(tenant, len(names), count["changed"], count["items"], count["kept"], dict(sorted(entities.items())))


class Swept(NamedTuple):
    """What became of one session."""

    items: int
    kept: int
    entities: Mapping[str, int]


class _Seen(NamedTuple):
    """A session as it was read: the head of each branch, and its items by uid."""

    heads: dict[int, BranchHead]
    rows: dict[bytes, ItemRow]
    texts: dict[bytes, bytes]


class _New(NamedTuple):
    """What is written in the place of an item: its new uid and sealed bytes, what its tokens stand for, what was found."""

    uid: bytes
    sealed: bytes
    originals: list[Original]
    entities: list[str]


class InPlace(Cleaning):
    """One session whose items are redacted where they are."""

    async def clean(self, asker: Asker) -> Swept:
        """Redact them. Raises RedactionError, IntegrityError, AccessDeniedError."""
        self._waiting = {}
        while True:
            seen = await self._perform(lambda opened: self._look(opened, asker), create=False)
            if seen is None:
                return Swept(0, 0, {})
            done = await self._perform(lambda opened, seen=seen: self._cleaning(opened, seen, asker), create=False)  # type: ignore[misc]
            if done is not None:
                return done

    def _look(self, opened: Opened, asker: Asker) -> Operation[Any, _Seen | None]:
        tenant, keys = opened.tenant.keys, opened.keys

        def run(tx: Transaction) -> _Seen | None:
            row = self._enter(tx, opened, asker, ACTION)
            if row is None or keys is None:
                self._record_unknown(tx, opened)
                return None
            seen = _Seen({}, {}, {})
            for spot in self._spots(tx, opened, row):
                link, rows = history.fetch(tx, spot.id, spot.head, spot.head.base_position)
                history.prove(rows, spot.id, spot.head.base_position, link, spot.head)
                seen.heads[spot.id] = spot.head
                seen.rows.update((one.uid, one) for one in rows)
            tx.record({"items": len(seen.rows), "detail": {"looked": True}}, session=row.id)
            return seen

        def finish(seen: _Seen | None) -> _Seen | None:
            if seen is not None and keys is not None:
                rows = list(seen.rows.values())
                texts = history.unsealed(rows, keys.key.aead, tenant.uid, keys.uid)
                seen.texts.update(zip(seen.rows, texts, strict=True))
            return seen

        return Operation(run, finish, True, self._door.fields(ACTION, opened, asker))

    async def _cleaning(self, opened: Opened, seen: _Seen, asker: Asker) -> Operation[Any, Swept | None]:
        anew = await self._anew(opened, seen)
        keys = opened.keys

        def run(tx: Transaction) -> Swept | None:
            row = self._enter(tx, opened, asker, ACTION)
            if row is None or keys is None:
                return Swept(0, 0, {})
            spots = self._spots(tx, opened, row)
            if {spot.id: spot.head for spot in spots} != seen.heads:
                return None  # somebody wrote meanwhile
            keep = self._keeper(tx, opened, row, keys)
            changed = {uid: new for uid, new in anew.items() if keep is None or not keep(seen.rows[uid])}
            for spot in spots:
                pruned = pruning.prune(tx, spot.id, spot.head, (), {uid: new[:2] for uid, new in changed.items()})
                if pruned.rewritten:
                    detail = {"policy": opened.policy.digest}
                    self._record_write(
                        tx, row, spot._replace(head=pruned.head), pruned.rewritten, action=ACTION, detail=detail
                    )
            for new in changed.values():
                self._keep_originals(tx, opened.tenant, keys, new.originals)
            entities = Counter(entity for new in changed.values() for entity in new.entities)
            return Swept(len(changed), len(anew) - len(changed), entities)

        return Operation(run, lambda done: done, True, self._door.fields(ACTION, opened, asker))

    async def _anew(self, opened: Opened, seen: _Seen) -> dict[bytes, _New]:
        """What is written anew, by the uid of what is there."""
        tenant, keys = opened.tenant.keys, opened.keys
        anew: dict[bytes, _New] = {}
        for uid, text in seen.texts.items():
            item = sdk_items.load(text)
            done = await self._redacted(opened, [item], "store", "redact", size=len(text))
            if keys is None or done.items[0] is item:
                continue
            row = seen.rows[uid]
            place = Place(tenant.uid, keys.uid, os.urandom(16), row.kind, row.role, row.tool, row.created)
            data = sdk_items.dump(done.items[0])
            sealed = seal.seal(keys.key.aead, keys.version, os.urandom(12), place, data, row.sealed[0])
            anew[uid] = _New(place.uid, sealed, originals(done), [one.entity for one in done.treated])
        return anew

    def _spots(self, tx: Transaction, opened: Opened, row: SessionRow) -> list[Spot]:
        """The branches of the session, what is withheld too; a paused run has to stay as it is."""
        state = branches.state_mac(opened.tenant.keys, row.uid)
        spots = []
        for one in branches.of_session(tx.execute, row.id):
            branches.check(opened.tenant.keys.ledger, row.uid, one)
            spot = self._spot(tx, row, one.id)
            if spot.id == one.id and one.name != state:
                spots.append(spot)
        return spots
