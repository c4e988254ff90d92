"""What the demo shows while it runs."""

from __future__ import annotations

from array import array

from kvsync.demo.measure import Outcome
from kvsync.demo.screen import Tally
from kvsync.demo.stage import PodStatus


def test_progress_joins_outcomes_with_what_the_daemon_knows() -> None:
    """Requests and hits come from the answers; blocks, events and trust from the daemon, unknown where it is silent."""
    tally = Tally(["a", "b"])
    tally.add(Outcome("a", array("I", range(10)), array("I"), 5, 0.2))
    tally.add(Outcome("a", array("I", range(10)), array("I"), 10, 0.4))
    seen = tally.progress("cost", 3.0, 9, {"a": PodStatus(40, 100, "exact")}, {"a": 12.5})
    assert (seen.policy, seen.elapsed_s, seen.requests, seen.planned) == ("cost", 3.0, 2, 9)
    assert seen.hit_rate == 0.75
    assert round(seen.ttft_mean_s, 6) == 0.3
    first, second = seen.rows
    assert (first.pod, first.requests, first.hit_rate, first.blocks, first.events_per_s) == ("a", 2, 0.75, 40, 12.5)
    assert (second.pod, second.requests, second.hit_rate, second.trust) == ("b", 0, 0.0, "unknown")


def test_nothing_yet_is_no_error() -> None:
    """Before the first answer all figures are zero."""
    seen = Tally(["a"]).progress("cost", 0.0, 9, {}, {})
    assert (seen.requests, seen.hit_rate, seen.ttft_mean_s) == (0, 0.0, 0.0)


def test_an_engine_without_a_record_has_a_status() -> None:
    """An engine that the daemon never heard has no counters."""
    assert PodStatus.from_json({"blocks": 0, "trust": "unknown"}) == PodStatus(0, 0, "unknown")
