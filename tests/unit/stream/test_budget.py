"""A mad publisher is read no faster than any engine would send for long."""

from __future__ import annotations

from kvsync.stream.budget import COUNTED_BYTES, Budget, cost_of


def test_a_burst_is_free() -> None:
    """What an engine sends after a quiet time is read at once, up to the burst."""
    budget = Budget(10.0, 100)
    assert budget.allowed(1_000, 0.0) == 100
    budget.spend(100)
    assert budget.allowed(1_000, 0.0) == 0


def test_a_budget_fills_up_with_time() -> None:
    """So many a second come back, and never more than the burst."""
    budget = Budget(10.0, 100)
    budget.allowed(1_000, 0.0)
    budget.spend(100)
    assert budget.allowed(1_000, 1.0) == 10
    assert budget.allowed(1_000, 1_000.0) == 100


def test_what_had_to_be_read_is_a_debt() -> None:
    """Frames that could not be left are paid back before more is read."""
    budget = Budget(10.0, 100)
    budget.allowed(1_000, 0.0)
    budget.spend(120)
    assert budget.allowed(1_000, 1.0) == 0
    assert budget.allowed(1_000, 3.0) == 10


def test_large_frames_count_for_several() -> None:
    """By the bytes of what comes together; a few small frames count once each."""
    assert cost_of(0, 0) == 0
    assert cost_of(2, COUNTED_BYTES - 1) == 2
    assert cost_of(2, 4 * COUNTED_BYTES - 1) == 2 + 3


def test_without_a_limit_nothing_is_counted() -> None:
    """None reads whatever comes."""
    budget = Budget(None, 0)
    budget.spend(10**9)
    assert budget.allowed(10**6, 0.0) == 10**6


def test_no_more_is_allowed_than_is_wanted() -> None:
    """A turn takes what it can hold, whatever the budget would bear."""
    assert Budget(10.0, 100).allowed(7, 0.0) == 7
