"""What can be done to a store, as entries say it and roles allow it. Imports nothing."""

from __future__ import annotations


def _named(verbs: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{noun}.{verb}" for noun, some in verbs.items() for verb in some.split())


GRANTED = _named(
    {
        "session": "create read append pop clear branch usage review tag assign end reveal redact",
        "subject": "export erase",
        "tenant": "create erase",
        "policy": "apply",
        "retention": "plan purge",
        "hold": "place release",
        "key": "rotate destroy",
        "audit": "read export verify gap",
        "store": "backup restore import",
    }
)
"""What a role can allow."""
ACTIONS = GRANTED | _named({"session": "withhold tampered", "access": "denied", "store": "create open close"})
"""What entries say: also what follows from something else, and what is nobody's to forbid."""
