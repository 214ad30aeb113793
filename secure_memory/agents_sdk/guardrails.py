"""Guardrails for what the policy blocks: they trip, and say which entity and which rule.

``Agent(..., input_guardrails=[block_input(session)], output_guardrails=[block_output(session)])``; `secure_run_config` has both.
The input guardrail runs before the model is asked, not beside it: what is blocked is not sent either. What the SDK then keeps
of the input (`persist_session_items_for_guardrail_trip`) is stored with the blocked text taken out, so that the history says
that somebody asked, and not what.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from agents import Agent, GuardrailFunctionOutput, InputGuardrail, OutputGuardrail, RunContextWrapper

from secure_memory.errors import BlockedContentError
from secure_memory.inforce import Surface

if TYPE_CHECKING:
    from agents import TResponseInputItem

    from secure_memory.agents_sdk.session import SecureSession

_refused: weakref.WeakSet[RunContextWrapper[Any]] = weakref.WeakSet()
"""Runs in which a guardrail of ours tripped."""


def refused(wrapper: RunContextWrapper[Any]) -> bool:
    """Whether a guardrail of ours tripped in this run: what it has refused already is not to be refused again, as an error
    that would hide the guardrail's own."""
    return wrapper in _refused


def block_input(session: SecureSession) -> InputGuardrail[Any]:
    """A guardrail that trips where the input holds what the policy in force blocks (`store: block` or `model: block`).

    `output_info` says entity, rule and surface; never content.
    """

    async def blocked(
        context: RunContextWrapper[Any], agent: Agent[Any], given: str | list[TResponseInputItem]
    ) -> GuardrailFunctionOutput:
        items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        return await _tripped(session, context, items)

    return InputGuardrail(blocked, name="secure_memory_block_input", run_in_parallel=False)


def block_output(session: SecureSession) -> OutputGuardrail[Any]:
    """A guardrail that trips where the final output holds what the policy in force blocks. `output_info` as above."""

    async def blocked(context: RunContextWrapper[Any], agent: Agent[Any], output: Any) -> GuardrailFunctionOutput:
        text = output if isinstance(output, str) else _as_json(output)
        return await _tripped(session, context, [{"role": "assistant", "content": text}])

    return OutputGuardrail(blocked, name="secure_memory_block_output")


async def _tripped(session: SecureSession, context: RunContextWrapper[Any], items: list[Any]) -> GuardrailFunctionOutput:
    surfaces: tuple[Surface, ...] = ("store", "model")
    for surface in surfaces:
        try:
            await session._conversation.redact(items, surface)
        except BlockedContentError as error:
            _refused.add(context)
            said = {"blocked": error.entity, "rule": error.rule, "surface": surface, "reason": str(error)}
            return GuardrailFunctionOutput(output_info=said, tripwire_triggered=True)
    return GuardrailFunctionOutput(output_info={"blocked": None}, tripwire_triggered=False)


def _as_json(output: Any) -> Any:
    """Structured output as the text that is looked at."""
    import orjson

    dumped = output.model_dump(mode="json") if hasattr(output, "model_dump") else output
    return orjson.dumps(dumped, default=str).decode()
