"""A model for a support desk that runs on this machine: it follows rules, and needs no network and no API key.

It is a real `agents.Model`: the SDK's Runner calls it, hands it the conversation, and runs the tools that it asks for. It
knows nothing but the input of the call: no state, no ticket number of its own. So where it remembers something, the
session's memory brought it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import uuid4

from agents import (
    AgentOutputSchemaBase,
    Handoff,
    Model,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    Tool,
    TResponseInputItem,
    Usage,
)
from agents.items import TResponseOutputItem, TResponseStreamEvent
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseUsage,
)

TICKET = re.compile(r"\bT-\d{6}\b")


class LocalModel(Model):
    """Answers what a customer of a support desk says, by rules."""

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff],
        tracing: ModelTracing,
        **_: Any,
    ) -> ModelResponse:
        """One message, or one call of a tool."""
        items: list[Any] = [{"role": "user", "content": input}] if isinstance(input, str) else input
        return ModelResponse(output=[_reply(items, {tool.name for tool in tools})], usage=Usage(), response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """What `get_response` says, as a provider streams it: a message comes word by word, and what it cost at the end."""
        said = await self.get_response(*args, **kwargs)
        number = itertools.count()
        for index, item in enumerate(said.output):
            if isinstance(item, ResponseOutputMessage):
                for word in re.findall(r"\S+\s*", str(getattr(item.content[0], "text", ""))):
                    yield ResponseTextDeltaEvent(
                        type="response.output_text.delta",
                        item_id=item.id,
                        output_index=index,
                        content_index=0,
                        delta=word,
                        logprobs=[],
                        sequence_number=next(number),
                    )
            yield ResponseOutputItemDoneEvent(
                type="response.output_item.done", item=item, output_index=index, sequence_number=next(number)
            )
        yield ResponseCompletedEvent(type="response.completed", response=_whole(said), sequence_number=next(number))


def _whole(said: ModelResponse) -> Response:
    """The response that ends a stream. What cost nothing has no usage."""
    spent = said.usage
    usage = ResponseUsage(
        input_tokens=spent.input_tokens,
        input_tokens_details=spent.input_tokens_details,
        output_tokens=spent.output_tokens,
        output_tokens_details=spent.output_tokens_details,
        total_tokens=spent.total_tokens,
    )
    return Response(
        id=said.response_id or f"resp_{uuid4().hex}",
        object="response",
        created_at=0.0,
        model="local",
        output=said.output,
        parallel_tool_calls=False,
        tool_choice="auto",
        tools=[],
        usage=usage if spent.requests else None,
    )


def _reply(items: list[dict[str, Any]], tools: set[str]) -> TResponseOutputItem:
    """What to do next: the last item is a customer's message, or what a tool has answered."""
    last, before = items[-1], items[:-1]
    if last.get("type") == "function_call_output":
        called = next(item["name"] for item in reversed(before) if item.get("call_id") == last["call_id"])
        return _after(called, str(last["output"]))

    message = str(last["content"]).lower()
    if _mentions(message, "summary", "talk about", "so far") and "get_conversation_summary" in tools:
        return _call("get_conversation_summary")
    if _mentions(message, "any news", "my ticket", "what became of"):
        if number := _ticket_in(before):
            return _say(f"Welcome back. Yes: your ticket {number} is open, and we are looking into it.")
        return _call("list_tickets")
    if _mentions(message, "twice", "broken", "wrong", "missing") and "create_ticket" in tools:
        return _call("create_ticket", summary=str(last["content"]))
    return _say("How can I help? Tell me what went wrong, and I will open a ticket.")


def _after(tool: str, output: str) -> TResponseOutputItem:
    if tool == "create_ticket":
        return _say(f"I am sorry about that. I have opened a ticket for you: {output}. We will get back to you.")
    if tool == "get_conversation_summary":
        return _say(f"So far: {output}")
    return _say(f"Here is what I have on you: {output}.")


def _ticket_in(items: Iterable[dict[str, Any]]) -> str | None:
    """The newest ticket number that the input mentions."""
    found = TICKET.findall(json.dumps(list(items)))
    return found[-1] if found else None


def _mentions(message: str, *words: str) -> bool:
    return any(word in message for word in words)


def _say(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id=f"msg_{uuid4().hex}", type="message", role="assistant", status="completed", content=[part]
    )


def _call(tool: str, **arguments: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", call_id=f"call_{uuid4().hex}", name=tool, arguments=json.dumps(arguments)
    )
