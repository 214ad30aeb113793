"""A vault without a store around it: its keys are made here, and its operations written out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from secure_memory.keys.key import Key
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.entry import BranchHead
from secure_memory.vault import history, sqlcipher
from secure_memory.vault.anchoring import Identity
from secure_memory.vault.commits import Operation, perform_blocking
from secure_memory.vault.history import ItemRow, NewItem
from secure_memory.vault.seal import Place, seal
from secure_memory.vault.transaction import Transaction
from secure_memory.vault.vault import Vault

TENANT, VAULT, SESSION, BRANCH_UID = (bytes([n]) * 16 for n in range(4))
VAULT_KEY, LEDGER_KEY = bytes(range(32)), bytes(range(32, 64))
BRANCH = 1


class Bench:
    """One vault with one branch, and what tests do with it. Each `Vault` of it is as one of another process."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "vault.db"
        self.anchors = directory / "anchors"
        self.key = Key.random()
        self._opened: list[Vault] = []

    def vault(self, *, anchored: bool = False, **options: Any) -> Vault:
        """The vault as a process has it that never saw it before."""
        anchor = Anchor(self.anchors, bytes(16), self.path, VAULT) if anchored else None
        identity = Identity(self.path, TENANT, "acme", VAULT)
        self._opened.append(Vault(identity, Key(VAULT_KEY), Key(LEDGER_KEY), anchor, **options))
        return self._opened[-1]

    def made(self, **options: Any) -> Vault:
        """The vault, new, with the first head of its branch."""
        vault = self.vault(**options)
        vault.database.create({"action": "tenant.create", "actor": "test"})
        self.run(vault, self._begin)
        return vault

    def _begin(self, tx: Transaction) -> None:
        self._write(tx, history.begin(BRANCH_UID), "session.create")

    def _write(self, tx: Transaction, head: BranchHead, action: str) -> None:
        uids = {"branch_uid": BRANCH_UID.hex(), "uid": SESSION.hex()}
        tx.record_write({"action": action}, branch=BRANCH, head=head, session=1, **uids)

    def run(self, vault: Vault, work: Callable[[Transaction], Any], *, durable: bool = True) -> Any:
        """Run `work` in a transaction of its own; return what it returned."""
        return perform_blocking(vault, self.operation(work, durable=durable))

    def operation(self, work: Callable[[Transaction], Any], *, durable: bool = True) -> Operation[Any, Any]:
        return Operation(work, lambda outcome: outcome, durable, {"action": "session.read", "actor": "test"})

    def new(self, text: str, role: str = "user") -> NewItem:
        place = Place(TENANT, SESSION, os.urandom(16), "message", role, "", 0)
        return NewItem(place, role == "user", seal(self.key.aead, 1, os.urandom(12), place, text.encode()))

    def append(self, vault: Vault, *texts: str, role: str = "user") -> BranchHead:
        """Append items; returns the new head."""

        def work(tx: Transaction) -> BranchHead:
            head, _ = history.append(tx, BRANCH, tx.head(BRANCH).head, [self.new(text, role) for text in texts])
            self._write(tx, head, "session.append")
            return head

        head: BranchHead = self.run(vault, work)
        return head

    def read(self, vault: Vault, limit: int | None = None) -> list[str]:
        """The newest `limit` items or all, proven and opened."""

        def work(tx: Transaction) -> tuple[bytes, Sequence[ItemRow], int, BranchHead]:
            head = tx.head(BRANCH).head
            after = head.base_position if limit is None else max(head.base_position, head.position - limit)
            link, rows = history.fetch(tx, BRANCH, head, after)
            tx.record({})
            return link, rows, after, head

        link, rows, after, head = self.run(vault, work, durable=False)
        history.prove(rows, BRANCH, after, link, head)
        return [text.decode() for text in history.unsealed(rows, self.key.aead, TENANT, SESSION)]

    def pop(self, vault: Vault) -> str:
        """Remove the newest item and return it."""

        def work(tx: Transaction) -> ItemRow:
            head, row = history.pop(tx, BRANCH, tx.head(BRANCH).head)
            self._write(tx, head, "session.pop")
            return row

        return history.unsealed([self.run(vault, work)], self.key.aead, TENANT, SESSION)[0].decode()

    def clear(self, vault: Vault) -> int:
        """Remove all items; returns how many there were."""

        def work(tx: Transaction) -> int:
            head, count = history.clear(tx, BRANCH, tx.head(BRANCH).head)
            self._write(tx, head, "session.clear")
            return count

        count: int = self.run(vault, work)
        return count

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as someone who has the vault key."""
        connection = self.connect()
        try:
            sqlcipher.begin(connection)
            rows: list[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
            connection.execute("COMMIT")
            return rows
        finally:
            connection.close()

    def connect(self) -> Any:
        """A connection as another process would have it."""
        return sqlcipher.connect(self.path, VAULT_KEY + VAULT)

    def size(self) -> int:
        """Entries in the ledger."""
        size: int = self.sql("SELECT count(*) FROM ledger")[0][0]
        return size

    def close(self) -> None:
        for vault in self._opened:
            vault.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Where a vault is made and tried."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
