"""A facet of a store: the methods that `SecureStore` has about one topic (in `catalogue`, `billing` and `lifecycle`)."""

from __future__ import annotations

from secure_memory.actor import Actor
from secure_memory.shared import SharedStore


class Facet:
    """What the methods of a topic need of the store that they are methods of. `SecureStore` has all of it."""

    _actor: Actor | None
    _require_actor: bool

    def _open(self) -> SharedStore:
        """The open store. Raises RuntimeError where this handle is closed."""
        raise AssertionError("a store says whether it is open")  # pragma: no cover

    def _who(self) -> Actor | None:
        """Who asks. Raises AccessDeniedError where nobody says so and the store wants to know."""
        raise AssertionError("a store says who asks")  # pragma: no cover
