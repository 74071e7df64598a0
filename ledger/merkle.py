"""Merkle trees over receipts, as RFC 9162 (Certificate Transparency) defines them in section 2.1.

A leaf's hash is SHA-256(0x00 || leaf), a node's SHA-256(0x01 || left || right); a tree of n
leaves has its largest full subtree on the left. So a node that is alone at its level moves up as
it is. Everything here works on hashes of 32 bytes.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32
LEAF_PREFIX: Final = b"\x00"  # so that no leaf can be taken for a node
_SUBTREE_LEAVES: Final = 256  # a power of two: full subtrees of it are nodes of the whole tree


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(LEAF_PREFIX + leaf).digest()


class Tree:
    """A tree whose leaves' hashes come in pieces: what is full of it is hashed when it is there."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self._roots: list[bytes] = []  # of full subtrees, from the left

    def add(self, leaves: Sequence[bytes]) -> None:
        self.leaves += leaves
        while len(self.leaves) - len(self._roots) * _SUBTREE_LEAVES >= _SUBTREE_LEAVES:
            self._roots.append(root(self._following(_SUBTREE_LEAVES)))

    def root(self) -> bytes:
        """Of the leaves so far, at least one."""
        rest = self._following(_SUBTREE_LEAVES)
        return root([*self._roots, root(rest)] if rest else self._roots)

    def _following(self, count: int) -> list[bytes]:
        begin = len(self._roots) * _SUBTREE_LEAVES
        return self.leaves[begin : begin + count]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over hashes of leaves, at least one."""
    assert leaves
    level = leaves
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], position: int) -> list[bytes]:
    """The hashes beside the way from a leaf up to the root, from the bottom."""
    assert 0 <= position < len(leaves)
    proof: list[bytes] = []
    level = leaves
    while len(level) > 1:
        beside = position ^ 1
        if beside < len(level):
            proof.append(level[beside])
        level = _level_above(level)
        position //= 2
    return proof


def inclusion_proof_of_all(leaves: Sequence[bytes], positions: Sequence[int]) -> list[bytes]:
    """As `inclusion_proof`, for several leaves at once, by position in rising order.

    Level by level from the bottom, and from the left, the hash of each node that is needed on the
    way up and does not follow from the leaves themselves.
    """
    assert positions
    proof: list[bytes] = []
    level, known = leaves, list(positions)
    while len(level) > 1:
        together = set(known)
        proof += [
            level[position ^ 1]
            for position in known
            if position ^ 1 not in together and position ^ 1 < len(level)
        ]
        level = _level_above(level)
        known = sorted({position // 2 for position in known})
    return proof


def root_from_proof(
    leaf: bytes, *, position: int, leaves_count: int, proof: Sequence[bytes]
) -> bytes:
    """The root that a leaf's hash and its proof lead to. Raises ValueError for a proof too long
    or too short."""
    if not 0 <= position < leaves_count:
        raise ValueError(f"there is no leaf {position} in a tree of {leaves_count}")
    found, rest = leaf, list(proof)
    last = leaves_count - 1
    while last:
        if position % 2 or position < last:
            if not rest:
                raise ValueError("the proof is too short")
            beside = rest.pop(0)
            pair = beside + found if position % 2 else found + beside
            found = hashlib.sha256(b"\x01" + pair).digest()
        position //= 2
        last //= 2
    if rest:
        raise ValueError("the proof is too long")
    return found


def _level_above(level: Sequence[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    nodes = iter(level)
    pairs = zip(nodes, nodes, strict=False)
    above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        above.append(level[-1])
    return above
