"""secure_run_config: personal data is taken out before the run keeps it, before the model sees it, and kept out of traces.

    await Runner.run(agent, "...", session=session, run_config=secure_run_config(session))

- New input is redacted as it will be stored (`store` surface), before the run keeps it: what the run holds is then what the
  session holds, which the SDK compares when it tries again.
- What goes to the model is redacted for the `model` surface at each call: history, tool outputs and all. What was stored
  without personal data stays without: nothing is restored for the model.
- What the policy blocks trips a guardrail, before the model is asked.
- Traces get no inputs and outputs (`trace_include_sensitive_data=False`).

Your own callbacks and guardrails go on working: they run first, ours see what they made.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agents import RunConfig
from agents.run_config import CallModelData, ModelInputData

from secure_memory.agents_sdk.guardrails import block_input, block_output, note
from secure_memory.agents_sdk.session import SecureSession
from secure_memory.errors import BlockedContentError, ConfigurationError

if TYPE_CHECKING:
    from agents import TResponseInputItem

    from secure_memory.agents_sdk.compaction import SecureCompactionSession

Items = list["TResponseInputItem"]


def secure_run_config(session: SecureSession | SecureCompactionSession, **options: Any) -> RunConfig:
    """The SDK's RunConfig for runs with this session; `options` are RunConfig's own.

    Raises ConfigurationError where `trace_include_sensitive_data=True` is asked for, ValueError where it is no such session,
    and what RunConfig raises.
    """
    inner = session if isinstance(session, SecureSession) else getattr(session, "session", None)
    if not isinstance(inner, SecureSession):
        raise ValueError("secure_run_config is for a SecureSession or a SecureCompactionSession")
    if options.pop("trace_include_sensitive_data", False):
        raise ConfigurationError(
            "secure_run_config keeps inputs and outputs out of traces",
            hint="use a RedactingProcessor and a RunConfig of your own if traces have to have them",
        )
    if not isinstance(session, SecureSession):
        session.sees_model_surface()
    return RunConfig(
        session_input_callback=_input(inner, options.pop("session_input_callback", None)),
        call_model_input_filter=_model(inner, options.pop("call_model_input_filter", None)),
        input_guardrails=[*(options.pop("input_guardrails", None) or ()), block_input(inner)],
        output_guardrails=[*(options.pop("output_guardrails", None) or ()), block_output(inner)],
        trace_include_sensitive_data=False,
        **options,
    )


def _input(session: SecureSession, own: Callable[[Items, Items], Any] | None) -> Callable[[Items, Items], Awaitable[Items]]:
    async def combine(history: Items, new: Items) -> Items:
        # What comes from the history was redacted when it was stored.
        known, given = {id(item) for item in history}, {id(item) for item in new}
        combined = [*history, *new] if own is None else await _awaited(own(history, new))
        if not isinstance(combined, list):
            return combined  # type: ignore[no-any-return]  # the SDK says what is wrong with it
        fresh: list[Any] = [item for item in combined if id(item) not in known]
        note(None)
        try:
            clean = iter(await session._conversation.redact(fresh, "store"))
        except BlockedContentError as error:
            note(error)
            clean = iter(await session._conversation.redact(fresh, "store", "redact"))
        return [item if id(item) in known else _kept(item, next(clean), given) for item in combined]

    return combine


def _kept(item: Any, clean: Any, given: set[int]) -> Any:
    """The redacted item: what was given to the run stays the same object, a copy that the SDK has made for its callback. By
    identity the SDK tells what is new; one that equals an older one by now would be taken for that, and not be stored."""
    if clean is item or id(item) not in given:
        return clean
    item.clear()
    item.update(clean)
    return item


def _model(
    session: SecureSession, own: Callable[[CallModelData[Any]], Any] | None
) -> Callable[[CallModelData[Any]], Awaitable[ModelInputData]]:
    async def filtered(data: CallModelData[Any]) -> ModelInputData:
        model_data: ModelInputData = data.model_data if own is None else await _awaited(own(data))
        items: list[Any] = list(model_data.input)
        seen: list[Any] = await session._conversation.redact(items, "model")
        return ModelInputData(input=seen, instructions=model_data.instructions)

    return filtered


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
