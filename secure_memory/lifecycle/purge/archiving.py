"""Writing the archive of what a batch of sessions archives, before anything of it is deleted. Called by `purging`.

A file has the name of what is in it, so that a purge that died after writing it, and begins again, writes the same file once
more and no second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from secure_memory import clock
from secure_memory.errors import ConfigurationError
from secure_memory.lifecycle.purge.archive import PARTIAL, ArchiveWriter
from secure_memory.lifecycle.purge.fates import Known, Unit
from secure_memory.lifecycle.purge.surveying import Survey
from secure_memory.shared import SharedStore
from secure_memory.vault import branches, history
from secure_memory.vault.history import ItemRow

SUFFIX = ".secmem-archive"


class Archived(NamedTuple):
    """The uids of the items that are in files now, and the files' paths."""

    uids: frozenset[bytes]
    files: list[str]


def write(shared: SharedStore, survey: Survey, batch: Sequence[Unit], directory: Path | None) -> Archived:
    """Archive what the batch archives. Raises DiskFullError, StorageError, TamperedError; nothing is left then."""
    doomed = {unit.known.row.id: {f.found.uid for f in unit.fates if f.done == "archive"} for unit in batch}
    uids = frozenset(uid for found in doomed.values() for uid in found)
    if not uids:
        return Archived(uids, [])
    if directory is None:
        raise ConfigurationError("a store in memory has no place for archives", hint="name a directory: archive_to=...")
    tenant = survey.tenant
    name = sha256(b"".join(sorted(uids))).hexdigest()[:32]
    mine = tenant.keys.uid.hex()[:8]
    for left in directory.glob(f".{mine}-*{PARTIAL}"):  # a purge died over it; there is no other one of this vault now
        left.unlink(missing_ok=True)
    header = {"store": shared.manifest.uid.hex(), "tenant": tenant.keys.uid.hex()}
    writer = ArchiveWriter(directory / f"{mine}-{name}{SUFFIX}", shared.keyring.store_key("archive"), header)
    try:
        for unit in batch:
            if wanted := doomed[unit.known.row.id]:
                writer.session(_said_of(survey, unit.known))
                for branch, row, text in _items(survey, unit.known, wanted):
                    writer.item({**_said(row), "branch": branch}, text)
        return Archived(uids, [str(writer.finish())])
    except BaseException:
        writer.abandon()
        raise


def _said_of(survey: Survey, known: Known) -> dict[str, Any]:
    names, row = known.names, known.row
    return {
        "tenant": survey.tenant.keys.name,
        "uid": row.uid.hex(),
        "subject_uid": row.subject.hex(),
        "session": names.session,
        "subject": names.subject,
        "tags": dict(names.tags),
        "created": clock.rfc3339(row.created),
    }


def _said(row: ItemRow) -> dict[str, Any]:
    return {
        "uid": row.uid.hex(),
        "turn": row.turn,
        "kind": row.kind,
        "role": row.role,
        "tool": row.tool,
        "created": clock.rfc3339(row.created),
    }


def _items(survey: Survey, known: Known, wanted: set[bytes]) -> list[tuple[str, ItemRow, bytes]]:
    """The items, opened, each once, in the order of the branches; with the uid of the first branch that it stands in."""
    found: list[tuple[str, ItemRow, bytes]] = []
    left = set(wanted)
    with survey.tenant.vault.database.snapshot() as execute:
        for branch in branches.of_session(execute, known.row.id):
            for row in history.rows(execute, branch.id):
                if row.uid in left:
                    left.discard(row.uid)
                    (text,) = history.unsealed([row], known.keys.key.aead, survey.tenant.keys.uid, known.row.uid)
                    found.append((branch.uid.hex(), row, text))
    return found
