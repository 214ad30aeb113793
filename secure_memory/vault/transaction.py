"""What an operation works with, inside its `run` only: the connection, the ledger's end, the vault's control state.

A transaction's entries, heads and control state become the vault's own only after its COMMIT; an operation of it that
fails takes back its own (`mark` and `back`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from secure_memory.errors import RollbackError
from secure_memory.ledger.entry import BranchHead
from secure_memory.ledger.ledger import VERIFY_HINT, HeadRow, Tail
from secure_memory.vault.control import Control

if TYPE_CHECKING:
    from secure_memory.vault.vault import Vault


class Mark(NamedTuple):
    """Where a transaction stood before an operation."""

    tail: Tail
    control: Control


class Transaction:
    """One transaction of one vault. `small`: it holds up whoever asked (see `NotNow`)."""

    __slots__ = ("_fields", "_heads", "_vault", "control", "execute", "small", "tail")

    def __init__(self, vault: Vault, execute: Callable[..., Any], tail: Tail, control: Control, *, small: bool) -> None:
        self._vault = vault
        self._heads: dict[int, HeadRow] = {}
        self._fields: Mapping[str, Any] = {}
        self.control = control
        self.execute = execute
        self.tail = tail
        self.small = small

    @property
    def heads(self) -> Mapping[int, HeadRow]:
        """The heads that were read or moved, by the branches' row ids."""
        return self._heads

    def begin(self, fields: Mapping[str, Any]) -> Mark:
        """Begin the next operation, whose entries say `fields` of who asked; returns where to go back to."""
        self._fields = fields
        return Mark(self.tail, self.control)

    def back(self, mark: Mark) -> None:
        """Forget what an operation did that was rolled back."""
        self.tail, self.control = mark
        self._heads.clear()

    def record(self, fields: Mapping[str, Any], *, session: int | None = None) -> None:
        """Append one entry: the operation's own fields (who asked), the control digest, and `fields` above them."""
        self._append(fields, None, session)

    def record_write(
        self, fields: Mapping[str, Any], *, branch: int, branch_uid: str, head: BranchHead, session: int, uid: str
    ) -> None:
        """Append the entry of a write to a branch, which is what moves the branch's head."""
        seq = self.tail.size
        self._append({"branch": branch_uid, "head": head.to_json(), "session": uid, **fields}, branch, session)
        gone = fields.get("detail", {}).get("deleted") is True
        self._heads[branch] = HeadRow(seq, head, uid, branch_uid, gone)

    def _append(self, fields: Mapping[str, Any], branch: int | None, session: int | None) -> None:
        entry = {"outcome": "ok", "control": self.control.digest, **self._fields, **fields}
        if "detail" in fields and "detail" in self._fields:
            entry["detail"] = {**self._fields["detail"], **fields["detail"]}
        self.tail = self._vault.ledger.append(self.execute, self.tail, entry, branch=branch, session=session)

    def head(self, branch: int) -> HeadRow:
        """The branch's head. Raises TamperedError; RollbackError where a newer one was seen before."""
        newest = self.execute("SELECT max(seq) FROM ledger WHERE branch = ?", (branch,)).fetchone()[0]
        known = self._heads.get(branch) or self._vault.known_head(branch)
        if known is not None:
            if newest == known.seq:
                return known
            if newest is None or newest < known.seq:
                raise RollbackError("a branch's newest ledger entry is gone", hint=VERIFY_HINT)
        self._heads[branch] = head = self._vault.ledger.head(self.execute, branch)
        return head

    def set_control(self, name: str, value: bytes) -> None:
        """Write one row of the control state; the entries that follow carry the new digest, and one has to follow."""
        self.execute(
            "INSERT INTO control VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )
        self.control = self.control.with_row(name, value)
