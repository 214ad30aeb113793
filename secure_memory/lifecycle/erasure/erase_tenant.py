"""Erasing a tenant: its ledger is archived, its keys are destroyed, its file is removed.

1. **intent**: an entry and a row of the system vault say what is to be erased. A hold, or a law's floor, refuses it.
2. **keys**: in one transaction of the tenant's vault, so that nobody writes to it any more, the ledger is archived under the
   store's archive key, read back, and compared with its root; then every key of the tenant is destroyed and listed beside
   the anchors. From here on it is erased, in every copy of the vault too.
3. **rows**: the vault's file and its WAL are removed.
4. **files**: keys.db is searched for the wrapped keys that stood in it.
5. **done**: the certificate is signed, kept and recorded, in the system vault.

Whoever dies in between is finished by running the erasure again. The name stays taken: another tenant needs another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from secure_memory import clock, directory
from secure_memory.actor import Actor, program, resolve
from secure_memory.disk import sync
from secure_memory.errors import KeyDestroyedError, KeyManagementError, TamperedError
from secure_memory.keys.erasing import Held
from secure_memory.ledger import merkle
from secure_memory.ledger.ledger import VERIFY_HINT, Row
from secure_memory.lifecycle.erasure import certificate, searching, traces, withhold
from secure_memory.lifecycle.purge import archive
from secure_memory.lifecycle.purge.archive import ArchiveWriter
from secure_memory.lifecycle.purge.archiving import SUFFIX
from secure_memory.shared import SharedStore, transact
from secure_memory.tenancy import Tenant
from secure_memory.vault import erasures, sessions
from secure_memory.vault.erasures import Erasure
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.transaction import Transaction

ACTION = "tenant.erase"


class TenantErasure:
    """One erasure of a tenant, as it goes on."""

    def __init__(self, shared: SharedStore, name: str, actor: Actor | None) -> None:
        self._shared = shared
        self._system = shared.system
        self._name = name
        self._actor = actor
        self._mac = self._system.keys.name_mac("erased tenant", name)
        self._stands: Erasure | None = None

    def run(self) -> tuple[Erasure, bool]:
        """The erasure, done, and whether it had been before.

        Raises ConfigurationError where there is no such tenant, RetentionError where something has to be kept, StorageError,
        IntegrityError, AccessDeniedError.
        """
        erasure = self.intent()
        already = erasure.is_past("done")
        for stage, step in (("keys", self.keys), ("rows", self.rows), ("files", self.files), ("done", self.done)):
            if not erasure.is_past(stage):
                erasure = step(erasure)
        return erasure, already

    # ---- the steps ----------------------------------------------------------------------------------------------

    def intent(self) -> Erasure:
        """(1) The erasure to go on with, or the one that was done, or a new one."""
        self._stands = known = transact(self._system, self._known, ACTION, self._actor)
        if known is not None:
            return known
        tenant = self._shared.existing_tenant(self._name)
        who = resolve(None, None, self._actor) or program()
        held = self._shared.keyring.held(tenant=tenant.keys.uid)
        asked = clock.now()
        keys = _session_keys(self._shared, tenant)

        def weigh(tx: Transaction) -> dict[str, Any]:
            rows = list(sessions.rows(tx.execute))
            for row in rows:
                sessions.check(tenant.keys.ledger, tenant.keys.uid, row)
            found = [withhold.weigh(tx, tenant, row, keys.get(row.uid), asked) for row in rows]
            withhold.refuse_kept(self._name, found)
            tx.record({"detail": {"stage": "begun"}})
            return _figures(tx)

        figures = transact(tenant, weigh, ACTION, self._actor)
        new = Erasure(0, "tenant", tenant.keys.uid.hex(), [tenant.keys.vault.hex()], asked, who.id, reason=who.reason)
        new = replace(new, items=figures.pop("items"), figures=figures, traces=traces.noted(_pieces(held)))
        return self._move(replace(new, keys=_top_keys(held, tenant)), {})

    def keys(self, erasure: Erasure) -> Erasure:
        """(2) The ledger is in an archive that was read back, and no key opens the vault any more."""
        try:
            tenant = self._shared.existing_tenant(self._name)
        except KeyDestroyedError:  # whoever began died before the stage was kept
            archived = self._read_back(erasure)
        else:
            archived = transact(tenant, lambda tx: self._archive_and_destroy(tx, tenant, erasure), ACTION, self._actor)
            self._shared.forget(self._name)
        tombstones = self._shared.keyring.tombstones
        listed = 0 if tombstones is None else tombstones.append([])
        figures = {**erasure.figures, "archived": archived}
        return self._move(replace(erasure, stage="keys", listed=listed, figures=figures), archived, action="key.destroy")

    def rows(self, erasure: Erasure) -> Erasure:
        """(3) The file is gone."""
        path = self._vault_file(erasure)
        if path is not None:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            sync(path.parent)
        return self._move(replace(erasure, stage="rows"), {})

    def files(self, erasure: Erasure) -> Erasure:
        """(4) None of its keys stands in keys.db."""
        pieces, keys = traces.from_note(erasure.traces), self._shared.path_of_keys
        searched = {"traces": len(pieces), "pages": 0}
        if keys is not None:
            found = searching.search([(keys, self._shared.keyring.file_key())], pieces)
            if found.found:
                raise TamperedError(
                    f"tenant {self._name!r}: {len(found.found)} of its erased keys still stand in keys.db", hint=VERIFY_HINT
                )
            searched["pages"] = found.pages
        return self._move(replace(erasure, stage="files", traces=(), searched=searched), {"searched": searched})

    def done(self, erasure: Erasure) -> Erasure:
        """(5) The certificate, and the entry that has its digest."""
        signed = certificate.of_tenant(self._shared, erasure)
        erasure = replace(erasure, stage="done", certificate=signed.to_json())
        return self._move(erasure, {"certificate": signed.digest})

    # ---- how ----------------------------------------------------------------------------------------------------

    def _known(self, tx: Transaction) -> Erasure | None:
        keys = self._system.keys
        known = erasures.newest(tx.execute, keys.ledger, keys.uid, self._mac)
        if known is not None:
            detail: dict[str, Any] = {"tenant": known.subject, "erasure": known.id}
            tx.record({"detail": {**detail, **({"already": True} if known.is_past("done") else {"resumed": known.stage})}})
        return known

    def _archive_and_destroy(self, tx: Transaction, tenant: Tenant, erasure: Erasure) -> dict[str, Any]:
        """The end of the tenant, inside a transaction that keeps everybody else out."""
        tx.record({"detail": {"stage": "archived"}})
        path = self._archive_file(erasure)
        if path is not None:
            header = {"store": self._shared.manifest.uid.hex(), "tenant": tenant.keys.uid.hex(), "holds": "ledger"}
            writer = ArchiveWriter(path, self._shared.keyring.store_key("archive"), header)
            try:
                writer.session({"vault": tenant.keys.vault.hex(), "root": tx.tail.root.hex()})
                for entry, text in _entries(tx, tenant):
                    writer.item(entry, text)
                writer.finish()
            except BaseException:
                writer.abandon()
                raise
        archived = self._read_back(erasure)
        if path is not None and (archived["entries"], archived["root"]) != (tx.tail.size, tx.tail.root.hex()):
            raise TamperedError(f"tenant {self._name!r}: the archive of its ledger is not the ledger", hint=VERIFY_HINT)
        self._shared.keyring.erase(tenant=tenant.keys.uid)
        return archived

    def _read_back(self, erasure: Erasure) -> dict[str, Any]:
        """What the archive of the ledger holds: how many entries, and the root over them. Raises TamperedError where that
        is not the root that it says."""
        path = self._archive_file(erasure)
        if path is None:
            return {"entries": 0, "root": "", "file": ""}
        peaks: tuple[bytes, ...] = ()
        said, count = "", 0
        for kind, line in archive.read(path, self._shared.keyring.store_key("archive")):
            if kind == "session":
                said = line["root"]
            elif kind == "item":
                text = line["json"].encode()  # empty where the entry was pruned, and its hash is what is left
                peaks, _ = merkle.append(peaks, count, merkle.leaf_hash(text) if text else bytes.fromhex(line["leaf"]))
                count += 1
        if merkle.root(peaks).hex() != said:
            raise TamperedError(f"tenant {self._name!r}: the archive of its ledger does not give its root", hint=VERIFY_HINT)
        return {"entries": count, "root": said, "file": path.name}

    def _archive_file(self, erasure: Erasure) -> Path | None:
        path = self._shared.path
        return None if path is None else path / directory.ARCHIVES / f"ledger-{erasure.subject}{SUFFIX}"

    def _vault_file(self, erasure: Erasure) -> Path | None:
        path = self._shared.path
        return None if path is None else path / directory.VAULTS / f"{erasure.sessions[0]}.db"

    def _move(self, erasure: Erasure, detail: Mapping[str, Any], action: str = ACTION) -> Erasure:
        """Keep how far the erasure is, with an entry."""
        keys = self._system.keys

        def work(tx: Transaction) -> Erasure:
            erasures.refuse_other(tx.execute, keys.ledger, keys.uid, self._mac, self._stands)
            moved = erasures.put(tx.execute, keys.ledger, keys.uid, self._mac, erasure)
            told = {"tenant": moved.subject, "erasure": moved.id, "stage": moved.stage, **detail}
            tx.record({"action": action, "detail": told})
            return moved

        self._stands = transact(self._system, work, ACTION, self._actor)
        return self._stands


def _session_keys(shared: SharedStore, tenant: Tenant) -> dict[bytes, Any]:
    """The keys of the tenant's sessions by uid, where a rule or a hold needs them to be weighed."""
    with tenant.vault.database.snapshot() as execute:
        rows: list[SessionRow] = list(sessions.rows(execute))
    found = {}
    for row in rows:
        with suppress(KeyManagementError):  # of one that nobody can read, nothing has to be kept
            found[row.uid] = withhold.keys_of(shared, tenant, row)
    return found


def _figures(tx: Transaction) -> dict[str, Any]:
    """How much there was: items by kind, sessions, and what was spent."""
    items = dict(tx.execute("SELECT kind, count(DISTINCT uid) FROM items GROUP BY kind").fetchall())
    (count,) = tx.execute("SELECT count(*) FROM sessions WHERE key_version > 0").fetchone()
    query = "SELECT coalesce(sum(requests), 0), coalesce(sum(input), 0), coalesce(sum(output), 0) FROM usage"
    spent = dict(zip(("requests", "input", "output"), tx.execute(query).fetchone(), strict=True))
    return {"items": items, "count": count, "usage": spent}


def _entries(tx: Transaction, tenant: Tenant) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The ledger's entries in order, each proven, with what an archive says of it."""
    for found in tx.execute("SELECT * FROM ledger ORDER BY seq"):
        row = Row(*found)
        tenant.vault.ledger.check(row)
        yield {"seq": row.seq, "leaf": row.nodes[: merkle.HASH_SIZE].hex()}, row.entry


def _pieces(held: list[Held]) -> list[bytes]:
    return traces.some([key.wrapped[1 : 1 + traces.BYTES] for key in held])


def _top_keys(held: list[Held], tenant: Tenant) -> list[dict[str, Any]]:
    """Of the keys that go, those that all others are below."""
    now = clock.rfc3339(clock.now())
    return [
        {"owner": key.owner.hex(), "purpose": key.purpose, "version": key.version, "destroyed": now}
        for key in held
        if key.owner == tenant.keys.uid
    ]
