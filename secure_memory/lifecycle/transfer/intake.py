"""The vault's side of an import: how far a branch was imported, and one transaction of rows behind that.

- Each transaction has a `store.import` entry for each branch that it wrote to. The entry says how many of the branch's rows
  were gone through so far, and their digest: an HMAC of ids and texts under a key of the tenant, so that it tells nothing of
  them. **How far an import has come is said by the ledger alone.**
- A transaction is kept only if the session is as it was found. Of two imports at once one is told that it is not
  (`MovedError`), looks again, and goes on behind the other.

`importing` adds where the rows come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from secure_memory.actor import Actor
from secure_memory.cleaning import Cleaning
from secure_memory.items import Item
from secure_memory.keys.opened import SessionKeys
from secure_memory.ledger.ledger import Row, entry_of
from secure_memory.lifecycle.transfer import spending
from secure_memory.lifecycle.transfer.spending import TurnUsage
from secure_memory.service import Build, Spot, run_blocking
from secure_memory.tenancy import Asker, Opened, Tenant, Tenants
from secure_memory.vault import branches, history
from secure_memory.vault.branches import MAIN
from secure_memory.vault.commits import Operation
from secure_memory.vault.history import NewItem
from secure_memory.vault.seal import Place
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.tokens import Original
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.usage import Owner

T = TypeVar("T")

ACTION = "store.import"


class MovedError(Exception):
    """Someone else has written to the session since it was looked at: look again."""


class Mark(NamedTuple):
    """How far a branch was imported: rows gone through, their digest, those that held no item, the digest of what was spent;
    whether that was the newest write to the branch."""

    rows: int
    digest: str
    skipped: int
    usage: str
    newest: bool


class New(NamedTuple):
    """An item on its way in, with the id of its row. `created` is in microseconds."""

    id: int
    item: Item
    text: bytes
    created: int


@dataclass(slots=True)
class Chunk:
    """Consecutive rows of a branch: those behind its first `start`, whose digest is `before`, up to `rows`. `skipped` of the
    branch's rows so far held no item."""

    branch: str
    start: int
    before: str
    rows: int
    skipped: int
    digest: str = ""
    last: int | None = None
    usage: Sequence[TurnUsage] = ()
    usage_digest: str = ""
    usage_written: tuple[int, int] = (0, 0)
    items: list[New] = field(default_factory=list)


class Intake(Cleaning):
    """One session of a vault that rows are imported to."""

    def __init__(
        self,
        store: Tenants,
        name: str,
        *,
        tenant: str,
        subject: str,
        actor: Actor | None,
        require_actor: bool,
        source: str,
        key: bytes,
    ) -> None:
        """`source` is what entries call the database, `key` makes the digests of it."""
        super().__init__(store, name, tenant=tenant, subject=subject, actor=actor, require_actor=require_actor)
        self._asker = Asker(actor)
        self._source = source
        self._key = key
        self._fresh = True  # there is no such session yet
        self._began: Mapping[str, int | None] = {}  # when each branch began, in microseconds, where that is known
        self._shared: frozenset[int] = frozenset()  # the messages that stand in several branches
        self._known: dict[int, NewItem] = {}  # of these, those that are sealed
        self._waiting = {}

    def _wait(self, build: Build[T], *, create: bool = False) -> T:
        """What the operation returns, waited for in this thread."""
        return run_blocking(self._perform(build, create=create))

    def _look(self, opened: Opened, names: Iterable[str]) -> Operation[Any, dict[str, Mark | None] | None]:
        """How far each branch was imported, of those that there are; None where there is no such session."""

        def run(tx: Transaction) -> dict[str, Mark | None] | None:
            row = self._enter(tx, opened, self._asker, ACTION)
            if row is None:
                return None
            found = {name: self._branch(tx, opened.tenant, row, name) for name in names}
            return {name: _mark(tx, opened.tenant, branch) for name, branch in found.items() if branch is not None}

        return Operation(run, lambda found: found, False, self._door.fields(ACTION, opened, self._asker))

    def _stored(self, opened: Opened, name: str) -> Operation[Any, list[NewItem]]:
        """The items of a branch as they are stored, proven and still sealed."""
        keys = opened.keys

        def run(tx: Transaction) -> list[NewItem]:
            row = self._enter(tx, opened, self._asker, ACTION)
            branch = None if row is None else self._branch(tx, opened.tenant, row, name)
            if row is None or keys is None or branch is None:
                raise MovedError
            spot = self._spot(tx, row, branch)
            after = spot.head.base_position
            link, rows = history.fetch(tx, spot.id, spot.head, after)
            history.prove(rows, spot.id, after, link, spot.head)
            return [
                NewItem(
                    Place(opened.tenant.keys.uid, keys.uid, one.uid, one.kind, one.role, one.tool, one.created),
                    one.role == "user",
                    one.sealed,
                )
                for one in rows
            ]

        return Operation(run, lambda found: found, False, self._door.fields(ACTION, opened, self._asker))

    async def _write(self, opened: Opened, chunks: list[Chunk]) -> Operation[Any, None]:
        """Redacted like all that is stored; what the policy blocks is taken out, since nobody is there to take it back."""
        new = [one for chunk in chunks for one in chunk.items]
        clean = await self._cleaned(opened, [one.item for one in new], [one.text for one in new], "redact")
        pairs = iter(zip(clean.items, clean.texts, strict=True))
        items = [[one._replace(item=dict(item), text=text) for one, (item, text) in zip(c.items, pairs)] for c in chunks]  # noqa: B905
        return self._writing(opened, chunks, items, clean.originals)

    def _writing(
        self, opened: Opened, chunks: list[Chunk], new: list[list[New]], originals: list[Original]
    ) -> Operation[Any, None]:
        tenant, keys, fresh = opened.tenant, opened.keys, self._fresh
        assert keys is not None  # noqa: S101 - resolved with create=True
        known = dict(self._known)
        sealed = [[self._seal_once(tenant, keys, one, known) for one in items] for items in new]

        def run(tx: Transaction) -> None:
            row = self._enter(tx, opened, self._asker, ACTION)
            if (row is None) != fresh:
                raise MovedError
            if row is None:
                times = [new.created for chunk in chunks for new in chunk.items]
                row = self._begin(tx, tenant, keys, created=self._began.get(MAIN) or min(times))
            for chunk, items in zip(chunks, sealed, strict=True):
                self._append(tx, tenant, keys, row, chunk, items)
            self._keep_originals(tx, tenant, keys, originals)

        def finish(_: None) -> None:
            self._known = known

        return Operation(run, finish, True, self._door.fields(ACTION, opened, self._asker))

    def _seal_once(self, tenant: Tenant, keys: SessionKeys, new: New, known: dict[int, NewItem]) -> NewItem:
        found = known.get(new.id)
        if found is None:
            found = self._sealed(tenant, keys, new.item, new.text, new.created)
            if new.id in self._shared:
                known[new.id] = found
        return found

    def _append(
        self, tx: Transaction, tenant: Tenant, keys: SessionKeys, row: SessionRow, chunk: Chunk, items: list[NewItem]
    ) -> None:
        """Append a chunk to its branch. Raises MovedError where that is not as it was found."""
        branch = self._branch(tx, tenant, row, chunk.branch)
        if branch is None:
            branch = branches.next_id(tx.execute)
            uid = self._insert_branch(tx, row, branch, chunk.branch, tenant, keys, created=self._began.get(chunk.branch))
            spot, begun = Spot(branch, uid.hex(), history.begin(uid)), True
        else:
            mark = _mark(tx, tenant, branch)
            begun = mark is None and self._fresh and branch == row.branch
            if not begun and (mark is None or not mark.newest or (mark.rows, mark.digest) != (chunk.start, chunk.before)):
                raise MovedError
            spot = self._spot(tx, row, branch)
        if begun and chunk.start:
            raise MovedError
        head, _ = history.append(tx, spot.id, spot.head, items)
        last = {} if chunk.last is None else {"last_row": str(chunk.last)}
        detail = {"rows": chunk.rows, "skipped": chunk.skipped, "digest": chunk.digest, "source": self._source, **last}
        if chunk.usage_digest:
            detail["usage_digest"] = chunk.usage_digest
        self._record_write(tx, row, spot._replace(head=head), len(items), detail=detail)
        owner = Owner(row.id, row.uid, spot.id, bytes.fromhex(spot.uid))
        chunk.usage_written = spending.keep(tx, tenant, owner, head, self._key, chunk.branch, chunk.usage)

    def _branch(self, tx: Transaction, tenant: Tenant, row: SessionRow, name: str) -> int | None:
        """The row id of the branch that has that name, or had it; None where there never was one."""
        if name == MAIN:
            return row.branch
        found = branches.find(tx.execute, row.id, branches.name_mac(tenant.keys, row.uid, name))
        if found is None:
            return None
        branches.check(tenant.keys.ledger, row.uid, found)
        return found.id


def _mark(tx: Transaction, tenant: Tenant, branch: int) -> Mark | None:
    """How far a branch was imported; None where it was not."""
    query = "SELECT * FROM ledger WHERE branch = ? AND instr(entry, CAST(? AS BLOB)) > 0 ORDER BY seq DESC LIMIT 1"
    found = tx.execute(query, (branch, f'"action":"{ACTION}"')).fetchone()
    if found is None:
        return None
    row = Row(*found)
    tenant.vault.ledger.check(row)
    detail: Mapping[str, Any] = entry_of(row).detail
    return Mark(
        detail["rows"], detail["digest"], detail["skipped"], detail.get("usage_digest", ""), tx.head(branch).seq == row.seq
    )
