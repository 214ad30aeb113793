"""Archives, checked and read back: `SecureStore` has its methods from `Archives`.

Reading one discloses what people said, so that whoever may export a subject's data may do it, and it is an entry of the
store's own ledger: the tenant may be erased by then. Checking one tells counts only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_memory import clock
from secure_memory import items as sdk_items
from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.facet import Facet
from secure_memory.lifecycle.purge import archive
from secure_memory.shared import SharedStore

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """An archive that was found whole. `tenant` and `sha256` are in hex; `sha256` is over what it holds."""

    tenant: str
    sessions: int
    items: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ArchivedItem:
    """An item of an archive, and whose it was. `created` is in microseconds, uids are in hex."""

    tenant: str
    session: str
    subject: str
    tags: Mapping[str, str]
    uid: str
    turn: int
    kind: str
    created: int
    item: sdk_items.Item


class Archives(Facet):
    """The methods of a store that are about its archives. `SecureStore` has the rest."""

    def archive_verify(self, file: PathLike) -> ArchiveInfo:
        """Check a whole archive. It is an `audit.verify` entry. Raises TamperedError where it was edited or cut off,
        ConfigurationError where it is none, or another store's."""
        shared, path = self._open(), Path(file)
        header = _ours(shared, path)
        shared.record({"action": "audit.verify", "detail": {"archive": header["tenant"]}}, self._who())
        sessions, end = 0, None
        for kind, said in archive.read(path, shared.keyring.store_key("archive")):
            sessions += kind == "session"
            end = said if kind == "end" else None
        if end is None:
            raise TamperedError("the archive has no end", hint="copy it again from where it is kept")
        return ArchiveInfo(header["tenant"], sessions, end["items"], end["sha256"])

    def archive_read(self, file: PathLike) -> list[ArchivedItem]:
        """What an archive holds, in order, once all of it is checked. It is a `subject.export` entry. Raises as
        `archive_verify`, and AccessDeniedError."""
        shared, path = self._open(), Path(file)
        header = _ours(shared, path)
        shared.record({"action": "subject.export", "detail": {"archive": header["tenant"]}}, self._who())
        return list(_items(path, shared))


def _ours(shared: SharedStore, path: Path) -> dict[str, Any]:
    header = archive.header_of(path)
    if header.get("store") != shared.manifest.uid.hex():
        raise ConfigurationError("the archive is another store's", hint="open the store that wrote it, with its key")
    return header


def _items(path: Path, shared: SharedStore) -> Iterator[ArchivedItem]:
    of: dict[str, Any] = {}
    for kind, said in archive.read(path, shared.keyring.store_key("archive")):
        if kind == "session":
            of = said
        elif kind == "item":
            yield ArchivedItem(
                of["tenant"],
                of["session"],
                of["subject"],
                of["tags"],
                said["uid"],
                said["turn"],
                said["kind"],
                clock.parse(said["created"]),
                sdk_items.load(said["json"].encode("utf-8", "surrogatepass")),
            )
