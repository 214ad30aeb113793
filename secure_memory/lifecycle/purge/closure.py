"""What belongs together in a conversation, so that a purge does not split it. Pure.

- A tool call and its output have one call id, whatever the tool is (`_TOOL_CALL_TO_OUTPUT_TYPE` in the SDK's
  `agents/run_internal/items.py`); a search for tools may have none, and is answered by a later output without one.
- An approval request is answered by its id, and the call that it was for names it too.
- A reasoning item belongs to what follows it: the Responses API rejects either without the other.
- What a program has called belongs to the program.

Called by `surveying` with the items of one branch in their order; a session's branches are joined by the items
that they share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from secure_memory.items import Item

LINKING = frozenset({"tool_call", "tool_output", "reasoning", "approval", "other"})
"""The kinds of items that can belong to others."""


class Units:
    """Items, joined into units: a disjoint-set forest over their uids."""

    def __init__(self) -> None:
        self._parent: dict[bytes, bytes] = {}

    def find(self, uid: bytes) -> bytes:
        """What stands for the item's unit."""
        parent = self._parent.setdefault(uid, uid)
        while parent != uid:
            grand = self._parent[parent]
            self._parent[uid] = grand
            uid, parent = parent, grand
        return uid

    def join(self, one: bytes, other: bytes) -> None:
        """Let the units of two items be one."""
        self._parent[self.find(one)] = self.find(other)

    def groups(self, uids: Iterable[bytes]) -> list[list[bytes]]:
        """The units that these items are in, in their order."""
        found: dict[bytes, list[bytes]] = {}
        for uid in uids:
            found.setdefault(self.find(uid), []).append(uid)
        return list(found.values())


def join(units: Units, branch: Sequence[tuple[bytes, Item | None]]) -> None:
    """Join what belongs together in a branch: (uid, item) in order; None for an item that can't belong to others."""
    by_name: dict[tuple[str, str], bytes] = {}
    reasoning: bytes | None = None
    for uid, item in branch:
        if reasoning is not None:
            units.join(reasoning, uid)
            reasoning = None
        if item is None:
            continue
        if item.get("type") == "reasoning":
            reasoning = uid
        for name in _names(item):
            units.join(uid, by_name.setdefault(name, uid))
    _join_searches(units, branch)


def _join_searches(units: Units, branch: Sequence[tuple[bytes, Item | None]]) -> None:
    """Join searches for tools that have no call id with their outputs: from the end, each with the next one after it."""
    outputs: list[bytes] = []
    for uid, item in reversed(branch):
        if item is None or isinstance(item.get("call_id"), str):
            continue
        if item.get("type") == "tool_search_output":
            outputs.append(uid)
        elif item.get("type") == "tool_search_call" and outputs:
            units.join(uid, outputs.pop())


def _names(item: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What an item shares with those that it belongs to."""
    call = item.get("call_id")
    if isinstance(call, str):
        yield "call", call
    caller = item.get("caller")
    owner = caller.get("caller_id") if isinstance(caller, dict) else None
    if isinstance(owner, str):
        yield "call", owner
    approval = item.get("id") if item.get("type") == "mcp_approval_request" else item.get("approval_request_id")
    if isinstance(approval, str):
        yield "approval", approval
