"""
What the traffic allows: the hit rate of one cache that forgets nothing and serves every request.

It counts as an engine does: whole blocks from the start, and always at least one token recomputed.
No fleet beats it; a good one comes close.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Served:
    """One request as token ids: its prompt, and what was answered."""

    prompt: array[int]
    answer: array[int]


class InfiniteCache:
    """
    Every block ever computed, by its tokens and all tokens before them.

    Blocks are compared by content, not by hash: this is the yardstick.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._children: dict[tuple[int, bytes], int] = {}

    def cached_tokens(self, prompt: array[int]) -> int:
        """How many leading tokens of the prompt need not be computed."""
        node = 0
        found = 0
        for block in self._blocks(prompt[: len(prompt) - 1]):
            child = self._children.get((node, block))
            if child is None:
                break
            node = child
            found += 1
        return found * self._block_size

    def add(self, tokens: array[int]) -> None:
        """Keep the whole blocks of `tokens`."""
        node = 0
        for block in self._blocks(tokens):
            node = self._children.setdefault((node, block), len(self._children) + 1)

    def _blocks(self, tokens: array[int]) -> Iterable[bytes]:
        size = self._block_size
        for start in range(0, len(tokens) - size + 1, size):
            yield tokens[start : start + size].tobytes()


def ideal_hit_rate(requests: Iterable[Served], block_size: int) -> float:
    """
    The share of prompt tokens that one infinite cache would not compute, requests taken in order of arrival.

    An answer counts as cached from the arrival of its request on; 0.0 where there are no requests.
    """
    cache = InfiniteCache(block_size)
    cached = asked = 0
    for request in requests:
        cached += cache.cached_tokens(request.prompt)
        asked += len(request.prompt)
        cache.add(request.prompt + request.answer)
    return cached / asked if asked else 0.0
