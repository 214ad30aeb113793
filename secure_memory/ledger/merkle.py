"""The Merkle tree over a ledger's entries: RFC 6962 section 2.1, over SHA-256.

- A *perfect* node (level, index) covers the leaves [index * 2**level, (index + 1) * 2**level). Once its last leaf is
  there it never changes, so it is stored once, in that leaf's row: see `row_of`.
- The *peaks* of a tree of `size` leaves are the roots of its perfect subtrees, largest first: one for each bit set in
  `size`. They are all that appending needs; bagged from right to left they give the root.
- Proofs read O(log n) stored nodes through a `Node` function, so this module knows no table.
- Verifying takes nothing for granted but its arguments, and raises `ValueError`. A root stands for a size only because
  someone vouches for the pair (a checkpoint, an anchor): a proof alone does not bind the size.

Pure. Called by `ledger` (append, prove), `verify` and `export` (verify). Hashes are public: plain comparison will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

# Bytes in a leaf, a node or a root.
HASH_SIZE = 32

# The root of a tree without leaves (RFC 6962 2.1).
EMPTY_ROOT = sha256(b"").digest()

# (level, index) -> the stored hash of that perfect node.
Node = Callable[[int, int], bytes]


class Head(NamedTuple):
    """A ledger at one moment: how many entries it had, and the root over them."""

    size: int
    root: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return the leaf of an entry. The prefix keeps a leaf from ever passing for a node (RFC 6962 2.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the node above two nodes (RFC 6962 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def append(peaks: tuple[bytes, ...], size: int, leaf: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Add a leaf to a tree of `size` leaves; return the new peaks, and the nodes it completed, joined, level 0 first.

    Adding one to `size` carries through its trailing one bits; each carry joins two nodes of a level into one above.
    """
    kept = len(peaks)
    if kept != size.bit_count():
        raise ValueError(f"{kept} peaks do not make a tree of {size} leaves")
    node = nodes = leaf
    while size & 1:
        kept -= 1
        node = sha256(b"\x01" + peaks[kept] + node).digest()  # node_hash, without the call
        nodes += node
        size >>= 1
    return (*peaks[:kept], node), nodes


def root(peaks: Sequence[bytes]) -> bytes:
    """Return the root of the tree that has these peaks (RFC 6962 2.1, where k is the size of the first peak)."""
    if not peaks:
        return EMPTY_ROOT
    bagged = peaks[-1]
    for peak in reversed(peaks[:-1]):
        bagged = sha256(b"\x01" + peak + bagged).digest()  # node_hash: this too runs for every entry
    return bagged


def peaks_of(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of each peak of a tree of `size` leaves, largest first."""
    return [(level, (size >> level) - 1) for level in reversed(range(size.bit_length())) if size >> level & 1]


def row_of(level: int, index: int) -> int:
    """Return the seq of the row that stores a node, at byte 32 * level of its `nodes`: that of the node's last leaf."""
    return ((index + 1) << level) - 1


def load_peaks(size: int, node: Node) -> tuple[bytes, ...]:
    """Read the peaks of a tree of `size` leaves. Whether they are right is for the caller to see, by the root."""
    return tuple(node(level, index) for level, index in peaks_of(size))


def root_at(size: int, node: Node) -> bytes:
    """Return the root that the tree had at `size` leaves."""
    return root(load_peaks(size, node))


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return PATH(index, D[size]) of RFC 6962 2.1.1: the siblings from the leaf up, none where the tree has none."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    proof = []
    for level in range((size - 1).bit_length()):
        start = (index >> level ^ 1) << level
        if start < size:
            proof.append(_range_root(start, min(start + (1 << level), size), node))
    return proof


def consistency_proof(old_size: int, new_size: int, node: Node) -> list[bytes]:
    """Return PROOF(old_size, D[new_size]) of RFC 6962 2.1.2; empty where a tree extends itself or the empty tree."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {new_size} leaves does not extend one of {old_size}")
    if old_size == 0:
        return []
    proof = []
    start, end = 0, new_size
    while old_size != end:  # SUBPROOF, from the root down: D[start:end] is where the old tree ends
        split = start + (1 << (end - start - 1).bit_length() - 1)
        if old_size <= split:
            proof.append(_range_root(split, end, node))
            end = split
        else:
            proof.append(_range_root(start, split, node))
            start = split
    if start > 0:  # otherwise D[0:end] is the old tree itself, whose root the verifier has
        proof.append(_range_root(start, end, node))
    return proof[::-1]


def _range_root(start: int, end: int, node: Node) -> bytes:
    """Return MTH(D[start:end]), where `start` is a multiple of a power of two that is no smaller than the range."""
    return root([node(level, (start >> level) + index) for level, index in peaks_of(end - start)])


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is leaf `index` of the tree of `size` leaves with this root (RFC 9162 2.1.3.2), or raise."""
    _check_hashes(leaf, root, *proof)
    if not 0 <= index < size:  # (1)
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    fn, sn = index, size - 1  # (2)
    r = leaf  # (3)
    for p in proof:  # (4)
        if sn == 0:
            raise ValueError(f"the inclusion proof is too long for leaf {index} of {size}")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:  # (5)
        raise ValueError(f"the inclusion proof is too short for leaf {index} of {size}")
    if r != root:
        raise ValueError(f"the inclusion proof does not lead from leaf {index} to the root at {size}")


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree with the new root extends the one with the old root (RFC 9162 2.1.4.2), or raise.

    The RFC leaves out two sizes, whose proof is empty: a tree extends itself, and every tree extends the empty one.
    """
    _check_hashes(old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {new_size} leaves does not extend one of {old_size}")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ValueError("the old root is not that of an empty tree")
    if old_size == new_size and old_root != new_root:
        raise ValueError(f"two trees of {old_size} leaves have different roots")
    if old_size in (0, new_size):
        if proof:
            raise ValueError(f"the consistency proof from {old_size} to {new_size} should be empty")
        return
    if not proof:  # (1)
        raise ValueError(f"the consistency proof from {old_size} to {new_size} is empty")
    path = [*proof] if old_size & (old_size - 1) else [old_root, *proof]  # (2)
    fn, sn = old_size - 1, new_size - 1  # (3)
    while fn & 1:  # (4)
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # (5)
    for c in path[1:]:  # (6)
        if sn == 0:
            raise ValueError(f"the consistency proof is too long for {old_size} to {new_size}")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:  # (7)
        raise ValueError(f"the consistency proof is too short for {old_size} to {new_size}")
    if fr != old_root or sr != new_root:
        raise ValueError(f"the consistency proof does not lead to the roots at {old_size} and {new_size}")


def _check_hashes(*hashes: bytes) -> None:
    for value in hashes:
        if len(value) != HASH_SIZE:
            raise ValueError(f"a hash has {len(value)} bytes instead of {HASH_SIZE}")
