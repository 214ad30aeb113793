"""What personal data there is already: counts by session and entity, in a tenant or in a database of the SDK. No values.

Everything that the detectors know is looked for, whatever the policy does with it. Called by `cleansing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from secure_memory import items as sdk_items
from secure_memory.actor import Actor
from secure_memory.errors import RedactionError
from secure_memory.inforce import InForce, inline, slow
from secure_memory.items import Item
from secure_memory.lifecycle.transfer.envelope import UnreadableError, cipher, reader
from secure_memory.lifecycle.transfer.exporting import Exporting
from secure_memory.lifecycle.transfer.foreign import Foreign
from secure_memory.redaction.entities import ENTITIES
from secure_memory.redaction.operators import Keyed
from secure_memory.redaction.pipeline import Redactor, Rule
from secure_memory.shared import SharedStore
from secure_memory.tenancy import Asker

_ALL = "all"
Progress = Callable[[int, int], None]
"""Called now and then with the sessions that were gone through, and how many there are."""


@dataclass(frozen=True, slots=True)
class Found:
    """How often an entity was found in a session, and in how many of its items."""

    session: str
    entity: str
    findings: int
    items: int


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What personal data there is, by session and entity; `place` is a tenant or a file. `stored_as` says what the policy in
    force stores of each entity. `unreadable` rows of a database hold no item."""

    place: str
    sessions: int
    items: int
    unreadable: int
    found: tuple[Found, ...]
    stored_as: Mapping[str, str]


def scan_tenant(
    shared: SharedStore,
    tenant: str,
    names: list[str],
    actor: Actor | None,
    *,
    require_actor: bool,
    progress: Progress | None,
) -> ScanReport:
    """Look through sessions of a tenant; each is a `session.read` entry."""
    look = _Look(shared.policy)
    for number, name in enumerate(names, 1):
        one = Exporting(shared, name, tenant=tenant, subject=None, actor=actor, require_actor=require_actor, cache=False)
        lines = one.lines(Asker(actor), hidden=True, exact=True)
        # A fork's items are its source's: they stand in the same place, and are counted once.
        items = {(line.position, line.created, line.text): line.text for line in lines}
        look.at(name, sdk_items.load_all(list(items.values())))
        if progress is not None:
            progress(number, len(names))
    return look.report(f"tenant {tenant}")


def scan_database(policy: InForce, path: Path, encryption_key: str | None, progress: Progress | None) -> ScanReport:
    """Look through a database of the SDK, which is only read. Raises ConfigurationError, StorageError."""
    look = _Look(policy)
    with Foreign(path) as database:
        sessions = database.sessions()
        for number, session in enumerate(sessions, 1):
            # With a key, too, what nobody encrypted is looked at: a scan is there to find it.
            keys = [None] if encryption_key is None else [cipher(encryption_key, session.id), None]
            readers = [reader(key, None) for key in keys]
            data = {one.id: one.data for branch in database.branches(session) for one in database.messages(session, branch)}
            items = [item for one in data.values() if (item := _read(readers, one)) is not None]
            look.unreadable += len(data) - len(items)
            look.at(session.id, items)
            if progress is not None:
                progress(number, len(sessions))
    return look.report(str(path))


def _read(readers: Sequence[Callable[[object], tuple[Item, bytes]]], data: object) -> Item | None:
    """The item of a row, by the first that can read it; None where none can."""
    for read in readers:
        with suppress(UnreadableError):
            return read(data)[0]
    return None


class _Look:
    """Counts what is found, session by session."""

    def __init__(self, policy: InForce) -> None:
        told = policy.policy.redaction
        entities = sorted({*ENTITIES, *(rule.entity for rule in told.rules)})
        rules = [Rule("scan", entity, "redact") for entity in entities]
        self._redactor = Redactor({_ALL: rules}, inline(policy.policy), slow(policy.policy), allow=told.allow)
        self._stored_as = {rule.entity: rule.store for rule in told.rules}
        self._findings: Counter[tuple[str, str]] = Counter()
        self._items: Counter[tuple[str, str]] = Counter()
        self._seen = self._sessions = 0
        self.unreadable = 0

    def at(self, session: str, items: list[Item]) -> None:
        """Look at a session's items."""
        self._sessions += 1
        self._seen += len(items)
        for item in items:
            found = self._redactor.redact([item], _ALL, _KEYLESS).treated
            self._findings.update((session, one.entity) for one in found)
            self._items.update({(session, one.entity) for one in found})

    def report(self, place: str) -> ScanReport:
        """All that was found."""
        found = tuple(
            Found(session, entity, count, self._items[session, entity])
            for (session, entity), count in sorted(self._findings.items())
        )
        stored_as = {one.entity: self._stored_as.get(one.entity, "keep") for one in found}
        return ScanReport(place, self._sessions, self._seen, self.unreadable, found, stored_as)


def _keyless(data: bytes) -> NoReturn:
    raise RedactionError("a scan makes no tokens")  # pragma: no cover - its only operator is redact


_KEYLESS = Keyed(_keyless, _keyless)
