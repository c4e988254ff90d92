"""The prefill rate, known or learned."""

from __future__ import annotations

import pytest

from kvsync.routing.rate import RATE_DEFAULT, RATE_MAX, TOKENS_MIN, PrefillRate


def test_it_begins_at_the_default() -> None:
    """Nothing was seen yet."""
    assert PrefillRate().tokens_per_second == RATE_DEFAULT


def test_a_known_rate_stays() -> None:
    """What the operator says is not argued with."""
    rate = PrefillRate(5_000)
    rate.observe(1_000, 10.0)
    assert rate.tokens_per_second == 5_000


@pytest.mark.parametrize("truth", [200.0, 2_000.0, 100_000.0])
def test_it_comes_near_the_truth_soon(truth: float) -> None:
    """After ten requests of a thousand tokens it is within 30 %, after two hundred within 2 %."""
    rate = PrefillRate()
    for _ in range(10):
        rate.observe(1_000, 1_000 / truth)
    assert rate.tokens_per_second == pytest.approx(truth, rel=0.3)
    for _ in range(190):
        rate.observe(1_000, 1_000 / truth)
    assert rate.tokens_per_second == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("truth", [200.0, 2_800.0, 100_000.0])
def test_the_first_tokens_are_enough_to_begin_with(truth: float) -> None:
    """Before any answer has ended, two first tokens of a thousand tokens each bring it within a factor of 1.8."""
    rate = PrefillRate()
    for _ in range(2):
        rate.guess(1_000, 1_000 / truth)
    assert truth / 1.8 < rate.tokens_per_second < truth * 1.8


def test_what_was_observed_is_not_guessed_again() -> None:
    """Once an engine has said what it had cached, predictions of that teach nothing."""
    rate = PrefillRate()
    rate.observe(1_000, 1.0)
    known = rate.tokens_per_second
    rate.guess(1_000, 0.001)
    assert rate.tokens_per_second == known


def test_what_tells_nothing_does_not_end_the_guessing() -> None:
    """An answer that was cached but for a few tokens is no observation."""
    rate = PrefillRate()
    rate.observe(TOKENS_MIN - 1, 1.0)
    rate.guess(1_000, 1.0)
    assert rate.tokens_per_second == pytest.approx(1_000, rel=0.5)


def test_prompts_computed_together_give_the_rate_of_both() -> None:
    """One seems to take all of the time and the other none."""
    rate = PrefillRate()
    for _ in range(200):
        rate.observe(500, 0.5)
        rate.observe(500, 0.0)
    assert rate.tokens_per_second == pytest.approx(2_000, rel=0.02)


def test_short_prefills_and_impossible_times_tell_nothing() -> None:
    """Below the minimum the network is what is measured."""
    rate = PrefillRate()
    rate.observe(TOKENS_MIN - 1, 100.0)
    rate.observe(10_000, -1.0)
    assert rate.tokens_per_second == RATE_DEFAULT


def test_it_stays_within_reason() -> None:
    """A clock that stands still does not make an engine infinitely fast."""
    rate = PrefillRate()
    for _ in range(5_000):
        rate.observe(1_000_000, 0.0)
    assert rate.tokens_per_second == RATE_MAX
