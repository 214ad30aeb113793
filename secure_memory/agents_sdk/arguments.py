"""The arguments of sessions: those that are not ours, and names that are none."""

from __future__ import annotations

from typing import Any

from secure_memory.errors import ConfigurationError
from secure_memory.shared import check_tenant_name

_REFUSED = {
    "sessions_table": "a vault has its own tables; drop this argument",
    "messages_table": "a vault has its own tables; drop this argument",
    "logger": "secure-memory logs to the standard logger `secure_memory`; drop this argument",
    "encryption_key": "the key comes from keys=, SECMEM_KEY or a key file",
    "ttl": "retention is declared in a policy, not for each session",
    "underlying_session": "a SecureSession stores by itself; give it a path",
    "engine": "a SecureSession stores in a directory of its own; give it a path",
    "url": "a SecureSession stores in a directory of its own; give it a path",
    "max_scan_items": "every item is opened, and one that does not open raises; drop this argument",
    "ensure_ascii": "an item comes back as it was given, whatever it is stored as; drop this argument",
    **dict.fromkeys(
        ("redis_client", "client", "database", "state_store_name", "dapr_client", "conversation_id", "openai_client"),
        "a SecureSession stores in a directory of its own; give it a path",
    ),
    **dict.fromkeys(
        ("key_prefix", "sessions_collection", "messages_collection", "consistency"),
        "a SecureSession has tables of its own, in a directory of its own; drop this argument",
    ),
}
"""Arguments of the SDK's sessions that we don't take, and what to do instead."""


def refuse(others: dict[str, Any]) -> None:
    """Raise ConfigurationError for an argument of another session, TypeError for one of none."""
    for name in others:
        if name in _REFUSED:
            raise ConfigurationError(f"SecureSession does not take {name}=", hint=_REFUSED[name])
        raise TypeError(f"SecureSession got an unexpected keyword argument {name!r}")


def check_names(session_id: object, tenant: object, subject: object) -> None:
    """Raise ValueError where one of them is no name."""
    for what, value in (("session_id", session_id), ("tenant", tenant), ("subject", subject)):
        if what != "subject" or value is not None:
            check_text(what, value)
    check_tenant_name(str(tenant))


def check_text(what: str, value: object, longest: int | None = None) -> None:
    """Raise ValueError where it is no text, or empty, or has more characters than `longest`."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be a text that is not empty")
    if longest is not None and len(value) > longest:
        raise ValueError(f"{what} is longer than {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not valid Unicode") from None
