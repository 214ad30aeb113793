"""`pipeline.py`: what becomes of items on a surface: rules, detectors and operators in one."""

from __future__ import annotations

import copy
import hmac
import json
import random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.errors import BlockedContentError, RedactionError
from secure_memory.items import Item
from secure_memory.redaction.detect import BuiltinDetector, Detector, Finding
from secure_memory.redaction.entities import ENTITIES
from secure_memory.redaction.operators import Keyed, Token
from secure_memory.redaction.pipeline import Redacted, Redactor, Rule
from secure_memory.redaction.walk import Segment, leaves

CARD = "4111 1111 1111 1111"
MAIL = "jane.doe@example.com"
OPERATORS = ("redact", "mask", "pseudonymise", "tokenise")

KEYED = Keyed(lambda m: hmac.digest(b"pseudonym", m, "sha256"), lambda m: hmac.digest(b"token", m, "sha256"))
OTHERS = Keyed(lambda m: hmac.digest(b"another", m, "sha256"), lambda m: hmac.digest(b"one", m, "sha256"))


def everything(operator: str, **more: Any) -> Redactor:
    """A redactor that does the same to every entity, on the one surface `store`."""
    rules = [Rule(f"rule-{entity}", entity, operator) for entity in ENTITIES]
    return Redactor({"store": rules}, BuiltinDetector, **more)


REDACTORS = {operator: everything(operator) for operator in OPERATORS}
AGAIN = everything("tokenise")


def said(text: str) -> Item:
    """A user message."""
    return {"role": "user", "content": text}


def after(text: str, operator: str = "redact") -> str:
    """What becomes of a message's text."""
    content: str = REDACTORS[operator].redact([said(text)], "store", KEYED).items[0]["content"]
    return content


def test_what_is_found_goes_and_the_rest_stays() -> None:
    """Each operator has its form, in the place of what was found."""
    assert "mail [EMAIL], card [CARD_NUMBER]." == after(f"mail {MAIL}, card {CARD}.")
    assert "mail j***@***.com, card ************1111." == after(f"mail {MAIL}, card {CARD}.", "mask")
    for operator in ("pseudonymise", "tokenise"):
        mail, card = after(f"{MAIL} {CARD}", operator).split(" ")
        assert ("EMAIL_", 22) == (mail[:6], len(mail))
        assert ("CARD_NUMBER_", 28) == (card[:12], len(card))


def test_each_finding_is_explained() -> None:
    """What was done says where, what, by which rule and why; its repr has neither text nor keys."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"jane": {"mail": MAIL}})}
    result = REDACTORS["redact"].redact([said("hello"), call], "store", KEYED)
    (treated,) = result.treated
    place = (treated.item, treated.path, treated.entity, treated.start, treated.end)
    assert (1, "/arguments/jane/mail", "EMAIL", 0, len(MAIL)) == place
    assert ("rule-EMAIL", "redact", "builtin") == (treated.rule, treated.operator, treated.detector)
    assert not any(word in repr(result) + repr(treated) for word in ("jane", MAIL, "hello"))


def test_what_does_not_change_is_the_same_object() -> None:
    """An item in which nothing was found is given back itself, and the one that was given is never changed."""
    items = [said("hello"), said(MAIL), {"type": "reasoning", "summary": []}]
    before = copy.deepcopy(items)
    result = REDACTORS["redact"].redact(items, "store", KEYED)
    assert before == items
    assert [True, False, True] == [new is old for new, old in zip(result.items, items, strict=True)]


def test_surfaces_are_their_own() -> None:
    """Each surface has its rules; one without any gives the items back; one that does not exist is a ValueError."""
    surfaces = {"store": [Rule("card", "CARD_NUMBER", "keep")], "view": [Rule("card", "CARD_NUMBER", "mask")]}
    redactor = Redactor(surfaces, BuiltinDetector)
    assert CARD == redactor.redact([said(CARD)], "store", KEYED).items[0]["content"]
    assert "************1111" == redactor.redact([said(CARD)], "view", KEYED).items[0]["content"]
    with pytest.raises(ValueError, match="no such surface"):
        redactor.redact([said(CARD)], "sore", KEYED)


def test_only_what_is_treated_is_looked_for() -> None:
    """The detector is made for the entities that a rule of the surface treats, and for no others."""
    made: list[frozenset[str]] = []

    def make(entities: frozenset[str]) -> Detector:
        made.append(entities)
        return BuiltinDetector(entities)

    Redactor({"store": [Rule("a", "EMAIL", "redact"), Rule("b", "PHONE", "keep")], "view": []}, make)
    assert [frozenset({"EMAIL"}), frozenset()] == made


def test_the_same_value_has_the_same_name() -> None:
    """However a value is written it has one token; another key gives another, and so does another value."""
    names = {after(text, "tokenise") for text in (CARD, CARD.replace(" ", "-"), CARD.replace(" ", ""))}
    assert 1 == len(names)
    assert names != {after("5500 0000 0000 0004", "tokenise")}
    assert names != {REDACTORS["tokenise"].redact([said(CARD)], "store", OTHERS).items[0]["content"]}


def test_tokens_come_with_their_originals() -> None:
    """A token's original is the text that it replaced, to the letter, once for each token."""
    result = REDACTORS["tokenise"].redact([said(f"{MAIL} {CARD} {MAIL}")], "store", KEYED)
    text = result.items[0]["content"]
    assert {MAIL, CARD} == {token.original for token in result.tokens}
    for token in result.tokens:
        text = text.replace(token.token, token.original)
    assert f"{MAIL} {CARD} {MAIL}" == text
    assert () == REDACTORS["pseudonymise"].redact([said(MAIL)], "store", KEYED).tokens


def test_blocked_content_stops_everything() -> None:
    """What a rule blocks is refused with entity, item and rule, and without what it said."""
    redactor = Redactor({"store": [Rule("no-cards", "CARD_NUMBER", "block"), Rule("m", "EMAIL", "redact")]}, BuiltinDetector)
    assert "[EMAIL]" == redactor.redact([said(MAIL)], "store", KEYED).items[0]["content"]
    with pytest.raises(
        BlockedContentError, match=r"item 1 holds what the policy refuses: CARD_NUMBER \(rule 'no-cards'\)"
    ) as no:
        redactor.redact([said("hello"), said(CARD)], "store", KEYED)
    assert ("CARD_NUMBER", 1, "no-cards") == (no.value.entity, no.value.item, no.value.rule)
    assert "4111" not in f"{no.value!r} {no.value.hint}"


def test_what_is_allowed_is_left() -> None:
    """A text on the allow list is no finding, in whatever case it is written; another one is."""
    redactor = everything("redact", allow=[MAIL])
    content = redactor.redact([said(f"{MAIL.upper()} other@example.com")], "store", KEYED).items[0]["content"]
    assert f"{MAIL.upper()} [EMAIL]" == content


@pytest.mark.parametrize(
    "text", ["[EMAIL]", "EMAIL_h4t3ho47jwchq2o3", "password: [SECRET]", "call [PHONE], [CARD_NUMBER] 12/27"]
)
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_an_operator_wrote_is_left_alone(text: str, operator: str) -> None:
    """A placeholder or a token is no finding, nor does its name speak for what stands beside it."""
    assert text == after(text, operator)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[EMAIL]{MAIL}", "[EMAIL][EMAIL]"),
        (f"[CARD_NUMBER] {CARD} [CARD_NUMBER]", "[CARD_NUMBER] [CARD_NUMBER] [CARD_NUMBER]"),
        (f"EMAIL_h4t3ho47jwchq2o3 {MAIL}", "EMAIL_h4t3ho47jwchq2o3 [EMAIL]"),
        ("EMAIL_h4t3ho47jwchq2o3@example.com", "[EMAIL]"),
        (f"EMAIL_h4t3ho47jwchq2o3{MAIL}", "[EMAIL]"),
        ("CARD_NUMBER_5555555555554444 [CARD_NUMBER]5555 5555 5555 4444", None),
    ],
)
def test_placeholders_hide_nothing(text: str, expected: str | None) -> None:
    """What stands beside a placeholder or a token, or has a token's form, is looked at like anything else."""
    new = after(text)
    assert "5555 5555" not in new
    if expected is not None:
        assert expected == new


def test_text_split_over_parts_is_found() -> None:
    """What begins in one part and ends in the next goes from both; parts with a picture between them are not joined."""

    def message(*parts: Item) -> Item:
        return {"type": "message", "role": "user", "content": list(parts)}

    def part(text: str) -> Item:
        return {"type": "input_text", "text": text}

    def texts(item: Item) -> list[str]:
        return [leaf.segment.text for leaf in leaves(REDACTORS["redact"].redact([item], "store", KEYED).items[0])]

    assert ["my card: [CARD_NUMBER]", " thanks"] == texts(message(part("my card: 4111 1111 "), part("1111 1111 thanks")))
    assert ["to [EMAIL]", "", " ok"] == texts(message(part("to jane@"), part("example"), part(".com ok")))
    assert ["to [EMAIL]", "Please"] == texts(message(part(f"to {MAIL}"), part("Please")))
    picture = {"type": "input_image", "image_url": "https://example.com/a.png"}
    assert 0 == len(
        REDACTORS["redact"].redact([message(part("jane@"), picture, part("example.com"))], "store", KEYED).treated
    )


class Restless:
    """A detector that finds something whatever is there."""

    name = "restless"

    def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
        return [
            [Finding("EMAIL", n, n + 1, 1, None, None, "restless") for n, c in enumerate(s.text) if c == "*"][:1]
            for s in segments
        ]


def test_a_text_that_never_settles_is_refused() -> None:
    """Where what comes out is a finding for ever, nothing comes back; where it ends, the end does."""
    redactor = Redactor({"store": [Rule("x", "EMAIL", "redact")]}, lambda _: Restless())
    assert "[EMAIL] [EMAIL]" == redactor.redact([said("* *")], "store", KEYED).items[0]["content"]
    with pytest.raises(RedactionError, match="did not settle"):
        redactor.redact([said("* " * 20)], "store", KEYED)


def test_another_detector_adds_to_the_builtin_one() -> None:
    """A second detector's findings count like the first one's; entities that no rule treats don't."""

    class Names:
        name = "names"

        def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
            found = [(s.text.find("Jane"), s.text.find("Jane") + 4) for s in segments]
            return [
                [Finding(e, a, b, 0.8, None, None, "names") for e in ("PERSON", "MOOD")] if a >= 0 else [] for a, b in found
            ]

    rules = [Rule("p", "PERSON", "redact"), Rule("m", "EMAIL", "redact")]
    result = Redactor({"store": rules}, BuiltinDetector, [Names()]).redact([said(f"Jane, {MAIL}")], "store", KEYED)
    assert "[PERSON], [EMAIL]" == result.items[0]["content"]
    assert ["names", "builtin"] == [treated.detector for treated in result.treated]


def test_a_failing_detector_lets_nothing_through() -> None:
    """Where one detector fails, no item comes back, although another one answered."""

    class Failing:
        name = "failing"

        def detect(self, segments: Sequence[Segment]) -> Sequence[Sequence[Finding]]:
            raise RuntimeError(segments[0].text)

    with pytest.raises(RedactionError, match="'failing' failed"):
        everything("redact", others=[Failing()]).redact([said("hello")], "store", KEYED)


def test_what_is_no_text_elsewhere_is_text_here() -> None:
    """Lone surrogates, NUL, NaN and integers of any length are passed by, and what stands beside them is found."""
    assert "\ud800 [EMAIL] \udfff" == after(f"\ud800 {MAIL} \udfff", "redact")
    assert "\0[EMAIL]\0" == after(f"\0{MAIL}\0")
    arguments = '{"n": NaN, "big": %s, "a": 1e999, "\\ud800": "\\udfff", "mail": "%s"}'
    item = {"type": "function_call", "name": "f", "call_id": "c", "arguments": arguments % ("9" * 5000, MAIL)}
    new = REDACTORS["redact"].redact([item], "store", KEYED).items[0]
    assert arguments % ("9" * 5000, "[EMAIL]") == new["arguments"]
    huge = {"type": "new", "n": 10**5000, "nan": float("nan"), "text": MAIL}
    assert {**huge, "text": "[EMAIL]"} == REDACTORS["redact"].redact([huge], "store", KEYED).items[0]


def test_a_message_of_five_megabytes() -> None:
    """A message of 5 MB is looked through to its last word."""
    text = "The parcel has not arrived yet, please look where it is. " * 90_000
    assert f"{text}[EMAIL]" == after(f"{text}{MAIL}")


def test_many_parts_and_findings_without_a_gap() -> None:
    """Thousands of parts, and of findings that overlap: a quadratic step would not end here."""
    parts = [{"type": "input_text", "text": MAIL} for _ in range(3000)]
    message = {"type": "message", "role": "user", "content": parts}
    (new,) = REDACTORS["redact"].redact([message], "store", KEYED).items
    assert ["[EMAIL]"] * 3000 == [part["text"] for part in new["content"]]


# ---- for all inputs -------------------------------------------------------------------------------------------------

personal = st.sampled_from(
    [
        "4111111111111111", "4111-1111-1111-1111", "+1 415 555 2671", "(415) 555-2671",
        "DE89 3704 0044 0532 0130 00", "078-05-1120", "ssn 078-05-1120", "203.0.113.7",
        "https://jane:hunter2pass@example.com/x", "password: hunter2pass",
        "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD", "AKIAIOSFODNN7EXAMPLE", "date of birth 1980-02-29",
        "cvv 123", "%40", "jane%40example.com", "amFuZS5kb2VAZXhhbXBsZS5jb20=", "[EMAIL]", "EMAIL_h4t3ho47jwchq2o3",
        "CARD_NUMBER_5555555555554444", "\u200b", "\n", "card", "phone", "@", "@example.com", "1111", "-",
        "bic DEUTDEFF", "00:1a:2b:3c:4d:5e", "mrn 1234567",
    ]
)  # fmt: skip
prose = st.lists(st.one_of(personal, personal, st.text(max_size=4)), max_size=8).flatmap(
    lambda words: st.sampled_from(["", " ", ", "]).map(lambda gap: gap.join(words))
)
conversations = st.lists(
    st.one_of(
        prose.map(said),
        st.lists(prose, max_size=3).map(
            lambda texts: {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in texts]}
        ),
        st.dictionaries(
            st.one_of(prose, st.sampled_from(["card", "email", "id"])), st.one_of(prose, st.integers()), max_size=3
        ).map(
            lambda data: {"type": "function_call", "id": MAIL, "call_id": CARD, "name": "f", "arguments": json.dumps(data)}
        ),
        prose.map(lambda text: {"type": "function_call_output", "call_id": CARD, "output": text}),
    ),
    max_size=3,
)


@pytest.mark.parametrize("operator", OPERATORS)
@given(items=conversations)
def test_redacting_twice_is_redacting_once(operator: str, items: list[Item]) -> None:
    """What came out is not changed again, by any operator, on anything."""
    once = REDACTORS[operator].redact(items, "store", KEYED)
    twice = REDACTORS[operator].redact(once.items, "store", KEYED)
    assert once.items == twice.items
    assert () == twice.treated
    assert all(new is old for new, old in zip(twice.items, once.items, strict=True))


@given(items=conversations)
def test_the_same_input_gives_the_same_output(items: list[Item]) -> None:
    """Nothing but the input decides, and the input is left as it was."""
    before = copy.deepcopy(items)
    results = [redactor.redact(items, "store", KEYED) for redactor in (REDACTORS["tokenise"], AGAIN)]
    assert before == items
    assert results[0] == results[1]


@given(items=conversations)
def test_protected_fields_stay_and_json_stays_json(items: list[Item]) -> None:
    """Ids that look like card numbers and addresses stay, and arguments that were JSON are JSON."""
    for old, new in zip(items, REDACTORS["redact"].redact(items, "store", KEYED).items, strict=True):
        assert {k: old.get(k) for k in ("id", "call_id", "type", "role", "name")} == {
            k: new.get(k) for k in ("id", "call_id", "type", "role", "name")
        }
        if "arguments" in old:
            assert list(json.loads(old["arguments"])) == list(json.loads(new["arguments"]))


def tool_document(random_: random.Random) -> Any:
    """What a tool answers that knows nobody: identifiers, hashes, times, prices, versions, places on a map."""
    uid = uuid.UUID(int=random_.getrandbits(128), version=4)
    moment = datetime(2020, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=random_.randrange(300_000_000))
    digits = "".join(random_.choices("0123456789", k=random_.choice([6, 8, 9, 10, 11, 12, 13, 15, 16, 19])))
    row = {
        "id": random_.choice([str(uid), digits, int(digits), f"ord_{digits}"]),
        "uuid": str(uid),
        "parent_id": random_.choice([uid.hex, digits, None]),
        "created": int(moment.timestamp()),
        "created_ms": int(moment.timestamp() * 1000),
        "updated_at": random_.choice(
            [moment.isoformat(), moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d")]
        ),
        "sha256": random_.randbytes(32).hex(),
        "etag": random_.randbytes(16).hex(),
        "commit": random_.randbytes(20).hex(),
        "price": round(random_.uniform(0, 10_000), 2),
        "total": f"{random_.randrange(10_000)}.{random_.randrange(100):02}",
        "quantity": random_.randrange(1000),
        "version": f"{random_.randrange(20)}.{random_.randrange(100)}.{random_.randrange(100)}",
        "lat": round(random_.uniform(-90, 90), 6),
        "lon": round(random_.uniform(-180, 180), 6),
        "point": f"{random_.uniform(-90, 90):.6f},{random_.uniform(-180, 180):.6f}",
        "size": random_.randrange(10**9),
        "status": random_.choice(["shipped", "pending", "delivered"]),
        "tags": random_.sample(["red", "large", "new", "sale", "sku"], 2),
        "sku": f"SKU-{random_.randrange(10**6):06}-{random_.choice('ABC')}",
        "duration": random_.random(),
        "ratio": random_.randrange(10**16) / 10**16,
        "url": f"https://shop.example.com/items/{digits}?page={random_.randrange(50)}",
    }
    keys = random_.sample(list(row), random_.randrange(3, len(row)))
    return {key: row[key] for key in keys}


@pytest.mark.parametrize("seed", range(20))
def test_tool_traffic_without_personal_data_is_left_alone(seed: int) -> None:
    """A thousand tool documents that know nobody: no finding with every entity on, so each item is itself."""
    random_ = random.Random(seed)
    items: list[Item] = []
    for _ in range(25):
        rows = [tool_document(random_) for _ in range(random_.randrange(1, 4))]
        items += [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps(tool_document(random_))},
            {
                "type": "function_call_output",
                "call_id": "c",
                "output": json.dumps({"rows": rows}, indent=random_.choice([None, 2])),
            },
        ]
    result = REDACTORS["redact"].redact(items, "store", KEYED)
    assert () == result.treated
    assert all(new is old for new, old in zip(result.items, items, strict=True))


def test_a_result_says_nothing() -> None:
    """The repr of a result has no item in it, and of tokens no original."""
    result = Redacted([said(MAIL)], (), (Token("EMAIL_aaaaaaaaaaaaaaaa", "EMAIL", MAIL),))
    assert MAIL not in repr(result)
