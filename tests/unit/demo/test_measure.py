"""The figures of one run."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.demo.measure import Outcome, max_over_mean, percentile, summarise

PODS = ("a", "b", "c", "d")


def outcome(pod: str, prompt: int, cached: int, ttft_s: float) -> Outcome:
    """One answered request."""
    return Outcome(pod, array("I", range(prompt)), array("I"), cached, ttft_s)


def test_a_run_is_summed_up_over_tokens_not_over_requests() -> None:
    """The hit rate weighs long prompts more, times are plain means, and a pod without requests counts."""
    result = summarise([outcome("a", 100, 90, 0.1), outcome("a", 300, 0, 0.3), outcome("b", 100, 10, 0.2)], PODS, 5.0)
    assert result.requests == 3
    assert result.hit_rate == pytest.approx(0.2)
    assert result.requests_max_over_mean == pytest.approx(2 / (3 / 4))
    assert result.ttft_mean_s == pytest.approx(0.2)
    assert result.ttft_p99_s == 0.3
    assert result.seconds == 5.0


def test_a_run_without_requests_has_figures() -> None:
    """Nothing asked is no division by zero."""
    result = summarise([], PODS, 0.0)
    assert (result.hit_rate, result.requests_max_over_mean, result.ttft_p99_s) == (0.0, 1.0, 0.0)


def test_the_json_has_the_promised_names() -> None:
    """The four figures that others read are there, beside the number of requests and the time."""
    assert summarise([outcome("a", 10, 0, 0.1)], PODS, 1.0).to_json().keys() == {
        *("hit_rate", "requests_max_over_mean", "ttft_mean_s", "ttft_p99_s", "requests", "seconds")
    }


def test_perfect_balance_is_one() -> None:
    """As many requests everywhere give 1, all on one pod give the number of pods."""
    assert max_over_mean(list(PODS) * 3, PODS) == 1.0
    assert max_over_mean(["a"] * 5, PODS) == len(PODS)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.integers(0, 100))
def test_a_percentile_is_one_of_the_values(values: list[float], percent: int) -> None:
    """It is the least value that enough of them do not exceed, as numpy's inverted distribution."""
    assert percentile(values, percent) == np.percentile(values, percent, method="inverted_cdf")


def test_no_values_have_no_percentile() -> None:
    """Of nothing it is 0."""
    assert percentile([], 99) == 0.0
