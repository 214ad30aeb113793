"""US_SSN, US_ITIN, US_PASSPORT, US_DRIVER_LICENSE, UK_NHS, UK_NINO, DATE_OF_BIRTH, MEDICAL_RECORD_NUMBER, NATIONAL_ID."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

Found = Callable[..., list[tuple[str, str]]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("219-09-9999", [("US_SSN", "219-09-9999")]),
        ("my ssn is 219099999", [("US_SSN", "219099999")]),
        ("social security number: 219 09 9999", [("US_SSN", "219 09 9999")]),
        ("219099999", []),
        ("order 219-09-9999", []),
        ("000-12-3456", []),
        ("666-12-3456", []),
        ("123-00-4567", []),
        ("123-45-0000", []),
        ("12-123-45-6789", []),
        ("912-70-1234", [("US_ITIN", "912-70-1234")]),
        ("ITIN 912701234", [("US_ITIN", "912701234")]),
        ("912-10-1234", []),
    ],
)
def test_american_taxpayers(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """With dashes a number in a range that is given out is found; bare or with spaces, where a word names it."""
    assert expected == found(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("passport no. 912803456", [("US_PASSPORT", "912803456")]),
        ("Passport: A12345678", [("US_PASSPORT", "A12345678")]),
        ("bring your passport; flight 912803456789", []),
        ("912803456", []),
        ("driver's license D1234567", [("US_DRIVER_LICENSE", "D1234567")]),
        ("DL# 99999999", [("US_DRIVER_LICENSE", "99999999")]),
        ("the licence is expired", []),
        ("MIT license 2024", []),
        ("MRN: 00123456", [("MEDICAL_RECORD_NUMBER", "00123456")]),
        ("patient id MR-4471-22", [("MEDICAL_RECORD_NUMBER", "MR-4471-22")]),
        ("the patient came in 2024", []),
    ],
)
def test_documents_need_their_word(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """Passports, licences and patients' numbers have no checksum: they are found behind the word, and only there."""
    assert expected == found(text)


def test_a_key_names_a_document(found: Found) -> None:
    """A JSON key is as good as a word."""
    assert [("MEDICAL_RECORD_NUMBER", "00123456")] == found("00123456", "patient", "mrn", tool=True)
    assert [("US_PASSPORT", "912803456")] == found("912803456", "passportNumber", tool=True)
    assert [("US_SSN", "219099999")] == found("219099999", "ssn", tool=True)
    assert [] == found("219099999", "id", tool=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # NHS Data Dictionary "NHS NUMBER"; HMRC NIM39110.
        ("NHS number 943 476 5919", [("UK_NHS", "943 476 5919")]),
        ("NHS 9434765919", [("UK_NHS", "9434765919")]),
        ("NHS number 943 476 5918", []),
        ("943 476 5919", []),
        ("QQ123456C", []),
        ("AB 12 34 56 C", [("UK_NINO", "AB 12 34 56 C")]),
        ("my national insurance number is AB123456C", [("UK_NINO", "AB123456C")]),
        ("nino ab123456c", [("UK_NINO", "ab123456c")]),
        ("BG 12 34 56 C", []),
        ("part AB123456C", []),
        ("AB123456E", []),
    ],
)
def test_british_numbers(found: Found, text: str, expected: list[tuple[str, str]]) -> None:
    """An NHS number passes modulus 11 beside its word; an insurance number has a prefix that is given out."""
    assert expected == [pair for pair in found(text) if pair[0].startswith("UK_")]


@pytest.mark.parametrize(
    ("text", "date"),
    [
        *(
            ("born on 12/03/1984", "12/03/1984"),
            ("DOB: 1984-03-12", "1984-03-12"),
            ("Date of birth: March 12, 1984", "March 12, 1984"),
        ),
        *(
            ("she was born 12 March 1984", "12 March 1984"),
            ("geboren am 12.03.1984", "12.03.1984"),
            ("née le 12/03/1984", "12/03/1984"),
        ),
    ],
)
def test_dates_of_birth(found: Found, text: str, date: str) -> None:
    """A date is one of birth behind a word that says so, in the ways to write dates and in other languages."""
    assert [("DATE_OF_BIRTH", date)] == found(text)


@pytest.mark.parametrize(
    "text",
    ["the meeting is on 12/03/2024", "created 1984-03-12T10:00:00Z", "dob 1984-03-12T10:00:00Z", "born to run 45/45/1984"],
)
def test_other_dates_are_left(found: Found, text: str) -> None:
    """Other dates, times, and what is no date are left."""
    assert [] == found(text)


# The examples of python-stdnum's own documentation, whose modules name their sources.
EXAMPLES = [
    *(("stdnum.at.vnr", "Sozialversicherungsnummer 1237 010180"), ("stdnum.be.nn", "Rijksregisternummer 85.07.30-033 28")),
    *(
        ("stdnum.br.cpf", "CPF 390.533.447-05"),
        ("stdnum.ca.sin", "SIN 123-456-782"),
        ("stdnum.ch.ssn", "AHV 756.9217.0769.85"),
    ),
    *(
        ("stdnum.de.idnr", "Steuer-ID 36 574 261 809"),
        ("stdnum.dk.cpr", "CPR 211062-5629"),
        ("stdnum.es.dni", "DNI 54362315K"),
    ),
    *(
        ("stdnum.es.nie", "NIE x-2482300w"),
        ("stdnum.fi.hetu", "hetu 131052-308T"),
        ("stdnum.fr.nir", "NIR 2 95 10 99 126 111 93"),
    ),
    *(
        ("stdnum.ie.pps", "PPS 6433435F"),
        ("stdnum.in.aadhaar", "Aadhaar 234123412346"),
        ("stdnum.in.pan", "PAN card ACUPA7085R"),
    ),
    *(
        ("stdnum.it.codicefiscale", "RCCMNL83S18D969H"),
        ("stdnum.nl.bsn", "BSN 1112.22.333"),
        ("stdnum.pl.pesel", "PESEL 44051401359"),
    ),
    *(("stdnum.no.fodselsnummer", "fødselsnummer 151086 95088"), ("stdnum.ro.cnp", "CNP 1630615123457")),
    *(("stdnum.se.personnummer", "personnummer 880320-0016"), ("stdnum.tr.tckimlik", "TC Kimlik 17291716060")),
    *(("stdnum.za.idnr", "South African ID 7503305044089"), ("stdnum.au.tfn", "TFN 123 456 782")),
]


@pytest.mark.parametrize(("validator", "text"), EXAMPLES)
def test_national_ids_are_found(found: Found, validator: str, text: str) -> None:
    """Each country's example is found beside its word."""
    assert ["NATIONAL_ID"] == [entity for entity, _ in found(f"{text} is mine")], validator


@pytest.mark.parametrize(
    "text", ["85.07.30-033 28", "390.533.447-05", "order 44051401359", "44051401359", "DNI 54362315A", "bsn 111222334"]
)
def test_national_ids_need_word_and_checksum(found: Found, text: str) -> None:
    """Without a word, or with a wrong check digit, there is no national id."""
    assert "NATIONAL_ID" not in [entity for entity, _ in found(text)]


@given(st.integers(10_000_000, 99_999_999), st.sampled_from("TRWAGMYFPDXBNJZSQVHLCKE"))
def test_only_the_right_letter_makes_a_dni(found: Found, number: int, letter: str) -> None:
    """A Spanish DNI is found exactly where its letter is the number modulo 23."""
    right = "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == letter
    assert right == (("NATIONAL_ID", f"{number}{letter}") in found(f"mi DNI es {number}{letter}"))
