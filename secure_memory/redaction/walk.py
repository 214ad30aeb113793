"""JSON items <-> text segments: where text stands in an item, and how a changed text gets back to its place. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Segment(NamedTuple):
    """A text to look at. `keys` are the JSON keys that lead to it, outermost first, empty for prose; `tool` says that it is
    a leaf of what a tool was given or gave, where bare digit runs are no findings without a word or a key that names them."""

    text: str
    keys: tuple[str, ...]
    tool: bool
