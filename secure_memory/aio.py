"""AsyncSecureStore: the methods of `SecureStore`, awaited, so that none of them holds up an event loop.

``async with await AsyncSecureStore.open("support.secmem") as store: session = store.session("user_123")``. `session` needs
no await: a session's own operations are coroutines, and nothing is read or written before the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from secure_memory.audit import LogRecord
from secure_memory.billing import UsageTotal
from secure_memory.catalogue import SessionInfo
from secure_memory.items import Item
from secure_memory.lifecycle.exporting import ExportReport
from secure_memory.lifecycle.transfer import ImportReport
from secure_memory.store import PathLike, SecureStore, TenantInfo
from secure_memory.verification import AnchorReport, TenantReport

if TYPE_CHECKING:
    from secure_memory.agents_sdk.session import SecureSession


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

    async def close(self) -> None:
        """As `SecureStore.close`."""
        await asyncio.to_thread(self.store.close)

    async def __aenter__(self) -> AsyncSecureStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def session(self, session_id: str, **options: Any) -> SecureSession:
        """As `SecureStore.session`: not a coroutine, since it reads and writes nothing."""
        return self.store.session(session_id, **options)

    async def sessions(self, **wanted: Any) -> list[SessionInfo]:
        """As `SecureStore.sessions`."""
        return await asyncio.to_thread(self.store.sessions, **wanted)

    async def review(
        self, session_id: str, *, tenant: str = "default", purpose: str, limit: int | None = None
    ) -> list[Item]:
        """As `SecureStore.review`."""
        return await asyncio.to_thread(self.store.review, session_id, tenant=tenant, purpose=purpose, limit=limit)

    async def session_show(self, session_id: str, *, tenant: str = "default", limit: int | None = None) -> list[Item]:
        """As `SecureStore.session_show`."""
        return await asyncio.to_thread(self.store.session_show, session_id, tenant=tenant, limit=limit)

    async def tenant_create(self, name: str) -> TenantInfo:
        """As `SecureStore.tenant_create`."""
        return await asyncio.to_thread(self.store.tenant_create, name)

    async def tenant_list(self) -> list[TenantInfo]:
        """As `SecureStore.tenant_list`."""
        return await asyncio.to_thread(self.store.tenant_list)

    async def usage(self, **wanted: Any) -> list[UsageTotal]:
        """As `SecureStore.usage`."""
        return await asyncio.to_thread(self.store.usage, **wanted)

    async def import_sessions(self, path: PathLike, **options: Any) -> ImportReport:
        """As `SecureStore.import_sessions`; `progress` is called in another thread."""
        return await asyncio.to_thread(self.store.import_sessions, path, **options)

    async def export_sessions(self, out: PathLike | BinaryIO, **options: Any) -> ExportReport:
        """As `SecureStore.export_sessions`; `progress` is called in another thread."""
        return await asyncio.to_thread(self.store.export_sessions, out, **options)

    async def audit_log(self, **wanted: Any) -> list[LogRecord]:
        """As `SecureStore.audit_log`."""
        return await asyncio.to_thread(self.store.audit_log, **wanted)

    async def audit_follow(self, **wanted: Any) -> AsyncIterator[LogRecord]:
        """As `SecureStore.audit_follow`."""
        records = self.store.audit_follow(**wanted)
        while True:
            yield await asyncio.to_thread(next, records)

    async def audit_verify(
        self, *, tenant: str | None = None, progress: Callable[[str, int], None] | None = None
    ) -> list[TenantReport]:
        """As `SecureStore.audit_verify`; `progress` is called in another thread."""
        return await asyncio.to_thread(self.store.audit_verify, tenant=tenant, progress=progress)

    async def audit_anchor(self, *, tenant: str | None = None, begin: bool = False) -> list[AnchorReport]:
        """As `SecureStore.audit_anchor`."""
        return await asyncio.to_thread(self.store.audit_anchor, tenant=tenant, begin=begin)
