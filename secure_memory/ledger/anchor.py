"""The anchor: the newest head of one vault's ledger, kept where the store's files are not. What reveals a rollback.

- It remembers two heads. **durable**: committed with synchronous=FULL, so that not even a power cut takes it back.
  **seen**: committed; a power cut, and nothing else, may take it back. durable.size <= seen.size.
- They move forward only. Two things move them back: a declared `reset`, and a reboot, which frees *seen* (`_forward`).
- Two slots, written in turn: a write that is torn, or lost, leaves the slot before it whole.
- An older anchor only proves less; it never raises a false alarm. So nothing is synced here, and a write may be lost.

The checksum finds accidents. What keeps the anchor from being forged is where it is: a place that whoever can write the
store's files cannot write. `advance` is called after every commit; `read` and then `check` when a vault is opened:
**first the anchor, then the ledger**, since the other way round a commit in between looks like a rollback. POSIX only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import platformdirs

from secure_memory.errors import RollbackError, StorageError, StoreBusyError, TamperedError
from secure_memory.ledger.merkle import EMPTY_ROOT, Head

ANCHOR_VARIABLE = "SECMEM_ANCHOR"

# How long to wait for a process that holds the lock, which takes microseconds: longer than a scheduler or a CPU quota
# keeps one waiting, and short, because a process that was stopped while it held the lock must not stop all the others.
LOCK_SECONDS = 0.25

# Magic and version, counter, durable size and root, seen size and root, boot id; then the SHA-256 of these.
_MAGIC = b"SMA\x01"
_BODY = struct.Struct(">4sQQ32sQ32s16s")
_SLOT_SIZE = _BODY.size + 32

# A page for each slot, so that no sector that is lost or torn holds both.
_STRIDE = 4096

_UNKNOWN_BOOT = bytes(16)

_INCIDENT = "treat this as an incident: keep the store and the anchor as they are, and run `secmem audit verify`"


class State(NamedTuple):
    """What an anchor says: the newest durable head, the newest head seen, and the boot it was seen in."""

    durable: Head
    seen: Head
    boot_id: bytes


def default_directory() -> Path:
    """Return where anchors are kept: $SECMEM_ANCHOR, or the platform's directory for state. It need not exist."""
    if chosen := os.environ.get(ANCHOR_VARIABLE):
        return Path(chosen)
    with suppress(RuntimeError):  # platformdirs, where there is no home: a container's arbitrary user, say
        state = platformdirs.user_state_path("secure-memory")
        if state.is_absolute():  # an older platformdirs answers "~/.local" then, a place under wherever we stand
            return state / "anchors"
    return Path("/var/lib/secure-memory/anchors")


@cache
def boot_id() -> bytes:
    """Return 16 bytes that change when the host boots; zeros where the platform has no such thing."""
    if sys.platform == "linux":
        with suppress(OSError, ValueError):
            return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    elif sys.platform == "darwin":
        import ctypes  # costs milliseconds, and Linux does without

        value, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        if ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", value, ctypes.byref(size), None, 0) == 0:
            return sha256(value.raw[: size.value]).digest()[:16]
    return _UNKNOWN_BOOT


def check(state: State, size: int, root_at: Callable[[int], bytes]) -> Literal["ok", "gap"]:
    """Compare a ledger of `size` entries, whose root at n entries is `root_at(n)`, with what its anchor knows.

    Returns "ok", or "gap" when a power cut took back entries that had been seen: the caller records `audit.gap`.
    Raises RollbackError when no power cut explains the difference.
    After a power cut the ledger may also have grown again, past what was seen: when the anchor could not be written, or
    a second power cut took back that. To whoever would feign this, it says no more than to fall back to `durable`.
    """
    durable, seen = state.durable, state.seen
    if size < durable.size:
        raise _rollback(f"the ledger has {size} entries, and {durable.size} were on disk before")
    if root_at(durable.size) != durable.root:
        raise _rollback(f"the ledger has another history at {durable.size} entries than was on disk before")
    if size >= seen.size and root_at(seen.size) == seen.root:
        return "ok"
    if not _same_boot(state):
        return "gap"
    if size < seen.size:
        raise _rollback(f"the ledger has {size} entries, and {seen.size} were seen since this host booted")
    raise _rollback(f"the ledger has another history at {seen.size} entries than was seen since this host booted")


def _same_boot(state: State) -> bool:
    """Whether `seen` was seen in this boot. Where boots can't be told apart, no: that makes it a gap, not an alarm."""
    return state.boot_id == boot_id() != _UNKNOWN_BOOT


def _rollback(message: str) -> RollbackError:
    declare = "if a backup was restored on purpose, declare it: `secmem restore --accept-rollback --reason ...`"
    return RollbackError(message, hint=f"{_INCIDENT}; {declare}")


class Anchor:
    """The anchor of one vault of one store at one place. Opens its file when first used, and keeps it open."""

    def __init__(self, directory: Path, store_uid: bytes, store_path: Path, vault_uid: bytes) -> None:
        self._directory = directory
        self._store_uid = store_uid
        self._store_path = store_path
        self._vault_uid = vault_uid
        self._fd: int | None = None
        self._mutex = threading.Lock()

    @property
    def path(self) -> Path:
        """The file. The store's real path is in its name: a copy of a store goes its own way, with its own anchor."""
        place = sha256(os.fsencode(os.path.realpath(self._store_path))).digest()[:8]
        return self._directory / f"{self._store_uid.hex()}-{place.hex()}" / f"{self._vault_uid.hex()}.anchor"

    def read(self) -> State | None:
        """Return what the anchor says, None if there is none; raise TamperedError if it is damaged, or StorageError."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            with self._mutex, _Locked(fd, fcntl.LOCK_SH):
                newest = _newest(fd)
        except _DamagedError as error:
            hint = f"{_INCIDENT}; if it finds nothing, begin a new anchor: `secmem audit anchor --init`"
            raise TamperedError(f"both slots of the anchor {self.path} are damaged", hint=hint) from error
        except TimeoutError as error:
            hint = "try again; is a process stopped that uses the store?"
            raise StoreBusyError(f"another process holds the anchor {self.path}", hint=hint) from error
        except OSError as error:
            raise self._unreadable(error) from error
        finally:
            os.close(fd)
        return newest.state if newest else None

    def advance(self, head: Head, *, durable: bool) -> None:
        """Move *seen* forward to a head that was committed, and *durable* too if no power cut can take it back.

        Returns without writing when the anchor is there already. Raises OSError, and nothing else, on failure: the
        commit stands, so the caller notes that the anchor is degraded. The next call that succeeds makes up for it.
        """
        with self._mutex, self._open_locked() as fd:
            newest = _newest(fd)
            state = _forward(newest.state if newest else None, head, durable)
            if newest is None or state != newest.state:
                _write_next(fd, newest, state)

    def reset(self, head: Head) -> None:
        """Begin again at exactly this head, which is on disk, whatever was known and even if the anchor is damaged.

        For what is declared: `secmem restore --accept-rollback` and `secmem audit anchor --init`. Raises OSError.
        """
        with self._mutex, self._open_locked() as fd:
            try:
                newest = _newest(fd)
            except _DamagedError:
                newest = None
            _write_next(fd, newest, State(head, head, boot_id()))
            os.fsync(fd)  # the one write that takes something back: if it were lost, what it took back would be an alarm

    def close(self) -> None:
        """Close the file. Using the anchor again opens it again."""
        with self._mutex:
            self._drop()

    def after_fork(self) -> None:
        """Make a child of `fork` independent of its parent; call it in the child before anything else.

        A flock belongs to the open file, which both now share, so the child opens its own. Closing the child's copy
        leaves a lock of the parent in place. The mutex is replaced: a thread that held it doesn't exist in the child.
        """
        self._mutex = threading.Lock()
        self._drop()

    def _drop(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open_locked(self) -> _Locked:
        """Give the file, open for reading and writing, made if need be, and locked against other processes."""
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self._drop()  # deleted or replaced under us: what we would write there, nobody would read
        if self._fd is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        return _Locked(self._fd, fcntl.LOCK_EX)

    def _unreadable(self, error: OSError) -> StorageError:
        hint = f"make it readable for this user, or name another directory in {ANCHOR_VARIABLE}"
        return StorageError(f"the anchor {self.path} can't be read: {error.strerror}", hint=hint)


class _Slot(NamedTuple):
    number: int
    counter: int
    state: State


class _DamagedError(OSError):
    """Neither slot is whole."""


def _forward(state: State | None, head: Head, durable: bool) -> State:
    """Return the state that knows `head` too.

    A head that was seen in an earlier boot gives way even to a smaller one. If a power cut took it back, `check` has
    said so by now, and the ledger grows another way: that head will never return.
    """
    nothing = Head(0, EMPTY_ROOT)
    known, seen = (state.durable, state.seen) if state else (nothing, nothing)
    if state and not _same_boot(state):
        seen = known
    return State(
        durable=head if durable and head.size > known.size else known,
        seen=head if head.size > seen.size else seen,
        boot_id=boot_id(),
    )


def _newest(fd: int) -> _Slot | None:
    """Return the newest slot that is whole, None when nothing was ever written; raise _DamagedError otherwise."""
    data = os.pread(fd, _STRIDE + _SLOT_SIZE, 0)
    first, second = _parse(0, data[:_SLOT_SIZE]), _parse(1, data[_STRIDE:])
    if first and second:
        return second if (second.counter - first.counter) % 2**64 < 2**63 else first  # RFC 1982: they may wrap
    if not (first or second) and any(data):  # zeros: made just before a power cut, which leaves no more than no file
        raise _DamagedError(errno.EIO, "both slots of the anchor are damaged")
    return first or second


@lru_cache(maxsize=64)  # of two slots, one is mostly what it was
def _parse(number: int, slot: bytes) -> _Slot | None:
    body, checksum = slot[: _BODY.size], slot[_BODY.size :]
    if sha256(body).digest() != checksum or not body.startswith(_MAGIC):
        return None
    _, counter, durable, durable_root, seen, seen_root, boot = _BODY.unpack(body)
    return _Slot(number, counter, State(Head(durable, durable_root), Head(seen, seen_root), boot))


def _write_next(fd: int, newest: _Slot | None, state: State) -> None:
    number, counter = (1 - newest.number, (newest.counter + 1) % 2**64) if newest else (0, 1)
    durable, seen = state.durable, state.seen
    body = _BODY.pack(_MAGIC, counter, durable.size, durable.root, seen.size, seen.root, state.boot_id)
    # One write and no fsync, which would cost as much as the commit: a power cut that makes the anchor older makes it
    # prove less, and never raises a false alarm.
    if os.pwrite(fd, body + sha256(body).digest(), number * _STRIDE) != _SLOT_SIZE:
        raise OSError(errno.ENOSPC, "the anchor was written only in part")


class _Locked(NamedTuple):
    """Hold a lock against other processes. It is released in words: closing does not, while a child has a copy open."""

    fd: int
    kind: int

    def __enter__(self) -> int:
        give_up = None
        while True:
            try:
                fcntl.flock(self.fd, self.kind | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
                give_up = give_up or now + LOCK_SECONDS
                if now > give_up:
                    raise TimeoutError(errno.ETIMEDOUT, "another process holds the anchor's lock") from None
                time.sleep(0.0001)
            else:
                return self.fd

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)
