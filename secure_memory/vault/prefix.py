"""What a live session remembers of its proven items, so that a read fetches and opens the tail only.

The opened JSON of a run of consecutive positions, `start` < position <= `end`, and their links. When the stored link at
`end` is still the remembered one, everything before it is what was proven, since the link commits to it. Bounded; where
it grows past its bound it is dropped and begins again. Safe to call from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from secure_memory import fork

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of JSON that one session remembers at the most."""


class Prefix:
    """The proven items of one branch, as JSON texts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = 0
        self._texts: list[bytes] = []
        self._links: list[bytes] = []
        self._bytes = 0
        fork.renew(self)

    def forked(self) -> None:
        """In the child of a fork: another thread may have been at it, so nothing is remembered."""
        self._lock = threading.Lock()
        self._texts, self._links, self._bytes = [], [], 0

    def drop(self) -> None:
        """Remember nothing: the session was erased."""
        with self._lock:
            self._texts, self._links, self._bytes = [], [], 0

    def take(self, after: int, end: int) -> tuple[int, bytes, list[bytes]] | None:
        """(position, link there, JSON of the items at after < p <= position), as far as they are remembered up to `end`.

        None where the item behind `after` is not remembered.
        """
        with self._lock:
            index = min(end - self._start, len(self._links))
            if after < self._start or index <= after - self._start:
                return None
            return self._start + index, self._links[index - 1], self._texts[after - self._start : index]

    def extend(self, after: int, before: bytes, texts: Sequence[bytes], links: Sequence[bytes]) -> None:
        """Remember proven items that follow position `after`, where the link is `before`.

        What is remembered past `after` is dropped; where the link there is another one, all of it is.
        """
        with self._lock:
            index = after - self._start
            if 0 < index <= len(self._links) and self._links[index - 1] == before:
                self._bytes -= sum(map(len, self._texts[index:]))
                del self._texts[index:], self._links[index:]
            else:
                self._start, self._bytes = after, 0
                self._texts, self._links = [], []
            self._texts += texts
            self._links += links
            self._bytes += sum(map(len, texts))
            if self._bytes > MAX_BYTES:
                self._texts, self._links, self._bytes = [], [], 0
