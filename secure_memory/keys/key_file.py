"""The key file: base64 of 32 bytes a line, newest first; blank lines and lines that start with `#` say nothing.

- It is read only if nobody else could have read or changed it: see `_check_private`.
- It is made once and never overwritten. Taking a key out of it replaces it whole, or not at all.
- A broken line is named by its number, never shown. Error reporters print local variables too, so no frame here that
  raises holds the text of a key in one.

Called by the providers in `local.py`. POSIX only: modes and owners are the protection.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secure_memory import clock
from secure_memory.disk import sync
from secure_memory.errors import ConfigurationError, KeyNotFoundError
from secure_memory.keys.key import KEY_BYTES, Key
from secure_memory.keys.provider import kek_id

# Of a file that this user or root owns; and, of root's alone, what a Kubernetes secret is to a pod with an `fsGroup`.
PRIVATE_MODES = (0o400, 0o600)
ROOT_GROUP_MODES = (0o440, 0o640)
MAX_FILE_BYTES = 64 * 1024
EXPECTED = f"base64 of {KEY_BYTES} bytes"

_CONTENT = """\
# The key of a secure-memory store, made {made_at}. It opens everything in it.
# Back this up, away from the store's own backups: losing it loses everything.
{key}
"""


def decode(text: bytes) -> Key | None:
    """Return the key that this base64 is, None if it isn't one. It doesn't raise, since its frame holds the text."""
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return Key(secret) if len(secret) == KEY_BYTES else None


def read(path: Path) -> list[Key]:
    """Return the keys in the file, newest first; at least one.

    Raises `KeyNotFoundError` if there is no file, and `ConfigurationError` if it can't be read, isn't private, or has a
    line that isn't a key.
    """
    found = [(key, expected) for _, key, expected in _lines(_read_private(path))]
    keys = []
    for number, (key, expected) in enumerate(found, 1):
        if key is not None:
            keys.append(key)
        elif expected:
            raise ConfigurationError(
                f"key file {path}, line {number}: not {EXPECTED}",
                hint="restore the file from its backup; a line is one key, a comment that starts with #, or blank",
            )
    if not keys:
        raise ConfigurationError(f"key file {path} holds no key", hint="restore the file from its backup")
    return keys


def create(path: Path, *, made_at: int) -> None:
    """Write a new key to a new file of mode 0600, durably; `made_at`, in microseconds since the epoch, is noted in it.

    The directory is made (0700) where it is missing. Raises `ConfigurationError` if anything is at that path already.
    """
    with _named(path, "create"):
        _make_directory(path.parent)
        # Under its own name it is whole from the start: another process may be looking for it.
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        _write_new(new, _new_content(made_at))
        try:
            os.link(new, path)
        except FileExistsError:
            raise ConfigurationError(
                f"{path} exists already", hint="a key file is never overwritten: use it as it is, or name another path"
            ) from None
        finally:
            new.unlink()
        with _directory(path.parent) as directory:
            os.fsync(directory)


def add(path: Path, *, made_at: int) -> None:
    """Replace the file, atomically and durably, by one with a new key before the others. Raises as `remove`."""
    path = path.resolve()  # what a symbolic link points to is replaced, not the link
    with _named(path, "rewrite"), _directory(path.parent) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        replacement = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        content = memoryview(bytes(_new_content(made_at)) + b"\n" + _read_private(path))
        _write_new(replacement, content, like=path.stat())
        os.replace(replacement, path)
        os.fsync(directory)


def remove(path: Path, version: str) -> None:
    """Replace the file, atomically and durably, by one without the key of this id.

    Raises `KeyNotFoundError` if it isn't there, and `ConfigurationError` if it is the only one. Old blocks of the disk,
    snapshots and backups are not reached: what the key wrapped is gone once every copy of the key is.
    """
    path = path.resolve()  # what a symbolic link points to is replaced, not the link
    with _named(path, "rewrite"), _directory(path.parent) as directory:
        # Two processes, each removing a key: without a lock the later rename would bring back what the earlier removed.
        fcntl.flock(directory, fcntl.LOCK_EX)
        held = {kek_id(key) for key in read(path)}
        if version not in held:
            raise KeyNotFoundError(f"no key {version} in key file {path}", hint=f"there: {', '.join(sorted(held))}")
        if held == {version}:
            raise ConfigurationError(
                f"key {version} is the only one in key file {path}", hint="add the key that is to take its place first"
            )
        replacement = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        _write_new(replacement, _content_without(_read_private(path), version), like=path.stat())
        os.replace(replacement, path)
        os.fsync(directory)


def _lines(content: bytes) -> Iterator[tuple[bytes, Key | None, bool]]:
    """Yield each line, the key on it, and whether one is expected there."""
    for line in content.splitlines(keepends=True):
        text = line.strip()
        yield line, decode(text), bool(text) and not text.startswith(b"#")


# What is written passes as a memoryview: the frames that write can raise, and it prints as an address, not as bytes.


def _new_content(made_at: int) -> memoryview:
    key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    return memoryview(_CONTENT.format(made_at=clock.rfc3339(made_at), key=key).encode())


def _content_without(content: bytes, version: str) -> memoryview:
    return memoryview(b"".join(line for line, key, _ in _lines(content) if key is None or kek_id(key) != version))


def _read_private(path: Path) -> bytes:
    with _named(path, "read"):
        try:
            # O_NONBLOCK: a pipe in place of the file is refused below, instead of keeping us waiting for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            raise KeyNotFoundError(f"no key file at {path}", hint="check the path, or restore the file") from None
        try:
            _check_private(path, os.fstat(descriptor))  # of what was opened: nobody can swap it in between
            return os.read(descriptor, MAX_FILE_BYTES)
        finally:
            os.close(descriptor)


def _check_private(path: Path, status: os.stat_result) -> None:
    """Raise `ConfigurationError` unless this user or root owns the file, and nobody else can read or change it.

    One exception: a file that root owns may be readable to its group, since so Kubernetes mounts a secret for a user
    that isn't root. The modes are an exact list, so that what we didn't think of is refused.
    """
    mode, owner = stat.S_IMODE(status.st_mode), status.st_uid
    quoted = shlex.quote(str(path))
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"key file {path} isn't a regular file", hint="name the file that holds the key")
    if status.st_size > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"key file {path} is over {MAX_FILE_BYTES} bytes", hint="name the file that holds the key, and nothing else"
        )
    if owner not in (0, os.geteuid()):
        raise ConfigurationError(
            f"key file {path} belongs to another user (uid {owner}), who can change it",
            hint=f"chown {os.geteuid()} {quoted} && chmod 600 {quoted}, or run as that user",
        )
    if mode not in PRIVATE_MODES and not (owner == 0 and mode in ROOT_GROUP_MODES):
        raise ConfigurationError(f"key file {path} has mode {mode:04o}, not 0600 or 0400", hint=f"chmod 600 {quoted}")


def _write_new(path: Path, content: memoryview, *, like: os.stat_result | None = None) -> None:
    """Write and sync a file that didn't exist, with the mode 0600 or the owner and mode of another; or leave none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            # Never more open than what it replaces, and readable to whoever it was readable to.
            if like and (like.st_uid, like.st_gid) != (os.geteuid(), os.fstat(descriptor).st_gid):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode) if like else 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise


def _make_directory(path: Path) -> None:
    """Make the directory and those above it, each known to its parent durably, so that no power cut takes the key."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync(path.parent)


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    """Open a directory, to sync or to lock it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path, deed: str) -> Iterator[None]:
    """Turn the system's errors into ours, with the file and what was tried."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"can't {deed} key file {path}: {(error.strerror or 'unknown error').lower()}",
            hint="see that this user may, and that the disk has room; or give the key another way, such as SECMEM_KEY",
        ) from error
