"""keys.db: creates, opens, versions and destroys the keys of tenants, vaults, ledgers, subjects and sessions.

- Every key is 32 random bytes, wrapped by the one above with its full context as additional data, so that no wrapped key
  opens in another place (`wrap_context`).
- Creating is insert-or-reread in one transaction: two processes that begin one session get one key.
- Destroying is: delete the row, leave a tombstone, truncate the WAL. A destroyed key's name may come back, with a new uid
  and a new key.
- Names of subjects and sessions never stand here: an HMAC under the tenant's pseudonym key finds them.

Called by the store and by `service`, which give it an open connection and never hold a vault's lock while they call.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from typing import Any

from secure_memory import clock
from secure_memory.errors import ConfigurationError, KeyDestroyedError, KeyNotFoundError, TamperedError, WrongKeyError
from secure_memory.keys.database import Connection, Driver, KeysDatabase
from secure_memory.keys.key import Key, context
from secure_memory.keys.opened import SessionKeys, TenantKeys

CACHED_SESSIONS = 4096
"""Sessions whose opened keys are kept in memory."""
UID_BYTES = 16
_VERSION = 1


class Keyring:
    """The keys of one store. Safe to call from any thread; blocks for a commit where it creates or destroys."""

    def __init__(self, driver: Driver, root: Key, store: bytes) -> None:
        self._root = root
        self._store = store
        self._sessions: OrderedDict[tuple[bytes, bytes], SessionKeys] = OrderedDict()
        # The database's own key comes from the root; the salt need only differ between databases.
        key = Key(hmac.digest(root.bytes, context("secmem/keys.db/v1", store), "sha256"))
        self._database = KeysDatabase(driver, key, store)

    # ---- tenants ------------------------------------------------------------------------------------------------

    def tenants(self) -> list[tuple[bytes, str, str, int]]:
        """(uid, name, state, created) of every tenant, in order of name."""
        with self._database.transaction(write=False) as db:
            rows = db.execute("SELECT uid, name, state, created FROM tenants ORDER BY name").fetchall()
        return [(uid, name, state, created) for uid, name, state, created in rows]

    def vaults(self) -> list[bytes]:
        """The uid of the vault of every tenant, erased ones too."""
        with self._database.transaction(write=False) as db:
            return [uid for (uid,) in db.execute("SELECT vault FROM tenants").fetchall()]

    def tenant(self, name: str) -> TenantKeys | None:
        """The tenant of that name with its keys opened, or None. Raises KeyDestroyedError where it was erased."""
        with self._database.transaction(write=False) as db:
            return self._tenant(db, name)

    def create_tenant(self, name: str) -> TenantKeys:
        """The tenant of that name, made with all its keys where there is none (state `creating`)."""
        with self._database.transaction(write=True) as db:
            found = self._tenant(db, name)
            if found is not None:
                return found
            uid, vault, root = os.urandom(UID_BYTES), os.urandom(UID_BYTES), Key.random()
            db.execute("INSERT INTO tenants VALUES (?, ?, ?, 'creating', ?)", (uid, name, vault, clock.now()))
            self._insert(db, self._root, uid, "tenant", root, tenant=uid)
            for purpose in ("vault", "ledger", "pseudonym"):
                self._insert(db, root, uid, purpose, Key.random(), tenant=uid)
            made = self._tenant(db, name)
        if made is None:
            raise KeyNotFoundError(f"tenant {name!r} vanished while it was made")
        return made

    def activate_tenant(self, uid: bytes) -> None:
        """Say that the tenant's vault now exists: from here on a missing vault is a rollback."""
        with self._database.transaction(write=True) as db:
            db.execute("UPDATE tenants SET state = 'active' WHERE uid = ? AND state = 'creating'", (uid,))

    def _tenant(self, db: Connection, name: str) -> TenantKeys | None:
        row = db.execute("SELECT uid, name, vault, state, created FROM tenants WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        uid, _, vault, state, created = row
        if state == "erased":
            raise KeyDestroyedError(f"tenant {name!r} was erased", hint="its keys are destroyed; use another name")
        root = self._open(db, self._root, uid, "tenant", tenant=uid)
        return TenantKeys(
            uid,
            name,
            vault,
            state,
            created,
            root,
            self._open(db, root, uid, "vault", tenant=uid),
            self._open(db, root, uid, "ledger", tenant=uid),
            self._open(db, root, uid, "pseudonym", tenant=uid),
        )

    # ---- sessions and subjects ----------------------------------------------------------------------------------

    def cached_session(self, tenant: bytes, name: bytes) -> SessionKeys | None:
        """A session's keys where they are in memory. Does not block."""
        return self._sessions.get((tenant, name))

    def session(self, tenant: TenantKeys, name: bytes) -> SessionKeys | None:
        """The keys of the session whose name has this HMAC, or None. Raises WrongKeyError, KeyNotFoundError."""
        with self._database.transaction(write=False) as db:
            return self._session(db, tenant, name)

    def subject(self, tenant: TenantKeys, name: bytes) -> bytes | None:
        """The uid of the subject whose name has this HMAC, or None."""
        with self._database.transaction(write=False) as db:
            row = self._named(db, tenant.uid, "subject", name)
        return None if row is None else row[0]

    def create_session(self, tenant: TenantKeys, name: bytes, subject: bytes) -> tuple[SessionKeys, bool]:
        """The session's keys, and whether they were made now, for the subject whose name has the HMAC `subject`."""
        with self._database.transaction(write=True) as db:
            found = self._session(db, tenant, name)
            if found is not None:
                return found, False
            row = self._named(db, tenant.uid, "subject", subject)
            if row is None:
                subject_uid, subject_key = os.urandom(UID_BYTES), Key.random()
                self._insert(
                    db,
                    tenant.root,
                    subject_uid,
                    "subject",
                    subject_key,
                    tenant=tenant.uid,
                    subject=subject_uid,
                    name=subject,
                )
            else:
                subject_uid = row[0]
                subject_key = self._open(db, tenant.root, subject_uid, "subject", tenant=tenant.uid, subject=subject_uid)
            self._insert(
                db,
                subject_key,
                os.urandom(UID_BYTES),
                "session",
                Key.random(),
                tenant=tenant.uid,
                subject=subject_uid,
                name=name,
            )
        # Read only now that it is on disk: what is remembered before would be sealed with, and gone, if the commit failed.
        made = self.session(tenant, name)
        if made is None:
            raise KeyNotFoundError("a session's key vanished while it was made")
        return made, True

    def _session(self, db: Connection, tenant: TenantKeys, name: bytes) -> SessionKeys | None:
        row = self._named(db, tenant.uid, "session", name)
        if row is None:
            return None
        uid, version, subject, _ = row
        owner = db.execute(
            "SELECT name FROM keys WHERE owner = ? AND purpose = 'subject' ORDER BY version DESC LIMIT 1", (subject,)
        ).fetchone()
        subject_key = self._open(db, tenant.root, subject, "subject", tenant=tenant.uid, subject=subject)
        key = self._open(db, subject_key, uid, "session", tenant=tenant.uid, subject=subject)
        found = SessionKeys(uid, subject, owner[0], version, key, subject_key)
        self._sessions[tenant.uid, name] = found
        while len(self._sessions) > CACHED_SESSIONS:
            self._sessions.popitem(last=False)
        return found

    def _named(self, db: Connection, tenant: bytes, purpose: str, name: bytes) -> Any:
        return db.execute(
            "SELECT owner, version, subject, name FROM keys WHERE tenant = ? AND purpose = ? AND name = ?"
            " ORDER BY version DESC LIMIT 1",
            (tenant, purpose, name),
        ).fetchone()

    # ---- one key ------------------------------------------------------------------------------------------------

    def destroy(self, owner: bytes, purpose: str) -> int:
        """Destroy every version of a key, leave tombstones, truncate the WAL; returns how many versions there were.

        Raises KeyNotFoundError where there never was one. Destroying twice destroys once.
        """
        with self._database.transaction(write=True) as db:
            versions = db.execute("SELECT version FROM keys WHERE owner = ? AND purpose = ?", (owner, purpose)).fetchall()
            if not versions and not self._tombstone(db, owner, purpose):
                raise KeyNotFoundError(f"there is no {purpose} key of that owner to destroy")
            for (version,) in versions:
                db.execute("INSERT INTO tombstones VALUES (?, ?, ?, ?)", (owner, purpose, version, clock.now()))
            db.execute("DELETE FROM keys WHERE owner = ? AND purpose = ?", (owner, purpose))
            self._sessions.clear()
        self._database.truncate_wal()
        return len(versions)

    def _insert(
        self,
        db: Connection,
        parent: Key,
        owner: bytes,
        purpose: str,
        key: Key,
        *,
        tenant: bytes,
        subject: bytes | None = None,
        name: bytes | None = None,
    ) -> None:
        aad = self.wrap_context(owner, purpose, _VERSION, tenant, subject)
        wrapped = parent.wrap(key.bytes, aad)
        db.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (owner, purpose, _VERSION, tenant, subject, name, wrapped, clock.now()),
        )

    def _open(
        self, db: Connection, parent: Key, owner: bytes, purpose: str, *, tenant: bytes, subject: bytes | None = None
    ) -> Key:
        row = db.execute(
            "SELECT version, wrapped FROM keys WHERE owner = ? AND purpose = ? ORDER BY version DESC LIMIT 1",
            (owner, purpose),
        ).fetchone()
        if row is None:
            if self._tombstone(db, owner, purpose):
                raise KeyDestroyedError(f"the {purpose} key was destroyed", hint="what it sealed is gone, on purpose")
            raise KeyNotFoundError(
                f"the keyring has no {purpose} key of that owner", hint="restore keys.db from its newest backup"
            )
        try:
            return parent.unwrap(row[1], self.wrap_context(owner, purpose, row[0], tenant, subject))
        except (WrongKeyError, ConfigurationError):  # another key's, or none at all
            raise TamperedError(
                f"a {purpose} key does not open in its place in the keyring",
                hint="keep a copy of keys.db for the investigation, then restore it from its newest backup",
            ) from None

    def _tombstone(self, db: Connection, owner: bytes, purpose: str) -> bool:
        found = db.execute("SELECT 1 FROM tombstones WHERE owner = ? AND purpose = ?", (owner, purpose)).fetchone()
        return found is not None

    def wrap_context(self, owner: bytes, purpose: str, version: int, tenant: bytes, subject: bytes | None) -> bytes:
        """The additional data that a key is wrapped with: everything that says which key it is."""
        return context("secmem/wrap/v1", self._store, tenant, subject or b"", owner, purpose, version)

    def check(self) -> None:
        """Check every page of keys.db. Raises TamperedError."""
        self._database.check()

    def close(self) -> None:
        """Close the database and overwrite the keys that are cached. Closing twice is harmless."""
        self._database.close()
        for found in self._sessions.values():
            found.key.zero()
            found.subject_key.zero()
        self._sessions.clear()
        self._root.zero()
