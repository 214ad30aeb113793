"""What the demo checks by itself: which words are in which files, and what happens when a byte of them changes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secure_memory import IntegrityError, SecureStore
from secure_memory.cli.demo_story import TENANT, Place


@dataclass(frozen=True, slots=True)
class Search:
    """Files that were searched from their first byte to their last: how many, how long, and how often each word is there."""

    files: int
    size: int
    found: dict[str, int]


def search(directories: Iterable[Path], words: Iterable[str]) -> Search:
    """Search every file below the directories, and its name, for the words: in UTF-8 and UTF-16, in either case.

    Nobody may have the files open: SQLite's locks don't survive a second reader in the same process.
    """
    found = dict.fromkeys(words, 0)
    files = size = 0
    for directory in directories:
        for file in sorted(path for path in directory.rglob("*") if path.is_file()):
            data = file.read_bytes()
            files, size = files + 1, size + len(data)
            text = str(file.relative_to(directory)).encode() + b"\n" + data
            for word in found:
                for encoding in ("utf-8", "utf-16-le"):
                    found[word] += text.lower().count(word.lower().encode(encoding))
    return Search(files, size, found)


@dataclass(frozen=True, slots=True)
class Flip:
    """A byte that was changed: where in a file of `size` bytes, and what it was and is."""

    size: int
    offset: int
    before: int
    after: int


def flip_byte(store: Path) -> Flip:
    """Invert one byte of a tenant's vault, in the last page: there is data in it, whatever the conversation was."""
    (file,) = (store / "vaults").glob("*.db")
    data = bytearray(file.read_bytes())
    offset = len(data) - 2048
    before, data[offset] = data[offset], data[offset] ^ 0xFF
    file.write_bytes(data)
    return Flip(len(data), offset, before, data[offset])


def copy_store(place: Place) -> None:
    """Copy the store's files. Nobody has them open: a store in use is copied by its backup command."""
    shutil.copytree(place.store, place.copy)


def fault_in_copy(place: Place, use: Callable[[SecureStore], None]) -> IntegrityError | None:
    """What is found to be wrong when the copy is opened and used; None where nothing is."""
    try:
        # The copy has no anchors yet. Elsewhere that deserves a warning.
        with _quiet(), SecureStore.open(place.copy, keys=place.key, anchor=place.anchors) as store:
            use(store)
    except IntegrityError as error:
        return error
    return None


def verify(store: SecureStore) -> None:
    """Check all of it."""
    store.audit_verify()


def read(store: SecureStore) -> None:
    """Read every conversation."""
    for session in store.sessions(tenant=TENANT):
        store.session_show(str(session.name), tenant=TENANT)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("secure_memory")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
