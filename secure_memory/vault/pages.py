"""What stands in the pages of a database file, decrypted by hand: used, free, and the slack between; its WAL's too.

SQL can't show what a deletion left behind; this can. The format is SQLCipher 4's, with a raw key: each page of 4096 bytes
ends with the IV of its AES-256-CBC (16 bytes) and an HMAC (64), and the first one begins with the salt in the clear
(zetetic.net/sqlcipher/design). A WAL is a header of 32 bytes, then frames: a header of 24 and a page
(sqlite.org/fileformat2 4.1). MACs are not checked: what is searched for is found or not.

Opening a file and closing it takes away the locks that this process has on it (sqlite.org/howtocorrupt.html 2.2): so no
process that has the database open may call this (see `lifecycle.erasure.searching`). Reads a page at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_memory.vault.sqlcipher import PAGE_SIZE

_IV, _RESERVED = 16, 80
_SALT = 16
_WAL_HEADER, _FRAME_HEADER = 32, 24


def plain_pages(path: Path, key: bytes) -> Iterator[bytes]:
    """The content of every page of the database, then of every frame of its WAL, decrypted under its key (32 bytes).

    A page of an old WAL may have been written under another key; it gives noise. Raises OSError.
    """
    with path.open("rb") as file:
        while len(page := file.read(PAGE_SIZE)) == PAGE_SIZE:
            yield _decrypted(page, key, first=file.tell() == PAGE_SIZE)
    with suppress(FileNotFoundError), Path(f"{path}-wal").open("rb") as file:
        file.read(_WAL_HEADER)
        while len(frame := file.read(_FRAME_HEADER + PAGE_SIZE)) == _FRAME_HEADER + PAGE_SIZE:
            number = int.from_bytes(frame[:4], "big")
            yield _decrypted(frame[_FRAME_HEADER:], key, first=number == 1)


def _decrypted(page: bytes, key: bytes, *, first: bool) -> bytes:
    iv = page[-_RESERVED : _IV - _RESERVED]
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(page[_SALT if first else 0 : -_RESERVED]) + decryptor.finalize()


def found_in(path: Path, key: bytes, traces: list[bytes]) -> tuple[int, set[int]]:
    """How many pages there are, and which of the traces (their numbers) stand in one. A trace stands within one page."""
    count = 0
    found: set[int] = set()
    for page in plain_pages(path, key):
        count += 1
        found |= {number for number, trace in enumerate(traces) if trace in page}
    return count, found
