"""`aio.py`: what a store can do, it can do awaited."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from secure_memory import AsyncSecureStore, ConfigurationError, SecureStore


def test_every_method_is_there() -> None:
    """A public method of `SecureStore` is one of `AsyncSecureStore`: in a thread, but for those that need none."""
    own = {"in_memory", "log_processor"}  # they wait for nothing: ask the store
    names = {name for name, _ in inspect.getmembers(SecureStore, callable) if not name.startswith("_")}
    assert set() == {name for name in names - own if not hasattr(AsyncSecureStore, name)}


def test_a_method_is_awaited_with_its_own_arguments_and_errors() -> None:
    """What the store's method takes, returns and raises, its coroutine does."""

    async def ask() -> None:
        async with AsyncSecureStore(SecureStore.in_memory()) as store:
            await store.tenant_create("acme")
            assert ["acme"] == [tenant.name for tenant in await store.tenant_list()]
            with pytest.raises(ConfigurationError):
                await store.hold_place("M-1", tenant="nobody")

    asyncio.run(ask())
