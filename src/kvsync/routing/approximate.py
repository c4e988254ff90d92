"""
A record of own picks, for pods that publish no events: what they probably hold, because we sent it there.

Per engine, the block hashes of prompts in order of last use, bounded like a cache. A prompt's blocks are entered from
its end to its beginning, so the end of the least recently used prompt is what goes first and every prefix stays whole,
as in the engines. It is a guess: other clients, evictions and restarts do not show. When an engine reports that it had
fewer tokens cached than this record said, the record of that prompt's context has outlived the cache: what was used
less recently than this prompt is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kvsync.types import Engine

BLOCKS_MAX = 32_768
EXPIRY = 600.0


class ApproximateRecord:
    """Block hashes that engines without events probably hold. Not thread-safe; time is an argument."""

    def __init__(self, *, blocks_max: int = BLOCKS_MAX, expiry: float = EXPIRY) -> None:
        self._blocks_max = blocks_max
        self._expiry = expiry
        self._held: dict[Engine, OrderedDict[int, float]] = {}

    def __repr__(self) -> str:
        return f"<ApproximateRecord engines={len(self._held)} blocks={sum(map(len, self._held.values()))}>"

    def enter(self, engine: Engine, block_hashes: Sequence[int], now: float) -> None:
        """The engine was sent a prompt of these blocks."""
        held = self._held.setdefault(engine, OrderedDict())
        for block_hash in reversed(block_hashes[: self._blocks_max]):
            held[block_hash] = now
            held.move_to_end(block_hash)
        while len(held) > self._blocks_max:
            held.popitem(last=False)

    def blocks(self, engine: Engine, block_hashes: Sequence[int], now: float) -> int:
        """How many leading blocks of this prompt the engine probably holds."""
        held = self._held.get(engine)
        if not held:
            return 0
        while held and next(iter(held.values())) <= now - self._expiry:
            held.popitem(last=False)
        low, high = 0, len(block_hashes)
        while low < high:  # prefixes are whole, so halving finds the end
            middle = (low + high + 1) // 2
            if block_hashes[middle - 1] in held:
                low = middle
            else:
                high = middle - 1
        return low

    def correct(
        self, engine: Engine, block_hashes: Sequence[int], *, predicted_blocks: int, actual_blocks: int
    ) -> None:
        """
        The engine said how much of the prompt it had: if less than predicted, forget what is older than the prompt.
        """
        held = self._held.get(engine)
        if not held or actual_blocks >= predicted_blocks or not block_hashes:
            return
        last = block_hashes[-1]
        while held and last in held and next(iter(held)) != last:
            held.popitem(last=False)

    def forget(self, engine: Engine) -> None:
        """The engine's cache was emptied, or it is gone."""
        self._held.pop(engine, None)
