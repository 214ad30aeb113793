"""Keys kept on this host: in a key file, in an environment variable, or in memory only.

- No key is looked for beyond the first place that is named: a broken one raises, and no other key takes its place.
- A key file never lies inside the store that it opens, where every backup of the store would carry it.
- No error, `repr` or description shows a key, or what stood where a key should.

Wrapped by a provider here, a key is `0x01 | KEK id(8) | nonce(12) | AES-256-GCM(key)`: 69 bytes, the KEK id in the AAD.
Called by the store when it is created and opened, and by `secmem key`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from secure_memory.errors import ConfigurationError, KeyNotFoundError, WrongKeyError
from secure_memory.keys import key_file
from secure_memory.keys.key import FORMAT, KEY_BYTES, WRAPPED_BYTES, Key, check_wrapped, context
from secure_memory.keys.key_file import EXPECTED
from secure_memory.keys.provider import KEK_ID_BYTES, KeyProvider, kek_id

KEY_VARIABLE = "SECMEM_KEY"
KEY_FILE_VARIABLE = "SECMEM_KEY_FILE"

_ID_END = len(FORMAT) + KEK_ID_BYTES
_HOW_TO_MAKE = f"a key is {EXPECTED}, as `openssl rand -base64 {KEY_BYTES}` prints it"


class _LocalKeys:
    """KEKs held by this process, newest first: what the local providers have in common."""

    def __init__(self, place: str, keys: Iterable[Key]) -> None:
        self._place = place
        self._keks = {kek_id(key): key for key in keys}

    def describe(self) -> str:
        return self._place

    def versions(self) -> tuple[str, ...]:
        return tuple(self._keks)

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        if not self._keks:
            raise KeyNotFoundError(f"no key left in {self._place}", hint="it was destroyed: what it wrapped is erased")
        version, kek = next(iter(self._keks.items()))
        kid = bytes.fromhex(version)
        return FORMAT + kid + kek.wrap(key, context(kid, aad))[len(FORMAT) :]

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        check_wrapped(wrapped, WRAPPED_BYTES + KEK_ID_BYTES)
        kid = wrapped[len(FORMAT) : _ID_END]
        kek = self._keks.get(kid.hex())
        if kek is None:
            raise WrongKeyError(
                f"wrapped by key {kid.hex()}, which isn't in {self._place}: {self._held()}",
                hint=f"give the key whose id is {kid.hex()}; after a rotation give the old one too, newest first",
            )
        key = kek.unwrap(FORMAT + wrapped[_ID_END:], context(kid, aad))
        secret = key.bytes
        key.zero()
        return secret

    def _held(self) -> str:
        return ", ".join(self._keks) or "none"

    def _check_held(self, version: str) -> None:
        if version not in self._keks:
            raise KeyNotFoundError(f"no key {version} in {self._place}", hint=f"there: {self._held()}")


class MemoryKeyProvider(_LocalKeys):
    """A random key that ends with the process, for stores that do too."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__("memory, until the process ends", [Key.random()])

    def destroy(self, version: str) -> None:
        """Destroy the key; nothing can be wrapped after that."""
        self._check_held(version)
        self._keks.pop(version).zero()


class EnvKeyProvider(_LocalKeys):
    """The keys in an environment variable, separated by white space or commas, newest first; read once, here."""

    kind = "env"

    def __init__(self, var: str = KEY_VARIABLE, *, environ: Mapping[str, str] | None = None) -> None:
        """Raises `KeyNotFoundError` if the variable isn't set, `ConfigurationError` if it is but isn't keys."""
        if _variable(var, environ) is None:
            raise KeyNotFoundError(f"the environment variable {var} isn't set", hint=_HOW_TO_MAKE)
        keys = []
        for number, key in enumerate(_keys_in(_variable(var, environ) or ""), 1):
            if key is None:
                raise ConfigurationError(f"{var}: key {number} isn't {EXPECTED}", hint=_HOW_TO_MAKE)
            keys.append(key)
        if not keys:
            # Most likely a secret that a template failed to fill in. To go on to another key would hide that.
            raise ConfigurationError(f"{var} is set but empty", hint=f"unset it, or set it: {_HOW_TO_MAKE}")
        super().__init__(f"environment variable {var}", keys)

    def destroy(self, version: str) -> None:
        """Raise `ConfigurationError`: what the service manager will set again can't be destroyed by a program."""
        self._check_held(version)
        raise ConfigurationError(
            f"key {version} can't be destroyed from here: it is in {self._place}",
            hint="remove it from the variable, wherever that is set and kept, and restart",
        )


class FileKeyProvider(_LocalKeys):
    """The keys in a key file (see `key_file.py`), whose absolute path is `path`; read once, here."""

    kind = "file"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises `KeyNotFoundError` if there is no file, `ConfigurationError` if it isn't private or isn't keys."""
        self.path = _key_path(path)
        super().__init__(f"key file {self.path}", key_file.read(self.path))

    def add(self, *, made_at: int) -> str:
        """Make a new key in the file, before the others, and return its id; it wraps from now on. `made_at`, in microseconds
        since the epoch, is noted in the file. Raises `ConfigurationError`."""
        key_file.add(self.path, made_at=made_at)
        self._keks = {kek_id(key): key for key in key_file.read(self.path)}
        return self.versions()[0]

    def destroy(self, version: str) -> None:
        """Take the key out of the file, and forget it.

        Raises `KeyNotFoundError` if it isn't there, and `ConfigurationError` if it is the last: a store without any key
        can't be opened, and erasing all of it is the store's own command.
        """
        key_file.remove(self.path, version)
        if key := self._keks.pop(version, None):
            key.zero()


def find_provider(
    keys: KeyProvider | str | os.PathLike[str] | None, *, environ: Mapping[str, str] | None = None
) -> KeyProvider:
    """Return the provider of the first key that is named: by the argument (a provider, or a key file's path), by
    `SECMEM_KEY`, by `SECMEM_KEY_FILE`, or by the default key file being there.

    Raises `KeyNotFoundError` if there is no key in that place or no place is named, and `ConfigurationError` if what is
    there isn't usable.
    """
    if isinstance(keys, (str, os.PathLike)):
        return FileKeyProvider(keys)
    if keys is not None:
        if not isinstance(keys, KeyProvider):
            raise ValueError(f"keys must be a key provider or the path of a key file, not {type(keys).__name__}")
        return keys
    if _variable(KEY_VARIABLE, environ) is not None:
        return EnvKeyProvider(environ=environ)
    file = _variable(KEY_FILE_VARIABLE, environ)
    if file is not None:
        if not file.strip():
            raise ConfigurationError(f"{KEY_FILE_VARIABLE} is set but empty", hint="unset it, or name a key file")
        return FileKeyProvider(file)
    default = default_key_path()
    try:
        return FileKeyProvider(default)
    except KeyNotFoundError:
        raise KeyNotFoundError("no key", hint=_three_ways(f"put a key file at {default}")) from None


def _variable(name: str, environ: Mapping[str, str] | None) -> str | None:
    """A variable of the environment given, or of this process's: which no frame that raises has in a variable."""
    return (os.environ if environ is None else environ).get(name)


def default_key_path() -> Path:
    """Return the place of this user's key file: `secure-memory/key` in the platform's directory for configuration.

    Raises `KeyNotFoundError` where there is none, as in a container without a home.
    """
    try:
        path = platformdirs.user_config_path("secure-memory") / "key"
    except RuntimeError:  # platformdirs, where there is no home
        path = Path()
    if not path.is_absolute():
        # An older platformdirs answers "~/.config" then, which would be a place under wherever we happen to stand.
        raise KeyNotFoundError("no home directory, so no default place for a key", hint=_three_ways("set HOME"))
    return path


def create_key_file(path: str | os.PathLike[str], *, made_at: int) -> FileKeyProvider:
    """Write a new key to a new file of mode 0600, durably, and return its provider.

    `made_at`, in microseconds since the epoch, is noted in the file. Raises `ConfigurationError` if the file exists,
    whatever is in it: a key is never overwritten.
    """
    key_file.create(_key_path(path), made_at=made_at)
    return FileKeyProvider(path)


def check_not_inside(path: str | os.PathLike[str], store_path: str | os.PathLike[str]) -> None:
    """Raise `ConfigurationError` if the key file, or a link that leads to it, lies in the store's directory."""
    store, key = Path(store_path).resolve(), Path(path)
    if any(place.is_relative_to(store) for place in (key.resolve(), key.parent.resolve() / key.name)):
        raise ConfigurationError(
            f"key file {path} is inside the store {store_path}",
            hint="move it elsewhere: each copy of the store would hold the key that opens it",
        )


def _three_ways(default: str) -> str:
    return f"set {KEY_VARIABLE} to {EXPECTED}, or {KEY_FILE_VARIABLE} to the path of a key file, or {default}"


def _keys_in(text: str) -> list[Key | None]:
    """Return the key that each word of the text is, None for a word that isn't one."""
    words = re.split(r"[\s,]+", text)
    return [key_file.decode(word.encode("ascii", "replace")) for word in words if word]


def _key_path(path: str | os.PathLike[str]) -> Path:
    """Return the path, absolute. Raises `ConfigurationError` if it is a key, before an error about it can repeat it."""
    if any(_keys_in(os.fspath(path))):
        raise ConfigurationError(
            "a key was given where the path of a key file is expected", hint=f"put it in {KEY_VARIABLE}, or in a file"
        )
    return Path(path).absolute()
