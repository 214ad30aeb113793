"""The store's directory: what is in it, making one, recognising one.

    store.json   the store's uid, and the store root wrapped by the key provider
    keys.db      every other key
    system.db    the system vault: the store's own ledger
    vaults/      one file a tenant, named by the vault's uid
    archives/    what the purge archives, where no other place is named; there from the first one on
    reserve      nothing but room, given away when the disk is full (see `lifecycle.reserve`)

`store.json` is written last, in one step: without it there is no store, and what a killed `create` left behind is begun
again. The mark `.creating` says that nothing in the directory was ever acknowledged.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from secure_memory import clock
from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, NotAStoreError, StorageError, StoreVersionError
from secure_memory.keys.key import Key, context
from secure_memory.keys.provider import KeyProvider
from secure_memory.vault.sqlcipher import PLAINTEXT_MAGIC

FORMAT = 1
MANIFEST = "store.json"
KEYS = "keys.db"
SYSTEM = "system.db"
VAULTS = "vaults"
ARCHIVES = "archives"
RESERVE = "reserve"
RESERVE_BYTES = 4 << 20
"""Room for the WAL and the index of 64 vaults that each get a few entries, and for a purge in small transactions."""
_BLOCK = 4096
_CREATING = ".creating"
LOST_AND_FOUND = "lost+found"  # what a volume that was just formatted holds


@dataclass(frozen=True, slots=True)
class Manifest:
    """What store.json says. `uid` is 16 bytes, `created` is in microseconds. While an epoch turns, or where that was
    interrupted, `wrapped_next` is the store root that takes the place of the other one."""

    path: Path
    uid: bytes
    created: int
    wrapped_root: bytes
    wrapped_next: bytes | None = None

    def root(self, keys: KeyProvider) -> Key:
        """The store root. Raises WrongKeyError where the provider's key is another one."""
        return Key(keys.unwrap(self.wrapped_root, _root_context(self.uid)))

    def roots(self, keys: KeyProvider) -> list[Key]:
        """The store roots that there are, the newest first. Raises WrongKeyError."""
        roots = [self.root(keys)]
        if self.wrapped_next is not None:
            roots.insert(0, Key(keys.unwrap(self.wrapped_next, _root_context(self.uid))))
        return roots

    def wrap(self, root: Key, keys: KeyProvider) -> bytes:
        """A store root of this store, wrapped under the provider's newest key."""
        return keys.wrap(root.bytes, _root_context(self.uid))


def exists(path: Path) -> bool:
    """Whether there is a store at `path`. Raises NotAStoreError where there is something else, StorageError."""
    try:
        return _exists(path)
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise StorageError(f"could not look into {path}: {why}", hint="check the modes of the store") from None


def _exists(path: Path) -> bool:
    if not path.exists():
        return False
    if not path.is_dir():
        raise _not_a_directory(path)
    names = set(os.listdir(path))  # one look: another process may be making the store
    if MANIFEST in names:
        return True
    if _CREATING in names or not names - {LOST_AND_FOUND}:
        return False
    if KEYS in names:
        raise NotAStoreError(
            f"{path} is a store without its {MANIFEST}",
            hint=f"restore {MANIFEST} from a backup: it is small and needed",
        )
    raise NotAStoreError(
        f"{path} is a directory that is not empty and not a store", hint="name a path that does not exist yet"
    )


def read(path: Path) -> Manifest:
    """The manifest of the store at `path`. Raises NotAStoreError, StoreVersionError, StorageError."""
    if not exists(path):
        raise NotAStoreError(f"there is no store at {path}", hint=f"`secmem init --store {path}` makes one")
    try:
        found = json.loads((path / MANIFEST).read_text())
        with suppress(OSError):
            (path / _CREATING).unlink()  # of a `make` that was killed at its end: what is here counts from now on
        if found["format"] > FORMAT:
            raise StoreVersionError(
                f"the store is of format {found['format']}, newer than the {FORMAT} that this secure-memory knows",
                hint="upgrade the package secure-memory on this machine",
            )
        return Manifest(
            path,
            bytes.fromhex(found["store"]),
            clock.parse(found["created"]),
            base64.b64decode(found["root"], validate=True),
            base64.b64decode(found["next"], validate=True) if "next" in found else None,
        )
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise StorageError(f"could not read {MANIFEST}: {why}", hint="check the modes of the store") from None
    except (ValueError, KeyError, TypeError):
        raise NotAStoreError(f"{path / MANIFEST} is damaged", hint=f"restore {MANIFEST} from a backup") from None


def make(path: Path, keys: KeyProvider, fill: Callable[[Manifest, Key], None]) -> Manifest:
    """Make a store: `fill(manifest, root)` makes its databases, then the manifest makes it a store.

    Two processes that make one store make it once: the second finds it there. Raises NotAStoreError, StorageError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path):
            if (path / MANIFEST).exists():
                (path / _CREATING).unlink(missing_ok=True)  # ours, if the other one had already removed its own
                return read(path)
            _sweep(path)
            uid, root = os.urandom(16), Key.random()
            manifest = Manifest(path, uid, clock.now(), keys.wrap(root.bytes, _root_context(uid)))
            (path / VAULTS).mkdir(mode=0o700)
            fill(manifest, root)
            root.zero()
            _write(path / MANIFEST, manifest)
            (path / _CREATING).unlink(missing_ok=True)
            return manifest
    except OSError as error:
        raise StorageError(
            f"could not make a store at {path}: {error.strerror}", hint="check that the directory above can be written"
        ) from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the mark `.creating` against other processes that make the same store."""
    if not exists(path):
        fd = os.open(path / _CREATING, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
    else:
        yield


def _sweep(path: Path) -> None:
    """Remove what a killed `make` left: none of it was ever acknowledged."""
    leftovers = [path / name for name in (KEYS, SYSTEM)]
    if (path / VAULTS).exists():
        leftovers += (path / VAULTS).iterdir()
    for file in leftovers:
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
    if (path / VAULTS).exists():
        (path / VAULTS).rmdir()


@contextmanager
def changing(path: Path) -> Iterator[Manifest]:
    """The manifest, for whoever is to `rewrite` it: one at a time, in whatever process."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield read(path)
    finally:
        os.close(fd)


def rewrite(manifest: Manifest) -> None:
    """Replace the manifest, in one step and durably. Raises StorageError."""
    try:
        _write(manifest.path / MANIFEST, manifest)
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise StorageError(f"could not write {MANIFEST}: {why}", hint="the one before it stands; mend that") from None


def _write(path: Path, manifest: Manifest) -> None:
    said = {
        "format": FORMAT,
        "store": manifest.uid.hex(),
        "created": clock.rfc3339(manifest.created),
        "root": base64.b64encode(manifest.wrapped_root).decode(),
    }
    if manifest.wrapped_next is not None:
        said["next"] = base64.b64encode(manifest.wrapped_next).decode()
    text = json.dumps(said, indent=2)
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    sync(path.parent)


# ---- the reserve ----------------------------------------------------------------------------------------------------


def keep_reserve(path: Path) -> None:
    """Have the reserve, whole, where there is room enough. Does nothing where it is there, or where it can't be made."""
    with suppress(OSError):  # a store works without it
        if _size(path / RESERVE) < RESERVE_BYTES and _room(path) >= 4 * RESERVE_BYTES:
            _reserve(path, RESERVE_BYTES)


def release_reserve(path: Path) -> None:
    """Give the reserve's room to whoever writes next."""
    with suppress(OSError):
        (path / RESERVE).unlink()


def take_back_reserve(path: Path) -> None:
    """Have of the reserve what is left of its room, before others take it."""
    with suppress(OSError):
        _reserve(path, min(RESERVE_BYTES, _room(path) // _BLOCK * _BLOCK))


def _reserve(path: Path, size: int) -> None:
    fd = os.open(path / RESERVE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:  # macOS
            os.pwrite(fd, bytes(size), 0)
    except OSError:
        (path / RESERVE).unlink()
        raise
    finally:
        os.close(fd)


def reserve_needed(path: Path) -> bool:
    """Whether there is less room than the reserve has, and a reserve to give."""
    try:
        return _size(path / RESERVE) > 0 and _room(path) < RESERVE_BYTES
    except OSError:
        return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _room(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _root_context(uid: bytes) -> bytes:
    return context("secmem/store-root/v1", uid)


def _not_a_directory(path: Path) -> ConfigurationError:
    with path.open("rb") as file:
        plaintext = file.read(16) == PLAINTEXT_MAGIC
    if plaintext:
        return NotAStoreError(
            f"{path} is a plaintext SQLite database, not a store",
            hint=f"`secmem import {path.name}` brings the conversations of an SDK database into a store",
        )
    return NotAStoreError(f"{path} is a file, not a store", hint="a store is a directory: name another path")
