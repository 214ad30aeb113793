"""SecureSession before agmi (`agent-memory-integrity`), the public suite of edits to the memory of agents.

``agmi-check --adapter agmi_adapter:CarefulAttacker`` makes nine edits (T1 to T9 of
draft-khandelwal-bmwg-agent-memory-integrity), each on a store that was closed, and opens it again. The attacker

- has the tenant's vault key, so that SQLCipher hides nothing and every edit lands as SQL inside the decrypted vault;
- for T9 has the whole store directory, `keys.db` and the system vault with it;
- does not have the key provider's key, or what is kept outside the store: the anchors.

`PlainAttacker` edits rows and leaves it at that. `CarefulAttacker` makes what is left fit: positions without a gap, and
every link of the chain computed anew, which needs no key. An edit counts as rejected only where opening the store or
reading the session raises IntegrityError; any other exception is no verdict.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from agmi.adapters.base import MemoryAdapter, Record

from secure_memory import IntegrityError, SecureStore
from secure_memory.vault import chain, sqlcipher
from secure_memory.vault.history import SPAN

VICTIM, OTHER = "session-a", "session-b"
SESSIONS = {VICTIM: 1, OTHER: 2}
"""The sessions' ids: the victim's is the first that is written."""

COLUMNS = ("turn", "uid", "kind", "role", "tool", "created", "sealed")
LABELS = ("turn", "kind", "role", "tool", "created")


class CarefulAttacker(MemoryAdapter):
    """Edits rows, and makes the rest of the branch fit the edit."""

    name = "secure-memory, edits that fit"
    supports_replay = True
    supports_metadata = True
    supports_snapshot = True
    makes_fit = True

    # ---- the store, by its own API ------------------------------------------------------------------------------

    def setup(self) -> None:
        """Make a store, and steal its vault key."""
        self._dir = Path(tempfile.mkdtemp(prefix="agmi-"))
        self._place = self._dir / "store"
        self._outside = {"keys": self._dir / "outside" / "key", "anchor": self._dir / "outside" / "anchors"}
        with SecureStore.create(self._place, **self._outside) as store:
            store.tenant_create("default")
            keys = store._shared.keyring.tenant("default")
            assert keys is not None
            self._vault = self._place / "vaults" / f"{keys.vault.hex()}.db"
            self._key = keys.vault_key.bytes + keys.vault

    def teardown(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self._dir, ignore_errors=True)

    def _add(self, session: str, texts: list[str]) -> None:
        items = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
        with SecureStore.open(self._place, **self._outside) as store:
            asyncio.run(store.session(session).add_items(items))

    def seed(self, n: int) -> None:
        """Write `n` items."""
        self._add(VICTIM, [f"genuine {i}" for i in range(n)])

    def seed_other(self, n: int) -> None:
        """Write `n` items into another session."""
        self._add(OTHER, [f"elsewhere {i}" for i in range(n)])

    def append_genuine(self) -> None:
        """Write one more item."""
        self._add(VICTIM, ["the newest"])

    def reload(self) -> None:
        """Nothing is open between the steps."""

    def verify(self) -> bool:
        """Open the store and read: False where that raises IntegrityError."""
        self.verify_detail = None
        try:
            with SecureStore.open(self._place, **self._outside) as store:
                asyncio.run(store.session(VICTIM).get_items())
        except IntegrityError as error:
            self.verify_detail = f"{type(error).__name__}: {error}"
            return False
        return True

    # ---- the attacker -------------------------------------------------------------------------------------------

    def _sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with closing(sqlcipher.connect(self._vault, self._key)) as connection:
            sqlcipher.begin(connection)
            rows: list[tuple[Any, ...]] = connection.execute(query, parameters).fetchall()
            connection.execute("COMMIT")
        return rows

    def _branch(self, session: str) -> tuple[int, bytes]:
        ((branch, uid),) = self._sql("SELECT id, uid FROM branches WHERE session = ?", SESSIONS[session])
        return branch, uid

    def _ids(self, session: str) -> list[int]:
        branch, _ = self._branch(session)
        rows = self._sql("SELECT id FROM items WHERE id BETWEEN ? AND ? ORDER BY id", branch * SPAN, (branch + 1) * SPAN - 1)
        return [row[0] for row in rows]

    def _read(self, session: str) -> list[Record]:
        found = []
        for seq, row_id in enumerate(self._ids(session)):
            (row,) = self._sql(f"SELECT {', '.join(COLUMNS)} FROM items WHERE id = ?", row_id)
            found.append(Record(seq, {"session": session, **dict(zip(COLUMNS, row, strict=True))}))
        return found

    def _make_fit(self) -> None:
        if not self.makes_fit:
            return
        branch, uid = self._branch(VICTIM)
        link = chain.first(uid)
        for position, row_id in enumerate(self._ids(VICTIM), start=1):
            ((turn, item),) = self._sql("SELECT turn, uid FROM items WHERE id = ?", row_id)
            link = chain.follow(link, position, turn, item)
            self._sql("UPDATE items SET id = ?, link = ? WHERE id = ?", branch * SPAN + position, link, row_id)

    def _put(self, seq: int, values: dict[str, Any]) -> None:
        ids = self._ids(VICTIM)
        if seq == len(ids):
            new = (ids[-1] + 1, bytes(32), *(values[column] for column in COLUMNS))
            self._sql(f"INSERT INTO items (id, link, {', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *new)
        else:
            assignments = ", ".join(f"{column} = ?" for column in values)
            self._sql(f"UPDATE items SET {assignments} WHERE id = ?", *values.values(), ids[seq])
        self._make_fit()

    def read_all_raw(self) -> list[Record]:
        """The victim's rows, in order."""
        return self._read(VICTIM)

    def read_other_raw(self) -> list[Record]:
        """The other session's rows, in order."""
        return self._read(OTHER)

    def write_raw(self, record: Record) -> None:
        """Write a row to a place, whatever stands there."""
        self._put(record.seq, {column: record.fields[column] for column in COLUMNS})

    def delete_raw(self, seq: int) -> None:
        """Delete the row at a place."""
        self._sql("DELETE FROM items WHERE id = ?", self._ids(VICTIM)[seq])
        self._make_fit()

    def mutate_payload(self, record: Record) -> Record:
        """Change the sealed bytes: the session's key is not the attacker's."""
        sealed = bytearray(record.fields["sealed"])
        sealed[20] ^= 1
        record.fields["sealed"] = bytes(sealed)
        return record

    def forge_record(self, template: Record) -> Record:
        """A row after the template's, with a uid of its own."""
        forged = Record(template.seq + 1, {**template.fields, "uid": os.urandom(16)})
        return self.mutate_payload(forged)

    def replay_onto(self, victim_seq: int, donor: Record) -> None:
        """Put a genuine row, with all that its seal is bound to, into another place."""
        self.write_raw(Record(victim_seq, donor.fields))

    def read_meta(self, seq: int) -> dict[str, Any]:
        """A row's labels."""
        fields = self.read_all_raw()[seq].fields
        return {column: fields[column] for column in LABELS}

    def write_meta(self, seq: int, meta: dict[str, Any]) -> None:
        """Make the row the system's, as it were of another day: no column holds the key that agmi adds."""
        self._put(seq, {**{column: meta[column] for column in LABELS}, "role": "system", "created": 946_684_800_000_000})

    def snapshot_store(self) -> Path:
        """Copy the store's directory, and nothing outside it."""
        copy = self._dir / "older"
        shutil.copytree(self._place, copy)
        return copy

    def restore_store(self, token: object) -> None:
        """Put the copy back."""
        shutil.rmtree(self._place)
        shutil.copytree(str(token), self._place)

    # ---- how agmi sees that an edit has landed ------------------------------------------------------------------

    def identity_of(self, record: Record) -> str:
        """A row's place."""
        return f"{record.fields['session']}/{record.seq}"

    def payload_of(self, record: Record) -> str:
        """A row's content."""
        return str(record.fields["sealed"].hex())

    def owner_of(self, record: Record) -> str:
        """Whose row it is."""
        return str(record.fields["session"])


class PlainAttacker(CarefulAttacker):
    """Edits rows, and nothing else."""

    name = "secure-memory, plain edits"
    makes_fit = False
