"""Made-up chained block hashes, so that these tests need no index."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile


def chain(prompt: Sequence[int]) -> list[int]:
    """Chained hashes of a prompt whose blocks are these numbers."""
    hashes, before = [], 0
    for block in prompt:
        before = hash((before, block))
        hashes.append(before)
    return hashes


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading numbers agree, counted one by one."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
