"""`prices.py`: a price list is read exactly, or refused by file, line and key."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from secure_memory.errors import ConfigurationError
from secure_memory.prices import Price, load

LIST = """\
currency: USD
models:
  large: {input: 1.25, output: 10.00, cached_input: 0.125}
  "small": {input: 0, output: 2}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "prices.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_list(tmp_path: Path) -> None:
    """Each model has its price; cached input costs what input does where nothing else is said."""
    prices = load(written(tmp_path, LIST))
    assert "USD" == prices.currency
    assert Price(Decimal("1.25"), Decimal(10), Decimal("0.125")) == prices.of("large")
    assert Price(Decimal(0), Decimal(2), Decimal(0)) == prices.of("small")
    assert prices.of("other") is None


def test_a_default(tmp_path: Path) -> None:
    """The default is the price of every model that is not in the list."""
    prices = load(written(tmp_path, LIST + "default: {input: 5, output: 25}\n"))
    assert Price(Decimal(5), Decimal(25), Decimal(5)) == prices.of("other") == prices.of("")


def test_what_it_costs() -> None:
    """A million of each cost what the list says, cached ones less; there are never more cached tokens than input."""
    price = Price(Decimal("1.25"), Decimal(10), Decimal("0.25"))
    assert Decimal("11.25") == price.of(1_000_000, 1_000_000, 0)
    assert Decimal("10.25") == price.of(1_000_000, 1_000_000, 1_000_000)
    assert Decimal("0.00000025") == price.of(1, 0, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "prices.yaml:1: the price list must be a map with currency and models"),
        ("- a", "prices.yaml:1: the price list must be a map"),
        ("currency: USD\n", "prices.yaml:1: the price list has no models"),
        ("models: {}\n", "prices.yaml:1: the price list has no currency"),
        ("currency: 7\nmodels: {}\n", "prices.yaml:1: currency must be a text"),
        ("currency: USD\nmodels: 3\n", "prices.yaml:2: models must be a map of models"),
        ("currency: USD\nmodels:\n  5: {input: 1, output: 1}\n", "prices.yaml:3: models.5 is no name"),
        ("currency: USD\nmodels:\n  a: 1\n", "prices.yaml:3: models.a must be a map with input and output"),
        ("currency: USD\nmodels:\n  a: {input: 1}\n", "prices.yaml:3: models.a has no output"),
        ("currency: USD\nmodels:\n  a:\n    input: x\n    output: 1\n", "prices.yaml:4: models.a.input must be a number"),
        ("currency: USD\nmodels:\n  a:\n    input: 1\n    output: -1\n", "prices.yaml:5: models.a.output must be a number"),
        ("currency: USD\nmodels:\n  a: {input: .nan, output: 1}\n", "prices.yaml:3: models.a.input must be a number"),
        ("currency: USD\nmodels:\n  a: {input: true, output: 1}\n", "prices.yaml:3: models.a.input must be a number"),
        ("currency: USD\nmodels:\n  a: {input: 1, output: 1, per: 9}\n", "prices.yaml:3: models.a.per is not known here"),
        ("currency: USD\nmodel: {}\nmodels: {}\n", "prices.yaml:2: model is not known here"),
        ("currency: USD\nmodels: {}\ndefault: 3\n", "prices.yaml:3: default must be a map"),
        ("currency: USD\nmodels:\n  a: {input: 1\n", "prices.yaml:4: "),
        ("currency: USD\ncurrency: EUR\nmodels: {}\n", "prices.yaml:2: found duplicate key"),
        ("currency: !!python/object:os.system x\nmodels: {}\n", "prices.yaml:1: currency must be a text"),
        (b"\xff\xfe", "is not text in UTF-8"),
        ("#" * 2**20 + "#", "is larger than"),
    ],
)
def test_a_bad_list(tmp_path: Path, text: str | bytes, told: str) -> None:
    """What is wrong is told by file, line and key."""
    with pytest.raises(ConfigurationError) as raised:
        load(written(tmp_path, text))
    assert told in str(raised.value)


def test_no_such_list(tmp_path: Path) -> None:
    """A list that isn't there, or is a directory, is told as such."""
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigurationError, match="can't be read"):
            load(path)
