"""What a purge knows of a session and decides of its items: the values of `surveying`, `purging` and `disposing`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

from secure_memory.errors import KeyNotFoundError
from secure_memory.keys.opened import SessionKeys
from secure_memory.policy.retention import Outcome
from secure_memory.redaction.blanking import WHOLLY_CONTENT
from secure_memory.tenancy import Tenant
from secure_memory.vault import sessions
from secure_memory.vault.sessions import Names, SessionRow


@dataclass
class Known:
    """A session, and what is opened of it when it is asked for: not inside a transaction, since keys.db is read for it."""

    tenant: Tenant
    row: SessionRow

    @cached_property
    def keys(self) -> SessionKeys:
        """Its keys. Raises KeyManagementError."""
        return keys_of(self.tenant, self.row)

    @cached_property
    def names(self) -> Names:
        """Its tags, and whether it ended. Raises TamperedError."""
        return sessions.open_names(self.keys.subject_key, self.tenant.keys.uid, self.row)


class Found(NamedTuple):
    """An item, or a group of items of one outcome: `size` of them. `uid` is empty for a group, `created` is its oldest's.
    `paused` is a paused run, which holds a conversation: rules take it for a message."""

    kind: str
    role: str
    tool: str
    redacted: bool
    bucket: int
    size: int
    created: int
    uid: bytes = b""
    discarded: bool = False
    paused: bool = False


class Fate(NamedTuple):
    """What becomes of an item: `done` is delete, redact or archive, or None where it stays as it is. `paired`: what it
    belongs to stays, so that it is redacted where it would be deleted; where it is archived, it is redacted besides."""

    found: Found
    outcome: Outcome
    done: str | None
    paired: bool = False


class Unit(NamedTuple):
    """What a purge does to a session. `exact`: each fate is of one item."""

    known: Known
    fates: list[Fate]
    exact: bool

    @property
    def whole(self) -> bool:
        """Whether everything is deleted, so that nothing has to be known of any item."""
        return bool(self.fates) and all(fate.done == "delete" for fate in self.fates)

    @property
    def acts(self) -> bool:
        """Whether anything is done."""
        return any(fate.done for fate in self.fates)

    def digest(self) -> bytes:
        """What identifies all that is done, of an exact unit (16 bytes)."""
        doomed = sorted((fate.found.uid, str(fate.done), fate.paired) for fate in self.fates if fate.done)
        return sha256(repr(doomed).encode()).digest()[:16]


def in_place(fate: Fate) -> Fate:
    """What becomes of an item that would leave, and what it belongs to stays."""
    if fate.done not in ("delete", "archive"):
        return fate
    if fate.found.redacted or fate.found.paused or fate.found.kind in WHOLLY_CONTENT:
        return fate._replace(done=None, paired=True)  # it was done, or can't be: it waits for what it belongs to
    return fate._replace(done="redact" if fate.done == "delete" else "archive", paired=True)


def keys_of(tenant: Tenant, row: SessionRow) -> SessionKeys:
    """The session's keys. Raises KeyManagementError."""
    keys = tenant.store.keyring.session(tenant.keys, row.name, row.key_version)
    if keys is None:
        raise KeyNotFoundError(
            f"tenant {tenant.keys.name!r}: the keyring has no key for session {row.uid.hex()}",
            hint="is keys.db an older copy than the vault? restore its newest backup",
        )
    return keys
