"""`secmem usage`: what was spent, as a table, as JSON and as CSV."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_memory import SecureStore
from secure_memory.accounting import Charge, Run
from secure_memory.tenancy import Asker
from secure_memory.vault.usage import Spent

Run_ = Callable[..., Any]
PRICES = "currency: USD\nmodels:\n  large: {input: 10, output: 100}\n"


@pytest.fixture
def spent(desk: Path) -> Path:
    """The tenant acme has spent 1,000 tokens on a large model, and 10 on one that nobody named."""

    async def turn(session: str, model: str, tokens: int) -> None:
        with SecureStore.open(desk) as store, store.session(session, tenant="acme") as talk:
            spent = Spent(1, tokens - 1, 1, tokens)
            await talk._conversation.append_charged(
                [{"role": "user", "content": "hi"}], Charge(Run(), spent, [spent], model), Asker(None)
            )

    asyncio.run(turn("user_123", "large", 1000))
    asyncio.run(turn("=SUM(A1)\x1b[2J", "", 10))
    return desk


def test_usage(run: Run_, spent: Path) -> None:
    """By tenant, if nothing else is asked for."""
    header, row = run("usage").out.splitlines()
    assert ["tenant", "requests", "input", "output", "total", "cached", "popped"] == header.split()
    assert ["acme", "2", "1008", "2", "1010", "0", "0"] == row.split()


def test_nothing_spent(run: Run_, desk: Path) -> None:
    """Where nothing was spent there is a header, and an empty list."""
    assert "model" == run("usage", "--by", "model").out.split()[0]
    assert [] == json.loads(run("usage", "--json").out)


def test_by_several(run: Run_, spent: Path) -> None:
    """--by can be repeated; a session is told with its tenant. Names that a terminal would obey are shown."""
    lines = run("usage", "--by", "session", "--by", "model").out.splitlines()
    assert ["tenant", "session", "model"] == lines[0].split()[:3]
    assert ["acme", "=SUM(A1)\\x1b[2J", "-"] == lines[1].split()[:3]
    assert ["acme", "user_123", "large"] == lines[2].split()[:3]


def test_costs(run: Run_, spent: Path, tmp_path: Path) -> None:
    """A price list adds what it cost, and says what it has no price for."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    done = run("usage", "--prices", str(prices))
    assert ["0.0101", "USD"] == done.out.splitlines()[1].split()[-2:]
    assert "10 tokens without a price" in done.err
    (total,) = json.loads(run("usage", "--prices", str(prices), "--json").out)
    assert ("0.01009", "USD", 10) == (total["cost"], total["currency"], total["unpriced_tokens"])
    assert {"tenant", "requests"} <= set(total) >= {"popped_tokens"}
    assert "subject" not in total


def test_a_bad_price_list(run: Run_, spent: Path, tmp_path: Path) -> None:
    """What is wrong with a price list is told by file, line and key."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES.replace("10,", "ten,"))
    done = run("usage", "--prices", str(prices))
    assert (1, "") == (done.code, done.out)
    assert f"{prices}:3: models.large.input must be a number" in done.err


def test_csv(run: Run_, spent: Path) -> None:
    """CSV has every digit, no formulas, and nothing that a terminal obeys."""
    rows = list(csv.DictReader(run("usage", "--by", "session", "--csv").out.splitlines()))
    assert [("'=SUM(A1)\\x1b[2J", "10"), ("user_123", "1000")] == [(row["session"], row["total_tokens"]) for row in rows]


def test_csv_or_json(run: Run_, spent: Path) -> None:
    """Both at once is a usage error, and so is what can't be added up by."""
    assert [2, 2] == [run("usage", "--csv", "--json").code, run("usage", "--by", "week").code]


def test_a_period(run: Run_, spent: Path) -> None:
    """--since and --until take what all times do."""
    assert 1 == len(json.loads(run("usage", "--since", "1h", "--json").out))
    assert [] == json.loads(run("usage", "--until", "2001-01-01", "--json").out)


def test_looking_is_recorded(run: Run_, spent: Path) -> None:
    """Who looks at what was spent is in the tenant's ledger."""
    run("usage", "--actor", "user:eve")
    (line,) = run(
        "audit", "log", "--tenant", "acme", "--who", "user:eve", "--action", "audit.read", "--json"
    ).out.splitlines()
    assert {"list": "usage", "by": ["tenant"]} == json.loads(line)["detail"]


def test_on_a_terminal(terminal: Run_, spent: Path) -> None:
    """A person sees a table."""
    assert "1010" in terminal("usage", NO_COLOR="1").out
