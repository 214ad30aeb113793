"""Searching a store's files for what was erased, in a process of its own.

No process that has a database open may open its file by hand, since closing it drops SQLite's locks: so this runs as
``python -m secure_memory.lifecycle.erasure.searching``, is told by its standard input what to search (the keys are never in
its arguments or its environment), and answers in JSON. Pages that are being written meanwhile may look torn; what was erased
is in none of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from secure_memory.errors import StorageError
from secure_memory.vault.pages import found_in

SECONDS = 3600.0
"""How long a search may take; for 64 traces it reads 25 MB a second (measured on two busy cores)."""


class Searched(NamedTuple):
    """How many pages were searched, and the numbers of the traces that were found."""

    pages: int
    found: frozenset[int]


def search(files: Sequence[tuple[Path, bytes]], traces: Sequence[bytes]) -> Searched:
    """Search the databases, each given with its key (32 bytes), and their WALs. Raises StorageError."""
    told = {
        "files": [[str(path), key.hex()] for path, key in files],
        "traces": [trace.hex() for trace in traces],
    }
    command = [sys.executable, "-m", "secure_memory.lifecycle.erasure.searching"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, input=json.dumps(told), capture_output=True, text=True, timeout=SECONDS, check=True
        )
        answer = json.loads(done.stdout)
        return Searched(answer["pages"], frozenset(answer["found"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise StorageError(
            f"the store's files could not be searched ({type(error).__name__})",
            hint="what was to be erased is erased; run the erasure again for the search and the certificate",
        ) from None


def main() -> None:
    """Answer one search."""
    told = json.load(sys.stdin)
    traces = [bytes.fromhex(trace) for trace in told["traces"]]
    pages, found = 0, set()
    for path, key in told["files"]:
        count, its = found_in(Path(path), bytes.fromhex(key), traces)
        pages += count
        found |= its
    json.dump({"pages": pages, "found": sorted(found)}, sys.stdout)


if __name__ == "__main__":
    main()
