"""The SDK's paused runs, kept with their conversations: ``await session.save_run_state(result.to_state())``.

A run that waits for somebody's approval is written by the SDK as JSON, in plaintext, with the conversation in it. Kept here
it is sealed and proven like the conversation, and what comes back is what was kept last: the SDK itself does not check a
state, and asks you to resume from trusted storage only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from agents import RunState

from secure_memory.actor import Actor
from secure_memory.errors import SerializationError
from secure_memory.pausing import Pausing
from secure_memory.tenancy import Asker

if TYPE_CHECKING:
    from agents import Agent, RunContextWrapper


class RunStates:
    """The methods of a session that keeps a paused run. `SecureSession` has the rest."""

    _conversation: Pausing

    def _asker(self, actor: Actor | str | None, wrapper: RunContextWrapper[Any] | None) -> Asker:
        raise AssertionError("a session says who asks")  # pragma: no cover

    async def save_run_state(
        self, /, state: RunState[Any, Any] | dict[str, Any] | None, *, actor: Actor | str | None = None, **options: Any
    ) -> None:
        """Keep a paused run: a `RunState`, or the JSON that its `to_json` made. It takes the place of the one before; None
        forgets that one, once it is resumed. Clearing the session forgets it too.

        `options` are those of `RunState.to_json`. Raises SerializationError where it is no JSON object, IntegrityError,
        AccessDeniedError, StorageError.
        """
        kept = state.to_json(**options) if isinstance(state, RunState) else state
        if kept is not None and not isinstance(kept, dict):
            raise SerializationError("a run state is a RunState or the JSON object that its to_json() made")
        await self._conversation.save_state(kept, self._asker(actor, None))

    @overload
    async def load_run_state(self, agent: None = None, *, actor: Actor | str | None = None) -> dict[str, Any] | None: ...

    @overload
    async def load_run_state(
        self, agent: Agent[Any], *, actor: Actor | str | None = None, **options: Any
    ) -> RunState[Any, Any] | None: ...

    async def load_run_state(
        self, agent: Agent[Any] | None = None, *, actor: Actor | str | None = None, **options: Any
    ) -> RunState[Any, Any] | dict[str, Any] | None:
        """The run that was kept last, for the agent that it began with; its JSON where none is given; None where there is
        none.

        `options` are those of `RunState.from_json`. Raises IntegrityError, AccessDeniedError; UserError where the SDK
        does not take the state.
        """
        state = await self._conversation.load_state(self._asker(actor, None))
        return state if agent is None or state is None else await RunState.from_json(agent, state, **options)
