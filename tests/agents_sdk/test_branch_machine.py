"""Any sequence of appends, pops, forks, switches, clears and deletes gives what AdvancedSQLiteSession gives, everywhere.

What is not asked for here is where the two differ on purpose (docs/decisions.md): a branch without items does not exist for
the SDK, so nobody switches to one or deletes one here, and nobody reads one that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from agents.extensions.memory import AdvancedSQLiteSession
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from secure_memory import SecureSession

T = TypeVar("T")

ITEMS = st.sampled_from(
    [
        {"role": "user", "content": "question"},
        {"role": "user", "content": [{"type": "input_text", "text": "Grüße"}]},
        {"role": "assistant", "content": "answer"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "seen"},
    ]
)


class Branches(RuleBasedStateMachine):
    """One session of ours and one of the SDK's, through the same steps."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ours = SecureSession("s")
        self.theirs = AdvancedSQLiteSession(session_id="s", create_tables=True)
        self.names = ["main"]
        self.made = 0

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.loop.run_until_complete(wait())

    def turns(self) -> list[Any]:
        return self.run(self.theirs.get_conversation_turns())

    def with_items(self) -> list[str]:
        return [name for name in self.names if self.run(self.theirs.get_items(branch_id=name))]

    @rule(items=st.lists(ITEMS, max_size=4))
    def append(self, items: list[Any]) -> None:
        self.run(self.ours.add_items(items))
        self.run(self.theirs.add_items(items))

    @rule()
    def pop(self) -> None:
        assert self.run(self.theirs.pop_item()) == self.run(self.ours.pop_item())

    @precondition(lambda self: self.turns())
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([found["turn"] for found in self.turns()]))
        self.made += 1
        name = f"branch {self.made}"
        assert self.run(self.theirs.create_branch_from_turn(turn, name)) == name
        assert self.run(self.ours.create_branch_from_turn(turn, name)) == name
        self.names.append(name)

    @precondition(lambda self: self.with_items())
    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.with_items()))
        self.run(self.theirs.switch_to_branch(name))
        self.run(self.ours.switch_to_branch(name))

    @precondition(lambda self: "main" in self.with_items() and len(self.with_items()) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in self.with_items() if name != "main"]))
        self.run(self.theirs.delete_branch(name, force=True))
        self.run(self.ours.delete_branch(name, force=True))
        self.names.remove(name)

    @rule()
    def clear(self) -> None:
        self.run(self.theirs.clear_session())
        self.run(self.ours.clear_session())
        self.names = ["main"]

    @invariant()
    def the_same_everywhere(self) -> None:
        """The current branch, its newest items, every branch, and the turns."""
        assert self.run(self.theirs.get_items()) == self.run(self.ours.get_items())
        assert self.run(self.theirs.get_items(2)) == self.run(self.ours.get_items(2))
        for name in self.names:
            assert self.run(self.theirs.get_items(branch_id=name)) == self.run(self.ours.get_items(branch_id=name)), name
        ours, theirs = self.run(self.ours.get_conversation_turns()), self.turns()
        assert [(turn["turn"], turn["full_content"]) for turn in theirs] == [
            (turn["turn"], turn["full_content"]) for turn in ours
        ]
        assert self.run(self.theirs.get_tool_usage()) == self.run(self.ours.get_tool_usage())

    def teardown(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.loop.close()


TestBranches = Branches.TestCase
TestBranches.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
