"""Labelled sets of personal data that packages of the index generate: texts, and where in them what stands.

- `presidio`: presidio-evaluator's templates (209, of bank and shop customers), filled by its generator. What we tuned on.
- `scrubadub`: the fake documents that scrubadub makes to compare detectors with (`scrubadub.comparison`): a datum from Faker
  in the middle of random words, with nothing that speaks for it. Its misses were read once (300 texts, another seed), and
  three rules came of it: British numbers grouped behind a trunk zero are telephones, a dashed 3-2-4 is none, and what the
  sentence before is about says nothing of a number. So it is less tuned on than the other, and not untouched.

Their labels are taken as they are. `doubtful` counts those of which we can show that they are not what they are called.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Label(NamedTuple):
    """What stands in a text: `text[start:end]` is one of `entity`."""

    entity: str
    start: int
    end: int


class Sample(NamedTuple):
    """A text and all that is labelled in it, in our names of entities; what we have no name for keeps its own."""

    text: str
    labels: tuple[Label, ...]


_PRESIDIO = {
    "CREDIT_CARD": "CARD_NUMBER",
    "PHONE_NUMBER": "PHONE",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "GPE": "LOCATION",
    "STREET_ADDRESS": "LOCATION",
}
_SCRUBADUB = {
    "email": "EMAIL",
    "phone": "PHONE",
    "credit_card": "CARD_NUMBER",
}


def presidio(samples: int, seed: int) -> list[Sample]:
    """Sentences of presidio-evaluator's own generator."""
    from presidio_evaluator.data_generator import PresidioSentenceFaker, presidio_templates_file_path

    random.seed(seed)
    # Some templates have line breaks written out as a backslash and an n, which would glue an n to what follows.
    templates = [line.strip().replace("\\n", "\n") for line in presidio_templates_file_path.read_text().splitlines()]
    faker = PresidioSentenceFaker("en_US", lower_case_ratio=0.05, sentence_templates=templates, random_seed=seed)
    found = []
    for made in faker.generate_new_fake_sentences(samples):
        labels = (Label(_PRESIDIO.get(s.entity_type, s.entity_type), s.start_position, s.end_position) for s in made.spans)
        found.append(Sample(made.full_text, tuple(labels)))
    return found


def scrubadub(samples: int, seed: int) -> list[Sample]:
    """Paragraphs of scrubadub's fake documents, American and British in turn."""
    from scrubadub import filth
    from scrubadub.comparison import make_fake_document

    found = []
    for number in range(samples):
        locale = ("en_US", "en_GB")[number % 2]
        more = [filth.CreditCardFilth]
        text, known = make_fake_document(1, locale, seed * 100_000 + number, additional_filth_types=more)
        # What Faker calls a social security number is a national insurance number in Britain.
        names = {**_SCRUBADUB, "social_security_number": "UK_NINO" if locale == "en_GB" else "US_SSN"}
        items = [(item["match"], names.get(item["filth_type"], item["filth_type"].upper())) for item in known]
        found.append(Sample(text, tuple(_placed(text, items))))
    return found


def _placed(text: str, known: list[tuple[str, str]]) -> Iterator[Label]:
    """Where the items are: they are in the order of the text."""
    at = 0
    for match, entity in known:
        start = text.index(match, at)
        at = start + len(match)
        if match.strip():
            yield Label(entity, start, at)


SETS: dict[str, Callable[[int, int], list[Sample]]] = {"presidio": presidio, "scrubadub": scrubadub}


def doubtful(sample: Sample, label: Label) -> bool:
    """Whether a label can be shown to be none: a card that fails Luhn, an IBAN that fails mod 97, a telephone number that no
    numbering plan has, a social security or national insurance number in a range that is not given out."""
    import phonenumbers
    from stdnum import iban, luhn
    from stdnum.us import ssn

    text = sample.text[label.start : label.end]
    if label.entity == "CARD_NUMBER":
        return not luhn.is_valid("".join(filter(str.isdigit, text)))
    if label.entity == "IBAN":
        return not iban.is_valid(text)
    if label.entity == "US_SSN":
        return not ssn.is_valid(text)
    if label.entity == "UK_NINO":
        return text.startswith("ZZ")  # Faker's
    if label.entity == "PHONE":
        for region in ("US", "GB"):
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(text, region)):
                    return False
            except phonenumbers.NumberParseException:
                continue
        return True
    return False
