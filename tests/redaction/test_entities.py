"""The table of entities, and the value behind the ways to write it."""

from __future__ import annotations

import pytest

from secure_memory.policy.entities import BUILT_IN
from secure_memory.redaction.entities import ENTITIES, canonical, shapes


def test_policies_and_the_detector_know_the_same_entities() -> None:
    """What a policy may name as built in is what the detector finds, and each has a shape."""
    assert BUILT_IN == ENTITIES.keys()
    assert BUILT_IN == {shape.entity for shape in shapes(ENTITIES)}


@pytest.mark.parametrize(
    ("entity", "value", "written"),
    [
        ("CARD_NUMBER", "4242424242424242", ["4242 4242 4242 4242", "4242-4242-4242-4242", "4242.4242.4242.4242"]),
        ("EMAIL", "jane@example.com", ["Jane@Example.COM", "jane@example.com"]),
        ("PHONE", "+14155552671", ["(415) 555-2671", "+1 415 555 2671", "001 415 555 2671", "415.555.2671 x12"]),
        ("PHONE", "+4930901820", ["+49 30 901820", "0049 30 901820", "+49 (0)30 901820"]),
        ("PHONE", "041541676", ["041 541 676"]),
        ("IBAN", "DE89370400440532013000", ["DE89 3704 0044 0532 0130 00", "de89370400440532013000"]),
        ("US_SSN", "219099999", ["219-09-9999", "219 09 9999"]),
        ("UK_NINO", "AB123456C", ["AB 12 34 56 C", "ab123456c"]),
        ("NATIONAL_ID", "39053344705", ["390.533.447-05"]),
        ("MAC", "001b44113ab7", ["00:1B:44:11:3A:B7", "00-1b-44-11-3a-b7"]),
        ("IP", "2001:db8::1", ["2001:DB8::1"]),
        ("CRYPTO_ADDRESS", "17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhem", ["17VZNX1SN5NtKa8UQFxwQbFeFc3iqRYhem"]),
        ("SECRET", "hunTer2", ["hunTer2"]),
        ("EMPLOYEE_ID", "EMP-1", ["EMP-1"]),
    ],
)
def test_a_value_has_one_form(entity: str, value: str, written: list[str]) -> None:
    """However it is written, a value is the same to a pseudonym; what has no rule is its text."""
    assert [value] * len(written) == [canonical(entity, text) for text in written]
