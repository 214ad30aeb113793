"""SecureSession: the SDK's Session, in the place of SQLiteSession and AdvancedSQLiteSession.

The four operations have the SDK's exact semantics (`agents/memory/sqlite_session.py`): the newest `limit` items in order,
0 is none, a negative limit is all, `session_settings` gives the default, an empty batch does nothing, a closed session is
a RuntimeError. All four take the SDK's `wrapper=`, from which the actor comes where the run's context names one.

There is deliberately no `__getattr__` and no `run_compaction`: the SDK takes a session for what it has methods for.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agents.memory.session_settings import SessionSettings, coerce_session_settings, resolve_session_limit
from agents.tracing import get_current_trace

from secure_memory import directory
from secure_memory.actor import Actor, as_actor
from secure_memory.agents_sdk.arguments import check_names, refuse
from secure_memory.agents_sdk.branches import Branches
from secure_memory.agents_sdk.given import Given
from secure_memory.agents_sdk.particulars import SessionParticulars
from secure_memory.agents_sdk.replacing import Replacing
from secure_memory.agents_sdk.run_states import RunStates
from secure_memory.agents_sdk.usage import UsageRecords, charge_of_wrapper
from secure_memory.errors import ConfigurationError
from secure_memory.registry import Handle, KeySource, create_store, memory_store, open_store
from secure_memory.revealing import Revealing
from secure_memory.tenancy import Asker

if TYPE_CHECKING:
    from agents import RunContextWrapper, TResponseInputItem


class SecureSession(Replacing, RunStates, SessionParticulars, UsageRecords, Branches):
    """One conversation, encrypted, audited and proven: the SDK's `Session` protocol.

    ``SecureSession("user_123", "support.secmem", tenant="acme")`` opens the store, or makes it;
    ``SecureSession("user_123")`` is in memory, under a throw-away key.

    Arguments: `session_id`, the conversation inside its tenant. `path` (or the SDK's `db_path`), the store's directory.
    `tenant`, the customer or business unit. `subject`, the person that the conversation is about, the session id where
    none is named. `actor`, who asks where nothing nearer says so; with `require_actor` an operation that nobody asks for
    is refused. `keys`, a key provider or the path of a key file. `anchor`, the directory of the anchors;
    `anchor_required` refuses to work without. `session_settings` as in the SDK. `cache=False` remembers no items.
    `create_tables` is taken and needs nothing.

    Raises ValueError for bad arguments, ConfigurationError for those of other SDK sessions and for what opening finds,
    KeyManagementError, StorageError, IntegrityError.
    """

    session_settings: SessionSettings | None = None
    _conversation: Revealing

    def __init__(
        self,
        session_id: str,
        path: str | os.PathLike[str] = ":memory:",
        *,
        tenant: str = "default",
        subject: str | None = None,
        actor: Actor | str | None = None,
        require_actor: bool = False,
        keys: KeySource = None,
        anchor: str | os.PathLike[str] | None = None,
        anchor_required: bool = False,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        cache: bool = True,
        db_path: str | os.PathLike[str] | None = None,
        create_tables: bool = False,
        **others: Any,
    ) -> None:
        refuse(others)
        who, settings = _checked(session_id, tenant, subject, actor, session_settings)
        if db_path is not None:
            if str(path) != ":memory:":
                raise ValueError("path and db_path are the same argument: give one of them")
            path = db_path
        handle = _open_or_create(path, keys, anchor, anchor_required)
        try:
            handle.shared.tenant(tenant, who)
        except BaseException:
            handle.release()
            raise
        self._set_up(
            handle,
            session_id,
            tenant,
            subject=subject,
            actor=who,
            require_actor=require_actor,
            settings=settings,
            cache=cache,
        )

    @classmethod
    def in_store(
        cls,
        handle: Handle,
        session_id: str,
        tenant: str,
        *,
        subject: str | None,
        actor: Actor | str | None,
        require_actor: bool,
        session_settings: SessionSettings | dict[str, Any] | None,
        cache: bool,
    ) -> SecureSession:
        """A session of a store that is open: what `SecureStore.session` calls. The handle becomes the session's."""
        who, settings = _checked(session_id, tenant, subject, actor, session_settings)
        made = cls.__new__(cls)
        made._set_up(
            handle,
            session_id,
            tenant,
            subject=subject,
            actor=who,
            require_actor=require_actor,
            settings=settings,
            cache=cache,
        )
        return made

    def _set_up(
        self,
        handle: Handle,
        session_id: str,
        tenant: str,
        *,
        subject: str | None,
        actor: Actor | None,
        require_actor: bool,
        settings: SessionSettings,
        cache: bool,
    ) -> None:
        self.session_id = session_id
        self.session_settings = settings
        self._handle = handle
        self._closed = False
        self._given: Given | None = None
        self._conversation = Revealing(
            handle.shared, session_id, tenant=tenant, subject=subject, actor=actor, require_actor=require_actor, cache=cache
        )

    @property
    def tenant(self) -> str:
        """The tenant's name."""
        return self._conversation.tenant

    async def get_items(
        self,
        limit: int | None = None,
        branch_id: str | None = None,
        *,
        actor: Actor | str | None = None,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> list[TResponseInputItem]:
        """The newest `limit` items in the order they were added; all where neither `limit` nor the settings say so.

        They are those of the current branch, or of the one named, which raises ValueError where there is none.
        Raises IntegrityError where what is stored is not what was written, AccessDeniedError, StorageError; RuntimeError
        where the session is closed.
        """
        asker = self._asker(actor, wrapper)
        if branch_id is not None:
            return await self._items_of(branch_id, limit, asker)
        items: list[Any] = await self._conversation.read(resolve_session_limit(limit, self.session_settings), asker)
        return items if self._given is None else self._given.back(wrapper, items)  # type: ignore[return-value]

    async def add_items(
        self,
        items: list[TResponseInputItem],
        *,
        actor: Actor | str | None = None,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Append the items, all or none, redacted as the policy says, and record what the run has spent, where `wrapper`
        says so; they are on disk when this returns.

        Raises SerializationError where one is not a JSON object, BlockedContentError where the policy refuses what it holds,
        RedactionError (nothing is written then), IntegrityError, AccessDeniedError, StorageError; RuntimeError where the
        session is closed.
        """
        asker = self._asker(actor, wrapper)
        if items:
            new: list[Any] = list(items)
            charge = None if wrapper is None else charge_of_wrapper(wrapper, new)
            stored: list[Any] = list(await self._conversation.append_charged(new, charge, asker))
            self._given = Given(wrapper, new, stored) if wrapper is not None and stored != new else None

    async def pop_item(
        self, *, actor: Actor | str | None = None, wrapper: RunContextWrapper[Any] | None = None
    ) -> TResponseInputItem | None:
        """Remove and return the newest item; None where there is none. Raises as `get_items`."""
        item: Any = await self._conversation.pop(self._asker(actor, wrapper))
        if item is None or self._given is None:
            return item  # type: ignore[no-any-return]
        return self._given.back(wrapper, [item])[0]  # type: ignore[return-value]

    async def clear_session(
        self, *, actor: Actor | str | None = None, wrapper: RunContextWrapper[Any] | None = None
    ) -> None:
        """Delete every item of the session. Raises as `get_items`."""
        await self._conversation.clear(self._asker(actor, wrapper))

    async def reveal(self, token: str, *, actor: Actor | str | None = None) -> str:
        """What a token of this session's subject stands for. It is a `session.reveal` entry, and wants a reason.

        Raises ValueError where the tenant never issued this token to the subject, AccessDeniedError where the actor may not
        or gives no reason, KeyDestroyedError where the subject was erased, IntegrityError; RuntimeError where the session is
        closed.
        """
        return await self._conversation.reveal(token, self._asker(actor, None))

    def close(self) -> None:
        """Close this session; others of the same store go on. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._handle.release()

    def __enter__(self) -> SecureSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> SecureSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_conversation"):
            return "<SecureSession, not open>"  # in a report of why its constructor failed
        return f"<SecureSession of tenant {self.tenant!r}{', closed' if self._closed else ''}>"

    def _asker(self, actor: Actor | str | None, wrapper: RunContextWrapper[Any] | None) -> Asker:
        if self._closed:
            raise RuntimeError("SecureSession is closed")
        trace = get_current_trace()
        run = trace.trace_id if trace is not None and trace.trace_id.startswith("trace_") else None
        return self._conversation.asker(actor, None if wrapper is None else wrapper.context, run)


def _checked(
    session_id: str,
    tenant: str,
    subject: str | None,
    actor: Actor | str | None,
    session_settings: SessionSettings | dict[str, Any] | None,
) -> tuple[Actor | None, SessionSettings]:
    """The default actor and the settings, of arguments that are what they have to be. Raises ValueError, TypeError."""
    settings = SessionSettings() if session_settings is None else coerce_session_settings(session_settings)
    check_names(session_id, tenant, subject)
    return None if actor is None else as_actor(actor), settings


def _open_or_create(
    path: str | os.PathLike[str], keys: KeySource, anchor: str | os.PathLike[str] | None, anchor_required: bool
) -> Handle:
    if str(path) == ":memory:":
        return memory_store()
    place = Path(path).expanduser()
    if directory.exists(place):
        return open_store(place, keys, anchor, anchor_required=anchor_required)
    try:
        handle, made = create_store(place, keys, anchor, anchor_required=anchor_required)
    except ConfigurationError:
        if not directory.exists(place):
            raise
        return open_store(place, keys, anchor, anchor_required=anchor_required)  # another process made it meanwhile
    if made:
        warnings.warn(
            f"a new key was made: {handle.shared.provider.describe()}. Back it up: losing it loses everything in the store",
            stacklevel=3,
        )
    return handle
