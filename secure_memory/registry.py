"""Opening and making stores: however often a store is opened in one process, it is open once.

`SecureStore` and `SecureSession` objects are handles: closing one never closes what another uses. The last one to go
records `store.close` and closes. A store in memory is its handle's alone, has a throw-away key and no anchor.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from secure_memory import clock, directory
from secure_memory.actor import Actor
from secure_memory.directory import Manifest
from secure_memory.errors import ConfigurationError, KeyNotFoundError, RollbackError
from secure_memory.keys.key import Key
from secure_memory.keys.local import (
    KEY_FILE_VARIABLE,
    FileKeyProvider,
    MemoryKeyProvider,
    check_not_inside,
    create_key_file,
    default_key_path,
    find_provider,
)
from secure_memory.keys.provider import KeyProvider
from secure_memory.ledger.anchor import default_directory
from secure_memory.shared import SYSTEM_TENANT, SharedStore

KeySource = KeyProvider | str | os.PathLike[str] | None
"""A key provider, or the path of a key file, or None for what the environment and the platform say."""

_open_stores: dict[Path, SharedStore] = {}
_registry = threading.Lock()
_given_back: SimpleQueue[SharedStore] = SimpleQueue()
"""Stores that a handle was given back of, once each."""


class Handle:
    """One holder's claim on an open store. Ends with `release`, or when nobody has the handle any more."""

    def __init__(self, shared: SharedStore) -> None:
        """Called with the registry's lock held."""
        shared.handles += 1
        self.shared = shared
        # The garbage collector may come while this very thread holds the lock: what it finds is only noted.
        self._forget = weakref.finalize(self, _given_back.put, shared)
        self._forget.atexit = False  # `_close_all` does it

    def share(self) -> Handle:
        """Another claim on the same store. Raises RuntimeError where the store is closed."""
        with _registry:
            if self.shared.closed:
                raise RuntimeError("the store is closed")
            return Handle(self.shared)

    def release(self) -> None:
        """Give the claim back; the last one closes the store. Releasing twice is harmless."""
        if self._forget.detach() is not None:
            _given_back.put(self.shared)
            _sweep()


def _after_fork() -> None:
    global _registry, _given_back
    _registry, _given_back = threading.Lock(), SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def open_store(
    path: Path,
    keys: KeySource,
    anchor: str | os.PathLike[str] | None,
    *,
    anchor_required: bool,
    actor: Actor | None = None,
) -> Handle:
    """The store at `path`, opened or shared. Raises NotAStoreError, WrongKeyError and whatever opening raises."""
    _sweep()
    manifest = directory.read(path)
    provider = find_provider(keys)
    if isinstance(provider, FileKeyProvider):
        check_not_inside(provider.path, path)
    root = manifest.root(provider)  # also where it is open already: a wrong key never gets a handle
    anchors = default_directory() if anchor is None else Path(anchor)
    with _registry:
        shared = _open_stores.get(path.resolve())
        if shared is None:
            shared = SharedStore(manifest, path.resolve(), root, provider, anchors, anchor_required)
            try:
                _check_whole(shared)
                shared.record({"action": "store.open"}, actor)
            except BaseException:
                shared.abandon()
                raise
            _open_stores[path.resolve()] = shared
            directory.keep_reserve(path)
        elif shared.manifest.uid != manifest.uid:
            raise ConfigurationError(
                f"another store took the place of the one at {path}, which is still open in this process",
                hint="close every session and store of the old one first",
            )
        elif shared.anchor_directory != anchors:
            raise ConfigurationError(
                "the store is open in this process with another place for its anchors",
                hint="open it with one anchor= everywhere",
            )
        elif anchor_required:
            shared.require_anchor()
        return Handle(shared)


def is_open(path: Path) -> bool:
    """Whether this process has the store at `path` open."""
    _sweep()
    with _registry:
        return path.resolve() in _open_stores


def _check_whole(shared: SharedStore) -> None:
    """Raise RollbackError where the system vault is missing."""
    keys = shared.keyring.tenant(SYSTEM_TENANT)
    if keys is None or keys.state != "active":
        raise RollbackError("the keyring does not know the system vault", hint="restore keys.db from its newest backup")


def create_store(
    path: Path,
    keys: KeySource,
    anchor: str | os.PathLike[str] | None,
    *,
    anchor_required: bool,
    actor: Actor | None = None,
) -> tuple[Handle, bool]:
    """A new store at `path`, and whether a key was made with it. Raises ConfigurationError where one is there."""
    if directory.exists(path):
        raise ConfigurationError(f"there is a store at {path} already", hint="open it, or name another path")
    provider, made = _provider_for_new(path, keys)
    anchors = default_directory() if anchor is None else Path(anchor)

    def fill(manifest: Manifest, root: Key) -> None:
        shared = SharedStore(manifest, path.resolve(), Key(root.bytes), provider, anchors, required=False)
        try:
            _ = shared.system  # makes it
        finally:
            shared.abandon()

    directory.make(path, provider, fill)
    return open_store(path, provider, anchor, anchor_required=anchor_required, actor=actor), made


def memory_store() -> Handle:
    """A store in memory, with a throw-away key."""
    _sweep()
    manifest = Manifest(Path(":memory:"), os.urandom(16), clock.now(), b"")
    shared = SharedStore(manifest, None, Key.random(), MemoryKeyProvider(), None, required=False)
    shared.record({"action": "store.open"})
    with _registry:
        return Handle(shared)


def _sweep() -> None:
    """Take back the handles whose holders are gone; the last handle of a store closes it."""
    with _registry:
        while True:
            try:
                shared = _given_back.get_nowait()
            except Empty:
                return
            shared.handles -= 1
            if shared.handles == 0 and not shared.closed:
                if shared.path is not None and _open_stores.get(shared.path) is shared:
                    del _open_stores[shared.path]
                shared.close()


def _provider_for_new(path: Path, keys: KeySource) -> tuple[KeyProvider, bool]:
    """The provider for a new store, whose key is made where none is there."""
    try:
        provider = find_provider(keys)
        if isinstance(provider, FileKeyProvider):
            check_not_inside(provider.path, path)
        return provider, False
    except KeyNotFoundError:
        if isinstance(keys, str | os.PathLike):
            place = Path(keys)
        else:
            named = os.environ.get(KEY_FILE_VARIABLE)
            place = Path(named) if named else default_key_path()
    check_not_inside(place, path)
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return create_key_file(place, made_at=clock.now()), True
    except ConfigurationError:
        if not place.exists():
            raise
        return FileKeyProvider(place), False  # another process made it in the meantime
    except OSError as error:
        raise KeyNotFoundError(
            f"there is no key, and none could be made at {place}: {error.strerror}",
            hint="set SECMEM_KEY, or SECMEM_KEY_FILE to a place that can be written",
        ) from None


@atexit.register
def _close_all() -> None:
    """Close what the program left open, so that the WAL is in the database and the ledger says when it ended."""
    for shared in list(_open_stores.values()):
        with suppress(Exception):  # the interpreter is going: there is nobody left to tell
            shared.close()
