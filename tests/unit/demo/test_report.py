"""The demo's verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kvsync.demo.measure import PolicyResult
from kvsync.demo.report import Report

COST = PolicyResult(
    requests=300, hit_rate=0.70, requests_max_over_mean=1.1, ttft_mean_s=0.3, ttft_p99_s=0.8, seconds=21.0
)
OTHER = replace(COST, hit_rate=0.4, requests_max_over_mean=1.0)
GOOD = Report({"cost": COST, "round-robin": OTHER}, ideal_hit_rate=0.74, differences=(), events=9)


def broken(report: Report, **cost: float) -> list[str]:
    """The sentences, with other figures for cost."""
    changed = replace(COST, **cost)  # type: ignore[arg-type]  # figures by name
    return list(replace(report, policies={**report.policies, "cost": changed}).broken_promises())


def test_a_good_run_breaks_no_promise() -> None:
    """Enough hits, balance and truth leave nothing to say."""
    assert list(GOOD.broken_promises()) == []


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"hit_rate": 0.66}, "one infinite cache"),
        ({"requests_max_over_mean": 1.31}, "times its share"),
    ],
)
def test_a_promise_broken_by_cost_is_a_sentence(figures: dict[str, float], said: str) -> None:
    """Each figure beyond its bound is told with the bound."""
    [sentence] = broken(GOOD, **figures)
    assert said in sentence


def test_cost_must_beat_round_robin() -> None:
    """Equal hits are not enough."""
    even = replace(GOOD, policies={"cost": COST, "round-robin": replace(OTHER, hit_rate=COST.hit_rate)})
    assert ["no better than round-robin" in sentence for sentence in even.broken_promises()] == [True]


def test_a_difference_from_the_truth_is_always_told() -> None:
    """Also in a run too short to judge the policies by."""
    short = {name: replace(result, requests=10, hit_rate=0.0) for name, result in GOOD.policies.items()}
    wrong = replace(GOOD, policies=short, differences=("cost: pod-0: GPU group 0 hash 1: ...",))
    [sentence] = wrong.broken_promises()
    assert "differs" in sentence
    assert not wrong.index_equals_truth


def test_a_short_run_judges_no_policy() -> None:
    """With few requests, cold caches decide: only the truth counts."""
    assert broken(GOOD, requests=10, hit_rate=0.1, requests_max_over_mean=3.0) == []


def test_silence_is_no_success() -> None:
    """A run in which no event came proves nothing, and says so."""
    assert list(replace(GOOD, events=0).broken_promises()) == ["no event reached the index"]


def test_policies_beside_cost_promise_nothing() -> None:
    """Without cost there is only the truth to hold to."""
    assert list(replace(GOOD, policies={"round-robin": OTHER}).broken_promises()) == []


def test_the_document_has_the_promised_names() -> None:
    """What acceptance checks read is there, and is JSON."""
    document = json.loads(json.dumps(GOOD.to_json()))
    assert document.keys() == {"policies", "ideal_hit_rate", "index_equals_truth", "events", "requests"}
    assert list(document["policies"]) == ["cost", "round-robin"]
    assert document["index_equals_truth"] is True
    assert document["requests"] == 600
