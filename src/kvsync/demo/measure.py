"""
What one run of the traffic came to: every request's outcome, and the figures a comparison is made of.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kvsync.demo.ideal import Served


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    One answered request, as its sender saw it.

    `cached_tokens` is what the engine itself reported. `ttft_s` is from sending to the first token of the answer.
    """

    pod: str
    prompt: array[int]
    answer: array[int]
    cached_tokens: int
    ttft_s: float

    def served(self) -> Served:
        return Served(self.prompt, self.answer)


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """How one policy did, in the words of the demo's JSON."""

    requests: int
    hit_rate: float
    requests_max_over_mean: float
    ttft_mean_s: float
    ttft_p99_s: float
    seconds: float
    """From the first request to the end of the last answer."""

    def to_json(self) -> dict[str, float]:
        return {
            "hit_rate": round(self.hit_rate, 4),
            "requests_max_over_mean": round(self.requests_max_over_mean, 4),
            "ttft_mean_s": round(self.ttft_mean_s, 4),
            "ttft_p99_s": round(self.ttft_p99_s, 4),
            "requests": self.requests,
            "seconds": round(self.seconds, 2),
        }


def summarise(outcomes: Sequence[Outcome], pods: Sequence[str], seconds: float) -> PolicyResult:
    """Sum up the run of one policy over `pods`; a pod that got nothing counts in the mean."""
    times = [outcome.ttft_s for outcome in outcomes]
    asked = sum(len(outcome.prompt) for outcome in outcomes)
    cached = sum(outcome.cached_tokens for outcome in outcomes)
    return PolicyResult(
        requests=len(outcomes),
        hit_rate=cached / asked if asked else 0.0,
        requests_max_over_mean=max_over_mean([outcome.pod for outcome in outcomes], pods),
        ttft_mean_s=sum(times) / len(times) if times else 0.0,
        ttft_p99_s=percentile(times, 99),
        seconds=seconds,
    )


def max_over_mean(served_by: Sequence[str], pods: Sequence[str]) -> float:
    """How many times its fair share of the requests the busiest pod got: 1.0 is perfect balance, or no requests."""
    if not served_by:
        return 1.0
    return max(Counter(served_by).values()) * len(pods) / len(served_by)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed; 0.0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
