"""One prompt held by many engines, and the index that knows: what queries are asked of."""

from __future__ import annotations

import atexit
from array import array
from dataclasses import dataclass
from functools import cache

from benchmarks.frames import MODEL, Prompt, batches, engine, generator, hashes_of, store_events, tokens_of
from benchmarks.sizes import BLOCK_SIZE
from kvsync.index import Index


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """
    `tokens` and `hashes` are of the same blocks, all of which each of `engines` engines holds.
    """

    index: Index
    engines: int
    tokens: array[int]
    hashes: array[int]

    @property
    def blocks(self) -> int:
        """How long the prompt is."""
        return len(self.hashes)


@cache
def held(blocks: int, engines: int) -> Held:
    """An index in which `engines` engines hold a prompt of `blocks` blocks; made once, closed at exit."""
    index = Index(seed=1)
    atexit.register(index.close)
    tokens = tokens_of(generator(3), blocks)
    for number in range(engines):
        own = Prompt(tokens, hashes_of(generator(4, number), blocks))
        for frame in batches(store_events([own], 32), 32):
            index.apply(engine(number), frame, model=MODEL)
    buffer = array("I", tokens.tobytes())
    return Held(index, engines, buffer, index.block_hashes(buffer, model=MODEL, block_size=BLOCK_SIZE))
