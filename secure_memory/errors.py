"""The error tree, grouped by who can fix it. Imports nothing.

Messages are lowercase, have no full stop, may name a tenant and a position, and never hold content or key bytes.
`hint` is the next step for whoever reads the message. A closed store or session is a RuntimeError and a bad argument a
ValueError, as in the SDK; errors of the database driver never come through.
"""

from __future__ import annotations


class SecureMemoryError(Exception):
    """Never raised itself: catch it to catch everything that secure-memory raises of its own."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None and hasattr(self, "add_note"):  # Python 3.11 and up show it below a traceback
            self.add_note(f"hint: {hint}")

    def __reduce__(self) -> tuple[object, ...]:
        """Copied and pickled as it is, whatever its constructor takes: errors travel between processes."""
        return _same, (type(self), self.args, self.__dict__)


def _same(kind: type[SecureMemoryError], args: tuple[object, ...], fields: dict[str, object]) -> SecureMemoryError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


# ---- the developer who configured it ----------------------------------------------------------------------------


class ConfigurationError(SecureMemoryError):
    """An argument, a file or the environment is not as it has to be."""


class PolicyError(ConfigurationError):
    """A policy can't be: `file`, `line` and `key` say where, as far as they are known, and `others` what else is wrong."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        hint: str | None = None,
        others: tuple[PolicyError, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.key = key
        self.others = others


class CipherUnavailableError(ConfigurationError):
    """The SQLite library that answers is not SQLCipher: nothing would be encrypted."""


class StoreVersionError(ConfigurationError):
    """The store was written by a newer secure-memory than this one."""


class NotAStoreError(ConfigurationError):
    """The path holds something else than a store, or nothing."""


# ---- whoever keeps the keys -------------------------------------------------------------------------------------


class KeyManagementError(SecureMemoryError):
    """A key is the trouble."""


class KeyNotFoundError(KeyManagementError):
    """No key was given, or a record of the keyring is missing."""


class WrongKeyError(KeyManagementError):
    """A key was given, and it is not the one that this was wrapped or encrypted with."""


class KeyDestroyedError(KeyManagementError):
    """The key was destroyed on purpose: what it sealed is gone."""


# ---- whoever grants access --------------------------------------------------------------------------------------


class AccessDeniedError(SecureMemoryError):
    """The actor may not do this. `actor` and `action` say who and what, `needed` what would have been enough."""

    def __init__(self, message: str, *, actor: str, action: str, needed: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.actor = actor
        self.action = action
        self.needed = needed


# ---- whoever answers for personal data --------------------------------------------------------------------------


class RedactionError(SecureMemoryError):
    """Personal data could not be looked for as the policy says. Nothing was stored, sent or shown."""


class BlockedContentError(RedactionError):
    """The policy refuses such content. Nothing was stored, sent or shown. `entity` says what it held, `item` which one of
    the items that were given (from 0), `rule` the policy's rule."""

    def __init__(self, message: str, *, entity: str, item: int, rule: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.entity = entity
        self.item = item
        self.rule = rule


# ---- whoever answers for how long it is kept --------------------------------------------------------------------


class RetentionError(SecureMemoryError):
    """A law's floor, or what a policy says of keeping, does not allow it yet. Nothing was deleted."""


class LegalHoldError(RetentionError):
    """A legal hold keeps it. Nothing was deleted."""


class StalePlanError(RetentionError):
    """A purge plan is not of this store and this policy as they are, or was edited. Nothing was deleted."""


class SafetyLimitError(RetentionError):
    """A purge would have deleted more than was allowed, or the clock can't be right. There nothing was deleted."""


# ---- the operator -----------------------------------------------------------------------------------------------


class StorageError(SecureMemoryError):
    """The disk, the file system or the database engine refused. Nothing of the operation was kept."""


class StoreBusyError(StorageError):
    """Another process held the store for longer than we wait."""


class DiskFullError(StorageError):
    """There was no room left. Nothing of the operation was kept."""


class SerializationError(StorageError):
    """An item is not a JSON object, so that it could not come back as it was given. Nothing was kept."""


# ---- the incident response team ---------------------------------------------------------------------------------


class IntegrityError(SecureMemoryError):
    """What is stored is not what was written. Treat it as an incident, do not retry."""


class TamperedError(IntegrityError):
    """Something was edited, dropped, reordered, forged, replayed or relabelled."""


class RollbackError(IntegrityError):
    """The store is older than the newest state that is known of it."""


class AuditGapError(IntegrityError):
    """The ledger cannot account for a stretch of time that it should account for."""
