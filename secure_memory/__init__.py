"""Encrypted, audited conversation memory for the OpenAI Agents SDK.

Most people need one line: ``SecureSession("user_123", "support.secmem", tenant="acme")`` in the place of the SDK's
``SQLiteSession``. A service opens a ``SecureStore`` once and asks it for sessions.

The public names are loaded on first use (PEP 562): ``import agents`` costs seconds, and a command that lists tenants
needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from secure_memory.errors import (
    AccessDeniedError,
    AuditGapError,
    BlockedContentError,
    CipherUnavailableError,
    ConfigurationError,
    DiskFullError,
    IntegrityError,
    KeyDestroyedError,
    KeyManagementError,
    KeyNotFoundError,
    LegalHoldError,
    NotAStoreError,
    PolicyError,
    RedactionError,
    RetentionError,
    RollbackError,
    SafetyLimitError,
    SecureMemoryError,
    SerializationError,
    StalePlanError,
    StorageError,
    StoreBusyError,
    StoreVersionError,
    TamperedError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from secure_memory.actor import Actor, acting_as
    from secure_memory.agents_sdk.compaction import SecureCompactionSession
    from secure_memory.agents_sdk.guardrails import block_input, block_output
    from secure_memory.agents_sdk.run_config import secure_run_config
    from secure_memory.agents_sdk.session import SecureSession
    from secure_memory.agents_sdk.tracing import RedactingProcessor
    from secure_memory.aio import AsyncSecureStore
    from secure_memory.keys.local import EnvKeyProvider, FileKeyProvider
    from secure_memory.lifecycle.erasure.certificate import Certificate
    from secure_memory.store import SecureStore

__version__ = "0.1.0"

_LAZY = {
    "Actor": "secure_memory.actor",
    "AsyncSecureStore": "secure_memory.aio",
    "Certificate": "secure_memory.lifecycle.erasure.certificate",
    "EnvKeyProvider": "secure_memory.keys.local",
    "FileKeyProvider": "secure_memory.keys.local",
    "RedactingProcessor": "secure_memory.agents_sdk.tracing",
    "SecureCompactionSession": "secure_memory.agents_sdk.compaction",
    "SecureSession": "secure_memory.agents_sdk.session",
    "SecureStore": "secure_memory.store",
    "acting_as": "secure_memory.actor",
    "block_input": "secure_memory.agents_sdk.guardrails",
    "block_output": "secure_memory.agents_sdk.guardrails",
    "secure_run_config": "secure_memory.agents_sdk.run_config",
}

__all__ = [
    "AccessDeniedError",
    "Actor",
    "AsyncSecureStore",
    "AuditGapError",
    "BlockedContentError",
    "Certificate",
    "CipherUnavailableError",
    "ConfigurationError",
    "DiskFullError",
    "EnvKeyProvider",
    "FileKeyProvider",
    "IntegrityError",
    "KeyDestroyedError",
    "KeyManagementError",
    "KeyNotFoundError",
    "LegalHoldError",
    "NotAStoreError",
    "PolicyError",
    "RedactingProcessor",
    "RedactionError",
    "RetentionError",
    "RollbackError",
    "SafetyLimitError",
    "SecureCompactionSession",
    "SecureMemoryError",
    "SecureSession",
    "SecureStore",
    "SerializationError",
    "StalePlanError",
    "StorageError",
    "StoreBusyError",
    "StoreVersionError",
    "TamperedError",
    "WrongKeyError",
    "acting_as",
    "block_input",
    "block_output",
    "secure_run_config",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'secure_memory' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
