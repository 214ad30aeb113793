"""Compaction of a `SecureSession`: the SDK's own, without its crash window, and with who asks and what it cost.

The SDK's `OpenAIResponsesCompactionSession` wraps a session and has `responses.compact` of the OpenAI API make a long
history short. It decides when, and what may be sent; that is left to it, and inherited. What it does not do is done here:

- it calls the wrapped session without `wrapper`: here the run's context reaches every operation, so the ledger names its
  actor and its usage is recorded;
- before 0.24 it clears the history and then writes the short one, and where the program dies in between, both are gone:
  here one transaction replaces the one by the other, with every SDK that we support;
- what the compaction itself has cost is recorded too, for the model that did it;
- what is sent is redacted for the `model` surface, and what comes back is redacted like everything that is stored.

Under the SDK's own class a SecureSession works as well, and its operations have the session's own actor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agents import OpenAIResponsesCompactionSession
from agents.memory.session import _await_mutation

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.agents_sdk.usage import charge_of

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem
    from agents.memory import OpenAIResponsesCompactionArgs
    from agents.memory.session import _CompactionSnapshot

_context: ContextVar[Any] = ContextVar("secure_memory_compaction", default=None)
"""The context of the run that is asking, which the SDK's class does not hand on."""


@contextmanager
def _asked_in(wrapper: RunContextWrapper[Any] | None) -> Iterator[None]:
    token = _context.set(_context.get() if wrapper is None else wrapper)
    try:
        yield
    finally:
        _context.reset(token)


class SecureCompactionSession(OpenAIResponsesCompactionSession):
    """A SecureSession whose history is compacted: ``SecureCompactionSession(SecureSession("user_123", "support.secmem"))``.

    Other arguments are those of `OpenAIResponsesCompactionSession`: client, model, compaction_mode,
    should_trigger_compaction, max_rollback_items. Raises ValueError as it does, and where `session` is no SecureSession.
    """

    def __init__(self, session: SecureSession, **options: Any) -> None:
        if not isinstance(session, SecureSession):
            raise ValueError("SecureCompactionSession compacts a SecureSession")
        self._underlying = _Underlying(session)
        super().__init__(session.session_id, self._underlying, **options)
        self.session = session
        self.session_settings = session.session_settings

    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """As `SecureSession.get_items`."""
        with _asked_in(wrapper):
            return await super().get_items(limit)

    async def add_items(self, items: list[TResponseInputItem], *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """As `SecureSession.add_items`."""
        with _asked_in(wrapper):
            await super().add_items(items)

    async def pop_item(self, *, wrapper: RunContextWrapper[Any] | None = None) -> TResponseInputItem | None:
        """As `SecureSession.pop_item`."""
        with _asked_in(wrapper):
            return await super().pop_item()

    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """As `SecureSession.clear_session`."""
        with _asked_in(wrapper):
            await super().clear_session()

    async def run_compaction(
        self, args: OpenAIResponsesCompactionArgs | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> None:
        """Compact the history, if it is time to or `args` has `force`. What the SDK's method raises, and IntegrityError,
        AccessDeniedError, StorageError: the history is as it was then.

        The run's usage, which the compaction adds to, is recorded.
        """
        with _asked_in(wrapper):
            before = None if wrapper is None else wrapper.usage.total_tokens
            await super().run_compaction(args, wrapper=wrapper)
            if wrapper is not None and wrapper.usage.total_tokens != before:
                charge = charge_of(wrapper.usage, str(self.model))
                await self.session._conversation.charge(charge, self.session._asker(None, wrapper))

    async def _replace_underlying_session_items(
        self,
        *,
        output_items: list[TResponseInputItem],
        previous_items: list[TResponseInputItem],
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Replace everything in one step: SDKs before 0.24 would clear and add, and put `previous_items` back on errors."""

        async def exchange() -> None:
            await self.session._atomic_replace_items(output_items, wrapper=_context.get())
            # As the SDK does where it replaces in one step: whoever is cancelled now has replaced nevertheless.
            self._deferred_response_id = None
            if wrapper is not None:
                wrapper._session_compaction_completed = True  # type: ignore[attr-defined]

        await _await_mutation(exchange())

    @property
    def client(self) -> Any:
        """The client, whose requests to compact are redacted for the policy's `model` surface before they are sent."""
        return _Client(super().client, self.session)

    def sees_model_surface(self) -> None:
        """From now on the model sees what `secure_run_config` lets it see. The SDK compacts what it finds again in what the
        model was sent last: it has to look for that, and not for what is stored."""
        self._underlying.for_model = True


class _Client:
    """An OpenAI client, of which the SDK's class uses `responses.compact` only."""

    def __init__(self, client: Any, session: SecureSession) -> None:
        self.responses = _Responses(client.responses, session)


class _Responses:
    def __init__(self, responses: Any, session: SecureSession) -> None:
        self._responses = responses
        self._session = session

    async def compact(self, **request: Any) -> Any:
        """As the client does, with redacted input. Raises BlockedContentError, RedactionError: nothing is sent then."""
        if isinstance(request.get("input"), list):
            request["input"] = await self._session._conversation.redact(request["input"], "model")
        return await self._responses.compact(**request)


class _Underlying:
    """A SecureSession as the SDK's class calls it: without `wrapper`, which is found here."""

    def __init__(self, session: SecureSession) -> None:
        self._session = session
        self.for_model = False
        self.session_id = session.session_id
        self.session_settings = session.session_settings

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        return await self._session.get_items(limit, wrapper=_context.get())

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        await self._session.add_items(items, wrapper=_context.get())

    async def pop_item(self) -> TResponseInputItem | None:
        return await self._session.pop_item(wrapper=_context.get())

    async def clear_session(self) -> None:
        await self._session.clear_session(wrapper=_context.get())

    async def _get_compaction_snapshot(self, limit: int) -> _CompactionSnapshot | None:
        found = await self._session._get_compaction_snapshot(limit, wrapper=_context.get())
        if found is None or not self.for_model:
            return found
        items: list[Any] = await self._session._conversation.redact(list(found.items), "model")  # type: ignore[arg-type]
        return replace(found, items=items)
