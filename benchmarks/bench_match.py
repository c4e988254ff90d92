"""
Who holds how much of a prompt: the walk alone with block hashes given, and the whole question from tokens.

hot: asked again and again. cold: the processor's caches were emptied before, which is how a router finds them that
does other things between two questions.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from benchmarks.checks import expect
from benchmarks.clock import Timed
from benchmarks.cold import evict
from benchmarks.frames import MODEL
from benchmarks.held import Held, held
from benchmarks.sizes import SIZES
from kvsync.types import Engine, Match


def check(matches: Mapping[Engine, Match], asked: Held) -> None:
    """All engines hold all of it."""
    expect("engines that match", len(matches), asked.engines)
    expect("blocks matched", {match.blocks for match in matches.values()}, {asked.blocks})


class _Cold:
    """One question a setup, so that each meets caches just emptied."""

    number = 1
    warmup_time = 0.0
    repeat = (10, 50, 5.0)


class WalkHot(Timed):
    """
    Seconds of `match_hashes` over `walk_blocks` blocks held by 1 and by `walk_engines` engines.
    """

    params = ([1, SIZES.walk_engines],)
    param_names = ("engines",)

    def setup(self, engines: int) -> None:
        """The index, its answer checked."""
        self.held = held(SIZES.walk_blocks, engines)
        check(self.held.index.match_hashes(self.held.hashes), self.held)

    def time_walk(self, engines: int) -> None:
        """One question."""
        self.held.index.match_hashes(self.held.hashes)


class WalkCold(_Cold, WalkHot):
    """
    The same with empty caches.
    """

    def setup(self, engines: int) -> None:
        """As hot, then the caches are emptied."""
        super().setup(engines)
        evict()


class QueryHot(Timed):
    """
    Seconds of `match` over `walk_blocks` whole blocks of tokens held by `walk_engines` engines.
    """

    params = (["uint32 buffer", "list"],)
    param_names = ("tokens",)

    def setup(self, tokens: str) -> None:
        """The index, its answer checked."""
        self.held = held(SIZES.walk_blocks, SIZES.walk_engines)
        self.tokens: array[int] | list[int] = self.held.tokens.tolist() if tokens == "list" else self.held.tokens
        check(self.held.index.match(self.tokens, model=MODEL), self.held)

    def time_query(self, tokens: str) -> None:
        """One question."""
        self.held.index.match(self.tokens, model=MODEL)


class QueryCold(_Cold, QueryHot):
    """
    The same with empty caches.
    """

    def setup(self, tokens: str) -> None:
        """As hot, then the caches are emptied."""
        super().setup(tokens)
        evict()


class Miss(Timed):
    """
    Seconds of a question nobody matches: the floor of one call.
    """

    def setup(self) -> None:
        """A block nobody holds, asked of an index that holds others."""
        self.held = held(SIZES.walk_blocks, SIZES.walk_engines)
        self.tokens = array("I", range(16))
        self.hashes = array("Q", [1])
        expect("engines that match", len(self.held.index.match(self.tokens, model=MODEL)), 0)
        expect("engines that match", len(self.held.index.match_hashes(self.hashes)), 0)

    def time_tokens(self) -> None:
        """A block of tokens."""
        self.held.index.match(self.tokens, model=MODEL)

    def time_hashes(self) -> None:
        """A block hash."""
        self.held.index.match_hashes(self.hashes)


class Score(Timed):
    """
    Seconds to score `score_keys` block hashes for `score_pods` pods.
    """

    def setup(self) -> None:
        """The index, its answer checked."""
        self.held = held(SIZES.score_keys, SIZES.score_pods)
        check(self.held.index.match_hashes(self.held.hashes), self.held)

    def time_score(self) -> None:
        """One question."""
        self.held.index.match_hashes(self.held.hashes)
