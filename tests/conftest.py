"""What every test stands on: no key, anchor or setting of the person who runs it, and hypothesis as CI runs it.

`store` is a real store on disk, with its key in the environment and its anchors beside it. `insider` is an attacker who has
the tenant's keys: it opens the vault's file by itself and edits rows in SQL, as no code of ours would.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from hypothesis import settings

from secure_memory import clock
from secure_memory.keys.opened import TenantKeys
from secure_memory.ledger import merkle
from secure_memory.ledger.entry import canonical, fields_of
from secure_memory.ledger.ledger import Ledger, Row
from secure_memory.store import SecureStore
from secure_memory.vault import sqlcipher

# `ci` gives the same answer each time, on a machine of any speed; `long` searches further, anew each time.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

KEK = base64.b64encode(bytes(range(32))).decode()
NOON = 1_795_000_000_000_000
"""A time in microseconds: 2026-11-18T11:06:40Z."""


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty home and no `SECMEM_` variables."""
    for name in [name for name in os.environ if name.startswith(("SECMEM_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a store may be made: its key is in the environment, and its anchors go beside it."""
    monkeypatch.setenv("SECMEM_KEY", KEK)
    monkeypatch.setenv("SECMEM_ANCHOR", str(tmp_path / "anchors"))
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Iterator[SecureStore]:
    """A new store on disk, open."""
    with SecureStore.create(place) as store:
        yield store


class Clock:
    """The clock of a test: it stands still until it is set."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the one clock, at noon."""
    stopped = Clock(NOON)
    monkeypatch.setattr(clock, "now", stopped)
    return stopped


class Insider:
    """One who has a tenant's vault key, and opens its file without us. Where `ledger` is used, the ledger key too."""

    def __init__(self, path: Path, keys: TenantKeys) -> None:
        self.path = path
        self.keys = keys
        self.ledger = Ledger(keys.ledger.bytes, keys.uid)

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement in the vault, commit it, and return its rows."""
        connection = sqlcipher.connect(self.path, self.keys.vault_key.bytes + self.keys.vault)
        try:
            connection.execute("PRAGMA foreign_keys = OFF")
            sqlcipher.begin(connection)
            rows: list[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
            connection.execute("COMMIT")
            return rows
        finally:
            connection.close()

    def row(self, seq: int) -> Row:
        """A row of the ledger."""
        return Row(*self.sql("SELECT * FROM ledger WHERE seq = ?", seq)[0])

    def newest(self) -> Row:
        """The ledger's last row."""
        return Row(*self.sql("SELECT * FROM ledger ORDER BY seq DESC LIMIT 1")[0])

    def put(self, row: Row) -> None:
        """Write a row of the ledger over the one that is there, under a MAC that is right."""
        mac = self.ledger.mac(*row[:6])
        self.sql("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)", *row[:6], mac)

    def rewrite(self, seq: int, entry: bytes) -> None:
        """Put another entry into a row of the ledger and make all that follows fit: tree, roots and MACs."""
        rows = [Row(*found) for found in self.sql("SELECT * FROM ledger ORDER BY seq")]
        peaks: tuple[bytes, ...] = ()
        for row in rows:
            new = row._replace(entry=entry) if row.seq == seq else row
            peaks, nodes = merkle.append(peaks, row.seq, merkle.leaf_hash(new.entry))
            new = new._replace(nodes=nodes, root=merkle.root(peaks))
            if new != row:
                self.put(new)

    def edit(self, seq: int, /, **fields: Any) -> None:
        """`rewrite` an entry with other fields; None takes one away."""
        self.rewrite(seq, canonical({**fields_of(self.row(seq).entry), **fields}))


@pytest.fixture
def insider(store: SecureStore) -> Callable[..., Insider]:
    """Become the insider of a tenant of `store`, whose vault must be there."""

    def become(tenant: str = "default") -> Insider:
        vault = store._shared.tenant(tenant).vault
        keys = store._shared.keyring.tenant(tenant)
        assert keys is not None
        assert vault.identity.path is not None
        return Insider(vault.identity.path, keys)

    return become


@pytest.fixture
def elsewhere() -> Callable[..., str]:
    """Run Python source in a process of its own, with arguments; return what it printed. A failure fails the test."""

    def elsewhere(source: str, *arguments: object) -> str:
        command = [sys.executable, "-c", source, *map(str, arguments)]
        done = run(command, capture_output=True, text=True, timeout=60, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    return elsewhere
