"""Brings one session of an SDK database into a vault: in one transaction where it is short, else in several.

- An import that was stopped goes on behind the last row that was kept (see `intake`).
- Rows are appended only to a branch whose newest write is an import of the very same rows. A session that was begun
  otherwise, or was written to since, is left alone, and said to be.
- A message that stands in several branches is sealed once, and is the same item in all of them, as forking does it.

Called by `transfer`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from secure_memory import clock
from secure_memory.actor import Actor
from secure_memory.errors import ConfigurationError, KeyDestroyedError
from secure_memory.items import Item
from secure_memory.keys.key import context
from secure_memory.lifecycle.transfer import spending
from secure_memory.lifecycle.transfer.envelope import UnreadableError
from secure_memory.lifecycle.transfer.foreign import Foreign, ForeignSession, Message
from secure_memory.lifecycle.transfer.intake import Chunk, Intake, Mark, MovedError, New
from secure_memory.tenancy import Tenant, Tenants
from secure_memory.vault.branches import MAIN

CHUNK = 2000
"""Items of one transaction: it holds up the tenant's other writers for some tenths of a second."""


class RefusedError(Exception):
    """The session in the vault is not one to append these rows to. Its text is the reason."""


@dataclass(slots=True)
class Brought:
    """What was done for one session: `rows` were gone through, `items` were kept now, `earlier` rows in imports before, of
    which `skipped` held no item. `usage` counts rows of what was spent. `unreadable` are rows and reasons, `refused` is why
    nothing more was kept."""

    items: int = 0
    rows: int = 0
    earlier: int = 0
    skipped: int = 0
    usage: int = 0
    usage_left_out: int = 0
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    refused: str | None = None


class Importing(Intake):
    """One session on its way into a tenant's vault."""

    def __init__(
        self,
        store: Tenants,
        database: Foreign,
        session: ForeignSession,
        tenant: Tenant,
        subject: str,
        *,
        actor: Actor | None,
        require_actor: bool,
        read: Callable[[object], tuple[Item, bytes]],
        progress: Callable[[int], None],
    ) -> None:
        """`read` is the `envelope.reader` of the session; `progress(rows so far)` is called now and then."""
        super().__init__(
            store,
            session.id,
            tenant=tenant.keys.name,
            subject=subject,
            actor=actor,
            require_actor=require_actor,
            source=tenant.keys.name_mac("import", str(database.path))[:16].hex(),
            key=tenant.keys.name_mac("import", session.id),
        )
        self._database = database
        self._session = session
        self._read = read
        self._progress = progress

    def bring(self) -> Brought:
        """Import what is not imported yet. Raises StorageError, IntegrityError, AccessDeniedError."""
        done = Brought()
        while True:
            try:
                self._bring(done)
            except MovedError:
                done = Brought(items=done.items, usage=done.usage)  # what was kept is kept
                continue
            except RefusedError as error:
                done.refused = str(error)
            except KeyDestroyedError:
                done.refused = "its keys were destroyed: what was erased does not come back"
            except ConfigurationError as error:
                if type(error) is not ConfigurationError:  # the one that `tenancy` raises
                    raise
                done.refused = "it belongs to another subject"
            return done

    def _bring(self, done: Brought) -> None:
        names = self._began = self._database.branches(self._session)
        marks = self._wait(lambda opened: self._look(opened, names))
        self._fresh = marks is None
        self._shared = self._database.shared(self._session)
        self._known = {}
        self._earlier: list[tuple[str, list[int]]] = []  # branches imported before, and which of their rows hold items
        pending: list[Chunk] = []
        for name in names:
            mark = None if marks is None else marks.get(name)
            if mark is None and marks is not None and name in marks:
                why = "there is such a session" if name == MAIN else "it has a branch of the same name"
                raise RefusedError(f"{why}, and it was not imported")
            pending = self._bring_branch(name, mark, pending, done)
        self._keep(pending, done, done.rows)

    def _bring_branch(self, name: str, mark: Mark | None, pending: list[Chunk], done: Brought) -> list[Chunk]:
        """Go through a branch; returns the chunks that are still to be kept, those of branches before among them."""
        digest = hmac.new(self._key, context("secmem/import/v1", name), "sha256")
        earlier: list[int] = []
        chunk, created, rows = None, self._session.created, 0
        skipped = 0 if mark is None else mark.skipped
        for message in self._database.messages(self._session, name):
            rows += 1
            created = created if message.created is None else message.created
            if mark is not None and rows <= mark.rows:
                digest.update(_bytes(message))
                if rows == mark.rows and digest.hexdigest() != mark.digest:
                    raise RefusedError("it was imported from other messages, or they were changed since")
                if self._shared and self._read_or_note(message, []) is not None:
                    earlier.append(message.id)
                continue
            if mark is not None and not mark.newest:
                raise RefusedError("it was written to since it was imported, and so was the database")
            if chunk is not None and sum(len(one.items) for one in pending) >= CHUNK:
                chunk.digest = digest.hexdigest()
                self._keep(pending, done, done.rows + rows - 1)
                pending, chunk = [], None
            if chunk is None:
                chunk = Chunk(name, rows - 1, digest.hexdigest(), rows, skipped)
                pending.append(chunk)
            digest.update(_bytes(message))
            found = self._read_or_note(message, done.unreadable)
            skipped += found is None
            if found is not None:
                chunk.items.append(New(message.id, *found, clock.now() if created is None else created))
            chunk.rows, chunk.skipped, chunk.last = rows, skipped, message.id
        if mark is not None and rows < mark.rows:
            raise RefusedError("messages that were imported are gone from the database")
        if rows == 0 and self._fresh and self._session.branched:  # main: it is imported, although it is empty
            chunk = Chunk(name, 0, digest.hexdigest(), 0, 0)
            pending.append(chunk)
        usage = self._database.usage(self._session, name)
        spent = spending.digest(self._key, usage)
        if chunk is None and mark is not None and mark.newest and spent != mark.usage:  # nothing new but what was spent
            chunk = Chunk(name, rows, digest.hexdigest(), rows, skipped)
            pending.append(chunk)
        if chunk is not None:
            chunk.digest, chunk.usage, chunk.usage_digest = digest.hexdigest(), usage, spent
        done.rows += rows
        if mark is not None:
            done.earlier += mark.rows
            done.skipped += mark.skipped
            if mark.newest:  # else what is stored may be other items
                self._earlier.append((name, earlier))
        return pending

    def _read_or_note(self, message: Message, notes: list[tuple[int, str]]) -> tuple[Item, bytes] | None:
        """A row's item and its JSON; None where there is none, which is noted."""
        try:
            return self._read(message.data)
        except UnreadableError as error:
            notes.append((message.id, str(error)))
            return None

    def _keep(self, chunks: list[Chunk], done: Brought, rows: int) -> None:
        """Write the chunks, in one transaction. Where nothing in them is an item, no session is begun for them."""
        ids = {new.id for chunk in chunks for new in chunk.items}
        if chunks and (ids or not self._fresh):
            self._database.check()
            if self._earlier and ids & self._shared:
                self._find_shared()
            new = len(ids - self._known.keys())
            self._wait(lambda opened: self._write(opened, chunks), create=True)
            self._fresh = False
            done.items += new
            done.usage += sum(chunk.usage_written[0] for chunk in chunks)
            done.usage_left_out += sum(chunk.usage_written[1] for chunk in chunks)
        self._progress(rows)

    def _find_shared(self) -> None:
        """Find again the items that were imported before and stand in branches that are not imported yet."""
        for name, ids in self._earlier:
            found = self._wait(partial(self._stored, name=name))
            if len(found) == len(ids):  # else an envelope expired since, and which item is which can't be told
                self._known.update((id_, item) for id_, item in zip(ids, found, strict=True) if id_ in self._shared)
        self._earlier = []


def _bytes(message: Message) -> bytes:
    """The bytes of a row that the digest is of: no two rows have the same."""
    data = message.data
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    elif not isinstance(data, bytes):
        data = b"\0" + repr(data).encode()
    return b"%d %d " % (message.id, len(data)) + data
