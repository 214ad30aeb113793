"""What `secmem doctor` looks at: versions, key, modes, anchors, schema, and what to mend.

Nothing is changed but the entries that opening a store leaves. A check that can't be done says why; none raises.
"""

from __future__ import annotations

import os
import platform
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import cryptography
from cryptography.hazmat.backends.openssl import backend

from secure_memory import directory
from secure_memory.errors import AccessDeniedError, SecureMemoryError
from secure_memory.keys.local import find_provider
from secure_memory.registry import KeySource
from secure_memory.store import PathLike, SecureStore
from secure_memory.vault import sqlcipher

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})
"""Where SQLite's locks and shared memory can't be trusted (sqlite.org/howtocorrupt.html 2.1, sqlite.org/wal.html)."""

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: how it is, in words, and what mends it."""

    name: str
    state: State
    says: str
    mend: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All checks. `ok` where none failed."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.state != "fail" for check in self.checks)


def examine(path: PathLike | None, keys: KeySource = None, anchor: PathLike | None = None) -> Report:
    """Look at this machine, and at the store at `path` where one is named."""
    checks = list(_versions())
    if path is not None:
        checks += _store(Path(path).expanduser(), keys, anchor)
    return Report(tuple(checks))


def _versions() -> Iterator[Check]:
    for package in ("secure-memory", "openai-agents"):
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "fail", "not installed", f"pip install {package}")
    yield Check("Python", "ok", f"{platform.python_version()}, its OpenSSL: {ssl.OPENSSL_VERSION.removeprefix('OpenSSL ')}")
    try:
        connection = sqlcipher.connect(None, bytes(48))
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("cipher_version", "cipher_provider_version")
        ]
        sqlite = connection.execute("SELECT sqlite_version()").fetchone()[0]
        connection.close()
        yield Check("SQLCipher", "ok", f"{found[0]}, its OpenSSL: {found[1]}")
        yield Check("SQLite", "ok", f"{sqlite} inside SQLCipher")
    except SecureMemoryError as error:
        yield _failed("SQLCipher", error)
    yield Check("cryptography", "ok", f"{cryptography.__version__}, its OpenSSL: {backend.openssl_version_text()}")


def _store(path: Path, keys: KeySource, anchor: PathLike | None) -> Iterator[Check]:
    yield from _attempt("store", lambda: _manifest(path))
    yield from _attempt("key", lambda: _key(path, keys))
    with suppress(SecureMemoryError):  # which was said above
        if directory.read(path).wrapped_next is not None:
            yield Check("epoch", "warn", "an epoch turn was interrupted", "finish it: `secmem key rotate --epoch`")
    if path.is_dir():
        yield _modes(path)
        yield _file_system(path)
        yield _room(path)
    try:
        with SecureStore.open(path, keys=keys, anchor=anchor) as store:
            yield Check("schema", "ok", f"version {len(sqlcipher.MIGRATIONS)}, the newest")
            for found in store.audit_anchor():
                yield _anchor(found.tenant, found.state, found.path)
            with suppress(AccessDeniedError):  # whoever may not read the log is told by somebody who may
                yield from _erasures(store)
    except SecureMemoryError as error:
        yield _failed("opening", error)


def _attempt(name: str, check: Callable[[], Check]) -> Iterator[Check]:
    try:
        yield check()
    except (SecureMemoryError, ValueError) as error:
        yield _failed(name, error)


def _failed(name: str, error: Exception) -> Check:
    return Check(name, "fail", str(error), getattr(error, "hint", None))


def _manifest(path: Path) -> Check:
    manifest = directory.read(path)
    return Check("store", "ok", f"{path}, format {directory.FORMAT}, uid {manifest.uid.hex()}")


def _key(path: Path, keys: KeySource) -> Check:
    provider = find_provider(keys)
    directory.read(path).root(provider).zero()
    return Check("key", "ok", f"{provider.describe()}, opens this store; versions {', '.join(provider.versions())}")


def _modes(path: Path) -> Check:
    wide = [file.name for file in (path, *path.rglob("*")) if file.stat().st_mode & 0o077 and not file.is_symlink()]
    if not wide:
        return Check("modes", "ok", "only the owner can read the store's files")
    return Check(
        "modes",
        "warn",
        f"{len(wide)} of the store's files can be read by others: they are encrypted, but nobody else needs them",
        f"chmod -R go= {path}",
    )


def _file_system(path: Path) -> Check:
    kind = _kind_of_file_system(path)
    if kind in NETWORK_FILE_SYSTEMS:
        return Check("file system", "fail", f"{kind}, where SQLite can't lock", "move the store to a disk of this host")
    return Check("file system", "ok", kind or "unknown: it must be a disk of this host, not a network file system")


def _kind_of_file_system(path: Path) -> str | None:
    """The type of the file system that `path` is on, by Linux's table of mounts (proc(5)); None elsewhere."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    real = str(path.resolve())
    found = [(fields[1], fields[2]) for fields in (line.split() for line in mounts) if len(fields) > 2]
    over = [(place, kind) for place, kind in found if place == "/" or real == place or real.startswith(place + "/")]
    return max(over, key=lambda mount: len(mount[0]))[1] if over else None


def _room(path: Path) -> Check:
    room = os.statvfs(path)
    free = room.f_bavail * room.f_frsize
    if free < 100 * 1024 * 1024:
        return Check("room", "warn", f"{free // 1024**2} MB free", "free some room: a full disk refuses reads too")
    return Check("room", "ok", f"{free // 1024**3} GB free")


def _erasures(store: SecureStore) -> Iterator[Check]:
    for found in store.subject_erased():
        if found.stage != "done":
            said = f"{found.number} of {found.tenant}: that of a {found.kind}, uid {found.uid}, stopped at {found.stage!r}"
            yield Check("erasure", "warn", said, "run it again, with the name that it was asked for")


def _anchor(tenant: str, state: str, path: str | None) -> Check:
    name = f"anchor of {tenant}"
    if state == "ok":
        return Check(name, "ok", path or "")
    mend = "give it a place that this user can write (SECMEM_ANCHOR or --anchor), outside the store; then look again"
    return Check(name, "warn", f"{state}: {path or 'no place'}", mend)
