"""What tests of detection stand on: everything that is found in one text, by name and in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secure_memory.redaction.detect import BuiltinDetector, resolve
from secure_memory.redaction.entities import ENTITIES
from secure_memory.redaction.walk import Segment

Found = Callable[..., list[tuple[str, str]]]

_DETECTOR = BuiltinDetector(ENTITIES)


@pytest.fixture(scope="session")
def found() -> Found:
    """What the built-in detector finds in a text, as (entity, what was found), overlaps resolved."""

    def found(text: str, *keys: str, tool: bool = False) -> list[tuple[str, str]]:
        (findings,) = _DETECTOR.detect([Segment(text, keys, tool)])
        return [(finding.entity, text[finding.start : finding.end]) for finding in resolve(findings)]

    return found
