"""What a session is besides its items: its tags and metadata, whose it is, that it ended; and its blocking face.

Tags are for finding sessions and for the policy, which selects by them (``record="phi"``); metadata is whatever the program
wants to know of a session. Both are sealed like the items, audited like them, and go with the subject's key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from secure_memory.actor import MAX_TEXT, Actor
from secure_memory.agents_sdk.arguments import check_text
from secure_memory.particulars import Particulars, updated
from secure_memory.tenancy import Asker
from secure_memory.vault.sessions import Names

if TYPE_CHECKING:
    from agents import RunContextWrapper

    from secure_memory.agents_sdk.blocking import BlockingSession

MAX_TAGS = 50
"""Tags that a session can have."""
MAX_METADATA = 16_384
"""Bytes of JSON that a session's metadata can have: the row that it stands in is read whenever the session is opened."""


class SessionParticulars:
    """The methods of a session that say what it is. `SecureSession` has the rest."""

    _conversation: Particulars

    def _asker(self, actor: Actor | str | None, wrapper: RunContextWrapper[Any] | None) -> Asker:
        raise AssertionError("a session says who asks")  # pragma: no cover

    @property
    def blocking(self) -> BlockingSession:
        """This session with plain calls in the place of coroutines, for scripts and notebooks."""
        from secure_memory.agents_sdk.blocking import BlockingSession  # here: it is made of this class's methods
        from secure_memory.agents_sdk.session import SecureSession

        return BlockingSession(cast(SecureSession, self))

    async def set_tags(self, /, **tags: str | None) -> None:
        """Tag the session: ``await session.set_tags(record="phi")``. Other tags stay; None takes one away.

        Raises ValueError where a value is no text, or is empty or too long, or there are too many; AccessDeniedError;
        LegalHoldError where a hold is about the session by the tags that it has.
        """
        for name, value in tags.items():
            if value is not None:
                check_text(f"the value of tag {name!r}", value, MAX_TEXT)

        def change(names: Names) -> Names:
            new = updated(names.tags, tags)
            if len(new) > MAX_TAGS:
                raise ValueError(f"a session can have {MAX_TAGS} tags")
            return names._replace(tags=new)

        await self._conversation.describe(change, self._asker(None, None))

    async def get_tags(self) -> dict[str, str]:
        """The session's tags."""
        return dict((await self._conversation.names(self._asker(None, None))).tags)

    async def set_metadata(self, /, **values: Any) -> None:
        """Note something of the session, in JSON. Other notes stay; None takes one away.

        Raises ValueError where a value would not come back from JSON as it is, or all of it is too long.
        """
        _check_json(values)

        def change(names: Names) -> Names:
            new = updated(names.metadata, values)
            if len(orjson.dumps(new)) > MAX_METADATA:
                raise ValueError(f"a session's metadata can have {MAX_METADATA} bytes of JSON")
            return names._replace(metadata=new)

        await self._conversation.describe(change, self._asker(None, None))

    async def get_metadata(self) -> dict[str, Any]:
        """What was noted of the session."""
        return dict((await self._conversation.names(self._asker(None, None))).metadata)

    async def end(self, reason: str | None = None) -> None:
        """Say that the conversation has ended, and why: what a retention rule with the trigger `session.ended` counts from.

        Items can be read and added as before. Raises ConfigurationError where the session has not begun, ValueError where
        the reason is empty or too long.
        """
        if reason is not None:
            check_text("a reason", reason, MAX_TEXT)
        await self._conversation.end(reason, self._asker(None, None))

    async def assign_subject(self, new_subject: str) -> None:
        """Let the session belong to another data subject: every item is sealed anew under keys of theirs, and the old
        session key is destroyed. Other handles of the session go on.

        Raises ConfigurationError where the session has not begun, ValueError for a bad name, IntegrityError,
        StoreBusyError where someone else assigns it at the same time, LegalHoldError where a hold is about the session by
        its subject.
        """
        check_text("new_subject", new_subject)
        await self._conversation.assign(new_subject, self._asker(None, None))


def _check_json(values: dict[str, Any]) -> None:
    try:
        exact = orjson.loads(orjson.dumps(values)) == values
    except (TypeError, ValueError):
        exact = False
    if not exact:
        raise ValueError("metadata must be JSON: texts, numbers, true, false, lists and objects of these")
