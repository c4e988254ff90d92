"""A guess at caches that tell nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.routing.chains import chain

from kvsync.routing.approximate import ApproximateRecord
from kvsync.types import Engine

A, B = Engine("a"), Engine("b")


def test_what_was_sent_is_probably_there() -> None:
    """As far as prompts agree, on the engine that got it."""
    record = ApproximateRecord()
    record.enter(A, chain([1, 2, 3]), 0.0)
    assert record.blocks(A, chain([1, 2, 9]), 0.0) == 2
    assert record.blocks(A, chain([9]), 0.0) == 0
    assert record.blocks(B, chain([1]), 0.0) == 0


def test_the_end_of_what_was_used_longest_ago_goes_first() -> None:
    """Bounded like a cache: prefixes stay whole, and use keeps alive."""
    record = ApproximateRecord(blocks_max=4)
    record.enter(A, chain([1, 2]), 0.0)
    record.enter(A, chain([5, 6]), 1.0)
    record.enter(A, chain([1, 2]), 2.0)
    record.enter(A, chain([7]), 3.0)
    assert [record.blocks(A, chain(prompt), 3.0) for prompt in ([1, 2], [5, 6], [7])] == [2, 1, 1]


def test_what_nobody_used_for_long_is_gone() -> None:
    """The record expires."""
    record = ApproximateRecord(expiry=10.0)
    record.enter(A, chain([1]), 0.0)
    assert record.blocks(A, chain([1]), 9.0) == 1
    assert record.blocks(A, chain([1]), 10.0) == 0


def test_fewer_cached_than_predicted_forgets_what_is_older() -> None:
    """The engine's cache is smaller than we thought: what was used before this prompt has gone too."""
    record = ApproximateRecord()
    record.enter(A, chain([1, 2]), 0.0)
    record.enter(A, chain([5, 6]), 1.0)
    record.correct(A, chain([5, 6]), predicted_blocks=2, actual_blocks=2)
    assert record.blocks(A, chain([1, 2]), 1.0) == 2
    record.correct(A, chain([5, 6]), predicted_blocks=2, actual_blocks=0)
    assert [record.blocks(A, chain(prompt), 1.0) for prompt in ([1, 2], [5, 6])] == [0, 2]


def test_a_correction_of_what_is_not_known_does_nothing() -> None:
    """The prompt may have been forgotten meanwhile."""
    record = ApproximateRecord()
    record.correct(A, chain([1]), predicted_blocks=1, actual_blocks=0)
    record.enter(A, chain([1]), 0.0)
    record.correct(A, chain([9]), predicted_blocks=1, actual_blocks=0)
    record.correct(A, [], predicted_blocks=1, actual_blocks=0)
    assert record.blocks(A, chain([1]), 0.0) == 1


def test_a_forgotten_engine_holds_nothing() -> None:
    """It is gone, or began anew."""
    record = ApproximateRecord()
    record.enter(A, chain([1]), 0.0)
    record.forget(A)
    assert record.blocks(A, chain([1]), 0.0) == 0


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12), st.integers(1, 12))
def test_prefixes_stay_whole_and_the_bound_holds(prompts: list[list[int]], blocks_max: int) -> None:
    """After any prompts, a block is only held with all before it, and the last prompt is held as far as it fits."""
    record = ApproximateRecord(blocks_max=blocks_max)
    for now, prompt in enumerate(prompts):
        record.enter(A, chain(prompt), float(now))
    for prompt in prompts:
        held = record.blocks(A, chain(prompt), float(len(prompts)))
        assert held == max(n for n in range(len(prompt) + 1) if record.blocks(A, chain(prompt[:n]), 0.0) == n)
    if prompts:
        assert record.blocks(A, chain(prompts[-1]), float(len(prompts))) == min(len(prompts[-1]), blocks_max)
