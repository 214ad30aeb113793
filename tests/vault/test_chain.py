"""`vault/chain.py`: the newest link commits to every item, its place and its turn."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from secure_memory.vault.chain import first, follow

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "chain.json").read_text("utf-8"))
BRANCH = bytes.fromhex(VECTORS["branch"])

uids = st.binary(min_size=16, max_size=16)
items = st.tuples(st.integers(0, 2**31), st.integers(0, 2**31), uids)
chains = st.lists(items, max_size=6)


def link_of(branch: bytes, chain: list[tuple[int, int, bytes]]) -> bytes:
    return reduce(lambda link, item: follow(link, *item), chain, first(branch))


def test_vectors() -> None:
    """Each link is the frozen one."""
    link = first(BRANCH)
    assert VECTORS["first"] == link.hex()
    for item in VECTORS["items"]:
        link = follow(link, item["position"], item["turn"], bytes.fromhex(item["uid"]))
        assert item["link"] == link.hex()


@given(uids, uids, chains, chains)
def test_a_link_names_one_history(
    one: bytes, other: bytes, mine: list[tuple[int, int, bytes]], yours: list[tuple[int, int, bytes]]
) -> None:
    """Two links are equal only if branch, items, order, positions and turns are."""
    assert ((one, mine) == (other, yours)) == (link_of(one, mine) == link_of(other, yours))


@given(uids, chains, st.data())
def test_every_item_counts(branch: bytes, chain: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    """An item that is dropped, doubled or changed gives another link."""
    if not chain:
        return
    index = data.draw(st.integers(0, len(chain) - 1))
    position, turn, uid = chain[index]
    for put in (
        [],
        [chain[index]] * 2,
        [(position + 1, turn, uid)],
        [(position, turn + 1, uid)],
        [(position, turn, bytes([uid[0] ^ 1]) + uid[1:])],
        [(turn, position, uid)] if turn != position else [],
    ):
        assert link_of(branch, chain) != link_of(branch, [*chain[:index], *put, *chain[index + 1 :]])
