"""
What one rank counts: plain numbers, added to in the hot loop and read when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from kvsync.engine.request import Finish

# Bucket bounds as vLLM has them, so that one dashboard fits both.
FIRST_TOKEN_BOUNDS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
WHOLE_REQUEST_BOUNDS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class Histogram:
    """Counts of observations by upper bound; the last count is of those above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """Pairs of bound and how many observations do not exceed it, the last bound being +Inf."""
        pairs, seen = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            seen += count
            pairs.append((bound, seen))
        return pairs


@dataclass(slots=True)
class RankStats:
    """
    Counters since the start; the prefix cache's are in tokens, and leave preempted requests' second look out.
    """

    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    ends: dict[Finish, int] = field(default_factory=lambda: dict.fromkeys(Finish, 0))
    first_token_s: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_BOUNDS_S))
    whole_request_s: Histogram = field(default_factory=lambda: Histogram(WHOLE_REQUEST_BOUNDS_S))

    def looked_up(self, queried: int, hit: int) -> None:
        self.prefix_queries += queried
        self.prefix_hits += hit

    def first_token(self, prompt_tokens: int, after_s: float) -> None:
        self.prompt_tokens += prompt_tokens
        self.first_token_s.observe(after_s)

    def ended(self, finish: Finish, after_s: float | None = None) -> None:
        self.ends[finish] += 1
        if after_s is not None:
            self.whole_request_s.observe(after_s)
