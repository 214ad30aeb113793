"""What a run gave to its session, where something else was stored: for that run's own recovery, and for nobody else.

The SDK compares what a run wrote with what the session returns, when it takes back a turn that is to be tried again and when
it does not know whether a write arrived (`agents/run_internal/session_persistence.py`: `rewind_session_items`,
`resume_pending_session_write`). Where redaction changed an item, the two differ, and the SDK would leave both the turn and
its repetition in the history, or give up. So the run that gave a batch gets that batch back as it gave it.

In memory only, of the newest batch only, and gone with the run: another process, another run, and the next batch see what is
stored. What the model is sent is filtered besides (`run_config`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from secure_memory import items as sdk_items
from secure_memory.items import Item

if TYPE_CHECKING:
    from agents import RunContextWrapper


class Given:
    """The newest batch of one run: the items that were stored otherwise than given, by what was stored."""

    def __init__(self, wrapper: RunContextWrapper[Any], given: Sequence[Item], stored: Sequence[Item]) -> None:
        self._run = weakref.ref(wrapper)
        changed = ((now, was) for was, now in zip(given, stored, strict=True) if now is not was)
        self._by_text = {sdk_items.dump(now): was for now, was in changed}

    def __repr__(self) -> str:
        return f"<Given {len(self._by_text)} items>"

    def __bool__(self) -> bool:
        return bool(self._by_text)

    def back(self, wrapper: RunContextWrapper[Any] | None, items: Sequence[Item]) -> list[Item]:
        """The items, those of the batch as they were given, if it is the run that gave them."""
        if wrapper is None or self._run() is not wrapper:
            return list(items)
        return [self._by_text.get(sdk_items.dump(item), item) for item in items]
