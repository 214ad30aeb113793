"""PERSON, LOCATION and ORGANIZATION, by Presidio: `pip install secure-memory[presidio]` and a spaCy model.

- Only names are asked of it. What has a shape the built-in detector finds better, so none of Presidio's patterns is loaded.
- Imported and loaded at the first call, which takes seconds; a text is then some milliseconds. Whoever calls keeps it off
  the event loop: the pipeline runs it in a thread, with a time limit.
- The model is `SECMEM_SPACY_MODEL`, or `en_core_web_sm`. It is never downloaded: a missing one is a ConfigurationError.

JSON leaves of tools are given to it as they are: a model finds little in them without a sentence around it. Called by
`pipeline`, where the policy names `presidio` among its detectors.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from secure_memory.errors import ConfigurationError
from secure_memory.redaction.detect import Finding
from secure_memory.redaction.walk import Segment

DEFAULT_MODEL = "en_core_web_sm"
MODEL_VARIABLE = "SECMEM_SPACY_MODEL"
ENTITIES = ("PERSON", "LOCATION", "ORGANIZATION")
MAX_CHARACTERS = 100_000
"""Of one text that the model is given at a time: spaCy's own limit is a million, and memory grows with the length."""
_BATCH = 16
_LABELS = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "LOCATION",
    "ORG": "ORGANIZATION",
}
"""What the models call them (OntoNotes, WikiNER)."""


class PresidioDetector:
    """Finds names. Raises ConfigurationError where the extra or the model is missing."""

    name = "presidio"

    def __init__(self, model: str | None = None) -> None:
        self._model = model or os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL
        self._loading = threading.Lock()
        if find_spec("presidio_analyzer") is None:
            raise ConfigurationError(
                "the policy asks for presidio, which is not installed", hint="pip install 'secure-memory[presidio]'"
            )
        if find_spec(self._model) is None and not os.path.isdir(self._model):
            raise ConfigurationError(
                f"the spaCy model {self._model!r} is not installed",
                hint=f"python -m spacy download {DEFAULT_MODEL}, or name another one in {MODEL_VARIABLE}",
            )

    def detect(self, segments: Sequence[Segment]) -> list[list[Finding]]:
        """The findings of each segment, in the order of the segments."""
        pieces = [
            (number, start, segment.text[start : start + MAX_CHARACTERS])
            for number, segment in enumerate(segments)
            for start in range(0, len(segment.text), MAX_CHARACTERS)
        ]
        found: list[list[Finding]] = [[] for _ in segments]
        with self._loading:
            batch = self._batch
        results = batch.analyze_iterator(
            [piece for _, _, piece in pieces], language="en", entities=list(ENTITIES), batch_size=_BATCH
        )
        for (number, start, _), result in zip(pieces, results, strict=True):
            found[number].extend(
                Finding(one.entity_type, start + one.start, start + one.end, one.score, None, None, self.name)
                for one in result
                if one.start < one.end
            )
        return found

    @cached_property
    def _batch(self) -> Any:
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer

        engine = SpacyNlpEngine(
            models=[{"lang_code": "en", "model_name": self._model}],
            ner_model_configuration=NerModelConfiguration(model_to_presidio_entity_mapping=_LABELS, default_score=0.85),
        )
        engine.load()
        names = SpacyRecognizer(supported_entities=list(ENTITIES))
        registry = RecognizerRegistry(recognizers=[names], supported_languages=["en"])
        return BatchAnalyzerEngine(AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"]))
