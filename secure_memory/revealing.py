"""What a token stands for, told to an actor who may know, with a reason, as an entry of its own."""

from __future__ import annotations

from typing import Any

from secure_memory.actor import Actor, program
from secure_memory.errors import AccessDeniedError
from secure_memory.pausing import Pausing
from secure_memory.tenancy import Asker, Opened
from secure_memory.vault import tokens
from secure_memory.vault.commits import Operation
from secure_memory.vault.transaction import Transaction

ACTION = "session.reveal"


class Revealing(Pausing):
    """One session of one tenant, whose tokens can be revealed."""

    async def reveal(self, token: str, asker: Asker) -> str:
        """What a token of the session's subject stands for.

        Raises ValueError where this tenant never issued it to the subject, AccessDeniedError, IntegrityError.
        """
        return await self._perform(lambda opened: self._reveal(opened, token, asker), create=False)

    def _reveal(self, opened: Opened, token: str, asker: Asker) -> Operation[Any, str]:
        tenant, keys = opened.tenant.keys, opened.keys

        def run(tx: Transaction) -> str:
            row = self._enter(tx, opened, asker, ACTION)
            need_reason(asker.actor, f"tenant {self.tenant!r}")
            found = [] if keys is None else [one for one in tokens.find(tx.execute, token) if one.subject == keys.subject]
            if row is None or keys is None or not found:
                raise unknown(token)
            # Durable, and so on disk before anyone sees it.
            tx.record({"items": 1, "detail": {"token": token}}, session=row.id)
            return tokens.open_original(keys.subject_key, tenant.uid, found[0]).text

        return Operation(run, lambda text: text, True, self._door.fields(ACTION, opened, asker))


def need_reason(actor: Actor | None, where: str) -> None:
    """Raise AccessDeniedError where whoever wants to know gives no reason."""
    if actor is None or actor.reason is None:
        raise AccessDeniedError(
            f"{where}: revealing a token wants a reason",
            actor=(actor or program()).id,
            action=ACTION,
            needed="a reason",
            hint="say it with the actor: Actor(id, reason=...), or --reason",
        )


def unknown(token: str) -> ValueError:
    """What is raised for a text that is no token of ours: it names nothing, whoever wrote it."""
    shown = token if len(token) <= 80 and token.isprintable() else "that text"
    return ValueError(f"{shown} is no token that was issued here for this subject")
