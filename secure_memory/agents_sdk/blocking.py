"""`session.blocking`: a session's coroutines as plain calls, for scripts and notebooks.

``session.blocking.get_items()`` takes and returns what ``await session.get_items()`` does. It needs no event loop, starts no
thread, and works inside a running loop too (a notebook has one), which stands still until the call is done: in a
service, await the coroutines.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.service import run_blocking

P = ParamSpec("P")
T = TypeVar("T")


class _Waits(Generic[P, T]):
    """A coroutine method of `SecureSession`, as a method that waits."""

    def __init__(self, method: Callable[Concatenate[SecureSession, P], Coroutine[Any, Any, T]]) -> None:
        self.method = method

    def __get__(self, face: BlockingSession, owner: type[BlockingSession]) -> Callable[P, T]:
        @wraps(self.method)
        def wait(*args: P.args, **kwargs: P.kwargs) -> T:
            return run_blocking(self.method(face.session, *args, **kwargs))

        return wait


class BlockingSession:
    """A session whose operations are plain calls. What each does, returns and raises is said at `SecureSession`."""

    def __init__(self, session: SecureSession) -> None:
        self.session = session

    get_items = _Waits(SecureSession.get_items)
    add_items = _Waits(SecureSession.add_items)
    pop_item = _Waits(SecureSession.pop_item)
    clear_session = _Waits(SecureSession.clear_session)

    create_branch_from_turn = _Waits(SecureSession.create_branch_from_turn)
    create_branch_from_content = _Waits(SecureSession.create_branch_from_content)
    switch_to_branch = _Waits(SecureSession.switch_to_branch)
    delete_branch = _Waits(SecureSession.delete_branch)
    list_branches = _Waits(SecureSession.list_branches)
    rewind_to_turn = _Waits(SecureSession.rewind_to_turn)
    get_conversation_turns = _Waits(SecureSession.get_conversation_turns)
    find_turns_by_content = _Waits(SecureSession.find_turns_by_content)
    get_conversation_by_turns = _Waits(SecureSession.get_conversation_by_turns)
    get_tool_usage = _Waits(SecureSession.get_tool_usage)

    store_run_usage = _Waits(SecureSession.store_run_usage)
    get_session_usage = _Waits(SecureSession.get_session_usage)
    get_turn_usage = _Waits(SecureSession.get_turn_usage)

    reveal = _Waits(SecureSession.reveal)

    save_run_state = _Waits(SecureSession.save_run_state)
    load_run_state = _Waits(SecureSession.load_run_state)

    set_tags = _Waits(SecureSession.set_tags)
    get_tags = _Waits(SecureSession.get_tags)
    set_metadata = _Waits(SecureSession.set_metadata)
    get_metadata = _Waits(SecureSession.get_metadata)
    end = _Waits(SecureSession.end)
    assign_subject = _Waits(SecureSession.assign_subject)
