"""Archive files: what a rule archives, encrypted, whole, and readable without the store's vaults.

    secmem archive 1\n | header length (4) | header JSON | chunk | chunk | ...        chunk: length (4) | AES-256-GCM

- The header names the store, the tenant's uid and the file's salt, in the clear. The file's key is HMAC-SHA256 of the header
  under the store's archive key, so an edited header opens nothing; a chunk's nonce is its number.
- A chunk's additional data is whether it is the last one (STREAM: Hoang, Reyhanitabar, Rogaway, Vizár 2015; age has it so
  too), so that none can be cut off, repeated or put elsewhere.
- Inside are JSON lines: `{"session": ...}` before a session's items, `{"item": ...}` for each, and `{"end": {"items": n,
  "sha256": ...}}`, over all lines before it.
- A file is written beside its name, synced, and renamed when it is whole; only then may a purge delete what is in it.

It is under the store's key, and not the subjects': an archive is kept because a law says so, and ends with its file.
Called by `lifecycle.purge.purges` and `lifecycle.purge.archives`. Reading one holds a chunk in memory.
"""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, DiskFullError, StorageError, TamperedError
from secure_memory.keys.key import Key

MAGIC = b"secmem archive 1\n"
CHUNK = 64 * 1024
"""Bytes of a chunk before encryption."""
MAX_HEADER = 4096
PARTIAL = ".partial"
"""What the name of a file ends with that is not whole yet."""
_HINT = "is it an archive of this store, and whole? copy it again from where it is kept"


class ArchiveWriter:
    """Writes one archive; `finish` makes it be there, `abandon` leaves nothing."""

    def __init__(self, path: Path, key: Key, header: Mapping[str, Any]) -> None:
        """`header` is what stands in the clear. Raises StorageError, DiskFullError."""
        self.path = path
        self.items = 0
        self._temporary = path.with_name(f".{path.name}{PARTIAL}")
        salt = os.urandom(32)
        said = orjson.dumps({**header, "salt": salt.hex()}, option=orjson.OPT_SORT_KEYS)
        self._cipher = AESGCM(file_key(key, said))
        self._hash = sha256()
        self._pending = bytearray()
        self._number = 0
        with _told():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file: BinaryIO = os.fdopen(os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
            self._file.write(MAGIC + len(said).to_bytes(4, "big") + said)

    def session(self, said: Mapping[str, Any]) -> None:
        """Say which session the items are of that follow."""
        self._line({"session": said})

    def item(self, said: Mapping[str, Any], text: bytes) -> None:
        """Add an item: what is known of it, and its JSON."""
        self.items += 1
        self._line({"item": {**said, "json": text.decode("utf-8", "surrogatepass")}})

    def finish(self) -> Path:
        """Seal the end, sync, and give the file its name; returns its path."""
        self._line({"end": {"items": self.items, "sha256": self._hash.hexdigest()}})
        with _told():
            self._write_chunk(last=True)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self.path)
            sync(self.path.parent)
        return self.path

    def abandon(self) -> None:
        """Leave nothing of the file."""
        with suppress(OSError):  # a full disk refuses what was still to be written
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _line(self, value: Mapping[str, Any]) -> None:
        line = orjson.dumps(value) + b"\n"
        if "end" not in value:
            self._hash.update(line)
        self._pending += line
        with _told():
            while len(self._pending) > CHUNK:
                self._write_chunk(last=False)

    def _write_chunk(self, *, last: bool) -> None:
        while last and len(self._pending) > CHUNK:
            self._write_chunk(last=False)
        plain = bytes(self._pending[:CHUNK])
        del self._pending[:CHUNK]
        sealed = self._cipher.encrypt(self._number.to_bytes(12, "big"), plain, b"last" if last else b"more")
        self._number += 1
        self._file.write(len(sealed).to_bytes(4, "big") + sealed)


class _told:
    """Turns what the file system says into our errors."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(
                    "there is no room for the archive: nothing of it was deleted from the store",
                    hint="make room where the archives are, or name another directory with --archive-to",
                ) from None
            why = (error.strerror or "unknown error").lower()
            raise StorageError(f"the archive could not be written: {why}", hint="check its directory and modes") from None


def file_key(key: Key, header: bytes) -> bytes:
    """The key of one file: it comes from the store's archive key and the header, which holds 32 random bytes."""
    return hmac.digest(key.bytes, b"secmem/archive/v1" + header, "sha256")


def header_of(path: Path) -> dict[str, Any]:
    """What an archive says in the clear, not yet proven. Raises ConfigurationError where it is none, StorageError."""
    with _opened(path) as file:
        return dict(orjson.loads(_header(file)))


def read(path: Path, key: Key) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of an archive: (session | item | end, what it says). The end comes last, and proves that nothing is missing.

    Raises ConfigurationError where it is no archive, TamperedError where it is not what was written, or was cut off.
    """
    with _opened(path) as file:
        cipher = AESGCM(file_key(key, _header(file)))
        rest, hash_, items = b"", sha256(), 0
        for plain in _chunks(file, cipher):
            *lines, rest = (rest + plain).split(b"\n")
            for line in lines:
                ((kind, said),) = orjson.loads(line).items()
                if kind == "end":
                    if said != {"items": items, "sha256": hash_.hexdigest()}:
                        raise TamperedError("the archive does not hold what its end says", hint=_HINT)
                else:
                    hash_.update(line + b"\n")
                    items += kind == "item"
                yield kind, said


def _chunks(file: BinaryIO, cipher: AESGCM) -> Iterator[bytes]:
    number, last = 0, False
    while not last:
        length = int.from_bytes(file.read(4), "big")
        sealed = file.read(length) if length <= CHUNK + 16 else b""
        nonce = number.to_bytes(12, "big")
        for mark in (b"more", b"last"):
            try:
                plain = cipher.decrypt(nonce, sealed, mark)
            except (InvalidTag, ValueError):
                continue
            last = mark == b"last"
            break
        else:
            raise TamperedError(f"chunk {number} of the archive was edited, cut off, or is under another key", hint=_HINT)
        number += 1
        yield plain
    if file.read(1):
        raise TamperedError("something was put behind the end of the archive", hint=_HINT)


def _header(file: BinaryIO) -> bytes:
    if file.read(len(MAGIC)) != MAGIC:
        raise ConfigurationError("the file is no archive", hint="`secmem purge` says where it writes its archives")
    length = int.from_bytes(file.read(4), "big")
    header = file.read(length) if length <= MAX_HEADER else b""
    if len(header) != length or not length:
        raise TamperedError("the archive's header was cut off", hint=_HINT)
    return header


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise ConfigurationError(f"the archive can't be opened: {why}", hint="check its path") from None
