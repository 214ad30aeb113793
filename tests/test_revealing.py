"""`revealing.py`: what a token stands for is what was there, to the letter, and only for who may know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory import AccessDeniedError, Actor, KeyDestroyedError, SecureSession, SecureStore, acting_as
from secure_memory.errors import TamperedError
from secure_memory.policy.model import Policy

MARIA = Actor("user:maria", reason="refund")
CARDS = ("4111111111111111", "5500000000000004", "340000000000009", "6011000990139424")
EVERYONE = {"roles": {"owner": {"allow": ["*"]}}, "members": {"*": ["owner"]}}
RULES = [
    {"id": one.lower().replace("_", "-"), "entity": one, "store": "tokenise"} for one in ("CARD_NUMBER", "EMAIL", "IBAN")
]
POLICY = Policy.model_validate({"metadata": {"name": "tokens"}, "redaction": {"rules": RULES}, "access": EVERYONE})


@pytest.fixture(scope="module")
def tokens() -> Iterator[SecureSession]:
    """A session in memory whose policy makes tokens, for all examples."""
    with SecureStore.in_memory() as store:
        store.policy_apply(POLICY)
        with store.session("talk", subject="jane") as session:
            yield session


def spread(number: str, gap: str) -> str:
    return gap.join(number[start : start + 4] for start in range(0, len(number), 4))


written = st.one_of(
    st.builds(spread, st.sampled_from(CARDS), st.sampled_from(["", " ", "-", "\u00a0", "\u2011", "\u200b"])),
    st.from_regex(r"[a-z]{2,8}\.[a-z0-9]{1,8}@[a-z]{2,9}\.(com|de)", fullmatch=True),
    st.sampled_from(["DE89 3704 0044 0532 0130 00", "gb82west12345698765432", "jane.doe\uff20example.com"]),
)


@given(
    values=st.lists(written, min_size=1, max_size=4, unique=True),
    around=st.sampled_from(["{}", "it is {}, yes", "\ud800 {}"]),
)
def test_a_revealed_token_is_what_was_there(tokens: SecureSession, values: list[str], around: str) -> None:
    """`reveal(tokenise(x)) == x` for whatever way it was written, but that a value has one token: it stands for the way in
    which it was written first."""

    async def test() -> None:
        await tokens.clear_session()
        for value in values:
            await tokens.add_items([{"role": "user", "content": around.format(value)}])
        for value, item in zip(values, await tokens.get_items(), strict=True):
            content: Any = item["content"]  # type: ignore[typeddict-item]
            before, after = around.split("{}")
            token = content[len(before) : len(content) - len(after) or None]
            told = await tokens.reveal(token, actor=MARIA)
            assert value not in content
            assert plain(value) == plain(told)

    def plain(text: str) -> str:
        return "".join(char for char in text.replace("\uff20", "@") if char.isalnum() or char in "@.").casefold()

    asyncio.run(test())


def tokenised(session: SecureSession, text: str) -> str:
    """The token that the text, all of it, becomes."""

    async def test() -> str:
        await session.add_items([{"role": "user", "content": text}])
        item: Any = (await session.get_items())[-1]
        return str(item["content"])

    return asyncio.run(test())


@pytest.fixture
def governed(store: SecureStore) -> SecureStore:
    store.policy_apply(POLICY)
    return store


@pytest.mark.parametrize("text", ["4111 1111 1111 1111", "jane.doe@example.com", "DE89 3704 0044 0532 0130 00"])
def test_to_the_letter(governed: SecureStore, text: str) -> None:
    """What was there comes back exactly, by the session and by the store, in another process of the same store too."""
    with governed.session("talk", subject="jane") as session:
        token = tokenised(session, text)
        assert text == asyncio.run(session.reveal(token, actor=MARIA))
    assert governed.path is not None
    with SecureStore.open(governed.path) as again, acting_as(MARIA):
        assert text == again.reveal(token)


def test_erasing_the_person_kills_the_tokens(governed: SecureStore) -> None:
    """After an erasure nobody learns what a token stood for; another person's tokens still tell."""
    with governed.session("hers", subject="jane") as session:
        hers = tokenised(session, CARDS[0])
    with governed.session("his", subject="ben") as session:
        his = tokenised(session, CARDS[0])
    with acting_as(MARIA):
        governed.subject_erase("jane")
        with pytest.raises((ValueError, KeyDestroyedError)):
            governed.reveal(hers)
        assert CARDS[0] == governed.reveal(his)


def test_a_swapped_row_is_noticed(governed: SecureStore, insider: Any) -> None:
    """A token's row with another one's sealed bytes is no answer, but an incident."""
    with governed.session("talk", subject="jane") as session:
        one, two = tokenised(session, CARDS[0]), tokenised(session, CARDS[1])
        insider().sql("UPDATE tokens SET sealed = (SELECT sealed FROM tokens WHERE token = ?) WHERE token = ?", two, one)
        with pytest.raises(TamperedError):
            asyncio.run(session.reveal(one, actor=MARIA))
        assert CARDS[1] == asyncio.run(session.reveal(two, actor=MARIA))


def test_a_denied_reveal_is_an_entry(governed: SecureStore) -> None:
    """Who gave no reason is told nothing, and that they asked is recorded."""
    with governed.session("talk", subject="jane") as session:
        token = tokenised(session, CARDS[0])
        with pytest.raises(AccessDeniedError):
            asyncio.run(session.reveal(token, actor="user:eve"))
    denied = [one.entry for one in governed.audit_log(action="access.denied")]
    assert ["user:eve"] == [entry.actor for entry in denied]
