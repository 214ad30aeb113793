"""Results that are mappings and have attributes: ``usage["total_tokens"]`` and ``usage.total_tokens`` are one."""

from __future__ import annotations

from typing import Any

_ALSO_CALLED = {"id": "branch_id", "turn_count": "user_turns"}
"""Names that lessons use, and the SDK's names for the same."""


class Result(dict[str, Any]):
    """A dict as the SDK returns it, whose keys are attributes too. Raises AttributeError or KeyError for others."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this result has no {name!r}") from None

    def get(self, name: str, default: Any = None) -> Any:
        """The value by either of its names; `default` where there is none."""
        try:
            return self[name]
        except KeyError:
            return default

    def __missing__(self, name: str) -> Any:
        if name in _ALSO_CALLED:
            return self[_ALSO_CALLED[name]]
        raise KeyError(name)
