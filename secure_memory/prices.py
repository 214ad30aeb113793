"""A price list: what a million tokens of a model cost.

    currency: USD
    models:
      gpt-5: {input: 1.25, output: 10.00, cached_input: 0.125}
      gpt-5-mini: {input: 0.25, output: 2.00}
    default: {input: 5, output: 25}

`cached_input` is the price of input tokens that the provider had cached, that of `input` where it is not given. `default`
is for models that are not in the list, and for tokens whose model nobody told us; without it those have no price.

Amounts are decimals, as written: money is no float. Errors name the file, the line and the key. Called by `billing`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from secure_memory.errors import ConfigurationError

MAX_BYTES = 2**20
"""Bytes of a price list: more is another file."""
_MILLION = 1_000_000
_HINT = "write `currency: USD` and, below `models:`, lines like `gpt-5: {input: 1.25, output: 10}`"


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost."""

    input: Decimal
    output: Decimal
    cached_input: Decimal

    def of(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> Decimal:
        """What so many tokens cost; `cached_tokens` are those of the input that were cached."""
        cached = min(cached_tokens, input_tokens)
        whole = (input_tokens - cached) * self.input + cached * self.cached_input + output_tokens * self.output
        return whole / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list: one currency, a price for each model, and the one for all others, if there is one."""

    currency: str
    models: Mapping[str, Price]
    default: Price | None

    def of(self, model: str) -> Price | None:
        """The price of that model's tokens; None where the list has none."""
        return self.models.get(model, self.default)


def load(path: str | os.PathLike[str]) -> Prices:
    """The price list in that file. Raises ConfigurationError, which names the file, the line and the key."""
    from ruamel.yaml import YAML  # here: a roll-up without prices doesn't need it
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    file = Path(path)
    try:
        data = file.read_bytes()
        text = data.decode()
    except OSError as error:
        raise ConfigurationError(f"the price list {file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the price list {file} is not text in UTF-8", hint=_HINT) from None
    if len(data) > MAX_BYTES:
        raise ConfigurationError(f"the price list {file} is larger than {MAX_BYTES:,} bytes", hint=_HINT)
    try:
        # Round-trip mode is for the line numbers. It makes no objects but maps, lists and scalars.
        root = YAML().load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = (error.problem or "not YAML").partition("\n")[0]
        raise ConfigurationError(f"{file}:{line}: {problem}", hint=_HINT) from None
    except (YAMLError, ValueError, RecursionError):
        raise ConfigurationError(f"{file}: not YAML", hint=_HINT) from None
    return _Reader(file).prices(root)


class _Reader:
    """Reads one file's maps, and knows where in it their keys are."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def prices(self, root: Any) -> Prices:
        self._check_map(root, None, "", "the price list", {"currency", "models"}, {"default"})
        currency, models = root["currency"], root["models"]
        if not isinstance(currency, str) or not currency.strip():
            self._fail(root, "currency", "currency", "must be a text, such as USD")
        if not isinstance(models, Mapping):
            self._fail(root, "models", "models", "must be a map of models")
        found = {}
        for model in models:
            if not isinstance(model, str):
                self._fail(models, model, f"models.{model}", "is no name: put it in quotes")
            found[model] = self._price(models, model, f"models.{model}")
        default = self._price(root, "default", "default") if "default" in root else None
        return Prices(currency, found, default)

    def _price(self, parent: Any, key: Any, name: str) -> Price:
        value = parent[key]
        self._check_map(value, parent, key, name, {"input", "output"}, {"cached_input"})
        amounts = {kind: self._amount(value, kind, f"{name}.{kind}") for kind in value}
        return Price(amounts["input"], amounts["output"], amounts.get("cached_input", amounts["input"]))

    def _amount(self, parent: Any, key: str, name: str) -> Decimal:
        value = parent[key]
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal("NaN")
        if isinstance(value, bool) or not amount.is_finite() or amount < 0:
            self._fail(parent, key, name, "must be a number that is not negative: the price of a million tokens")
        return amount

    def _check_map(self, value: Any, parent: Any, key: Any, name: str, needed: set[str], allowed: set[str]) -> None:
        if not isinstance(value, Mapping):
            self._fail(parent, key, name, f"must be a map with {' and '.join(sorted(needed))}")
        for one in value:
            if one not in needed | allowed:
                path = str(one) if parent is None else f"{name}.{one}"
                self._fail(value, one, path, f"is not known here: {', '.join(sorted(needed | allowed))} are")
        for one in sorted(needed - set(value)):
            self._fail(parent, key, name, f"has no {one}")

    def _fail(self, parent: Any, key: Any, name: str, what: str) -> NoReturn:
        line = 1 if parent is None else parent.lc.key(key)[0] + 1
        raise ConfigurationError(f"{self._file}:{line}: {name} {what}", hint=_HINT)
