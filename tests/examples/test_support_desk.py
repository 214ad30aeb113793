"""The support desk of the examples, on a real store: what a reader of the tutorial would expect of it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents.exceptions import UserError

from secure_memory import SecureStore, TamperedError, rulebook
from secure_memory.examples.local_model import LocalModel
from secure_memory.examples.support_desk import AGENT, TENANT, SupportDesk
from secure_memory.policy.load import packs

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_desk.py"
PROBLEM = "I was charged twice for my order"


@pytest.fixture
def desk(place: Path) -> Iterator[SupportDesk]:
    """A desk with the local model, on a store that it makes."""
    desk = SupportDesk(place, model=LocalModel())
    yield desk
    desk.close()


def say(desk: SupportDesk, customer: str, message: str) -> str:
    """What the desk answers."""
    return asyncio.run(desk.run_turn(customer, message))


def ticket_in(text: str) -> str:
    """The one ticket number in a text."""
    (number,) = set(re.findall(r"T-\d{6}", text))
    return number


def test_a_problem_gets_a_ticket(desk: SupportDesk) -> None:
    """The agent opens a ticket with its tool, and answers with the number that the tool drew."""
    answer = say(desk, "anna", PROBLEM)
    outputs = [item["output"] for item in items_of(desk, "anna") if item.get("type") == "function_call_output"]
    assert [f"ticket {ticket_in(answer)}"] == outputs


def test_another_desk_remembers(desk: SupportDesk, place: Path) -> None:
    """A desk that is opened later, on the same store, knows the ticket from the conversation."""
    number = ticket_in(say(desk, "anna", PROBLEM))
    desk.close()
    later = SupportDesk(place, model=LocalModel())
    assert number == ticket_in(say(later, "anna", "Is there any news?"))
    later.close()


def test_customers_stay_apart(desk: SupportDesk) -> None:
    """One customer's ticket is not in another one's conversation, and not in their list either."""
    say(desk, "anna", PROBLEM)
    assert "no tickets" in say(desk, "ben", "What became of my ticket?")


def test_a_cleared_conversation_leaves_the_tickets(desk: SupportDesk) -> None:
    """Clearing forgets the conversation; the tickets are kept apart from it, and can still be listed."""
    number = ticket_in(say(desk, "anna", PROBLEM))
    asyncio.run(desk.clear_session("anna"))
    assert 0 == asyncio.run(desk.get_session_length("anna"))
    answer = say(desk, "anna", "What became of my ticket?")
    assert number == ticket_in(answer)
    assert PROBLEM in answer


def test_the_summary(desk: SupportDesk) -> None:
    """The summary counts the customer's messages and the tools used, and lists what was said."""
    say(desk, "anna", PROBLEM)
    answer = say(desk, "anna", "What did we talk about so far?")
    assert "2 messages from the customer, tools used: create_ticket x1" in answer
    assert f"- {PROBLEM}" in answer


def test_undo_takes_back_one_turn(desk: SupportDesk) -> None:
    """Undoing removes the last message of the customer and all that came of it, and nothing before that."""
    say(desk, "anna", "Hello")
    before = items_of(desk, "anna")
    say(desk, "anna", PROBLEM)
    assert 4 == asyncio.run(desk.undo_last_turn("anna"))  # message, call, output, answer
    assert before == items_of(desk, "anna")


def test_undo_ends_with_the_conversation(desk: SupportDesk) -> None:
    """Where there is nothing to undo, nothing is removed."""
    say(desk, "anna", "Hello")
    assert [2, 0] == [asyncio.run(desk.undo_last_turn("anna")) for _ in range(2)]


def test_the_length_is_the_number_of_items(desk: SupportDesk) -> None:
    """A conversation that was never begun has no items; a turn without a tool has two."""
    assert 0 == asyncio.run(desk.get_session_length("anna"))
    say(desk, "anna", "Hello")
    assert 2 == asyncio.run(desk.get_session_length("anna"))


def test_a_customer_has_one_session(desk: SupportDesk) -> None:
    """The desk gives out one session for a customer, and another for another one."""
    anna, again, ben = (asyncio.run(desk.get_session(name)) for name in ("anna", "anna", "ben"))
    assert anna is again
    assert anna is not ben


def test_the_ledger_says_who_and_for_what(desk: SupportDesk, place: Path) -> None:
    """Each access, the tools' too, is in the ledger in the agent's name, for its purpose, about the customer."""
    say(desk, "anna", PROBLEM)
    say(desk, "anna", "What did we talk about so far?")
    say(desk, "ben", "What became of my ticket?")
    with SecureStore.open(place) as store:
        records = store.audit_log(tenant=TENANT, action="session.*")
    assert {(AGENT.id, AGENT.roles, AGENT.purpose)} == {
        (record.entry.actor, record.entry.roles, record.entry.purpose) for record in records
    }
    about = {(record.session_name, record.subject_name) for record in records} - {(None, None)}
    assert {("support-anna", "anna"), ("tickets-anna", "anna"), ("support-ben", "ben")} == about


def test_tampering_stops_the_run(desk: SupportDesk, insider: Callable[..., Any]) -> None:
    """A tool that meets an edited memory ends the run; the agent is not given the error to talk about."""
    say(desk, "anna", PROBLEM)
    asyncio.run(desk.clear_session("anna"))  # so that the ticket is the only item
    desk.close()
    insider(TENANT).sql("UPDATE items SET sealed = zeroblob(length(sealed))")
    with pytest.raises(UserError) as stopped:
        say(desk, "anna", "What became of my ticket?")
    assert isinstance(stopped.value.__cause__, TamperedError)


def items_of(desk: SupportDesk, customer: str) -> list[Any]:
    """The conversation."""

    async def read() -> list[Any]:
        return [*await (await desk.get_session(customer)).get_items()]

    return asyncio.run(read())


def test_it_runs_alone(tmp_path: Path) -> None:
    """`python examples/support_desk.py` plays its story; run again, it remembers the first time."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    printed = [
        subprocess.run([sys.executable, EXAMPLE], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = (done.stdout for done in printed)
    assert "[0 items of anna's are remembered from before]" in first
    assert ticket_in(first)
    assert "[undone: anna's last turn, 4 items]" in first
    assert "[6 items of anna's are remembered from before]" in second
    assert ["support.secmem"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("pack", packs())
def test_it_works_under_each_pack(desk: SupportDesk, place: Path, pack: str) -> None:
    """Whatever a pack takes out, the desk opens its ticket, finds it again, and sums up; the card number is nowhere."""
    with SecureStore.create(place) as store:
        own = store.policy_in_force()
        store.policy_apply(rulebook.read(pack).policy.model_copy(update={"access": own.access}), confirm_shorten=True)
    answer = say(desk, "anna", f"{PROBLEM}, card 4111 1111 1111 1111, call +1 415 555 2671 or write to anna@example.com")
    assert ticket_in(answer) == ticket_in(say(desk, "anna", "Is there any news?"))
    say(desk, "anna", "What did we talk about so far?")
    items = items_of(desk, "anna")
    assert 3 == sum(item.get("role") == "user" for item in items)
    assert ["function_call_output"] == list({item["type"] for item in items if item.get("output")})
    assert "4111" not in str(items)
