"""How a store's keyring reaches keys.db: the driver of the vaults is its driver too, and `keys` knows nothing of either."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secure_memory import directory
from secure_memory.errors import StorageError
from secure_memory.keys.database import SCHEMA, Driver
from secure_memory.keys.key import Key
from secure_memory.vault import file_key, integrity, sqlcipher
from secure_memory.vault.copying import copy_keys


def driver(path: Path | None) -> Driver:
    """How the keyring reaches keys.db."""

    def connect_for(root: bytes, salt: bytes) -> Any:
        raw = memoryview(root + salt)  # which prints as an address
        del root
        # A vanished keys.db is never made anew: only a store without a manifest, one that is being made, may make it.
        new = path is None or not (os.path.exists(path) or os.path.exists(path.parent / directory.MANIFEST))
        connection = sqlcipher.connect(path, bytes(raw), create=new)
        try:
            sqlcipher.migrate(connection, (SCHEMA,))
        except BaseException:
            connection.close()
            raise
        return connection

    def begin(connection: Any) -> None:
        if path is not None and not os.path.exists(path):  # what would be written now, nobody would ever read
            raise StorageError("keys.db vanished while it was open", hint="restore it from its newest backup")
        sqlcipher.begin(connection)

    def rekey(old: Sequence[Key], new: Key, salt: bytes) -> None:
        if path is not None:
            file_key.rekey(path, salt, old, new)

    return Driver(
        connect_for, begin, integrity.check, copy_keys, rekey, sqlcipher.translate, sqlcipher.DriverError, path is None
    )
