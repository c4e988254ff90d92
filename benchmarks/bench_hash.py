"""Tokens to block hashes, without asking anybody."""

from __future__ import annotations

from array import array

from benchmarks.checks import expect
from benchmarks.clock import Timed
from benchmarks.frames import MODEL, generator, tokens_of
from benchmarks.sizes import BLOCK_SIZE, SIZES
from kvsync.index import Index


class Hash(Timed):
    """
    Seconds of `block_hashes` for `walk_blocks` blocks of 16 tokens.
    """

    params = (["uint32 buffer", "list"],)
    param_names = ("tokens",)

    def setup(self, tokens: str) -> None:
        """An empty index, its hashes checked: the hash of a block depends on what stands before it, and on no more."""
        made = tokens_of(generator(5), SIZES.walk_blocks)
        self.tokens: array[int] | list[int] = made.tolist() if tokens == "list" else array("I", made.tobytes())
        self.index = Index(seed=1)
        hashes = self.index.block_hashes(self.tokens, model=MODEL, block_size=BLOCK_SIZE)
        half = len(hashes) // 2
        of_half = self.index.block_hashes(self.tokens[: half * BLOCK_SIZE], model=MODEL, block_size=BLOCK_SIZE)
        expect("distinct hashes", len(set(hashes)), SIZES.walk_blocks)
        expect("hashes of the first half", of_half, hashes[:half])

    def teardown(self, tokens: str) -> None:
        """Give the index back."""
        self.index.close()

    def time_hash(self, tokens: str) -> None:
        """All blocks of one prompt."""
        self.index.block_hashes(self.tokens, model=MODEL, block_size=BLOCK_SIZE)
