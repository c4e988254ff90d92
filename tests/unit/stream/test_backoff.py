"""Pauses grow to a cap, and engines do not come back together."""

from __future__ import annotations

from random import Random

from kvsync.stream.backoff import Backoff


def test_pauses_grow_to_the_cap_and_start_over() -> None:
    """No pause exceeds the cap, and success makes the next one short again."""
    backoff = Backoff(0.2, 5.0, Random(1))
    pauses = [backoff.pause() for _ in range(20)]
    assert 0.15 <= pauses[0] <= 0.2
    assert max(pauses) <= 5.0
    assert min(pauses[10:]) >= 3.75
    backoff.reset()
    assert backoff.pause() <= 0.2


def test_two_engines_do_not_pause_alike() -> None:
    """Each draws its own lots."""
    first, second = Backoff(0.2, 5.0, Random(1)), Backoff(0.2, 5.0, Random(2))
    assert [first.pause() for _ in range(5)] != [second.pause() for _ in range(5)]
