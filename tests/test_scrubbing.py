"""`scrubbing.py`: no personal data in logs, whatever a program puts into an event, in a real chain of structlog."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import SecureStore
from secure_memory.inforce import InForce, first
from secure_memory.policy.model import Policy
from secure_memory.scrubbing import WITHHELD, Scrubber, scrubber_of

CARD, MAIL = "4111 1111 1111 1111", "jane.doe@example.com"
NUMBER = 4111111111111111
SCRUBBER = Scrubber(first())


@dataclass(repr=False)
class Customer:
    """An object of a program's, whose repr says who it is."""

    mail: str

    def __repr__(self) -> str:
        return f"<Customer {self.mail}>"


class Secretive:
    """Says nothing in its repr, and all as a text."""

    def __repr__(self) -> str:
        return "<Secretive>"

    def __str__(self) -> str:
        return MAIL


class Broken:
    """Can't be printed."""

    def __repr__(self) -> str:
        raise AttributeError(MAIL)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"write to {MAIL}", "write to [EMAIL]"),
        ({"a": [MAIL, {"b": (CARD, 1)}]}, {"a": ["[EMAIL]", {"b": ["[CARD_NUMBER]", 1]}]}),
        ({MAIL: 1, "plain": 2}, {"[EMAIL]": 1, "plain": 2}),
        (
            {"name": MAIL, "id": CARD, "call_id": CARD},
            {"name": "[EMAIL]", "id": "[CARD_NUMBER]", "call_id": "[CARD_NUMBER]"},
        ),
        ({"card": NUMBER}, {"card": "[CARD_NUMBER]"}),
        ({"arguments": '{"mail": "%s"}' % MAIL}, {"arguments": '{"mail": "[EMAIL]"}'}),  # noqa: UP031
        ([None, True, 3, 2.5, float("inf"), "order 12345678"], [None, True, 3, 2.5, float("inf"), "order 12345678"]),
        (Customer(MAIL), "<Customer [EMAIL]>"),
        ([Customer(MAIL)], ["<Customer [EMAIL]>"]),
        (Secretive(), "[EMAIL]"),
        (f"<{MAIL}>".encode(), "b'<[EMAIL]>'"),
        ({MAIL}, "{'[EMAIL]'}"),
    ],
)
def test_whatever_it_is_in(value: Any, expected: Any) -> None:
    """Texts, numbers, names of fields, JSON in texts, and what would be printed of an object: all is looked at."""
    assert expected == SCRUBBER.value(value)


def test_what_is_clean_stays_what_it_is() -> None:
    """An object that says nothing personal is handed on itself."""
    thing = Customer("nobody")
    assert thing is SCRUBBER.value(thing)


@given(
    value=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
        max_leaves=8,
    ),
    key=st.sampled_from(["a", "name", "id", "card", "content"]),
)
def test_anything_goes_in_and_nothing_comes_out(value: Any, key: str) -> None:
    """Beside anything, under any name, an address does not come through; and scrubbing twice is scrubbing once."""
    clean = SCRUBBER.value({key: [value, f" {MAIL} "]})
    assert MAIL not in repr(clean)
    assert repr(clean) == repr(SCRUBBER.value(clean))


def test_what_any_surface_treats_is_taken_out() -> None:
    """A log is nobody's surface: whatever the policy treats anywhere goes, and what it keeps everywhere stays."""
    rules = [{"id": "card", "entity": "CARD_NUMBER", "model": "tokenise"}, {"id": "mail", "entity": "EMAIL"}]
    policy = Policy.model_validate({"metadata": {"name": "t"}, "redaction": {"rules": rules}})
    assert f"[CARD_NUMBER] {MAIL}" == Scrubber(InForce(policy, 1)).value(f"{CARD} {MAIL}")


def test_a_scrubber_is_made_once() -> None:
    """A policy's scrubber is kept with it."""
    policy = first()
    assert scrubber_of(policy) is scrubber_of(policy)
    assert scrubber_of(policy) is not scrubber_of(first())


# ---- structlog -------------------------------------------------------------------------------------------------------

Chain = Callable[..., Any]


@pytest.fixture
def chain(store: SecureStore) -> Chain:
    """Makes a logger of structlog's with the processor among others, and what it printed."""

    def chain(*processors: Any, after: tuple[Any, ...] = ()) -> tuple[Any, io.StringIO]:
        printed = io.StringIO()
        logger = structlog.wrap_logger(
            structlog.PrintLogger(printed),
            processors=[*processors, store.log_processor(), *after, structlog.processors.JSONRenderer()],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
        )
        return logger, printed

    return chain


def fail() -> None:
    raise ValueError(f"no such customer: {MAIL}")


def test_a_real_chain(chain: Chain) -> None:
    """What is bound, what is said and what stands behind it come out redacted; level and time stay."""
    processors = structlog.processors
    log, printed = chain(structlog.stdlib.add_log_level, processors.TimeStamper(fmt="iso"))
    log.bind(customer=MAIL, card=NUMBER).info(f"paid with {CARD}", order="12345678", who=Customer(MAIL))
    said = json.loads(printed.getvalue())
    assert said.pop("timestamp").startswith("20")
    assert {
        "event": "paid with [CARD_NUMBER]",
        "level": "info",
        "customer": "[EMAIL]",
        "card": "[CARD_NUMBER]",
        "order": "12345678",
        "who": "<Customer [EMAIL]>",
    } == said


@pytest.mark.parametrize("how", ["text before", "text after", "triple", "exception", "nothing to tell"])
def test_exceptions(chain: Chain, how: str) -> None:
    """A traceback's words come out redacted, whether a processor before ours, or one after it, makes a text of them."""
    text = structlog.processors.format_exc_info
    log, printed = chain(*([text] if how == "text before" else []), after=(text,) if how == "text after" else ())
    if how == "nothing to tell":
        log.info("fine", exc_info=True)
        assert {"event": "fine", "exception": ""} == json.loads(printed.getvalue())
        return
    try:
        fail()
    except ValueError as error:
        info = {"triple": (type(error), error, error.__traceback__), "exception": error}.get(how, True)
        log.error("failed", exc_info=info)
    said = json.loads(printed.getvalue())
    assert "ValueError: no such customer: [EMAIL]" in said["exception"]
    assert MAIL not in printed.getvalue()


def test_what_cannot_be_printed_is_withheld(chain: Chain) -> None:
    """An object whose repr raises takes no program down, and an event that is too deep is not let through."""
    log, printed = chain()
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    log.info("odd", thing=Broken(), deep=deep)
    assert {"event": "odd", "thing": WITHHELD, "deep": WITHHELD} == json.loads(printed.getvalue())


def test_the_standard_librarys_log_through_structlog(store: SecureStore) -> None:
    """Records of the standard library that structlog formats are scrubbed like its own events."""
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                store.log_processor(),
                structlog.processors.JSONRenderer(),
            ]
        )
    )
    logger = logging.getLogger("tests.scrubbing")
    logger.addHandler(handler)
    try:
        logger.warning("mail from %s", MAIL)
    finally:
        logger.removeHandler(handler)
    assert "mail from [EMAIL]" == json.loads(printed.getvalue())["event"]


def test_from_many_threads(chain: Chain) -> None:
    """One processor serves all threads."""
    log, printed = chain()
    threads = [threading.Thread(target=lambda: [log.info(f"{n} {MAIL}") for n in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert MAIL not in printed.getvalue()
    assert 80 == printed.getvalue().count("[EMAIL]")
