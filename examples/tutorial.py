"""The lessons on the SDK's SQLiteSession and AdvancedSQLiteSession, with our import and our constructor.

If you have followed one of those lessons, you know all of this: what stood as

    from agents import SQLiteSession                     session = SQLiteSession("user_123", "conversations.db")
    from agents.extensions.memory import AdvancedSQLiteSession

is one import and one constructor here, and everything else is as it was.

    python examples/tutorial.py        with a local model that follows rules: no network, no API key

It keeps its conversations in ./tutorial.secmem, encrypted; run `secmem audit log --store tutorial.secmem` afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, SessionSettings, Usage, function_tool

from secure_memory import SecureSession
from secure_memory.examples.local_model import LocalModel


class MeteredModel(LocalModel):
    """The local model, which costs nothing, with figures as a model's provider sends them: a token is 4 characters here."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """What the local model says, and what it would have cost."""
        response = await super().get_response(*args, **kwargs)
        read, written = len(str(kwargs.get("input", args))) // 4, len(str(response.output[0])) // 4
        response.usage = Usage(requests=1, input_tokens=read, output_tokens=written, total_tokens=read + written)
        return response


@function_tool
def create_ticket(summary: str) -> str:
    """Open a ticket."""
    return f"ticket {OPENED}"


AGENT = Agent(name="Assistant", instructions="Reply very concisely.", model=MeteredModel(), tools=[create_ticket])
QUIET = RunConfig(tracing_disabled=True)
NUMBER, WRONG, OPENED = (f"T-{number}" for number in (123456, 111111, 654321))  # of tickets


async def ask(session: SecureSession, message: str) -> str:
    """What the agent answers. The Runner reads the conversation from the session before, and writes to it after."""
    result = await Runner.run(AGENT, message, session=session, run_config=QUIET)
    return str(result.final_output)


def show(items: list[Any]) -> None:
    """Print a conversation."""
    for item in items:
        content = item["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        print(f"  {item['role']}: {text}")


# ---- SQLiteSession's lessons ----------------------------------------------------------------------------------------


async def in_memory() -> None:
    """Without a path the conversation is in memory, and gone with the program."""
    session = SecureSession("conversation_123")
    await ask(session, f"Hello, my number is {NUMBER}.")
    print(" ", await ask(session, "Is there any news?"))  # it remembers the number


async def on_disk(path: Path) -> None:
    """With a path it is on disk, and goes on where another session object, or another program, left it."""
    with SecureSession("user_123", path) as session:
        await ask(session, f"Hello, my number is {NUMBER}.")
    with SecureSession("user_123", path) as session:
        print(" ", await ask(session, "Is there any news?"))


async def operations(path: Path) -> None:
    """Items are read with and without a limit, added, popped, and cleared."""
    with SecureSession("operations", path) as session:
        await session.add_items([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there!"}])
        await session.add_items([{"role": "user", "content": "What is 2 + 2?"}])
        print("  all of it:")
        show(await session.get_items())
        print("  the newest two, in the order they were said:")
        show(await session.get_items(limit=2))
        popped: Any = await session.pop_item()
        print(f"  popped: {popped['content']}")
        await session.clear_session()
        print(f"  after clearing: {await session.get_items()}")


async def correction(path: Path) -> None:
    """To correct a question, pop the answer and the question, and ask again."""
    with SecureSession("correction", path) as session:
        await ask(session, f"Hello, my number is {WRONG}.")
        await session.pop_item()  # the agent's answer
        await session.pop_item()  # the question
        await ask(session, f"Hello, my number is {NUMBER}.")
        print(" ", await ask(session, "Is there any news?"))


async def limits(path: Path) -> None:
    """How much of the conversation the agent sees is a setting of the session, or of one run."""
    with SecureSession("limits", path, session_settings=SessionSettings(limit=2)) as session:
        await session.add_items([{"role": "user", "content": str(number)} for number in range(5)])
        print("  the session's limit:")
        show(await session.get_items())
        print("  a limit of one read:")
        show(await session.get_items(limit=3))


async def several_users(path: Path) -> None:
    """Conversations in one store don't know of each other. `subject` says whose each is."""
    ana, ben = (SecureSession(f"support-{name}", path, subject=name) for name in ("ana", "ben"))
    await ask(ana, f"Hello, my number is {NUMBER}.")
    await ask(ben, "Hello!")
    print(f"  ana has {len(await ana.get_items())} items, ben has {len(await ben.get_items())}")
    await ana.clear_session()
    print(f"  ana has {len(await ana.get_items())} items, ben has {len(await ben.get_items())}")
    ana.close()
    ben.close()


async def session_ids(path: Path) -> None:
    """What a conversation is, is your choice of session ids: one a person, a thread, a ticket, a day, an agent."""
    for session_id in ("user_12345", "thread_abc123", "support_ticket_456", "user_12345_2026-11-22", "user_12345_billing"):
        with SecureSession(session_id, path, subject="user_12345") as session:
            await session.add_items([{"role": "user", "content": "Hello"}])
            print(f"  {session_id}: {len(await session.get_items())} item")


async def several_agents(path: Path) -> None:
    """Agents share a conversation by sharing its session."""
    billing = Agent(name="Billing", instructions="You help with bills.", model=LocalModel())
    with SecureSession("shared", path) as session:
        await ask(session, f"Hello, my number is {NUMBER}.")
        result = await Runner.run(billing, "Is there any news?", session=session, run_config=QUIET)
        print(" ", result.final_output)


def a_script(path: Path) -> None:
    """In a script or a notebook, `session.blocking` has the same methods without `await`."""
    with SecureSession("script", path) as session:
        session.blocking.add_items([{"role": "user", "content": "Hello"}])
        show(session.blocking.get_items())


# ---- AdvancedSQLiteSession's lessons --------------------------------------------------------------------------------


async def turns(path: Path) -> None:
    """A conversation is made of turns, each begun by the user; they can be listed and searched."""
    session = SecureSession(session_id="advanced", db_path=path, create_tables=True)  # the SDK's arguments are taken
    await session.clear_session()
    for message in ("Hello!", "My lamp is broken.", "Is there any news?"):
        await ask(session, message)
    for turn in await session.get_conversation_turns():
        print(f"  turn {turn['turn']}: {turn['content']}")
    print(f"  of news: {[turn['turn'] for turn in await session.find_turns_by_content('NEWS')]}")
    by_turn = await session.get_conversation_by_turns()
    print(f"  in the second: {[item['type'] for item in by_turn[2]]}")
    print(f"  tools used: {await session.get_tool_usage()}")
    session.close()


async def branching(path: Path) -> None:
    """A branch tries another way from some turn on, and leaves the way that was taken as it is."""
    with SecureSession("advanced", path) as session:
        await session.create_branch_from_turn(2)  # everything before turn 2; it can be given a name, used once only
        await ask(session, "My other lamp is broken.")
        branch = await session.create_branch_from_content("lamp")
        await session.switch_to_branch("main")
        for each in await session.list_branches():
            result: Any = each  # it answers to the SDK's names, and to those that lessons use
            assert (result["branch_id"], result["user_turns"]) == (result["id"], result["turn_count"])  # noqa: S101
            print(
                f"  {'*' if result.is_current else ' '} {result.id}: {result.turn_count} turns, {result.message_count} items"
            )
        print(f"  read without switching: {len(await session.get_items(branch_id=branch))} items")
        await session.delete_branch(branch)
        print(f"  left: {len(await session.list_branches())} branches")
        print(f"  taken back: {await session.rewind_to_turn(1)} items")


async def usage(path: Path) -> None:
    """What a conversation has cost is known: as soon as a run is kept, or when its result is stored, as in the SDK."""
    with SecureSession("usage", path) as session:
        await session.clear_session()
        for message in ("My lamp is broken.", "Is there any news?"):
            result = await Runner.run(AGENT, message, session=session, run_config=QUIET)
            await session.store_run_usage(result)  # not needed here: it changes nothing
        spent: Any = await session.get_session_usage()
        print(f"  {spent['requests']} requests in {spent['total_turns']} turns")
        by_turn: Any = await session.get_turn_usage()
        for turn in by_turn:
            print(f"  turn {turn['user_turn_number']}: {turn['requests']} requests")
        total = sum(turn["total_tokens"] for turn in by_turn)
        print(f"  in all {'the same' if total == spent.total_tokens > 0 else 'something else'}")


# ---- all of it ------------------------------------------------------------------------------------------------------


async def main(path: Path) -> None:
    """Every lesson, one after the other."""
    await _lesson("In memory", in_memory())
    for lesson in (
        on_disk,
        operations,
        correction,
        limits,
        several_users,
        session_ids,
        several_agents,
        turns,
        branching,
        usage,
    ):
        await _lesson(lesson.__name__.replace("_", " ").capitalize(), lesson(path))
    print("\nA script")
    a_script(path)


async def _lesson(title: str, lesson: Any) -> None:
    print(f"\n{title}")
    await lesson


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="The lessons on sessions, with a secure memory.")
    arguments.add_argument("--store", type=Path, default=Path("tutorial.secmem"), help="where the conversations are kept")
    asyncio.run(main(arguments.parse_args().store))
