"""Personal data on its way in, and on its way to a model's or a reviewer's eyes: taken out as the policy in force says.

- What is written is redacted before it is sealed, and before any lock is held. Where the vault turns out to be governed by a
  later policy, the operation begins again and redacts again.
- The original of a token is kept in the transaction that keeps the first item with it. A run redacts its input before it
  keeps it (`agents_sdk.run_config`), so originals may wait here, in memory, for the append that follows.
- What can't be redacted is not stored and not shown (RedactionError).

The redactor itself is `redaction`; here it gets the keys of the session's subject and tenant.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secure_memory import items as sdk_items
from secure_memory.inforce import Blocked, Surface
from secure_memory.items import Item
from secure_memory.keys.opened import SessionKeys
from secure_memory.policy import retention
from secure_memory.policy.matching import Facts
from secure_memory.redaction.blanking import blank
from secure_memory.redaction.operators import Keyed
from secure_memory.redaction.pipeline import Redacted
from secure_memory.tenancy import Asker, Opened, Tenant
from secure_memory.vault import seal, sessions, tokens
from secure_memory.vault.history import NewItem
from secure_memory.vault.sessions import SessionRow
from secure_memory.vault.tokens import Original
from secure_memory.vault.transaction import Transaction
from secure_memory.withholding import Withholding

REVIEW = "session.review"
MUCH = 64 * 1024
"""Bytes of JSON from which on redaction runs in a thread: so much takes some tens of milliseconds."""
PAIRED = frozenset({"tool_call", "tool_output", "reasoning", "approval"})
"""Kinds of items that belong to another one: a conversation without one of them is none that a model accepts."""
WAITING = 10_000
"""Originals that may wait for an append; where nothing is ever appended, the oldest go."""


@dataclass(frozen=True, slots=True, repr=False)  # no repr shows content
class Clean:
    """Items as they are stored, their JSON, and what their tokens stand for."""

    items: Sequence[Mapping[str, Any]]
    texts: list[bytes]
    originals: list[Original]


class Cleaning(Withholding):
    """One session of one tenant, whose items are redacted on their way."""

    _waiting: dict[str, Original]

    async def redact(self, items: Sequence[Item], surface: Surface, blocked: Blocked = "refuse") -> list[Item]:
        """The items as they may be on that surface; those in which nothing was found are the same objects.

        What tokens stand for is kept with the next append. Raises BlockedContentError, RedactionError.
        """
        opened = await self._opened(True)
        done = await self._redacted(opened, items, surface, blocked)
        self._remember(done)
        return done.items

    async def _seen(self, items: list[Item], asker: Asker, action: str) -> list[Item]:
        """What was read, as whoever asked may see it: a review, and whoever's role is masked, see the `view` surface."""
        decision = self._door.policy.authorise(asker.actor, action, f"tenant {self.tenant!r}")
        if not items or (decision.view == "clear" and action != REVIEW):
            return items
        return (await self._redacted(await self._opened(False), items, "view")).items

    async def _cleaned(
        self, opened: Opened, new: Sequence[Mapping[str, Any]], texts: list[bytes], blocked: Blocked = "refuse"
    ) -> Clean:
        """New items, whose JSON is `texts`, as they are stored. Raises BlockedContentError, RedactionError."""
        given: list[Item] = [item if isinstance(item, dict) else dict(item) for item in new]
        done = await self._redacted(opened, given, "store", blocked, size=sum(map(len, texts)))
        if done.treated:
            changed = zip(given, done.items, texts, strict=True)
            texts = [text if now is was else sdk_items.dump(now) for was, now, text in changed]
        return Clean(done.items, texts, [*self._waiting.values(), *originals(done)])

    async def _redacted(
        self, opened: Opened, items: Sequence[Item], surface: Surface, blocked: Blocked = "refuse", *, size: int = MUCH
    ) -> Redacted:
        redactor = opened.policy.redactor(blocked)
        keys = keyed(opened.tenant, opened.keys)
        if not redactor.treats(surface) or (size < MUCH and not opened.policy.slow_redaction):
            return redactor.redact(items, surface, keys)
        return await self._aside(redactor.redact, items, surface, keys)

    def _at_once(
        self, tx: Transaction, opened: Opened, row: SessionRow, sealed: list[NewItem], new: Clean
    ) -> tuple[list[NewItem], list[bytes]]:
        """What is stored of new items, and their JSON, where retention rules act on write (`max: PT0S`): what is to be
        deleted is not stored, and what is to be redacted, or belongs to a pair, is stored without what it says."""
        keys, policy = opened.keys, opened.policy
        if policy.at_once is None or keys is None:
            return sealed, new.texts
        tags = sessions.open_names(keys.subject_key, opened.tenant.keys.uid, row).tags
        left: list[tuple[NewItem, bytes]] = []
        for item, text in zip(sealed, new.texts, strict=True):
            kind, role, tool, now = item.place[3:]
            facts = Facts(kind, opened.tenant.keys.name, now, row.created, now, role, tool, tags)
            found = retention.resolve(policy.policy.retention, facts, now)
            acting = retention.resolve(policy.at_once, facts, now)
            if found.state != "due" or acting.state != "due" or found.action == "archive":
                left.append((item, text))
            elif found.action == "redact" or kind in PAIRED:
                blanked = blank(sdk_items.load(text), acting.rules[0].id)
                data = sdk_items.dump(blanked)
                left.append((self._sealed(opened.tenant, keys, blanked, data, now, version=seal.REDACTED), data))
        return [item for item, _ in left], [text for _, text in left]

    def _keep_originals(self, tx: Transaction, tenant: Tenant, keys: SessionKeys, originals: Iterable[Original]) -> None:
        tokens.keep(tx.execute, keys.subject_key, tenant.keys.uid, keys.subject, originals)

    def _kept_originals(self, originals: Iterable[Original]) -> None:
        """After the commit: they wait no longer."""
        for original in originals:
            self._waiting.pop(original.token, None)

    def _remember(self, done: Redacted) -> None:
        for original in originals(done):
            self._waiting[original.token] = original
        while len(self._waiting) > WAITING:
            self._waiting.pop(next(iter(self._waiting)))


def keyed(tenant: Tenant, keys: SessionKeys | None) -> Keyed:
    """What makes pseudonyms and tokens. It raises RuntimeError where a token is wanted of a session without keys."""

    def pseudonym(data: bytes) -> bytes:
        return hmac.digest(tenant.keys.pseudonym.bytes, b"secmem/pseudonym/v1" + data, "sha256")

    def token(data: bytes) -> bytes:
        if keys is None:
            raise RuntimeError("a session that has not begun has no tokens")
        return tokens.secret_of(keys.subject_key)(data)

    return Keyed(pseudonym, token)


def originals(done: Redacted) -> list[Original]:
    """What the tokens stand for that redaction made."""
    return [Original(token.token, token.entity, token.original) for token in done.tokens]
