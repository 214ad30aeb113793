"""AsyncSecureStore: the methods of `SecureStore`, awaited, so that none of them holds up an event loop.

``async with await AsyncSecureStore.open("support.secmem") as store: session = store.session("user_123")``. `session` needs
no await: a session's own operations are coroutines, and nothing is read or written before the first. What is called back
(`progress`) is called in another thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from secure_memory.audit import LogRecord
from secure_memory.lifecycle.backup.restores import RestoreReport
from secure_memory.store import PathLike, SecureStore

if TYPE_CHECKING:
    from secure_memory.agents_sdk.session import SecureSession

P = ParamSpec("P")
T = TypeVar("T")


class _Awaited(Generic[P, T]):
    """A method of `SecureStore`, as a coroutine method that runs it in a thread."""

    def __init__(self, method: Callable[Concatenate[SecureStore, P], T]) -> None:
        self.method = method

    def __get__(self, store: AsyncSecureStore, owner: type[AsyncSecureStore]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(self.method)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await asyncio.to_thread(self.method, store.store, *args, **kwargs)

        return call


class AsyncSecureStore:
    """An open store for coroutines. Parameters, results and errors are those of the methods of `SecureStore`."""

    def __init__(self, store: SecureStore) -> None:
        self.store = store

    @classmethod
    async def open(cls, path: PathLike, **options: Any) -> AsyncSecureStore:
        """As `SecureStore.open`."""
        return cls(await asyncio.to_thread(SecureStore.open, path, **options))

    @classmethod
    async def create(cls, path: PathLike, **options: Any) -> AsyncSecureStore:
        """As `SecureStore.create`."""
        return cls(await asyncio.to_thread(SecureStore.create, path, **options))

    @staticmethod
    async def restore(directory: PathLike, path: PathLike, **options: Any) -> RestoreReport:
        """As `SecureStore.restore`."""
        return await asyncio.to_thread(SecureStore.restore, directory, path, **options)

    @staticmethod
    async def backup_verify(directory: PathLike, **options: Any) -> RestoreReport:
        """As `SecureStore.backup_verify`."""
        return await asyncio.to_thread(SecureStore.backup_verify, directory, **options)

    on_reserve = staticmethod(SecureStore.on_reserve)

    async def __aenter__(self) -> AsyncSecureStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def session(self, session_id: str, **options: Any) -> SecureSession:
        """As `SecureStore.session`: not a coroutine, since it reads and writes nothing."""
        return self.store.session(session_id, **options)

    async def audit_follow(self, **wanted: Any) -> AsyncIterator[LogRecord]:
        """As `SecureStore.audit_follow`."""
        records = self.store.audit_follow(**wanted)
        while True:
            yield await asyncio.to_thread(next, records)

    close = _Awaited(SecureStore.close)

    sessions = _Awaited(SecureStore.sessions)
    session_show = _Awaited(SecureStore.session_show)
    reveal = _Awaited(SecureStore.reveal)
    review = _Awaited(SecureStore.review)
    tenant_create = _Awaited(SecureStore.tenant_create)
    tenant_list = _Awaited(SecureStore.tenant_list)
    usage = _Awaited(SecureStore.usage)
    import_sessions = _Awaited(SecureStore.import_sessions)
    export_sessions = _Awaited(SecureStore.export_sessions)
    key_rotate = _Awaited(SecureStore.key_rotate)
    subject_erase = _Awaited(SecureStore.subject_erase)
    tenant_erase = _Awaited(SecureStore.tenant_erase)
    session_erase = _Awaited(SecureStore.session_erase)
    subject_erased = _Awaited(SecureStore.subject_erased)
    subject_withheld = _Awaited(SecureStore.subject_withheld)
    certificate_verify = _Awaited(SecureStore.certificate_verify)
    hold_place = _Awaited(SecureStore.hold_place)
    hold_list = _Awaited(SecureStore.hold_list)
    hold_release = _Awaited(SecureStore.hold_release)
    policy_in_force = _Awaited(SecureStore.policy_in_force)
    policy_apply = _Awaited(SecureStore.policy_apply)
    policy_explain = _Awaited(SecureStore.policy_explain)
    redact_scan = _Awaited(SecureStore.redact_scan)
    redact_apply = _Awaited(SecureStore.redact_apply)
    access_check = _Awaited(SecureStore.access_check)
    purge = _Awaited(SecureStore.purge)
    archive_verify = _Awaited(SecureStore.archive_verify)
    archive_read = _Awaited(SecureStore.archive_read)
    backup = _Awaited(SecureStore.backup)
    subject_export = _Awaited(SecureStore.subject_export)
    audit_log = _Awaited(SecureStore.audit_log)
    audit_verify = _Awaited(SecureStore.audit_verify)
    audit_anchor = _Awaited(SecureStore.audit_anchor)
