"""What a file looks like that was given for an SDK database and is none: said in an error, with the next step.

Called by `foreign`. A file's bytes are looked at only once SQLite has said that it is no database of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from secure_memory import directory
from secure_memory.errors import ConfigurationError, StorageError

SHOWN_TABLES = 12
"""How many names of tables an error tells."""
_OURS_HINT = "`secmem export` writes the conversations of a store; `secmem import` reads databases of the SDK"
_LEAST_PAGE = 512
_RANDOM_BITS = 7.5  # of entropy a byte; text has 4 to 5, and 4096 random bytes have 7.95


def refuse_other_places(path: Path) -> None:
    """Raise ConfigurationError where there is no file at `path`, an empty one, or one of a store of ours."""
    try:
        if not path.exists():
            raise ConfigurationError(f"there is no file {path}", hint="name the database that the SDK wrote: its db_path")
        if path.is_dir():
            if (path / directory.MANIFEST).exists():
                raise ConfigurationError(f"{path} is a store of secure-memory, not a database of the SDK", hint=_OURS_HINT)
            raise ConfigurationError(f"{path} is a directory", hint="name the database in it")
        if not path.is_file():
            raise ConfigurationError(f"{path} is not a file", hint="name the database that the SDK wrote: its db_path")
        place = path.absolute().parent
        if (place / directory.MANIFEST).exists() or (
            place.name == directory.VAULTS and (place.parent / directory.MANIFEST).exists()
        ):
            raise ConfigurationError(f"{path} belongs to a store of secure-memory", hint=_OURS_HINT)
        if path.stat().st_size == 0:
            raise ConfigurationError(f"{path} is empty", hint="is it the file that the sessions were written to?")
    except OSError as error:
        raise StorageError(f"could not look at {path}: {(error.strerror or 'unknown error').lower()}") from None


def refuse_other_tables(path: Path, messages: str, tables: Sequence[str], columns: Mapping[str, set[str]]) -> None:
    """Raise ConfigurationError where there is no table `messages` as the SDK makes it. `columns` are those of each table,
    by its name in lower case."""
    if {"id", "session_id", "message_data"} <= columns.get(messages.lower(), set()):
        return
    tables = [name for name in tables if not name.startswith("sqlite_")]
    if not tables:
        raise ConfigurationError(
            f"{path} is a SQLite database without tables", hint="is it the file that the sessions were written to?"
        )
    if messages.lower() in columns:
        raise ConfigurationError(
            f"{path} has a table {messages!r}, and it is not the SDK's: it has no id, session_id and message_data",
            hint="--messages-table names another one",
        )
    alike = [name for name in tables if {"id", "session_id", "message_data"} <= columns[name.lower()]]
    shown = ", ".join(tables[:SHOWN_TABLES]) + (", ..." if len(tables) > SHOWN_TABLES else "")
    if alike:
        raise ConfigurationError(
            f"{path} has no table {messages!r}; its tables are {shown}",
            hint=f"{' and '.join(alike)} could be it: --messages-table {alike[0]}, and --sessions-table as in the SDK",
        )
    raise ConfigurationError(
        f"{path} is a SQLite database of something else; its tables are {shown}",
        hint="the SDK's sessions have a table agent_messages, or the one that was named as messages_table",
    )


def what_it_looks_like(path: Path) -> ConfigurationError:
    """The error for a file that SQLite does not take for a database."""
    try:
        with path.open("rb") as file:  # nobody has it open through SQLite, so no lock is dropped
            start = file.read(4096)
        size = path.stat().st_size
    except OSError as error:
        return ConfigurationError(f"could not read {path}: {(error.strerror or 'unknown error').lower()}")
    if size >= _LEAST_PAGE and size % _LEAST_PAGE == 0 and _entropy(start) > min(_RANDOM_BITS, math.log2(len(start)) - 1.5):
        return ConfigurationError(
            f"{path} is not a SQLite database; it looks encrypted as a whole, as SQLCipher does it",
            hint="if it is the SDK's under SQLCipher, write a plain copy first: sqlcipher_export",
        )
    what = "it looks like text" if start.isascii() and b"\0" not in start else "its first bytes are none of SQLite's"
    return ConfigurationError(
        f"{path} is not a SQLite database: {what}", hint="name the database that the SDK wrote: its db_path"
    )


def _entropy(data: bytes) -> float:
    """Bits a byte."""
    return -sum(count / len(data) * math.log2(count / len(data)) for count in Counter(data).values())
