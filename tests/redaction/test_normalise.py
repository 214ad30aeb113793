"""`normalise.py`: evasion undone, with the way back to what was written."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.redaction.normalise import MAX_BASE64, plain, views

anything = st.text(st.characters(exclude_categories=()))
hostile = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "%40",
                "%2540",
                "%",
                "\\u0040",
                "\\x40",
                "&#64;",
                "\u200b",
                "\u00ad",
                "1\n2",
                "\uff11",
                "\u00a0",
                "QUJDREVGR0hJSktMTU5P",
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


def encoded(text: str) -> str:
    """The text in base64."""
    return base64.b64encode(text.encode()).decode()


@given(st.text(st.characters(max_codepoint=126, exclude_characters="%\\&\n"), max_size=300))
def test_ascii_is_itself(text: str) -> None:
    """ASCII with nothing encoded in it is the very same text, looked at as it is."""
    first = views(text)[0]
    assert first.text is text
    assert all(view.whole for view in views(text)[1:])  # what base64 says, if it says something


@given(st.one_of(anything, hostile))
def test_the_way_back_leads_into_the_text(text: str) -> None:
    """Every character of every view comes from a span of the text, and spans come in order."""
    for view in views(text):
        spans = [view.back(at, at + 1) for at in range(len(view.text))]
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
        if view.text:
            assert (spans[0][0], spans[-1][1]) == view.back(0, len(view.text))


@given(st.one_of(anything, hostile))
def test_a_character_that_was_not_undone_is_where_it_was(text: str) -> None:
    """A letter of a view is that letter in the text, or stands for something that was undone there."""
    for view in views(text):
        if view.whole is None:
            for at, char in enumerate(view.text):
                start, end = view.back(at, at + 1)
                original = text[start:end]
                assert original == char or plain(original) != original or "\n" in original


@given(st.one_of(anything, hostile))
def test_the_folded_text_has_the_same_length(text: str) -> None:
    """Folding is one character for one."""
    assert len(text) == len(views(text)[0].text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\uff14\uff11\uff11\uff11", "4111"),
        ("٤١١١", "4111"),
        ("४१११", "4111"),
        ("\U0001d7d2\U0001d7cf", "41"),
        ("jane\uff20example\uff0ecom", "jane@example.com"),
        ("4111\u00a01111\u20091111", "4111 1111 1111"),
        ("4111\u20111111\u20131111\u20141111\u22121111", "4111-1111-1111-1111-1111"),
        ("jane@example。com", "jane@example.com"),
        ("ja\u200bne@ex\u00adample.com", "jane@example.com"),
        ("4\ufe0f\u20e31\ufe0f\u20e3", "41"),
        ("jane%40example.com", "jane@example.com"),
        ("jane%252540example.com", "jane@example.com"),
        ("%6a%61%6E%65", "jane"),
        ("caf%C3%A9", "café"),
        ("jane\\u0040example.com", "jane@example.com"),
        ("jane\\\\u0040example.com", "jane@example.com"),
        ("jane\\x40example.com", "jane@example.com"),
        ("jane&#64;example&#x2e;com", "jane@example.com"),
        ("4111\n1111\r\n1111", "4111 1111 1111"),
        ("%ff%00", "%ff%00"),
        ("100% sure, 50%", "100% sure, 50%"),
        ("&#999999999;", "&#999999999;"),
        ("line one\nline two", "line one\nline two"),
        ("naïve café, 東京", "naïve café, 東京"),
    ],
)
def test_what_is_undone(text: str, expected: str) -> None:
    """Digits, dashes, spaces and dots are those of ASCII; what nobody sees is gone; what is encoded is read."""
    assert expected == plain(text)
    assert expected in [view.text for view in views(text)]


def test_a_decoded_character_is_taken_out_as_a_whole() -> None:
    """What was found in a decoded text covers the whole of what was encoded, and only that."""
    text = "to jane%40example.com."
    loosened = views(text)[1]
    start = loosened.text.index("@")
    assert "%40" == text[slice(*loosened.back(start, start + 1))]
    assert "jane%40example.com" == text[slice(*loosened.back(3, 3 + len("jane@example.com")))]


def test_base64_is_read_and_covered_as_a_whole() -> None:
    """A finding in what base64 says is one in the whole run, also where it is encoded twice."""
    for run in (encoded("jane@example.com"), encoded(encoded("jane@example.com")), encoded("jane@example.com").rstrip("=")):
        text = f"see {run} there"
        view = next(view for view in views(text) if view.text == "jane@example.com")
        assert run == text[slice(*view.back(5, 7))]


def test_base64_of_the_url_kind_is_read() -> None:
    """The letters of RFC 4648 5 are read like those of 4."""
    text = base64.urlsafe_b64encode("jane@example.com ÿÿÿ???".encode()).decode()
    assert "_" in text or "-" in text
    assert "jane@example.com ÿÿÿ???" in [view.text for view in views(text)]


@pytest.mark.parametrize(
    "text",
    [
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "123e4567-e89b-12d3-a456-426614174000",
        "internationalization",
        encoded("x" * MAX_BASE64),
    ],
)
def test_what_is_no_encoded_text_is_left_alone(text: str) -> None:
    """Hashes, identifiers, long words and whole files give nothing to look at but themselves."""
    assert [text] == [view.text for view in views(text)]


def test_both_the_plain_and_the_undone_text_are_looked_at() -> None:
    """Undoing hides nothing: where characters went, the text with them is looked at too."""
    assert ["card\u200b4111", "card4111"] == [view.text for view in views("card\u200b4111")]


@pytest.mark.parametrize(
    "unit", ["%40", "%25", "\\", "\\u0040", "&#", "\u200b", "1\n", "QUJD", "漢", "\uff14", "a\u200b%41é ", "-_"]
)
def test_long_texts_are_undone(unit: str) -> None:
    """Whatever repeats, a long text is gone through once: a quadratic step would not end here."""
    text = unit * (300_000 // len(unit))
    assert len(text) == len(views(text)[0].text)
