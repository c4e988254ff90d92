"""An engine's cache is gone: cleared, or the engine itself removed."""

from __future__ import annotations

from functools import cache

from benchmarks.checks import expect_entries
from benchmarks.clock import Timed
from benchmarks.frames import MODEL, batches, engine, generator, prompt, store_events
from benchmarks.sizes import PROMPT_BLOCKS, SIZES
from kvsync.index import Index


@cache
def frames(blocks: int) -> tuple[bytes, ...]:
    """What stores so many blocks."""
    random = generator(6)
    whole, rest = divmod(blocks, PROMPT_BLOCKS)
    lengths = [PROMPT_BLOCKS] * whole + [rest] * (rest > 0)
    return tuple(batches(store_events((prompt(random, length) for length in lengths), 32), 32))


class Clear(Timed):
    """
    Seconds until an engine that held so many blocks holds none; another goes on holding the same ones.
    """

    params = (list(SIZES.clear_blocks),)
    param_names = ("blocks",)
    number = 1
    warmup_time = 0.0

    def setup(self, blocks: int) -> None:
        """Two engines with the same blocks, so that no block itself goes."""
        self.index = Index(seed=1)
        for number in (0, 1):
            for frame in frames(blocks):
                self.index.apply(engine(number), frame, model=MODEL)
        expect_entries(self.index, 2 * blocks)

    def teardown(self, blocks: int) -> None:
        """One is empty, the other as before."""
        expect_entries(self.index, blocks)
        self.index.close()

    def time_clear(self, blocks: int) -> None:
        """All blocks of all media."""
        self.index.clear(engine(0))

    def time_remove(self, blocks: int) -> None:
        """The engine too."""
        self.index.remove(engine(0))
