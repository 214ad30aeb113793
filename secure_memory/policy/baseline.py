"""The baseline pack as it comes into force where nobody declared anything: canonical JSON, beside its YAML.

So making a store, one in memory too, reads no YAML. `make schema` writes the file, and a test holds it current.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from secure_memory import policies


@lru_cache(maxsize=1)
def text() -> bytes:
    """The canonical form (see `model.Policy.canonical`)."""
    return Path(policies.__file__).with_name("baseline.json").read_bytes().rstrip()
