"""`billing.py`: everything that was spent, added up for whoever pays, and recorded as looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secure_memory import AsyncSecureStore, SecureStore
from secure_memory.accounting import Charge, Run
from secure_memory.errors import ConfigurationError, TamperedError
from secure_memory.tenancy import Asker
from secure_memory.vault.usage import Spent

if TYPE_CHECKING:
    from conftest import Clock  # type: ignore[import-not-found]

DAY = 86_400_000_000
ASK: list[Any] = [{"role": "user", "content": "hi"}]


def spend(store: SecureStore, tenant: str, session: str, model: str, tokens: int, cached: int = 0, **how: Any) -> None:
    """A turn in which a model used so many input tokens, and one output token."""

    async def turn() -> None:
        with store.session(session, tenant=tenant, **how) as talk:
            spent = Spent(1, tokens, 1, tokens + 1, {"cached_tokens": cached}, None)
            await talk._conversation.append_charged(ASK, Charge(Run(), spent, [spent], model), Asker(None))

    asyncio.run(turn())


@pytest.fixture
def spent(store: SecureStore, noon: Clock) -> SecureStore:
    """Two tenants, three sessions, two models, two days."""
    spend(store, "acme", "s1", "large", 100, subject="ana")
    spend(store, "acme", "s2", "small", 10, subject="ana")
    noon.now += DAY
    spend(store, "acme", "s2", "small", 20)
    spend(store, "globex", "s1", "large", 1000)
    return store


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("tenant", {("acme",): 133, ("globex",): 1001}),
        ("subject", {("acme", "ana"): 133, ("globex", "s1"): 1001}),
        ("session", {("acme", "s1"): 101, ("acme", "s2"): 32, ("globex", "s1"): 1001}),
        ("branch", {("acme", "s1", "main"): 101, ("acme", "s2", "main"): 32, ("globex", "s1", "main"): 1001}),
        ("model", {("large",): 1102, ("small",): 32}),
        ("day", {("2026-11-18",): 112, ("2026-11-19",): 1022}),
        (("day", "tenant"), {("acme", "2026-11-18"): 112, ("acme", "2026-11-19"): 21, ("globex", "2026-11-19"): 1001}),
        ((), {(): 1134}),
    ],
)
def test_added_up(spent: SecureStore, by: Any, expected: dict[tuple[str, ...], int]) -> None:
    """By each thing and by several, in order; sessions of one name in two tenants are two."""
    totals = spent.usage(by=by)
    assert list(expected.items()) == [(tuple(filter(None, total.group)), total.total_tokens) for total in totals]


def test_a_period_and_a_tenant(spent: SecureStore, noon: Clock) -> None:
    """Only what was spent in the period counts, its end excluded; and of one tenant, if one is named."""
    assert [21, 1001] == [total.total_tokens for total in spent.usage(since=noon.now)]
    assert [112] == [total.total_tokens for total in spent.usage(until=noon.now)]
    assert [133] == [total.total_tokens for total in spent.usage(tenant="acme")]
    assert [] == spent.usage(since=noon.now + 1)
    with pytest.raises(ConfigurationError, match="there is no tenant 'x'"):
        spent.usage(tenant="x")
    with pytest.raises(ValueError, match="can't be added up by 'week'"):
        spent.usage(by="week")


def test_what_is_gone_counts(spent: SecureStore) -> None:
    """Popped, cleared or deleted since: it was spent, and is said to be gone."""

    async def gone() -> None:
        with spent.session("s2", tenant="acme") as talk:
            await talk.pop_item()
        with spent.session("s1", tenant="globex") as talk:
            await talk.clear_session()

    asyncio.run(gone())
    assert [(133, 21), (1001, 1001)] == [(total.total_tokens, total.popped_tokens) for total in spent.usage()]
    spent.audit_verify()


def test_recorded(spent: SecureStore) -> None:
    """Each tenant that is looked at has it in its ledger, and no other."""
    spent.usage(by="session", tenant="acme")
    spent.usage()
    read = [
        [dict(one.entry.detail) for one in spent.audit_log(tenant=name, action="audit.read") if "by" in one.entry.detail]
        for name in ("acme", "globex")
    ]
    whole = {"list": "usage", "by": ["tenant"]}
    assert [[{"list": "usage", "by": ["tenant", "session"]}, whole], [whole]] == read


def test_costs(spent: SecureStore, tmp_path: Path) -> None:
    """Costs are exact; tokens of models without a price are told, and a default prices them."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\nmodels:\n  large: {input: 10, output: 20}\n")
    assert [("acme", Decimal("0.00102"), 32), ("globex", Decimal("0.01002"), 0)] == [
        (total.tenant, total.cost, total.unpriced_tokens) for total in spent.usage(prices=prices)
    ]
    assert [None, "EUR"] == [(small := spent.usage(by="model", prices=prices)[1]).cost, small.currency]
    prices.write_text(prices.read_text() + "default: {input: 1, output: 1}\n")
    assert 0 == sum(total.unpriced_tokens for total in spent.usage(prices=prices))


def test_cached_input_costs_less(store: SecureStore, tmp_path: Path) -> None:
    """Input that the provider had cached is priced as such."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\nmodels:\n  large: {input: 10, output: 0, cached_input: 1}\n")
    spend(store, "acme", "s1", "large", 1000, cached=600)
    (total,) = store.usage(prices=prices)
    assert (600, Decimal("0.0046")) == (total.cached_tokens, total.cost)


def test_a_row_of_no_session(spent: SecureStore, insider: Callable[..., Any]) -> None:
    """Rows that were edited, or are nobody's, are not billed."""
    insider("globex").sql("UPDATE usage SET session = 9")
    with pytest.raises(TamperedError):
        spent.usage()
    insider("acme").sql("UPDATE usage SET total = 1")
    with pytest.raises(TamperedError):
        spent.usage(tenant="acme")


def test_awaited(spent: SecureStore) -> None:
    """The store for coroutines gives the same."""
    assert spent.usage(by="model") == asyncio.run(AsyncSecureStore(spent).usage(by="model"))
