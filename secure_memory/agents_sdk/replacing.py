"""Replacing a part of a session by something shorter, as the SDK's `OpenAIResponsesCompactionSession` asks for it.

It asks in two ways that are no part of the SDK's `Session` protocol, and without which it clears the history before it
writes the new one (`agents/memory/openai_responses_compaction_session.py`, 0.24): a snapshot whose end can be replaced,
and the replacement of everything. Both are one transaction here, so that nothing is lost where the program dies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from secure_memory.actor import Actor
from secure_memory.pausing import Pausing
from secure_memory.tenancy import Asker

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem
    from agents.memory.session import _CompactionSnapshot

_OPERATIONS = ("get_items", "add_items", "pop_item", "clear_session")


class Replacing:
    """The methods of a session whose history can be replaced. `SecureSession` has the rest."""

    _conversation: Pausing

    def _asker(self, actor: Actor | str | None, wrapper: RunContextWrapper[Any] | None) -> Asker:
        raise AssertionError("a session says who asks")  # pragma: no cover

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[TResponseInputItem], bool] | None = None,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> _CompactionSnapshot | None:
        """The newest `limit` items, whose end can be replaced as long as nobody wrote anything since.

        None where the session has not begun, and where a subclass has operations of its own, which this would go round.
        What a wrapper takes for expired (`prune_prefix`) is not deleted: what is deleted when is for the policy to say.
        """
        from agents.memory.session import _CompactionSnapshot  # here: SDKs before 0.23 have none, and don't ask for one

        asker = self._asker(None, wrapper)
        tail = await self._conversation.tail(limit, asker) if self._operations_are_ours() else None
        if tail is None:
            return None

        async def replace_suffix(start: int, items: list[TResponseInputItem]) -> bool:
            new: list[Any] = list(items)
            return start < len(tail.items) and await self._conversation.replace(new, asker, tail, start)

        found: list[Any] = tail.items
        return _CompactionSnapshot(items=found, complete=tail.complete, replace_suffix=replace_suffix)

    async def _atomic_replace_items(
        self, items: list[TResponseInputItem], *, wrapper: RunContextWrapper[Any] | None = None
    ) -> bool:
        """Put `items` into the place of all that the current branch has; False, and nothing, where a subclass has operations
        of its own."""
        asker = self._asker(None, wrapper)
        new: list[Any] = list(items)
        return self._operations_are_ours() and await self._conversation.replace(new, asker)

    def _operations_are_ours(self) -> bool:
        return all(getattr(type(self), name).__module__.startswith("secure_memory.") for name in _OPERATIONS)
