"""A model that says what it is told to, for the SDK's real Runner; and runs that tell nobody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Model, ModelResponse, Usage, set_trace_processors
from agents.items import TResponseInputItem
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)


class Script(Model):
    """Says one thing a call, for 10 tokens. `seen` is what it was given, call by call."""

    model = "scripted-1"

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.seen: list[list[Any]] = []

    def will(self, *lines: Any) -> Script:
        """Add lines: a text is a message, a pair is the call of a tool with arguments, an exception is raised."""
        self.lines += lines
        return self

    async def get_response(
        self, system_instructions: str | None, input: str | list[TResponseInputItem], *_: Any, **__: Any
    ) -> ModelResponse:
        """The next line."""
        return ModelResponse(output=self._next(input), usage=_cost(), response_id="resp_1")

    async def stream_response(
        self, system_instructions: str | None, input: str | list[TResponseInputItem], *_: Any, **__: Any
    ) -> AsyncIterator[Any]:
        """The next line, as a stream of one event."""
        response = Response.model_construct(
            id="resp_1", object="response", created_at=0.0, model="scripted-1", output=self._next(input), usage=None
        )
        yield ResponseCompletedEvent.model_construct(type="response.completed", response=response, sequence_number=0)

    def _next(self, input: str | list[TResponseInputItem]) -> list[Any]:
        self.seen.append([{"role": "user", "content": input}] if isinstance(input, str) else list(input))
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        if isinstance(line, tuple):
            number = len(self.seen)
            arguments = json.dumps(line[1])
            return [ResponseFunctionToolCall(type="function_call", call_id=f"c{number}", name=line[0], arguments=arguments)]
        text = ResponseOutputText(type="output_text", text=line, annotations=[])
        return [ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])]


def _cost() -> Usage:
    return Usage(requests=1, input_tokens=8, output_tokens=2, total_tokens=10)


@pytest.fixture
def script() -> Script:
    """A model without lines; traces go nowhere, whatever key the environment has."""
    set_trace_processors([])
    return Script()
