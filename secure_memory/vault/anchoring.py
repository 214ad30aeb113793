"""What a vault's database has to do with its anchor.

The anchor is moved after each COMMIT. Failing to move it never fails an operation that is already kept: the anchor is
degraded then, and where it is required the next operation refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_memory.errors import SecureMemoryError, StorageError
from secure_memory.ledger import anchor as anchors
from secure_memory.ledger.anchor import Anchor
from secure_memory.ledger.ledger import Tail, stored_nodes
from secure_memory.ledger.merkle import Head, root_at
from secure_memory.log import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which vault this is. `path` is None for one in memory; uids are 16 bytes; `tenant_name` is for messages."""

    path: Path | None
    tenant: bytes
    tenant_name: str
    vault: bytes


class Anchored:
    """A vault's ledger end (`tail`) and its anchor.

    `gap` says what an opening found wrong with the anchor, where a gap was recorded.
    """

    def __init__(self, identity: Identity, anchor: Anchor | None, *, anchor_required: bool) -> None:
        self.identity = identity
        self.anchor = anchor
        self.anchor_required = anchor_required
        self.anchor_degraded = False
        self.gap: str | None = None
        self.tail = Tail()

    def where(self) -> str:
        """The tenant, for messages."""
        return f"tenant {self.identity.tenant_name!r}"

    def move_anchor(self, *, durable: bool) -> None:
        """Tell the anchor where the ledger ends; `durable` where that was synced, so that no power cut takes it back."""
        if self.anchor is None:
            return
        try:
            self.anchor.advance(Head(self.tail.size, self.tail.root), durable=durable)
            self.anchor_degraded = False
        except (OSError, SecureMemoryError) as error:
            if not self.anchor_degraded:
                log.warning("anchor degraded", error=type(error).__name__, vault=self.identity.vault.hex())
            self.anchor_degraded = True

    def anchor_allows(self) -> bool:
        """Whether operations may go on: always, unless the anchor is required and can't be written."""
        if self.anchor_degraded and self.anchor_required:
            self.move_anchor(durable=False)  # it may be back
        return not (self.anchor_degraded and self.anchor_required)

    def check_anchor(self, state: anchors.State | None, execute: Callable[..., Any]) -> str | None:
        """Why an `audit.gap` is to be recorded, or None. Raises RollbackError, StorageError."""
        if self.anchor is None:
            return None
        if state is None:
            if self.anchor_required:
                raise StorageError(
                    f"{self.where()}: there is no anchor for this vault at this place, and one is required",
                    hint="`secmem audit anchor --init` begins one, once you have verified the store",
                )
            log.warning("anchor missing", vault=self.identity.vault.hex())
            return "anchor missing"
        node = stored_nodes(execute)
        found = anchors.check(state, self.tail.size, lambda size: root_at(size, node))
        return "entries lost in a power cut" if found == "gap" else None

    def read_anchor(self) -> anchors.State | None:
        """What the anchor says; None where there is none, or, unless it is required, where it can't be read."""
        if self.anchor is None:
            return None
        try:
            return self.anchor.read()
        except StorageError as error:
            if self.anchor_required:
                raise
            log.warning("anchor unreadable", error=str(error), vault=self.identity.vault.hex())
            self.anchor_degraded = True
            return None
