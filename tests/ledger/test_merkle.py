"""The Merkle tree: published vectors, and RFC 6962 2.1 written out as it stands, with recursion and without storage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_memory.ledger import merkle

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "rfc6962.json").read_text())
LEAVES = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(value) for value in [VECTORS["empty_root"], *VECTORS["roots"]]]

# Every shape of tree up to here: 130 has full, nearly full and just begun subtrees on both sides of 64 and 128.
MANY = [merkle.leaf_hash(n.to_bytes(2, "big")) for n in range(130)]


class Tree:
    """A tree as the ledger keeps it: peaks, and a `nodes` blob a row. Counts the look-ups."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.peaks: tuple[bytes, ...] = ()
        self.rows: list[bytes] = []
        self.lookups = 0
        for leaf in leaves:
            self.peaks, nodes = merkle.append(self.peaks, len(self.rows), leaf)
            self.rows.append(nodes)

    def node(self, level: int, index: int) -> bytes:
        self.lookups += 1
        found = self.rows[merkle.row_of(level, index)][32 * level : 32 * level + 32]
        assert len(found) == 32
        return found


REFERENCE = Tree(LEAVES)
BIG = Tree(MANY)


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1, over leaf hashes."""
    if not d:
        return merkle.EMPTY_ROOT
    if len(d) == 1:
        return d[0]
    k = split(len(d))
    return merkle.node_hash(mth(d[:k]), mth(d[k:]))


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 2.1.1."""
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: Sequence[bytes], known: bool = True) -> list[bytes]:
    """RFC 6962 2.1.2."""
    if m == len(d):
        return [] if known else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], known), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def unhex(hashes: list[str]) -> list[bytes]:
    return [bytes.fromhex(value) for value in hashes]


sizes = st.integers(0, len(MANY))


@st.composite
def inclusions(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, len(MANY)))
    return draw(st.integers(0, size - 1)), size


@st.composite
def extensions(draw: st.DrawFn) -> tuple[int, int]:
    """0 < old < new: the cases that need a proof."""
    new = draw(st.integers(2, len(MANY)))
    return draw(st.integers(1, new - 1)), new


@st.composite
def spoiled(draw: st.DrawFn, hashes: list[bytes]) -> list[bytes]:
    """The same hashes with one thing wrong: a bit, a length, one too many, one too few, or the order."""
    wrong = list(hashes)
    at = draw(st.integers(0, max(0, len(hashes) - 1)))
    kinds = ["insert"] if not hashes else ["flip", "cut", "grow", "drop", "insert", "repeat"]
    if len(set(hashes)) > 1:
        kinds.append("swap")
    match draw(st.sampled_from(kinds)):
        case "flip":
            bit = draw(st.integers(0, 255))
            wrong[at] = (int.from_bytes(wrong[at], "big") ^ 1 << bit).to_bytes(32, "big")
        case "cut":
            wrong[at] = wrong[at][: draw(st.integers(0, 31))]
        case "grow":
            wrong[at] += b"\0"
        case "drop":
            del wrong[at]
        case "insert":
            wrong.insert(draw(st.integers(0, len(wrong))), draw(st.binary(min_size=32, max_size=32)))
        case "repeat":
            wrong.insert(at, wrong[at])
        case "swap":
            other = draw(st.sampled_from([i for i in range(len(wrong)) if wrong[i] != wrong[at]]))
            wrong[at], wrong[other] = wrong[other], wrong[at]
    return wrong


# Published vectors.


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    """The tree has the published root at every size, reached by appending and from storage."""
    assert ROOTS[size] == merkle.root(Tree(LEAVES[:size]).peaks)
    assert ROOTS[size] == merkle.root_at(size, REFERENCE.node)


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=lambda v: f"{v['index']}-of-{v['size']}")
def test_published_inclusion_proofs(vector: dict[str, Any]) -> None:
    """We make the published inclusion proofs, and accept them."""
    index, size, proof = vector["index"], vector["size"], unhex(vector["proof"])
    assert proof == merkle.inclusion_proof(index, size, REFERENCE.node)
    merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=lambda v: f"{v['old_size']}-to-{v['new_size']}")
def test_published_consistency_proofs(vector: dict[str, Any]) -> None:
    """We make the published consistency proofs, and accept them."""
    old, new, proof = vector["old_size"], vector["new_size"], unhex(vector["proof"])
    assert proof == merkle.consistency_proof(old, new, REFERENCE.node)
    merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)


# Against the RFC, written out.


@given(sizes)
def test_appending_gives_the_roots_of_the_rfc(size: int) -> None:
    """Peaks after `size` appends are the perfect subtrees, and bag to the recursive root."""
    tree = Tree(MANY[:size])
    assert mth(MANY[:size]) == merkle.root(tree.peaks)
    assert tree.peaks == merkle.load_peaks(size, BIG.node)


def test_every_node_is_stored_where_row_of_says() -> None:
    """A row holds each perfect subtree that ends with its leaf, smallest first, and nothing else."""
    expected = [b""] * len(MANY)
    for level in range(8):
        for index in range(len(MANY) >> level):
            expected[merkle.row_of(level, index)] += mth(MANY[index << level : index + 1 << level])
    assert expected == BIG.rows


@given(sizes)
def test_peaks_cover_every_leaf_once(size: int) -> None:
    """The peaks of a tree, left to right, cover its leaves without gap or overlap, each smaller than the one before."""
    peaks = merkle.peaks_of(size)
    assert list(range(size)) == [leaf for level, index in peaks for leaf in range(index << level, index + 1 << level)]
    assert sorted({level for level, _ in peaks}, reverse=True) == [level for level, _ in peaks]


@given(inclusions())
def test_inclusion_proofs_are_those_of_the_rfc(case: tuple[int, int]) -> None:
    """An inclusion proof is PATH, verifies, and costs one look-up a level of the tree at most, twice over."""
    index, size = case
    tree = Tree(MANY)
    proof = merkle.inclusion_proof(index, size, tree.node)
    assert path(index, MANY[:size]) == proof
    assert tree.lookups <= 2 * size.bit_length()
    merkle.verify_inclusion(MANY[index], index, size, proof, mth(MANY[:size]))


@given(extensions())
def test_consistency_proofs_are_those_of_the_rfc(case: tuple[int, int]) -> None:
    """A consistency proof is PROOF, verifies, and costs one look-up a level of the tree at most, twice over."""
    old, new = case
    tree = Tree(MANY)
    proof = merkle.consistency_proof(old, new, tree.node)
    assert subproof(old, MANY[:new]) == proof
    assert tree.lookups <= 2 * new.bit_length()
    merkle.verify_consistency(old, new, mth(MANY[:old]), mth(MANY[:new]), proof)


@given(sizes)
def test_a_tree_extends_itself_and_the_empty_tree(size: int) -> None:
    """Both are proven by an empty proof."""
    now = mth(MANY[:size])
    assert [] == merkle.consistency_proof(size, size, BIG.node) == merkle.consistency_proof(0, size, BIG.node)
    merkle.verify_consistency(size, size, now, now, [])
    merkle.verify_consistency(0, size, merkle.EMPTY_ROOT, now, [])


# What must not pass.


@given(inclusions(), st.data())
def test_a_spoiled_inclusion_proof_is_rejected(case: tuple[int, int], data: st.DataObject) -> None:
    """No single change to a valid inclusion proof leaves it valid."""
    index, size = case
    wrong = data.draw(spoiled(path(index, MANY[:size])))
    with pytest.raises(ValueError, match=r"^(the inclusion proof|a hash has)"):
        merkle.verify_inclusion(MANY[index], index, size, wrong, mth(MANY[:size]))


@given(inclusions(), st.integers(-1, len(MANY)))
def test_a_proof_holds_for_one_leaf_at_one_index(case: tuple[int, int], other: int) -> None:
    """A valid inclusion proof proves neither another index nor another leaf nor another root."""
    index, size = case
    proof, now = path(index, MANY[:size]), mth(MANY[:size])
    if other != index:
        with pytest.raises(ValueError, match=r"^(the inclusion proof|there is no leaf)"):
            merkle.verify_inclusion(MANY[index], other, size, proof, now)
        with pytest.raises(ValueError, match="does not lead"):
            merkle.verify_inclusion(merkle.leaf_hash(b"another"), index, size, proof, now)
        with pytest.raises(ValueError, match="does not lead"):
            merkle.verify_inclusion(MANY[index], index, size, proof, merkle.leaf_hash(b"another"))


@given(extensions(), st.data())
def test_a_spoiled_consistency_proof_is_rejected(case: tuple[int, int], data: st.DataObject) -> None:
    """No single change to a valid consistency proof leaves it valid."""
    old, new = case
    wrong = data.draw(spoiled(subproof(old, MANY[:new])))
    with pytest.raises(ValueError, match=r"^(the consistency proof|a hash has)"):
        merkle.verify_consistency(old, new, mth(MANY[:old]), mth(MANY[:new]), wrong)


@given(extensions())
def test_a_consistency_proof_holds_for_two_roots(case: tuple[int, int]) -> None:
    """A valid consistency proof proves neither other roots nor the reverse."""
    old, new = case
    before, after, proof = mth(MANY[:old]), mth(MANY[:new]), subproof(old, MANY[:new])
    other = merkle.leaf_hash(b"another")
    for old_root, new_root in [(other, after), (before, other), (after, before), (before, before), (after, after)]:
        with pytest.raises(ValueError, match=r"^the consistency proof does not lead"):
            merkle.verify_consistency(old, new, old_root, new_root, proof)
    with pytest.raises(ValueError, match="does not extend"):
        merkle.verify_consistency(new, old, after, before, proof)


@pytest.mark.parametrize("vector", VECTORS["consistency"][1:], ids=lambda v: f"{v['old_size']}-to-{v['new_size']}")
def test_a_published_consistency_proof_fails_at_other_sizes(vector: dict[str, Any]) -> None:
    """The published proofs hold at their own sizes, not at sizes near them."""
    old, new, proof = vector["old_size"], vector["new_size"], unhex(vector["proof"])
    for old_size, new_size in [(old - 1, new), (old + 1, new), (old ^ 2, new), (old, new * 2), (old, new // 2)]:
        with pytest.raises(ValueError, match=r"^(the consistency proof|the old root|two trees|a tree of)"):
            merkle.verify_consistency(old_size, new_size, ROOTS[old], ROOTS[new], proof)


@pytest.mark.parametrize(
    ("index", "size", "proof", "message"),
    [
        (0, 0, [], "there is no leaf 0 in a tree of 0"),
        (-1, 8, [], "there is no leaf -1 in a tree of 8"),
        (8, 8, [], "there is no leaf 8 in a tree of 8"),
        (0, -1, [], "there is no leaf 0 in a tree of -1"),
        (0, 8, LEAVES[:2], "the inclusion proof is too short for leaf 0 of 8"),
        (0, 8, LEAVES[:4], "the inclusion proof is too long for leaf 0 of 8"),
        (0, 1, LEAVES[:1], "the inclusion proof is too long for leaf 0 of 1"),
        (0, 8, LEAVES[:3], "the inclusion proof does not lead from leaf 0 to the root at 8"),
        (0, 2, [b"short"], "a hash has 5 bytes instead of 32"),
    ],
)
def test_what_is_wrong_with_an_inclusion_proof_is_said(index: int, size: int, proof: list[bytes], message: str) -> None:
    """Each way to be malformed has its sentence."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        merkle.verify_inclusion(LEAVES[0], index, size, proof, ROOTS[8])


@pytest.mark.parametrize(
    ("old", "new", "old_root", "new_root", "proof", "message"),
    [
        (2, 1, ROOTS[2], ROOTS[1], [], "a tree of 1 leaves does not extend one of 2"),
        (-1, 1, ROOTS[1], ROOTS[1], [], "a tree of 1 leaves does not extend one of -1"),
        (0, 1, ROOTS[1], ROOTS[1], [], "the old root is not that of an empty tree"),
        (0, 0, ROOTS[1], ROOTS[1], [], "the old root is not that of an empty tree"),
        (0, 1, ROOTS[0], ROOTS[1], [ROOTS[1]], "the consistency proof from 0 to 1 should be empty"),
        (3, 3, ROOTS[3], ROOTS[3], [ROOTS[3]], "the consistency proof from 3 to 3 should be empty"),
        (3, 3, ROOTS[3], ROOTS[2], [], "two trees of 3 leaves have different roots"),
        (2, 3, ROOTS[2], ROOTS[3], [], "the consistency proof from 2 to 3 is empty"),
        (6, 8, ROOTS[6], ROOTS[8], LEAVES[:2], "the consistency proof is too short for 6 to 8"),
        (6, 8, ROOTS[6], ROOTS[8], LEAVES[:4], "the consistency proof is too long for 6 to 8"),
        (6, 8, ROOTS[6], ROOTS[8], LEAVES[:3], "the consistency proof does not lead to the roots at 6 and 8"),
        (1, 2, ROOTS[1][:31], ROOTS[2], LEAVES[:1], "a hash has 31 bytes instead of 32"),
        (1, 2, ROOTS[1], b"", LEAVES[:1], "a hash has 0 bytes instead of 32"),
    ],
)
def test_what_is_wrong_with_a_consistency_proof_is_said(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: list[bytes], message: str
) -> None:
    """Each way to be malformed has its sentence."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        merkle.verify_consistency(old, new, old_root, new_root, proof)


@pytest.mark.parametrize(("index", "size"), [(-1, 8), (8, 8), (0, 0)])
def test_no_inclusion_proof_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    """Asking for one is a ValueError, and reads no node."""
    with pytest.raises(ValueError, match="there is no leaf"):
        merkle.inclusion_proof(index, size, REFERENCE.node)


@pytest.mark.parametrize(("old", "new"), [(-1, 8), (8, 7)])
def test_no_consistency_proof_backwards(old: int, new: int) -> None:
    """Asking for one is a ValueError."""
    with pytest.raises(ValueError, match="does not extend"):
        merkle.consistency_proof(old, new, REFERENCE.node)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_appending_to_peaks_of_another_size_is_refused(size: int) -> None:
    """Peaks that can't be those of the tree never reach the ledger."""
    with pytest.raises(ValueError, match=f"3 peaks do not make a tree of {size} leaves"):
        merkle.append(REFERENCE.peaks * 3, size, LEAVES[0])
