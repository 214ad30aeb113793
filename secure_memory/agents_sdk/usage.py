"""Usage, with the signatures and the return shapes of the SDK's AdvancedSQLiteSession, and recorded by itself.

Where the run's context reaches the session (`wrapper=`), what the run has spent is recorded with the items that it appends,
in the same transaction. `store_run_usage` afterwards finds the same run, and changes nothing. A run that fails after its
last append spent more than is recorded: nobody told the session.

A run is its `Usage` object: wrappers are copied for nested agents and share it. How usage is charged is said in
`accounting`, and how that differs from the SDK in docs/decisions.md.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from agents.models.default_models import get_default_model
from agents.usage import Usage

from secure_memory.accounting import Accounting, Charge, Run, TurnSpent
from secure_memory.actor import Actor
from secure_memory.agents_sdk.results import Result
from secure_memory.errors import AccessDeniedError, IntegrityError
from secure_memory.log import get_logger
from secure_memory.tenancy import Asker
from secure_memory.vault.usage import MAX_TOKENS, Details, Spent

if TYPE_CHECKING:
    from agents import RunContextWrapper
    from agents.result import RunResultBase

MAX_MODEL = 200
"""Characters of a model's name that are kept."""

log = get_logger(__name__)


class UsageRecords:
    """The methods of a session that knows what was spent in it. `SecureSession` has the rest."""

    _conversation: Accounting

    def _asker(self, actor: Actor | str | None, wrapper: RunContextWrapper[Any] | None) -> Asker:
        raise AssertionError("a session says who asks")  # pragma: no cover

    async def store_run_usage(self, result: RunResultBase) -> None:
        """Record what the run has spent, in its turn. Doing so twice, or after it was recorded by itself, changes nothing.

        As in the SDK, what can't be recorded is logged and does not fail the run; but AccessDeniedError and IntegrityError
        are raised.
        """
        try:
            wrapper = result.context_wrapper
            if wrapper.usage is not None:
                charge = charge_of(wrapper.usage, _model_of(result))
                await self._conversation.charge(charge, self._asker(None, wrapper))
        except (AccessDeniedError, IntegrityError):
            raise
        except Exception as error:
            log.error("usage not stored", error=type(error).__name__)

    async def get_session_usage(self, branch_id: str | None = None) -> dict[str, int] | None:
        """What was spent in a branch, or in all where none is named: requests, input_tokens, output_tokens, total_tokens,
        total_turns. None where nothing was. Raises ValueError where there is no such branch."""
        asker = self._asker(None, None)
        found = await (self._conversation.spent(branch_id, asker) if branch_id else self._conversation.spent_in_all(asker))
        if not found:
            return None
        spent = sum((one.spent for one in found), Spent())
        return Result(
            requests=spent.requests,
            input_tokens=spent.input,
            output_tokens=spent.output,
            total_tokens=spent.total,
            total_turns=len(found),
        )

    async def get_turn_usage(
        self, user_turn_number: int | None = None, branch_id: str | None = None
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """What was spent in each turn of a branch (the current one where none is named), or in the one turn asked for:
        requests, input_tokens, output_tokens, total_tokens, input_tokens_details, output_tokens_details; in a list also
        user_turn_number. An empty dict where nothing was spent in that turn. Raises ValueError where there is no such
        branch."""
        found = await self._conversation.spent(branch_id, self._asker(None, None))
        if user_turn_number is None:
            return [Result(user_turn_number=one.turn, **_shown(one)) for one in found]
        return next((_shown(one) for one in found if one.turn == user_turn_number), Result())


def charge_of_wrapper(wrapper: RunContextWrapper[Any], items: Sequence[Any]) -> Charge | None:
    """What the run has spent whose context this is; None where that is nothing, or it doesn't say."""
    usage = getattr(wrapper, "usage", None)
    if not isinstance(usage, Usage) or not (usage.requests or usage.total_tokens):
        return None
    return charge_of(usage, _model_that_said(items))


def charge_of(usage: Any, model: str) -> Charge:
    """What these figures of the SDK's charge to their run."""
    entries = getattr(usage, "request_usage_entries", None) or ()
    return Charge(_runs.of(usage), _spent(usage), [_spent(entry) for entry in entries], model[:MAX_MODEL])


def _spent(usage: Any) -> Spent:
    requests, input_, output, total = (
        min(max(0, int(getattr(usage, name, 0) or 0)), MAX_TOKENS)
        for name in ("requests", "input_tokens", "output_tokens", "total_tokens")
    )
    return Spent(
        requests,
        input_,
        output,
        total,
        _details(getattr(usage, "input_tokens_details", None)),
        _details(getattr(usage, "output_tokens_details", None)),
    )


def _details(details: Any) -> Details:
    """The provider's details as JSON has them; None where there are none, or they have no such form."""
    try:
        return orjson.loads(orjson.dumps(vars(details))) if details else None
    except TypeError:
        log.warning("usage details not stored")
        return None


def _shown(one: TurnSpent) -> Result:
    spent = one.spent
    return Result(
        requests=spent.requests,
        input_tokens=spent.input,
        output_tokens=spent.output,
        total_tokens=spent.total,
        input_tokens_details=None if spent.input_details is None else Result(spent.input_details),
        output_tokens_details=None if spent.output_details is None else Result(spent.output_details),
    )


# ---- which model it was ---------------------------------------------------------------------------------------------


def _model_that_said(items: Sequence[Any]) -> str:
    """The model that the newest of the items say they come from, as some of the SDK's adapters do; else ''."""
    for item in reversed(items):
        data = item.get("provider_data") if isinstance(item, dict) else None
        if isinstance(data, dict) and isinstance(data.get("model"), str):
            return _text(data["model"])
    return ""


def _model_of(result: RunResultBase) -> str:
    """The model of the result's last agent, by name; '' where it has none. (What `RunConfig.model` put in its place, a
    result does not tell.)"""
    model = getattr(getattr(result, "last_agent", None), "model", "")
    if model is None:
        return get_default_model()
    name = model if isinstance(model, str) else getattr(model, "model", "")
    return _text(name) if isinstance(name, str) else str(name or "")


def _text(name: str) -> str:
    return name.encode(errors="replace").decode()


# ---- which run it is ------------------------------------------------------------------------------------------------


class _Runs:
    """The runs that are going on in this process, each as long as its figures live. They are found by identity: two runs
    may have spent the same."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Run]] = {}

    def of(self, usage: Any) -> Run:
        """The run whose figures these are."""
        place = id(usage)
        known = self._known.get(place)
        if known is None or known[0]() is not usage:
            # An id is used again only after its object is gone, and with it the entry: two threads may come here at once,
            # and the first one's run stays.
            known = self._known.setdefault(place, (weakref.ref(usage, lambda gone: self._forget(place, gone)), Run()))
        return known[1]

    def _forget(self, place: int, gone: weakref.ref[Any]) -> None:
        if (known := self._known.get(place)) is not None and known[0] is gone:
            del self._known[place]


_runs = _Runs()
