"""A backup set on disk: a directory of encrypted copies and the manifest that says what they are.

    2026-11-27T033349.123456Z-vaults/   manifest.json  store.json  system.db  vaults/*.db  archives/*
    2026-11-27T033349.123456Z-keys/     manifest.json  store.json  keys.db

- A set is written beside its place under a name that begins with a dot, synced, and renamed when it is whole: what a killed
  backup leaves is never taken for one, and the next backup in that directory sweeps it.
- The manifest names every file with its length and SHA-256, and has a MAC under the store's backup key, which is a row of
  keys.db: it stays the same when the store root turns. A file more, a file less or a changed byte anywhere is an error.

Called by `backup` and `restore`.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from secure_memory import clock
from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, DiskFullError, StorageError, StoreBusyError, TamperedError
from secure_memory.keys.key import Key, context

FORMAT = 1
MANIFEST = "manifest.json"
Kind = Literal["vaults", "keys"]
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT
_PARTIAL = ".secmem-partial"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class CopiedVault:
    """A vault in a set: whose it is, and the head of its ledger (uids and root in hex, size in entries)."""

    tenant: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A set by its manifest. `store` is the store's uid in hex; copying lasted from `created` to `finished` (microseconds).
    `files` are (length, SHA-256 in hex) by name, `vaults` by the vault's uid in hex; `tombstones` is how many erased keys
    were listed, None in a set of vaults."""

    path: Path
    kind: Kind
    store: str
    created: int
    finished: int
    files: Mapping[str, tuple[int, str]]
    vaults: Mapping[str, CopiedVault] = field(default_factory=dict)
    tombstones: int | None = None
    mac: str = ""

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(length for length, _ in self.files.values())

    def _stated(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "store": self.store,
            "created": clock.rfc3339(self.created),
            "finished": clock.rfc3339(self.finished),
            "files": {name: {"bytes": length, "sha256": digest} for name, (length, digest) in self.files.items()},
            "vaults": {uid: asdict(vault) for uid, vault in self.vaults.items()},
            "tombstones": self.tombstones,
        }

    def signed(self, key: Key) -> str:
        """The MAC (hex) that its manifest has under the store's backup key."""
        return hmac.digest(key.bytes, context("secmem/backup/v1", _json(self._stated())), "sha256").hex()

    def text(self) -> bytes:
        """The manifest, which has this one form."""
        return _json({**self._stated(), "mac": self.mac})

    def check_mac(self, key: Key) -> None:
        """Raise TamperedError where the manifest is not what this store wrote."""
        if not hmac.compare_digest(self.signed(key), self.mac):
            raise _damaged(self.path, "its manifest was not written by this store")

    def check_files(self) -> None:
        """Raise TamperedError where a file is missing, changed, or one too many; StorageError."""
        with told(f"read {self.path}"):
            there = {str(file.relative_to(self.path)) for file in self.path.rglob("*") if not file.is_dir()}
            if odd := sorted(there ^ {MANIFEST, *self.files}):
                raise _damaged(self.path, f"{odd[0]} is {'in no manifest' if odd[0] in there else 'missing'}")
            for name, stated in self.files.items():
                if measured(self.path / name) != stated:
                    raise _damaged(self.path, f"{name} is not what was written")


def read(path: Path) -> BackupSet:
    """The set at `path`, of which only the manifest is read. Raises ConfigurationError, TamperedError, StorageError."""
    try:
        data = (path / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"{path} is no backup set: it has no {MANIFEST}", hint="`secmem backup DIR` makes sets in DIR; name one of them"
        ) from None
    except OSError as error:
        raise StorageError(f"could not read {path}: {(error.strerror or 'unknown error').lower()}") from None
    try:
        stated = json.loads(data)
        found = BackupSet(
            path,
            stated["kind"],
            stated["store"],
            clock.parse(stated["created"]),
            clock.parse(stated["finished"]),
            {name: (file["bytes"], file["sha256"]) for name, file in stated["files"].items()},
            {uid: CopiedVault(**vault) for uid, vault in stated["vaults"].items()},
            stated["tombstones"],
            stated["mac"],
        )
        whole = stated["format"] == FORMAT and found.text() == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise _damaged(path, "its manifest is damaged")
    return found


def sets_in(directory: Path, kind: Kind) -> list[Path]:
    """The sets of that kind in `directory`, the oldest first; the directory itself where it is one. Raises StorageError."""
    if (directory / MANIFEST).exists():
        return [directory] if read(directory).kind == kind else []
    with told(f"look into {directory}"):
        names = sorted(os.listdir(directory))
    return [directory / name for name in names if name.endswith(f"-{kind}") and not name.startswith(".")]


# ---- writing one ----------------------------------------------------------------------------------------------------


@contextmanager
def being_written(directory: Path, name: str) -> Iterator[Path]:
    """A new directory in which the set `name` is written, and which becomes one by `keep`; an error removes it.

    Raises StorageError, DiskFullError.
    """
    partial = directory / f".{name}{_PARTIAL}"
    with told(f"write {directory / name}"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(directory)
        partial.mkdir(mode=0o700)
        lock = _locked(partial)
        if lock is None:
            raise StoreBusyError(f"another backup is being written to {directory}", hint="try again when it is done")
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # nothing is there where it was kept
            os.close(lock)


def keep(partial: Path, name: str) -> Path:
    """Give a set its name, durably, now that it is whole; returns its path."""
    place = partial.with_name(name)
    with told(f"write {place}"):
        for folder in (*(path for path in partial.rglob("*") if path.is_dir()), partial):
            sync(folder)
        partial.rename(place)
        sync(place.parent)
    return place


def sweep(directory: Path) -> None:
    """Remove what killed backups left in `directory`: what nobody holds locked any more."""
    for partial in directory.glob(f".*{_PARTIAL}"):
        lock = _locked(partial)
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _locked(partial: Path) -> int | None:
    """The directory, open and locked against other processes; None where another one writes it."""
    with suppress(FileNotFoundError, NotADirectoryError):
        fd = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            os.close(fd)
    return None


def write(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, durably."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def copy(source: Path, target: Path) -> None:
    """Copy a file that nobody writes to a new one of mode 0600, durably."""
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to, source.open("rb") as file:
        shutil.copyfileobj(file, to, _CHUNK)
        to.flush()
        os.fsync(to.fileno())


def measured(path: Path) -> tuple[int, str]:
    """The length and the SHA-256 (hex) of a file."""
    length, digest = 0, sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            length += len(chunk)
            digest.update(chunk)
    return length, digest.hexdigest()


@contextmanager
def told(deed: str) -> Iterator[None]:
    """Errors of the system, as ours: could not `deed`."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        if error.errno in _NO_SPACE:
            raise DiskFullError(f"could not {deed}: {why}", hint="free some room there; nothing was left") from None
        raise StorageError(f"could not {deed}: {why}", hint="check the directory and its modes") from None


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"


def _damaged(path: Path, what: str) -> TamperedError:
    return TamperedError(
        f"the backup {path.name} is damaged: {what}", hint="keep it for the investigation, and take another backup"
    )
