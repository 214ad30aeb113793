"""What runs have spent: a row for each run, turn and model, bound by a MAC.

- The rows of a branch lie together (`id = branch * 2^31 + n`), in the order in which they were begun, and are never deleted:
  what was spent was spent. Where a turn is popped, its rows are flagged.
- So a row that is not flagged belongs to the turn of its number that the branch has now, and to no other that had that
  number before.
- Each change is a `session.usage` entry with the row's figures; a flag follows from the heads that the branch has had.
  `check_rows` holds the rows against both, so that an older copy of a row is found although its MAC is right.

A row's figures are a run's share of that turn: what the run has spent in all is their sum. Written by `accounting`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from secure_memory.errors import TamperedError
from secure_memory.keys.key import Key, context
from secure_memory.ledger.entry import BranchHead, Entry, parse
from secure_memory.ledger.ledger import VERIFY_HINT

SPAN = 2**31
"""Rows that a branch can have."""
NEWEST = 16
"""Rows in which a resumed run is looked for: a turn has one for each run and model, and is seldom resumed by a third."""
MAX_TOKENS = 2**53 - 1
"""The largest figure: an entry has no larger integer (see `ledger.entry`)."""

Execute = Callable[..., Any]
Details = Mapping[str, Any] | None
"""What a provider says of tokens besides how many there were; None where it says nothing."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Requests and tokens, with what the provider says of them. Figures are from 0 to MAX_TOKENS."""

    requests: int = 0
    input: int = 0
    output: int = 0
    total: int = 0
    input_details: Details = None
    output_details: Details = None

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Requests, input, output and total tokens."""
        return self.requests, self.input, self.output, self.total

    def __add__(self, other: Spent) -> Spent:
        return self._combined(other, 1)

    def __sub__(self, other: Spent) -> Spent:
        """What is left, not below 0: a run's figures only grow."""
        return self._combined(other, -1)

    def _combined(self, other: Spent, sign: int) -> Spent:
        requests, input_, output, total = (
            min(max(0, mine + sign * theirs), MAX_TOKENS) for mine, theirs in zip(self.figures, other.figures, strict=True)
        )
        return Spent(
            requests,
            input_,
            output,
            total,
            _combined(self.input_details, other.input_details, sign),
            _combined(self.output_details, other.output_details, sign),
        )


def _combined(mine: Details, theirs: Details, sign: int) -> Details:
    """The details of a sum or a difference: numbers by name; what is no number is the newer one's."""
    if mine is None or theirs is None:
        return mine if theirs is None or sign < 0 else theirs
    found = {**mine} if sign < 0 else {**theirs, **mine}
    for name, value in theirs.items():
        if _is_number(value) and _is_number(mine.get(name, 0)):
            found[name] = max(0, mine.get(name, 0) + sign * value)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class UsageRow(NamedTuple):
    """A row of `usage`. `session` is a row id, `run` 16 bytes, `details` JSON, `created` in microseconds."""

    id: int
    session: int
    turn: int
    run: bytes
    model: str
    requests: int
    input: int
    output: int
    total: int
    details: str
    created: int
    popped: int
    mac: bytes

    @property
    def branch(self) -> int:
        """The branch's row id."""
        return self.id // SPAN

    @property
    def number(self) -> int:
        """The row's number in its branch, from 1."""
        return self.id % SPAN

    @property
    def spent(self) -> Spent:
        """The figures, of a row that was checked."""
        return Spent(self.requests, self.input, self.output, self.total, *orjson.loads(self.details))

    def with_spent(self, spent: Spent) -> UsageRow:
        """The row with other figures, and no MAC yet."""
        details = orjson.dumps([spent.input_details, spent.output_details]).decode()
        requests, input_, output, total = spent.figures
        return self._replace(requests=requests, input=input_, output=output, total=total, details=details, mac=b"")

    def to_detail(self) -> dict[str, Any]:
        """What a `session.usage` entry says of the row."""
        return {
            "row": self.number,
            "run": self.run.hex(),
            "turn": self.turn,
            "model": self.model,
            "requests": self.requests,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "total_tokens": self.total,
        }


class Owner(NamedTuple):
    """Whose rows they are: the session's row id and uid, the branch's row id and uid."""

    session: int
    session_uid: bytes
    branch: int
    branch_uid: bytes


def row_mac(ledger_key: Key, owner: Owner, row: UsageRow) -> bytes:
    """The MAC of a row (32 bytes), under the tenant's ledger key."""
    return hmac.digest(
        ledger_key.bytes, context("secmem/usage/v1", owner.session_uid, owner.branch_uid, *row[:1], *row[2:-1]), "sha256"
    )


def check(ledger_key: Key, owner: Owner, row: UsageRow) -> UsageRow:
    """The row. Raises TamperedError where it is not what this vault wrote for that session and branch."""
    try:
        ours = (row.session, row.branch) == (owner.session, owner.branch) and hmac.compare_digest(
            row_mac(ledger_key, owner, row), row.mac
        )
    except ValueError:  # a number that no row has
        ours = False
    if not ours:
        raise TamperedError("a row of usage was edited or moved", hint=VERIFY_HINT)
    return row


def of_branch(execute: Execute, ledger_key: Key, owner: Owner) -> Iterator[UsageRow]:
    """The rows of a branch in the order in which they were begun, each checked."""
    first = owner.branch * SPAN
    for found in execute("SELECT * FROM usage WHERE id >= ? AND id < ? ORDER BY id", (first, first + SPAN)):
        yield check(ledger_key, owner, UsageRow(*found))


def from_turn(execute: Execute, ledger_key: Key, owner: Owner, turn: int) -> list[UsageRow]:
    """The rows of that turn of a branch and of those after it, without what was popped; in order, each checked."""
    first = owner.branch * SPAN
    query = "SELECT * FROM usage WHERE id >= ? AND id < ? AND turn >= ? AND popped = 0 ORDER BY id"
    return [check(ledger_key, owner, UsageRow(*found)) for found in execute(query, (first, first + SPAN, turn)).fetchall()]


def newest(execute: Execute, ledger_key: Key, owner: Owner) -> list[UsageRow]:
    """The newest rows of a branch, without what was popped: NEWEST at most, the newest first, each checked."""
    first = owner.branch * SPAN
    query = "SELECT * FROM usage WHERE id >= ? AND id < ? AND popped = 0 ORDER BY id DESC LIMIT ?"
    found = execute(query, (first, first + SPAN, NEWEST)).fetchall()
    return [check(ledger_key, owner, UsageRow(*columns)) for columns in found]


def by_id(execute: Execute, row_id: int) -> UsageRow | None:
    """The row with this id, not yet checked."""
    found = execute("SELECT * FROM usage WHERE id = ?", (row_id,)).fetchone()
    return None if found is None else UsageRow(*found)


def next_id(execute: Execute, branch: int) -> int:
    """The id of the next row of a branch."""
    first = branch * SPAN
    found = execute("SELECT max(id) FROM usage WHERE id >= ? AND id < ?", (first, first + SPAN)).fetchone()[0]
    return int(first + 1 if found is None else found + 1)


def put(execute: Execute, ledger_key: Key, owner: Owner, row: UsageRow) -> None:
    """Write the row, over the one with its id if there is one, under its MAC."""
    made = row._replace(mac=row_mac(ledger_key, owner, row))
    execute("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", made)


def pop(execute: Execute, ledger_key: Key, owner: Owner, head: BranchHead) -> None:
    """Flag the rows of the turns that the branch no longer has, now that `head` is its head."""
    for row in from_turn(execute, ledger_key, owner, _first_gone(head)):
        put(execute, ledger_key, owner, row._replace(popped=1))


def _first_gone(head: BranchHead) -> int:
    """The first turn that a branch with that head does not have."""
    return head.turn + (head.position > head.base_position)


# ---- the whole check ------------------------------------------------------------------------------------------------


def check_rows(execute: Execute, ledger_key: Key, owners: Mapping[int, Owner]) -> int:
    """Check every row; returns how many there are. `owners` are those of every branch, by its row id.

    1. Its MAC is ours, and binds it to a session and a branch that the vault has.
    2. Its figures are those of the newest `session.usage` entry about it, and no row of an entry is missing.
    3. It is flagged if a pop, a clear or a deletion took its turn away after it was begun, and not otherwise.

    Raises TamperedError. The ledger itself is checked before.
    """
    said = _said(execute)
    count = 0
    for found in execute("SELECT * FROM usage ORDER BY id"):
        row = UsageRow(*found)
        owner = owners.get(row.branch)
        if owner is None:
            raise TamperedError("there is usage of a branch that the ledger does not know", hint=VERIFY_HINT)
        check(ledger_key, owner, row)  # (1)
        known = said.pop((owner.branch_uid.hex(), row.number), None)
        if known is None or known.detail != row.to_detail():  # (2)
            raise _not_said(owner, "is not what the ledger says was spent")
        if known.popped != bool(row.popped):  # (3)
            raise _not_said(owner, "is flagged otherwise than its turn was popped")
        count += 1
    if said:  # (2)
        raise TamperedError(f"{len(said)} rows of usage are gone that the ledger knows", hint=VERIFY_HINT)
    return count


def _not_said(owner: Owner, what: str) -> TamperedError:
    return TamperedError(f"session {owner.session_uid.hex()}: a row of usage {what}", hint=VERIFY_HINT)


@dataclass(slots=True)
class _Said:
    detail: Mapping[str, Any]
    popped: bool = False


_WANTED = ("session.usage", "session.pop", "session.clear", "session.branch", "subject.erase", "store.restore")


def _said(execute: Execute) -> dict[tuple[str, int], _Said]:
    """What the ledger says of each row, by branch uid and number."""
    found: dict[tuple[str, int], _Said] = {}
    live: dict[str, dict[int, _Said]] = {}  # by branch: those that are not popped
    query = " OR ".join(f"""instr(entry, CAST('"action":"{action}"' AS BLOB)) > 0""" for action in _WANTED)
    for (data,) in execute(f"SELECT entry FROM ledger WHERE {query} ORDER BY seq"):  # noqa: S608 - our own words
        entry = parse(data)
        detail = entry.detail.get("usage")
        if entry.branch is None or entry.outcome != "ok":
            continue
        if entry.action == "session.usage" and detail is not None:
            known = found.setdefault((entry.branch, detail["row"]), _Said(detail))
            known.detail = detail
            if not known.popped:
                live.setdefault(entry.branch, {})[detail["row"]] = known
        elif entry.head is not None and _takes_away(entry):
            rows = live.get(entry.branch, {})
            for number in [number for number, one in rows.items() if one.detail["turn"] >= _first_gone(entry.head)]:
                rows.pop(number).popped = True
    return found


def _takes_away(entry: Entry) -> bool:
    return (
        entry.action in ("session.pop", "session.clear", "subject.erase", "store.restore")
        or entry.detail.get("deleted") is True
    )
