"""The list of erased keys, kept beside the anchors: what a restored backup must not bring back.

- A key that an erasure destroyed has a line: number, owner, purpose, version, when, and a MAC of these and of the line
  before it. So none can be edited, dropped, moved or made up by whoever lacks the store root, which the MACs' key is from.
- Lines are only ever added. What `append` returned from is on disk, and only then is an erasure acknowledged.
- A last line without its end was cut off by a crash before `append` returned: nobody was told, and it does not count. That
  the list's *end* was dropped is not seen here but in its length, which the ledger's `key.destroy` entries carry.
- It is in the anchors' directory and not in the store, since whoever puts back an older copy of the store must not put back
  an older list with it.

Keys that were replaced, as a rotation or a new subject does, have no line: what they sealed was sealed anew, and a backup
from before may bring both back. Called by the keyring, by `secmem restore`, and by an epoch turn, which writes the list anew
under the new root. POSIX only.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from secure_memory import clock
from secure_memory.disk import sync
from secure_memory.errors import StorageError, TamperedError
from secure_memory.keys.key import Key, context

FILE = "tombstones"
"""The list's name in a store's directory of anchors."""
_START = bytes(32)  # what the first line follows
_HINT = "treat it as an incident: keep the file, and compare it with the `key.destroy` entries of the ledger"


class Tombstone(NamedTuple):
    """A key that was destroyed: `owner` is the uid (16 bytes) that the key was for, `destroyed` in microseconds."""

    owner: bytes
    purpose: str
    version: int
    destroyed: int


class TombstoneList:
    """The list at `path`, whose MACs are under `key` (see `Keyring.tombstone_key`). Safe to use from any thread."""

    def __init__(self, path: Path, key: Key) -> None:
        self.path = path
        self._key = key
        self._mutex = threading.Lock()

    def read(self) -> list[Tombstone]:
        """Every tombstone, the oldest first; none where there is no list yet.

        Raises TamperedError, which names the first line that is wrong, and StorageError where it can't be read.
        """
        with self._named("read"):
            try:
                content = self.path.read_bytes()
            except FileNotFoundError:
                return []
            return self._proven(content)[0]

    def append(self, tombstones: Iterable[Tombstone]) -> int:
        """Add those that are not there yet, durably; returns how long the list is now. Raises as `read`."""
        with self._mutex, self._named("write"), self._locked() as fd:
            content = _all(fd)
            found, mac, whole = self._proven(content)
            known = {stone[:3] for stone in found}
            new = [stone for stone in tombstones if stone[:3] not in known]
            if whole < len(content):
                os.ftruncate(fd, whole)  # what a crash cut off
            if new:
                _write(fd, whole, self._lines(new, len(found), mac))
            os.fsync(fd)  # also where another process wrote them, and died before it could
            return len(found) + len(new)

    def turn(self, key: Key) -> None:
        """Replace the list, in one step and durably, by the same under another key, for an epoch turn. Raises as `read`."""
        with self._mutex, self._named("rewrite"), self._locked() as fd:
            place = self.path.with_name(f".{self.path.name}.new")
            place.unlink(missing_ok=True)
            TombstoneList(place, key).append(self._proven(_all(fd))[0])
            os.replace(place, self.path)
            sync(self.path.parent)

    def _proven(self, content: bytes) -> tuple[list[Tombstone], bytes, int]:
        """The tombstones, the last line's MAC, and how many bytes are whole lines."""
        found: list[Tombstone] = []
        mac = _START
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                stated, owner, purpose, version, destroyed, its = line.decode("ascii").split(" ")
                stone = Tombstone(bytes.fromhex(owner), purpose, int(version), clock.parse(destroyed))
                mac = self._mac(mac, number, stone)
                ours = int(stated) == number and hmac.compare_digest(mac, bytes.fromhex(its))
            except ValueError:
                ours = False
            if not ours:
                raise TamperedError(f"line {number} of the tombstones {self.path} is not the one written there", hint=_HINT)
            found.append(stone)
        return found, mac, whole

    def _lines(self, new: Iterable[Tombstone], number: int, mac: bytes) -> bytes:
        lines = []
        for stone in new:
            number += 1
            mac = self._mac(mac, number, stone)
            when = clock.rfc3339(stone.destroyed)
            lines.append(f"{number} {stone.owner.hex()} {stone.purpose} {stone.version} {when} {mac.hex()}\n")
        return "".join(lines).encode("ascii")

    def _mac(self, before: bytes, number: int, stone: Tombstone) -> bytes:
        return hmac.digest(self._key.bytes, context("secmem/tombstone/v1", before, number, *stone), "sha256")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, made with its directory where it is missing, and locked against other processes."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            sync(self.path.parent)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _named(self, deed: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = (error.strerror or "unknown error").lower()
            raise StorageError(
                f"could not {deed} the tombstones {self.path}: {why}",
                hint="an erasure counts only when its tombstone is kept: mend the place of the anchors, then erase again",
            ) from None


def _all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _write(fd: int, offset: int, data: bytes) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
