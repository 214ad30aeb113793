"""Everything that a store keeps about a person, for that person: GDPR Articles 15 and 20.

    README.txt                what this is, in words
    manifest.json             counts, the policy in force, length and SHA-256 of each part
    subject.json              the person's sessions: times, tags, what the program noted; archives that are not in here
    conversations/0001.json   one session: every branch, with what is withheld from the agent
    usage.json                tokens, by run and turn
    access.json               who did what with it: the ledger's entries about the person

A `subject.export` entry is on disk before anything is written, and one for each session before that is. Each conversation is
proven. What is written is a directory, or one file whose name ends in .zip, and is there whole or not at all, for its owner
alone. It is not encrypted. `SecureStore` has its method from `Subjects`.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from secure_memory import clock
from secure_memory import items as sdk_items
from secure_memory.actor import Actor, program, resolve
from secure_memory.errors import ConfigurationError, KeyDestroyedError
from secure_memory.facet import Facet
from secure_memory.lifecycle.backup import backup_set
from secure_memory.lifecycle.records import Records
from secure_memory.lifecycle.transfer import exporting
from secure_memory.lifecycle.transfer.exporting import Exporting, Line
from secure_memory.shared import SharedStore, transact
from secure_memory.tenancy import Asker, Tenant
from secure_memory.vault import erasures
from secure_memory.vault.sessions import Names

ACTION = "subject.export"
FORMAT = 1

Progress = Callable[[int, int], None]
"""Called now and then with the sessions that were written, and how many there are."""
_Put = Callable[[str, bytes], None]

_README = """\
This is what is kept about "{subject}" in the conversations of "{tenant}", as it was on {made}.

  subject.json     your conversations: when they began and ended, how they are tagged, what was noted of them;
                   "archives" names files that what was older has been moved to: ask for what is in them, too
  conversations/   what was said and done in each of them, in order; every branch of it. "(withheld)" is what is kept because
                   a law or a legal hold asks for it, and is not used by the assistant any more
  usage.json       what your conversations have cost in tokens
  access.json      who has read or changed any of it, when, for which purpose, and the reason that was given
  manifest.json    how much of each there is, and a checksum (SHA-256) of every file, which tells whether one was changed

The files are JSON, in UTF-8: any text editor shows them, and other services can read them. Times are UTC.
{masked}"""
_MASKED = "What looks like an address, a card number and the like is masked where it may be somebody else's.\n"


@dataclass(frozen=True, slots=True)
class SubjectExport:
    """What was written: how many sessions, items, rows of usage and entries; `manifest` is the SHA-256 of the manifest."""

    tenant: str
    subject: str
    path: str
    sessions: int
    items: int
    usage: int
    accesses: int
    masked: bool
    manifest: str


class Subjects(Facet):
    """The method of a store that tells a person what it keeps. `SecureStore` has the rest."""

    def subject_export(
        self,
        subject: str,
        out: str | os.PathLike[str],
        *,
        tenant: str = "default",
        exact: bool = False,
        progress: Progress | None = None,
    ) -> SubjectExport:
        """Write everything that is kept about a subject into the new directory `out`, or the file, if its name ends in .zip.

        What is said of others is shown as the policy's `view` surface shows it, or as it is kept where `exact` asks that.
        `progress(sessions so far, sessions)` is called now and then. Raises ConfigurationError where there is no such tenant
        or subject, or something is at `out` already; KeyDestroyedError for a subject that was erased; IntegrityError,
        RedactionError, StorageError, AccessDeniedError.
        """
        shared = self._open()
        place = Path(out).expanduser()
        if place.suffix != ".zip" and place.exists():
            raise ConfigurationError(
                f"there is something at {place} already", hint="name a directory that does not exist yet"
            )
        one = _Export(shared, shared.existing_tenant(tenant), subject, self._who(), self._require_actor, exact)
        return one.write(place, progress)


class _Export:
    """One export of one subject."""

    def __init__(
        self,
        shared: SharedStore,
        tenant: Tenant,
        subject: str,
        actor: Actor | None,
        require_actor: bool,
        exact: bool,
    ) -> None:
        self._shared = shared
        self._tenant = tenant
        self._name = subject
        self._actor = actor
        self._require_actor = require_actor
        self._exact = exact
        self._parts: dict[str, tuple[int, str]] = {}
        self._put: _Put = self._nowhere

    def write(self, out: Path, progress: Progress | None) -> SubjectExport:
        """Collect and write all of it."""
        uid = self._found()
        records = Records(self._shared, self._tenant, uid)
        self._record(uid, records)
        with _writing(out) as self._put:
            sessions = list(records.sessions())
            items = 0
            described = []
            for number, (names, about) in enumerate(sessions, 1):
                lines = self._lines(names)
                file = f"conversations/{number:04d}.json"
                self._add(file, {"session": names.session, "branches": self._branches(lines)})
                described.append({**about, "items": len(lines), "file": file})
                items += len(lines)
                if progress is not None:
                    progress(number, len(sessions))
            usage, accesses = list(records.usage()), list(records.accesses())
            about = {"subject": self._name, "tenant": self._tenant.keys.name, "sessions": described}
            self._add("subject.json", {**about, "archives": records.archives()})
            self._add("usage.json", usage)
            self._add("access.json", accesses)
            counts = {"sessions": len(sessions), "items": items, "usage": len(usage), "accesses": len(accesses)}
            manifest = self._close(uid, counts)
        name = self._tenant.keys.name
        return SubjectExport(name, self._name, str(out), **counts, masked=not self._exact, manifest=manifest)

    def _found(self) -> bytes:
        """The subject's uid. Raises KeyDestroyedError where it was erased, ConfigurationError where nobody has that name."""
        keys, name = self._tenant.keys, self._tenant.keys.name
        uid = self._shared.keyring.subject(keys, keys.name_mac("subject", self._name))
        if uid is not None:
            return uid
        with self._tenant.vault.database.snapshot() as execute:
            erased = erasures.newest(execute, keys.ledger, keys.uid, keys.name_mac("erased subject", self._name))
        if erased is not None:
            raise KeyDestroyedError(
                f"tenant {name!r}: that subject was erased, as asked for on {clock.rfc3339(erased.begun)[:10]}",
                hint="the certificate of the erasure says what is kept nevertheless, and why",
            )
        raise ConfigurationError(
            f"tenant {name!r} has no such subject",
            hint="names are exact; `secmem session list` shows whose sessions there are",
        )

    def _record(self, uid: bytes, records: Records) -> None:
        """The entry, on disk. A subject who asks is named by uid, as everywhere."""
        who = resolve(None, None, self._actor) or program()
        fields: dict[str, Any] = {"action": ACTION, "subject": uid.hex()}
        if self._tenant.keys.name_mac("subject", who.id) == self._tenant.keys.name_mac("subject", self._name):
            fields["actor"] = f"subject:{uid.hex()}"
        fields["detail"] = {"sessions": records.count, "masked": not self._exact}
        transact(self._tenant, lambda tx: tx.record(fields), ACTION, self._actor)

    def _lines(self, names: Names) -> list[Line]:
        return Exporting(
            self._shared,
            names.session,
            tenant=self._tenant.keys.name,
            subject=None,
            actor=self._actor,
            require_actor=self._require_actor,
            cache=False,
        ).lines(Asker(resolve(None, None, self._actor)), ACTION, hidden=True, exact=self._exact)

    def _branches(self, lines: list[Line]) -> list[dict[str, Any]]:
        """The branches with their items, as JSON."""
        return [
            {"branch": branch, "items": [self._item(line) for line in its]}
            for branch, its in groupby(lines, key=lambda line: line.branch)
        ]

    def _item(self, line: Line) -> dict[str, Any]:
        created = clock.rfc3339(line.created)
        return {"position": line.position, "turn": line.turn, "created": created, "item": sdk_items.load(line.text)}

    # ---- writing --------------------------------------------------------------------------------------------------

    def _nowhere(self, name: str, data: bytes) -> None:
        raise AssertionError("nothing is open to be written to")  # pragma: no cover

    def _add(self, name: str, value: object) -> None:
        self._write(name, _readable(value))

    def _write(self, name: str, data: bytes) -> None:
        self._put(name, data)
        self._parts[name] = len(data), sha256(data).hexdigest()

    def _close(self, uid: bytes, counts: dict[str, int]) -> str:
        """README and manifest; returns the manifest's SHA-256."""
        made, masked = clock.rfc3339(clock.now()), not self._exact
        readme = _README.format(
            subject=self._name,
            tenant=self._tenant.keys.name,
            made=f"{made[:16]}Z".replace("T", " "),
            masked=_MASKED * masked,
        )
        self._write("README.txt", readme.encode("utf-8", "replace"))
        manifest = {
            "format": FORMAT,
            "made": made,
            "store": self._shared.manifest.uid.hex(),
            "tenant": self._tenant.keys.name,
            "subject": self._name,
            "subject_uid": uid.hex(),
            "masked": masked,
            "policy": self._shared.policy.detail(),
            "counts": counts,
            "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in sorted(self._parts.items())},
        }
        data = _readable(manifest)
        self._put("manifest.json", data)
        return sha256(data).hexdigest()


def _readable(value: object) -> bytes:
    """JSON for people: letters as they are, escaped only where UTF-8 has none for them (a lone surrogate)."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value, indent=2).encode() + b"\n"


@contextmanager
def _writing(out: Path) -> Iterator[_Put]:
    """What writes a part: into a directory, or a zip file, that takes its place when it is whole."""
    if out.suffix == ".zip":
        with exporting.opened(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            yield archive.writestr
        return
    with backup_set.being_written(out.absolute().parent, out.name) as partial:

        def put(name: str, data: bytes) -> None:
            with backup_set.told(f"write {out}"):
                (partial / name).parent.mkdir(mode=0o700, exist_ok=True)
                backup_set.write(partial / name, data)

        yield put
        backup_set.keep(partial, out.name)
