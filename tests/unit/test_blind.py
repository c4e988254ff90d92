"""The benchmark of several daemons that do not know of each other's requests, at a size that takes no time."""

from __future__ import annotations

from tests.benchmarking import load


def test_blind_routers_cost_something_and_are_repeatable() -> None:
    """One router that knows of all is sooner than several that do not, on the same requests, every time."""
    blind = load("blind")
    one, four = (blind.run(routers, 4, 0.7, 300, 1) for routers in (1, 4))
    assert one["ttft_mean_s"] < four["ttft_mean_s"]
    assert 0 < one["hit_rate"] < 1
    assert blind.run(4, 4, 0.7, 300, 1) == four
