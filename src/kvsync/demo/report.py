"""
What a demo came to, and whether kvsync kept its promises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvsync.demo.measure import PolicyResult

COST = "cost"
ROUND_ROBIN = "round-robin"

IDEAL_SHARE_MIN = 0.9
"""`cost` reaches at least this share of what one infinite cache would reach."""

MAX_OVER_MEAN_MAX = 1.3
"""Under `cost` no pod gets more than this many times its fair share of the requests."""

REQUESTS_MIN = 200
"""With fewer requests a policy, cold caches decide more than the policy does, and only the truth is judged."""


@dataclass(frozen=True, slots=True)
class Report:
    """
    The outcome of all runs, in the order they were made.

    `differences` are sentences, one for each block on which the index and an engine disagree.
    """

    policies: Mapping[str, PolicyResult]
    ideal_hit_rate: float
    differences: tuple[str, ...]
    events: int

    @property
    def index_equals_truth(self) -> bool:
        return not self.differences

    @property
    def requests(self) -> int:
        """Of all policies together."""
        return sum(result.requests for result in self.policies.values())

    @property
    def is_long_enough(self) -> bool:
        """Whether there was traffic enough to judge the policies by."""
        return all(result.requests >= REQUESTS_MIN for result in self.policies.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "policies": {name: result.to_json() for name, result in self.policies.items()},
            "ideal_hit_rate": round(self.ideal_hit_rate, 4),
            "index_equals_truth": self.index_equals_truth,
            "events": self.events,
            "requests": self.requests,
        }

    def broken_promises(self) -> Iterator[str]:
        """Say what did not hold; nothing when all is well."""
        if self.differences:
            yield (
                f"the index differs from what the engines hold in {len(self.differences)} places,"
                f" the first: {self.differences[0]}"
            )
        if not self.events:
            yield "no event reached the index"
        cost = self.policies.get(COST)
        if cost is not None and self.is_long_enough:
            yield from self._broken_by_cost(cost)

    def _broken_by_cost(self, cost: PolicyResult) -> Iterator[str]:
        if cost.hit_rate < IDEAL_SHARE_MIN * self.ideal_hit_rate:
            yield (
                f"cost has a hit rate of {cost.hit_rate:.3f}, under {IDEAL_SHARE_MIN:.0%} of the"
                f" {self.ideal_hit_rate:.3f} that one infinite cache would have"
            )
        if cost.requests_max_over_mean > MAX_OVER_MEAN_MAX:
            yield (
                f"cost gave one pod {cost.requests_max_over_mean:.2f} times its share of the requests,"
                f" more than {MAX_OVER_MEAN_MAX}"
            )
        other = self.policies.get(ROUND_ROBIN)
        if other is not None and cost.hit_rate <= other.hit_rate:
            yield f"cost has a hit rate of {cost.hit_rate:.3f}, no better than round-robin's {other.hit_rate:.3f}"
