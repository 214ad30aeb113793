"""A run that waits for somebody's approval: kept with its conversation, until it is resumed.

The SDK writes such a run as JSON, which holds the conversation and the calls of tools that wait. It is kept as the one item
of a branch of its own, which nobody can switch to: sealed, chained and recorded like any item, resealed and erased with
them. So an older state, with a call that was made already, can't be put back: the ledger says which one is the newest.
"""

from __future__ import annotations

from typing import Any

from secure_memory import items as sdk_items
from secure_memory.items import Item
from secure_memory.ledger.entry import BranchHead
from secure_memory.particulars import Particulars
from secure_memory.tenancy import Asker, Opened
from secure_memory.vault import branches, history
from secure_memory.vault.commits import Operation
from secure_memory.vault.history import ItemRow
from secure_memory.vault.transaction import Transaction

_DETAIL = {"run_state": True}


class Pausing(Particulars):
    """One session of one tenant, with its paused run."""

    async def save_state(self, state: Item | None, asker: Asker) -> None:
        """Keep the state in the place of the one that is there; None keeps none. Raises SerializationError."""
        text = None if state is None else sdk_items.dump(state)
        await self._perform(lambda opened: self._save(opened, state, text, asker), create=state is not None)

    async def load_state(self, asker: Asker) -> Item | None:
        """The state that was kept last, proven; None where there is none. Raises IntegrityError."""
        text = await self._perform(lambda opened: self._load(opened, asker), create=False)
        return None if text is None else sdk_items.load(text)

    # ---- how each is done ---------------------------------------------------------------------------------------

    def _save(self, opened: Opened, state: Item | None, text: bytes | None, asker: Asker) -> Operation[Any, None]:
        tenant, keys = opened.tenant, opened.keys
        sealed = [] if state is None or text is None or keys is None else [self._sealed(tenant, keys, state, text)]

        def run(tx: Transaction) -> None:
            row = self._enter(tx, opened, asker, "session.append")
            if row is None and sealed and keys is not None:
                row = self._begin(tx, tenant, keys)
            if row is None or keys is None:
                self._record_unknown(tx, opened)
                return
            mac = branches.state_mac(tenant.keys, row.uid)
            spot = self._hidden(tx, tenant, row, mac)
            if spot is not None:
                self._withhold(tx, opened, row, spot, doomed=lambda _: True)
                head, _ = history.clear(tx, spot.id, spot.head)
            elif sealed:
                spot = self._hide(tx, tenant, row, keys, mac)
                head = spot.head
            else:
                tx.record({"items": 0, "detail": _DETAIL}, session=row.id)
                return
            head, _ = history.append(tx, spot.id, head, sealed)
            self._record_write(tx, row, spot._replace(head=head), len(sealed), detail=_DETAIL)

        return Operation(run, lambda _: None, True, self._door.fields("session.append", opened, asker))

    def _load(self, opened: Opened, asker: Asker) -> Operation[Any, bytes | None]:
        tenant, keys = opened.tenant, opened.keys

        def run(tx: Transaction) -> tuple[int, BranchHead, bytes, list[ItemRow]] | None:
            row = self._enter(tx, opened, asker, "session.read")
            if row is None:
                self._record_unknown(tx, opened)
                return None
            spot = self._hidden(tx, tenant, row, branches.state_mac(tenant.keys, row.uid))
            if spot is None:
                tx.record({"items": 0, "detail": _DETAIL}, session=row.id)
                return None
            link, rows = history.fetch(tx, spot.id, spot.head, spot.head.base_position)
            tx.record({"items": len(rows), "detail": _DETAIL}, session=row.id)
            return spot.id, spot.head, link, rows

        def finish(found: tuple[int, BranchHead, bytes, list[ItemRow]] | None) -> bytes | None:
            if found is None or keys is None:
                return None
            branch, head, link, rows = found
            history.prove(rows, branch, head.base_position, link, head)
            texts = history.unsealed(rows, keys.key.aead, tenant.keys.uid, keys.uid)
            return texts[-1] if texts else None

        return Operation(run, finish, opened.policy.durable_reads, self._door.fields("session.read", opened, asker))
