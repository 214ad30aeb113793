"""Branching and questions about turns, with the signatures and the return shapes of the SDK's AdvancedSQLiteSession.

Each of these reads or writes like the four operations: audited and proven. Items are decoded from the proven branch, so that
no index of content has to be kept.
"""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
from agents.memory.session_settings import SessionSettings, resolve_session_limit

from secure_memory import items as sdk_items
from secure_memory.actor import Actor
from secure_memory.agents_sdk.results import Result
from secure_memory.branching import Branching, Placed
from secure_memory.tenancy import Asker

if TYPE_CHECKING:
    from agents import RunContextWrapper

_CALLS = frozenset(
    {"tool_call", "function_call", "computer_call", "file_search_call", "web_search_call", "code_interpreter_call"}
    | {"tool_search_call", "custom_tool_call", "mcp_call", "mcp_approval_request", "shell_call", "apply_patch_call"}
)
"""What counts as the use of a tool (`AdvancedSQLiteSession.get_tool_usage`)."""
PREVIEW = 100
"""Characters of a turn's preview."""


class Branches:
    """The methods of a session that has branches. `SecureSession` has the rest."""

    session_settings: SessionSettings | None
    _conversation: Branching

    def _asker(self, actor: Actor | str | None, wrapper: RunContextWrapper[Any] | None) -> Asker:
        raise AssertionError("a session says who asks")  # pragma: no cover

    async def create_branch_from_turn(self, turn_number: int, branch_name: str | None = None) -> str:
        """Make a branch of everything before that turn of the current branch, switch to it, and return its name.

        `turn_number` counts user messages from 1. Raises ValueError where that turn does not exist or does not begin
        with a user message, or `branch_name` is blank or was used in this session before.
        """
        if branch_name is not None:
            _check_name(branch_name)
        return await self._conversation.fork(turn_number, branch_name, self._asker(None, None))

    async def create_branch_from_content(self, search_term: str, branch_name: str | None = None) -> str:
        """As `create_branch_from_turn`, from the first turn whose user message contains the text."""
        found = await self.find_turns_by_content(search_term)
        if not found:
            raise ValueError("no user turn contains that text")
        return await self.create_branch_from_turn(found[0]["turn"], branch_name)

    async def switch_to_branch(self, branch_id: str) -> None:
        """Go on in another branch. Raises ValueError where there is none of that name."""
        await self._conversation.switch(branch_id, self._asker(None, None))

    async def delete_branch(self, branch_id: str, force: bool = False) -> None:
        """Delete a branch and its items; the name is not used again. With `force` also the current one: main is then.

        Raises ValueError where there is none of that name, it is main, or it is the current one without `force`.
        """
        _check_name(branch_id)
        await self._conversation.delete(branch_id, force, self._asker(None, None))

    async def list_branches(self) -> list[dict[str, Any]]:
        """The branches, the oldest first: branch_id, message_count, user_turns, is_current, created_at (UTC)."""
        return [
            Result(
                branch_id=found.name,
                message_count=found.items,
                user_turns=found.turns,
                is_current=found.current,
                created_at=_timestamp(found.created),
            )
            for found in await self._conversation.branches(self._asker(None, None))
        ]

    async def rewind_to_turn(self, turn_number: int) -> int:
        """Drop everything after that turn of the current branch, in one audited step; returns how many items that were.

        Turn 0 drops every turn. Raises ValueError where the branch has not come as far.
        """
        return await self._conversation.rewind(turn_number, self._asker(None, None))

    async def get_conversation_turns(self, branch_id: str | None = None) -> list[dict[str, Any]]:
        """The user turns of a branch, the current one where none is named: turn, content (a preview), full_content,
        timestamp (UTC), can_branch."""
        return [_turn(placed, PREVIEW) for placed in await self._placed(branch_id) if sdk_items.starts_turn(placed.item)]

    async def find_turns_by_content(self, search_term: str, branch_id: str | None = None) -> list[dict[str, Any]]:
        """The user turns whose text contains `search_term`, whatever the case, in any script; shaped as the turns are."""
        wanted = _folded(search_term)
        return [
            _turn(placed, None)
            for placed in await self._placed(branch_id)
            if sdk_items.starts_turn(placed.item) and any(wanted in _folded(text) for text in _texts(placed.item))
        ]

    async def get_conversation_by_turns(self, branch_id: str | None = None) -> dict[int, list[dict[str, str | None]]]:
        """What happened in each turn: turn number to the type and the tool name of each item."""
        turns: dict[int, list[dict[str, str | None]]] = {}
        for placed in await self._placed(branch_id):
            what: dict[str, str | None] = Result(type=_type(placed), tool_name=sdk_items.tool_of(placed.item) or None)
            turns.setdefault(placed.turn, []).append(what)
        return turns

    async def get_tool_usage(self, branch_id: str | None = None) -> list[tuple[str, int, int]]:
        """(tool name, how often, turn) for each tool and turn, in order of turns."""
        found: Counter[tuple[int, str]] = Counter()
        placed = await self._placed(branch_id)
        searched = {one.turn for one in placed if _type(one) == "tool_search_call"}
        for one in placed:
            type_ = _type(one)
            if type_ in _CALLS or (type_ == "tool_search_output" and one.turn not in searched):
                found[one.turn, sdk_items.tool_of(one.item)] += 1
        return [(tool, count, turn) for (turn, tool), count in sorted(found.items(), key=lambda entry: entry[0][0])]

    async def _placed(self, branch_id: str | None) -> list[Placed]:
        return await self._conversation.read_branch(branch_id, None, self._asker(None, None))

    async def _items_of(self, branch_id: str, limit: int | None, asker: Asker) -> list[Any]:
        resolved = resolve_session_limit(limit, self.session_settings)
        return [placed.item for placed in await self._conversation.read_branch(branch_id, resolved, asker)]


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a branch's name cannot be empty")


def _turn(placed: Placed, preview: int | None) -> Result:
    content = placed.item.get("content", "")
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    short = text if preview is None or len(text) <= preview else text[:preview] + "..."
    return Result(
        turn=placed.turn, content=short, full_content=content, timestamp=_timestamp(placed.created), can_branch=True
    )


def _texts(item: dict[str, Any]) -> list[str]:
    content = item.get("content", "")
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _folded(text: str) -> str:
    """As text is compared: canonically composed, without case (Unicode 5.18, D145)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _type(placed: Placed) -> str:
    role = sdk_items.role_of(placed.item)
    return role if role in ("user", "assistant") else str(placed.item.get("type") or "other")


def _timestamp(us: int) -> str:
    """As SQLite's CURRENT_TIMESTAMP writes it, which the SDK's tables use: UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(us // 1_000_000))
