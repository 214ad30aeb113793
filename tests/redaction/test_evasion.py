"""What evasion looks like, and which of it is caught: the table below is the answer, both ways.

Each row hides one thing in one way, on the whole path: walker, normaliser, builtin detector, operator. A row that is caught
leaves nothing of what was hidden; a row that is not is here so that the documentation is true, and so that we see when
it changes.
"""

from __future__ import annotations

import base64
import hmac
import json
from urllib.parse import quote

import pytest

from secure_memory.items import Item
from secure_memory.redaction.detect import BuiltinDetector
from secure_memory.redaction.entities import ENTITIES
from secure_memory.redaction.operators import Keyed
from secure_memory.redaction.pipeline import Redactor, Rule

MAIL = "jane.doe@example.com"
CARD = "4111111111111111"
GROUPS = ("4111", "1111", "1111", "1111")
PLACED = {"EMAIL": "[EMAIL]", "CARD_NUMBER": "[CARD_NUMBER]"}

REDACTOR = Redactor({"store": [Rule(entity.lower(), entity, "redact") for entity in ENTITIES]}, BuiltinDetector)
KEYED = Keyed(lambda m: hmac.digest(b"a", m, "sha256"), lambda m: hmac.digest(b"b", m, "sha256"))


def digits(first: int) -> str:
    """The card number in the digits of another script."""
    return "".join(chr(first + int(digit)) for digit in CARD)


def encoded(text: str, times: int = 1) -> str:
    """The text in base64."""
    for _ in range(times):
        text = base64.b64encode(text.encode()).decode()
    return text


CAUGHT = [
    ("zero-width space in a number", "CARD_NUMBER", "\u200b".join(GROUPS)),
    ("zero-width joiner after each digit", "CARD_NUMBER", "\u200d".join(CARD)),
    ("zero-width space in an address", "EMAIL", "jane.doe\u200b@exam\u200bple.com"),
    ("soft hyphen", "CARD_NUMBER", "\u00ad".join(GROUPS)),
    ("word joiner and byte order mark", "EMAIL", "jane\u2060.doe@\ufeffexample.com"),
    ("bidirectional marks", "CARD_NUMBER", "\u200e".join(GROUPS)),
    ("keycap digits", "CARD_NUMBER", "\ufe0f\u20e3".join(CARD)),
    ("no-break space", "CARD_NUMBER", "\u00a0".join(GROUPS)),
    ("thin space", "CARD_NUMBER", "\u2009".join(GROUPS)),
    ("ideographic space", "CARD_NUMBER", "\u3000".join(GROUPS)),
    ("full-width digits", "CARD_NUMBER", digits(0xFF10)),
    ("Arabic-Indic digits", "CARD_NUMBER", digits(0x0660)),
    ("Devanagari digits", "CARD_NUMBER", digits(0x0966)),
    ("mathematical bold digits", "CARD_NUMBER", digits(0x1D7CE)),
    ("full-width @", "EMAIL", "jane.doe\uff20example.com"),
    ("small @", "EMAIL", "jane.doe\ufe6bexample.com"),
    ("full-width letters", "EMAIL", "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in MAIL)),
    ("ideographic full stop", "EMAIL", "jane.doe@example\u3002com"),
    ("dashes", "CARD_NUMBER", "-".join(GROUPS)),
    ("en dashes", "CARD_NUMBER", "\u2013".join(GROUPS)),
    ("non-breaking hyphens", "CARD_NUMBER", "\u2011".join(GROUPS)),
    ("dots", "CARD_NUMBER", ".".join(GROUPS)),
    ("line breaks", "CARD_NUMBER", "\n".join(GROUPS)),
    ("line breaks of Windows", "CARD_NUMBER", "\r\n".join(GROUPS)),
    ("line breaks and spaces", "CARD_NUMBER", " \n ".join(GROUPS)),
    ("\\u0040", "EMAIL", "jane.doe\\u0040example.com"),
    ("\\\\u0040, escaped twice", "EMAIL", "jane.doe\\\\u0040example.com"),
    ("\\x40", "EMAIL", "jane.doe\\x40example.com"),
    ("&#64;", "EMAIL", "jane.doe&#64;example.com"),
    ("%40", "EMAIL", "jane.doe%40example.com"),
    ("%2540, encoded twice", "EMAIL", "jane.doe%2540example.com"),
    ("every character percent-encoded", "CARD_NUMBER", "".join(f"%{ord(c):02X}" for c in CARD)),
    ("percent-encoded full-width @", "EMAIL", "jane.doe" + quote("\uff20") + "example.com"),
    ("letters of another alphabet that look alike", "EMAIL", "jane.doe@exampl\u0435.\u0441\u043em"),
    ("base64", "EMAIL", encoded(MAIL)),
    ("base64 of a card number", "CARD_NUMBER", encoded(CARD)),
    ("base64 in a sentence's base64", "EMAIL", encoded(f"please write to {MAIL} today")),
    ("base64 twice", "EMAIL", encoded(MAIL, 2)),
]

NOT_CAUGHT = [
    ("letters that look like digits", "CARD_NUMBER", "4lll llll llll llll"),
    ("(at) and (dot)", "EMAIL", "jane.doe (at) example (dot) com"),
    ("number words", "CARD_NUMBER", "four one one one, one one one one, one one one one, one one one one"),
    ("a letter between the digits", "CARD_NUMBER", "x".join(GROUPS)),
    ("reversed", "CARD_NUMBER", CARD[::-1]),
    ("hexadecimal", "EMAIL", MAIL.encode().hex()),
    ("rot13", "CARD_NUMBER", "".join(chr(ord("a") + int(c)) for c in CARD)),
    ("base64 four times", "EMAIL", encoded(MAIL, 4)),
    ("HTML entities by name", "EMAIL", "jane.doe&commat;example.com"),
]


def redacted(item: Item) -> Item:
    """The item, with every entity redacted."""
    return REDACTOR.redact([item], "store", KEYED).items[0]


@pytest.mark.parametrize(("way", "entity", "hidden"), CAUGHT, ids=[row[0] for row in CAUGHT])
@pytest.mark.parametrize("around", ["{}", "my number or address is {}, thanks", "<b>{}</b>"])
def test_caught(way: str, entity: str, hidden: str, around: str) -> None:
    """What was hidden is gone as a whole, in prose and alone, and what stands around it is as it was."""
    assert around.format(PLACED[entity]) == redacted({"role": "user", "content": around.format(hidden)})["content"]


@pytest.mark.parametrize(("way", "entity", "hidden"), CAUGHT, ids=[row[0] for row in CAUGHT])
def test_caught_in_tool_json(way: str, entity: str, hidden: str) -> None:
    """The same under a key that names it in a tool's JSON, and in JSON that is encoded twice."""
    key = {"EMAIL": "email", "CARD_NUMBER": "card_number"}[entity]
    for text in (
        json.dumps({key: hidden}),
        json.dumps(json.dumps({key: hidden})),
        json.dumps({"data": json.dumps({key: hidden})}),
    ):
        output = redacted({"type": "function_call_output", "call_id": "c", "output": text})["output"]
        value = json.loads(output)
        while not (isinstance(value, dict) and key in value):
            value = json.loads(value) if isinstance(value, str) else value["data"]
        assert {key: PLACED[entity]} == value


@pytest.mark.parametrize("cut", range(1, len(MAIL)))
def test_split_parts_are_caught(cut: int) -> None:
    """An address that is split over two text parts, wherever, leaves no part that says it."""
    parts = [{"type": "input_text", "text": text} for text in (f"to {MAIL[:cut]}", f"{MAIL[cut:]} please")]
    content = redacted({"type": "message", "role": "user", "content": parts})["content"]
    assert "[EMAIL]" in content[0]["text"] + content[1]["text"]
    assert MAIL not in content[0]["text"] + content[1]["text"]


@pytest.mark.parametrize("cut", range(4, 15))
def test_a_card_number_split_over_parts_is_caught(cut: int) -> None:
    """A card number that is split over two text parts goes from both."""
    parts = [{"type": "input_text", "text": text} for text in (f"card {CARD[:cut]}", f"{CARD[cut:]} please")]
    content = redacted({"type": "message", "role": "user", "content": parts})["content"]
    assert ["card [CARD_NUMBER]", " please"] == [part["text"] for part in content]


@pytest.mark.parametrize(("way", "entity", "hidden"), NOT_CAUGHT, ids=[row[0] for row in NOT_CAUGHT])
def test_not_caught(way: str, entity: str, hidden: str) -> None:
    """What we don't undo stays as it is: the documentation says so."""
    assert hidden == redacted({"role": "user", "content": hidden})["content"]


def test_keys_are_not_changed() -> None:
    """Personal data in the place of a JSON key is not taken out: a changed key is another document."""
    item = {"type": "function_call_output", "call_id": "c", "output": json.dumps({MAIL: 1})}
    assert item is redacted(item)


def test_split_over_two_messages_is_not_caught() -> None:
    """What is split over two messages, or over a call and its output, is not found: each item is looked at alone."""
    items: list[Item] = [{"role": "user", "content": text} for text in ("jane.doe@", "example.com")]
    assert items == REDACTOR.redact(items, "store", KEYED).items
