"""A support desk whose agent remembers its customers, and keeps what they tell it to itself.

The agent, its tools and the desk are what you would write with the SDK alone. The memory is the one difference: where
`SQLiteSession(f"support-{customer}", "support.db")` would stand, `SupportDesk.get_session` has a `SecureSession`.

    python examples/support_desk.py            with a local model that follows rules: no network, no API key
    python examples/support_desk.py --live     with your OpenAI model (OPENAI_API_KEY)

Run it twice: the second time, it remembers the first. It keeps its conversations in ./support.secmem.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
from collections import Counter
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from agents import Agent, Model, RunContextWrapper, RunHooks, Runner, function_tool

from secure_memory import Actor, SecureSession, secure_run_config
from secure_memory.examples.local_model import LocalModel

TENANT = "acme"
AGENT = Actor("agent:support-desk", roles=("support",), purpose="customer-support")
"""Who reads and writes: the ledger names it in each entry."""

INSTRUCTIONS = """\
You work at the support desk of a shop. Where a customer reports a problem, open a ticket and tell them its number.
Where they ask about a problem, look for its ticket in the conversation first, and in their list of tickets otherwise.
Tell a customer about their own tickets only. Keep it short."""


@dataclass
class Case:
    """What the tools of one run work with. The SDK hands it to them and to the session; the model never sees it."""

    session: SecureSession  # the conversation
    tickets: SecureSession  # the customer's tickets: in a session of their own, which makes them as safe
    actor: Actor = AGENT


# ---- the tools ------------------------------------------------------------------------------------------------------

# failure_error_function=None: a memory that was tampered with stops the run. By default the SDK would make an answer for
# the model of the error, and the agent would talk on.


@function_tool(failure_error_function=None)
async def create_ticket(case: RunContextWrapper[Case], summary: str) -> str:
    """Open a ticket. `summary` says what is wrong, in the customer's words."""
    number = f"T-{secrets.randbelow(900_000) + 100_000}"
    await case.context.tickets.add_items([{"role": "developer", "content": f"{number}: {summary}"}], wrapper=case)
    return f"ticket {number}"


@function_tool(failure_error_function=None)
async def list_tickets(case: RunContextWrapper[Case]) -> str:
    """List the customer's tickets."""
    tickets = await case.context.tickets.get_items(wrapper=case)
    return "\n".join(_content(ticket) for ticket in tickets) or "no tickets"


@function_tool(failure_error_function=None)
async def get_conversation_summary(case: RunContextWrapper[Case]) -> str:
    """Say how long the conversation is, which tools were used in it, and what the customer said."""
    items: list[Any] = await case.context.session.get_items(wrapper=case)
    said = [_content(item) for item in items if item.get("role") == "user"]
    used = Counter(item["name"] for item in items if item.get("type") == "function_call")
    tools = ", ".join(f"{name} x{count}" for name, count in used.items()) or "none"
    return "\n".join([f"{len(said)} messages from the customer, tools used: {tools}", *(f"- {line}" for line in said)])


def _content(item: Any) -> str:
    return shorten(str(item["content"]), 80, placeholder="...")


# ---- the desk -------------------------------------------------------------------------------------------------------


class SupportDesk:
    """One agent, and a conversation with each customer: ``await desk.run_turn("anna", "I was charged twice")``.

    `store` is where the conversations are kept; it is made where there is none. `model` is the SDK's default where none
    is given. `hooks` are told what happens in a run.
    """

    def __init__(
        self, store: str | os.PathLike[str], *, model: Model | str | None = None, hooks: RunHooks[Case] | None = None
    ) -> None:
        self.store = store
        self.agent = Agent[Case](
            name="Support desk",
            instructions=INSTRUCTIONS,
            model=model,
            tools=[create_ticket, list_tickets, get_conversation_summary],
        )
        self._hooks = hooks
        self._sessions: dict[str, SecureSession] = {}

    async def get_session(self, customer: str) -> SecureSession:
        """The customer's conversation."""
        return self._session(f"support-{customer}", customer)

    async def run_turn(self, customer: str, message: str) -> str:
        """What the agent answers to the customer's message."""
        session = await self.get_session(customer)
        case = Case(session, self._session(f"tickets-{customer}", customer))
        # Personal data is taken out before the run keeps it and before the model sees it, as the store's policy says. And no
        # tracing: the SDK's sends every conversation to OpenAI's dashboard, a copy that no key of yours protects.
        config = secure_run_config(session, tracing_disabled=True)
        result = await Runner.run(self.agent, message, context=case, session=session, hooks=self._hooks, run_config=config)
        return str(result.final_output)

    async def get_session_length(self, customer: str) -> int:
        """How many items the conversation has: messages, calls of tools, and what they returned."""
        return len(await (await self.get_session(customer)).get_items())

    async def clear_session(self, customer: str) -> None:
        """Forget the conversation. The tickets stay."""
        await (await self.get_session(customer)).clear_session()

    async def undo_last_turn(self, customer: str) -> int:
        """Take back the customer's last message and all that came after it. How many items that were; tickets stay."""
        session = await self.get_session(customer)
        removed = 0
        while item := await session.pop_item():
            removed += 1
            if item.get("role") == "user":
                break
        return removed

    def close(self) -> None:
        """Close the conversations. They are on disk already."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _session(self, name: str, customer: str) -> SecureSession:
        """The session of that name. Its `subject` is the customer: erasing the customer erases all that is theirs."""
        if name not in self._sessions:
            self._sessions[name] = SecureSession(name, self.store, tenant=TENANT, subject=customer, actor=AGENT)
        return self._sessions[name]


# ---- the story ------------------------------------------------------------------------------------------------------

STORY = (
    ("anna", "Hello! I was charged twice for my order."),
    ("anna", "Is there any news?"),
    ("ben", "What became of my ticket?"),
    ("anna", "What did we talk about so far?"),
)


async def main(store: str, model: Model | None) -> None:
    """Play the story, and show what the desk can do with a conversation."""
    desk = SupportDesk(store, model=model)
    print(f"[{await desk.get_session_length('anna')} items of anna's are remembered from before]")
    for customer, message in STORY:
        print(f"\n{customer}: {message}")
        print(f"desk: {await desk.run_turn(customer, message)}")
    print(f"\n[undone: anna's last turn, {await desk.undo_last_turn('anna')} items]")
    print(f"[kept: {await desk.get_session_length('anna')} items of anna's, in {store}]")
    desk.close()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A support desk with a secure memory.")
    arguments.add_argument("--live", action="store_true", help="use your OpenAI model instead of the local one")
    arguments.add_argument("--store", default="support.secmem", help="where the conversations are kept")
    chosen = arguments.parse_args()
    asyncio.run(main(chosen.store, None if chosen.live else LocalModel()))
