"""keys.db: creates, opens, versions and destroys the keys of tenants, vaults, ledgers, subjects and sessions.

- Every key is 32 random bytes, wrapped by the one above with its full context as additional data, so that no wrapped key
  opens in another place (`wrap_context`).
- Creating is insert-or-reread in one transaction: two processes that begin one session get one key.
- A destroyed key (see `erasing`) has a tombstone. Its name may come back, with a new uid and a new key.
- Names of subjects and sessions never stand here: an HMAC under the tenant's pseudonym key finds them.

Called by the store and by `service`, which give it an open connection and never hold a vault's lock while they call.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from secure_memory import clock
from secure_memory.errors import KeyDestroyedError, KeyNotFoundError, TamperedError
from secure_memory.keys.copying import Copying
from secure_memory.keys.database import Connection, Driver, KeysDatabase
from secure_memory.keys.key import Key
from secure_memory.keys.opened import SessionKeys, TenantKeys
from secure_memory.keys.roots import Ask, file_key
from secure_memory.keys.rotating import Rotating
from secure_memory.keys.store_keys import StoreKeys

CACHED_SESSIONS = 4096
"""Sessions whose opened keys are kept in memory."""
UID_BYTES = 16


class Keyring(Rotating, StoreKeys, Copying):
    """The keys of one store. Safe to call from any thread; blocks for a commit where it creates or destroys."""

    def __init__(
        self, driver: Driver, root: Key, store: bytes, tombstones: Path | None = None, ask: Ask | None = None
    ) -> None:
        """`tombstones` is the path of the list beside the anchors; a store in memory has none. `ask` gives the store roots
        that there are, when keys.db is no longer under this one."""
        super().__init__(store, root, tombstones, ask)
        self._sessions: OrderedDict[tuple[bytes, bytes], SessionKeys] = OrderedDict()
        self._database = KeysDatabase(driver, file_key(root, store), store, self._other_keys)

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
        root = self._tenant_root(db, uid)
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

    def forget_session(self, tenant: bytes, name: bytes) -> None:
        """Keep a session's keys in memory no longer: they are destroyed."""
        self._sessions.pop((tenant, name), None)

    def session(self, tenant: TenantKeys, name: bytes, version: int | None = None) -> SessionKeys | None:
        """The keys of the session whose name has this HMAC, or None.

        `version` is the one that the session's row names. Where it is not the one that stands here, whoever replaced the
        key died before `settle`, which is done now. Raises KeyDestroyedError, KeyNotFoundError, TamperedError.
        """
        with self._database.transaction(write=False) as db:
            found = self._session(db, tenant, name)
        if found is None or version is None or version == found.version:
            return found
        self.settle(found.uid, version)
        with self._database.transaction(write=False) as db:
            return self._session(db, tenant, name)

    def subject(self, tenant: TenantKeys, name: bytes) -> bytes | None:
        """The uid of the subject whose name has this HMAC, or None."""
        with self._database.transaction(write=False) as db:
            row = self._named(db, tenant.uid, "subject", name)
        return None if row is None else row[0]

    def subject_key(self, tenant: TenantKeys, uid: bytes) -> Key:
        """The key of the subject with this uid. Raises KeyDestroyedError, KeyNotFoundError, TamperedError."""
        with self._database.transaction(write=False) as db:
            return self._open(db, tenant.root, uid, "subject", tenant=tenant.uid, subject=uid)

    def create_session(self, tenant: TenantKeys, name: bytes, subject: bytes) -> tuple[SessionKeys, bool]:
        """The session's keys, and whether they were made now, for the subject whose name has the HMAC `subject`."""
        with self._database.transaction(write=True) as db:
            found = self._session(db, tenant, name)
            if found is not None:
                return found, False
            subject_uid, subject_key = self._subject(db, tenant, subject)
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

    def prepare_session(self, tenant: TenantKeys, session: bytes, subject: bytes, name: bytes | None = None) -> SessionKeys:
        """A new version of a session's key, for the subject whose name has the HMAC `subject`.

        The old one stands until `settle`: nothing is lost where the vault never comes to name the new one. With `name` it
        stands at once, beside the old one, for a session that will be found by that HMAC instead.
        """
        with self._database.transaction(write=True) as db:
            subject_uid, subject_key = self._subject(db, tenant, subject)
            newest = db.execute(
                "SELECT max(version) FROM (SELECT version, owner, purpose FROM keys UNION ALL"
                " SELECT version, owner, purpose FROM tombstones) WHERE owner = ? AND purpose = 'session'",
                (session,),
            ).fetchone()[0]
            key, version = Key.random(), newest + 1
            self._insert(
                db,
                subject_key,
                session,
                "session",
                key,
                tenant=tenant.uid,
                subject=subject_uid,
                name=name,
                version=version,
            )
        return SessionKeys(session, subject_uid, subject, version, key, subject_key)

    def settle(self, session: bytes, version: int) -> None:
        """Let this version of a session's key stand, which the vault names now, and destroy those before it.

        Those after it are left alone: someone else prepared them, who will succeed or fail. Settling twice is harmless.
        Raises KeyDestroyedError where this version was destroyed: a later one stands.
        """
        with self._database.transaction(write=True) as db:
            rows = db.execute(
                "SELECT version, name FROM keys WHERE owner = ? AND purpose = 'session' ORDER BY version", (session,)
            ).fetchall()
            versions = {number for number, _ in rows}
            if version not in versions:
                if self._tombstone(db, session, "session", version):
                    raise KeyDestroyedError(
                        "the session's key was destroyed when the session was resealed",
                        hint="is the vault an older copy than keys.db? restore its newest backup",
                    )
                return
            names = [name for _, name in rows if name is not None]
            one = "owner = ? AND purpose = 'session' AND version = ?"
            db.execute(f"UPDATE keys SET name = ? WHERE {one}", (names[-1], session, version))  # noqa: S608 - our own words
            self._bury(db, session, "session", below=version)
            for known in [known for known, keys in self._sessions.items() if keys.uid == session]:
                self._sessions.pop(known, None)
        self._database.truncate_wal()

    def _subject(self, db: Connection, tenant: TenantKeys, name: bytes) -> tuple[bytes, Key]:
        """The uid and the key of the subject whose name has this HMAC, made where there is none."""
        row = self._named(db, tenant.uid, "subject", name)
        if row is not None:
            return row[0], self._open(db, tenant.root, row[0], "subject", tenant=tenant.uid, subject=row[0])
        uid, key = os.urandom(UID_BYTES), Key.random()
        self._insert(db, tenant.root, uid, "subject", key, tenant=tenant.uid, subject=uid, name=name)
        return uid, key

    def _session(self, db: Connection, tenant: TenantKeys, name: bytes) -> SessionKeys | None:
        row = self._named(db, tenant.uid, "session", name)
        if row is None:
            return None
        uid, version, subject, _ = row
        owner = db.execute(
            "SELECT name FROM keys WHERE owner = ? AND purpose = 'subject' ORDER BY version DESC LIMIT 1", (subject,)
        ).fetchone()
        *newer, last = self._subject_keys(db, tenant, subject)
        for subject_key in newer:  # her keys are being replaced
            with suppress(TamperedError):
                key = self._open(db, subject_key, uid, "session", tenant=tenant.uid, subject=subject, version=version)
                break
        else:
            subject_key = last
            key = self._open(db, subject_key, uid, "session", tenant=tenant.uid, subject=subject, version=version)
        found = SessionKeys(uid, subject, owner[0], version, key, subject_key)
        self._sessions[tenant.uid, name] = found
        while len(self._sessions) > CACHED_SESSIONS:
            self._sessions.popitem(last=False)
        return found

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
        for root in self._roots:
            root.zero()
