"""Guardrails for what the policy blocks: they trip, and say which entity and which rule.

`secure_run_config` has both. The SDK stores a run's input before it asks the guardrails, so the run config takes out what is
blocked, and notes it for the guardrail that follows in the same run (`note`): the history says that somebody asked, and not
what. The input guardrail runs before the model is asked, not beside it: what is blocked is not sent either.

``Agent(..., input_guardrails=[block_input(session)])`` works for an agent by itself too; a session whose run has no secure
run config refuses the input before that (BlockedContentError), and nothing is stored.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from agents import Agent, GuardrailFunctionOutput, InputGuardrail, OutputGuardrail, RunContextWrapper

from secure_memory.errors import BlockedContentError
from secure_memory.inforce import Surface

if TYPE_CHECKING:
    from agents import TResponseInputItem

    from secure_memory.agents_sdk.session import SecureSession

Said = dict[str, Any]
_noted: ContextVar[list[Said] | None] = ContextVar("secure_memory_blocked", default=None)
"""What was blocked in the input of the run of this context."""


def note(error: BlockedContentError | None) -> None:
    """Say, for the guardrail of this run, that its input held what the policy blocks, or, with None, that it did not."""
    _noted.set(None if error is None else [_said(error, "store")])


def _said(error: BlockedContentError, surface: str) -> Said:
    return {"blocked": error.entity, "rule": error.rule, "surface": surface, "reason": str(error)}


def block_input(session: SecureSession) -> InputGuardrail[Any]:
    """A guardrail that trips where the input holds what the policy in force blocks (`store: block` or `model: block`).

    `output_info` says entity, rule and surface; never content.
    """

    async def blocked(
        context: RunContextWrapper[Any], agent: Agent[Any], given: str | list[TResponseInputItem]
    ) -> GuardrailFunctionOutput:
        if noted := _noted.get():
            return GuardrailFunctionOutput(output_info=noted.pop(), tripwire_triggered=True)
        items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        return await _tripped(session, items)

    return InputGuardrail(blocked, name="secure_memory_block_input", run_in_parallel=False)


def block_output(session: SecureSession) -> OutputGuardrail[Any]:
    """A guardrail that trips where the final output holds what the policy in force blocks. `output_info` as above."""

    async def blocked(context: RunContextWrapper[Any], agent: Agent[Any], output: Any) -> GuardrailFunctionOutput:
        text = output if isinstance(output, str) else _as_json(output)
        return await _tripped(session, [{"role": "assistant", "content": text}])

    return OutputGuardrail(blocked, name="secure_memory_block_output")


async def _tripped(session: SecureSession, items: list[Any]) -> GuardrailFunctionOutput:
    surfaces: tuple[Surface, ...] = ("store", "model")
    for surface in surfaces:
        try:
            await session._conversation.redact(items, surface)
        except BlockedContentError as error:
            return GuardrailFunctionOutput(output_info=_said(error, surface), tripwire_triggered=True)
    return GuardrailFunctionOutput(output_info={"blocked": None}, tripwire_triggered=False)


def _as_json(output: Any) -> Any:
    """Structured output as the text that is looked at."""
    import orjson

    dumped = output.model_dump(mode="json") if hasattr(output, "model_dump") else output
    return orjson.dumps(dumped, default=str).decode()
