"""Legal holds: what may not be deleted, because a matter is open.

- A hold names its matter and its scope: a session, a subject, tags, a time range, or, with none of these, the whole tenant.
  What is given has to match all together. Sessions and subjects are named by their uids.
- A hold is placed and released, never deleted; each is an entry, and the control state has a digest of all of them, so a
  row that is edited or gone is noticed before anything is deleted (`all_holds`).

Called inside a transaction by whoever deletes, and by `lifecycle` for the commands.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson

from secure_memory import clock
from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.keys.key import Key, context
from secure_memory.ledger.ledger import VERIFY_HINT
from secure_memory.vault.control import Control
from secure_memory.vault.transaction import Transaction

_CONTROL = "holds"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold. `session` and `subject` are uids in hex; `since` and `until` (exclusive) are about when an item was created,
    in microseconds like `placed` and `released`."""

    id: int
    matter: str
    placed: int
    actor: str
    reason: str | None = None
    session: str | None = None
    subject: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    released: int | None = None
    released_by: str | None = None
    released_why: str | None = None

    @property
    def active(self) -> bool:
        """Whether it still holds."""
        return self.released is None

    def covers_session(self, session: str, subject: str, tags: Mapping[str, str]) -> bool:
        """Whether it is about that session, or some of its items."""
        return (
            self.session in (None, session)
            and self.subject in (None, subject)
            and all(tags.get(name) == value for name, value in self.tags.items())
        )

    def covers_time(self, created: int) -> bool:
        """Whether it is about what was created then."""
        return (self.since is None or created >= self.since) and (self.until is None or created < self.until)


def all_holds(execute: Callable[..., Any], control: Control, ledger_key: Key, tenant: bytes) -> list[Hold]:
    """Every hold there ever was, in order. Raises TamperedError where one was edited or is gone."""
    stored = execute("SELECT id, said, mac FROM holds ORDER BY id").fetchall()
    for number, said, mac in stored:
        if number < 1 or not hmac.compare_digest(_mac(ledger_key, tenant, number, said), mac):
            raise TamperedError("a legal hold was edited", hint=VERIFY_HINT)
    if control.rows.get(_CONTROL, _digest([])) != _digest([mac for _, _, mac in stored]):
        raise TamperedError("a legal hold is gone, or one was put back", hint=VERIFY_HINT)
    return [Hold(id=number, **orjson.loads(said)) for number, said, _ in stored]


def active(execute: Callable[..., Any], control: Control, ledger_key: Key, tenant: bytes) -> list[Hold]:
    """The holds that are not released. Costs nothing where there never was one. Raises TamperedError."""
    if _CONTROL not in control.rows and execute("SELECT 1 FROM holds LIMIT 1").fetchone() is None:
        return []
    return [hold for hold in all_holds(execute, control, ledger_key, tenant) if hold.active]


def place(tx: Transaction, ledger_key: Key, tenant: bytes, hold: Hold) -> Hold:
    """Write a new hold, with its entry; returns it with its number. Raises TamperedError."""
    known = all_holds(tx.execute, tx.control, ledger_key, tenant)
    made = replace(hold, id=len(known) + 1)
    _write(tx, ledger_key, tenant, made)
    tx.record(
        {
            "action": "hold.place",
            "session": made.session,
            "subject": made.subject,
            "detail": {"hold": made.id, "matter": made.matter},
        }
    )
    return made


def release(tx: Transaction, ledger_key: Key, tenant: bytes, number: int, *, actor: str, reason: str | None) -> Hold:
    """Release a hold, with its entry. Raises ConfigurationError where there is none of that number, or it is released."""
    known = {hold.id: hold for hold in all_holds(tx.execute, tx.control, ledger_key, tenant)}
    hold = known.get(number)
    if hold is None:
        raise ConfigurationError(f"there is no hold {number}", hint="`secmem hold list` shows the holds")
    if not hold.active:
        raise ConfigurationError(f"hold {number} was released already", hint="`secmem hold list --all` says when")
    done = replace(hold, released=clock.now(), released_by=actor, released_why=reason)
    _write(tx, ledger_key, tenant, done)
    detail = {"hold": number, "matter": hold.matter}
    tx.record({"action": "hold.release", "session": hold.session, "subject": hold.subject, "detail": detail})
    return done


def _write(tx: Transaction, ledger_key: Key, tenant: bytes, hold: Hold) -> None:
    fields = {name: value for name, value in asdict(hold).items() if name != "id" and value not in (None, {})}
    said = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()
    row = hold.id, said, _mac(ledger_key, tenant, hold.id, said)
    tx.execute(
        "INSERT INTO holds VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET said = excluded.said, mac = excluded.mac", row
    )
    macs = [mac for (mac,) in tx.execute("SELECT mac FROM holds ORDER BY id").fetchall()]
    tx.set_control(_CONTROL, _digest(macs))


def _mac(ledger_key: Key, tenant: bytes, number: int, said: str) -> bytes:
    return hmac.digest(ledger_key.bytes, context("secmem/hold/v1", tenant, number, said), "sha256")


def _digest(macs: list[bytes]) -> bytes:
    return sha256(context("secmem/holds/v1", *macs)).digest()
