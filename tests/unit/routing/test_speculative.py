"""Own picks, before events tell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.routing.chains import chain, common

from kvsync.routing.speculative import EXPIRY, GRACE, OwnPicks, common_blocks
from kvsync.types import Engine

A, B = Engine("a"), Engine("b")
PROMPT = [11, 22, 33, 44]
LONGER = [*PROMPT, 55]
PARTING = [11, 22, 77]


def test_a_pick_counts_at_once() -> None:
    """The next prompt that begins alike finds it, as far as they agree; other engines know nothing."""
    picks = OwnPicks()
    picks.add(A, PROMPT, 0.0)
    assert picks.blocks(A, LONGER, 0.0) == 4
    assert picks.blocks(A, PARTING, 0.0) == 2
    assert picks.blocks(A, [99], 0.0) == 0
    assert picks.blocks(A, [], 0.0) == 0
    assert picks.blocks(B, PROMPT, 0.0) == 0


def test_the_longest_pick_counts() -> None:
    """In whatever order they were made."""
    picks = OwnPicks()
    picks.add(A, LONGER, 0.0)
    picks.add(A, PARTING, 0.0)
    assert picks.blocks(A, LONGER, 0.0) == 5


def test_a_pick_expires() -> None:
    """What nobody settles does not last."""
    picks = OwnPicks()
    picks.add(A, PROMPT, 0.0)
    assert picks.blocks(A, PROMPT, EXPIRY - 1) == 4
    assert picks.blocks(A, PROMPT, EXPIRY) == 0


def test_a_request_that_computed_nothing_leaves_nothing() -> None:
    """It is forgotten at once, and picks of the same beginning stay."""
    picks = OwnPicks()
    picks.add(A, PROMPT, 0.0)
    failed = picks.add(A, LONGER, 0.0)
    picks.settle(failed, 1.0, computed=False)
    assert picks.blocks(A, LONGER, 1.0) == 4


def test_a_finished_request_counts_for_a_grace() -> None:
    """By then the events have come."""
    picks = OwnPicks()
    picks.settle(picks.add(A, PROMPT, 0.0), 1.0, computed=True)
    assert picks.blocks(A, PROMPT, 1.0 + GRACE / 2) == 4
    assert picks.blocks(A, PROMPT, 1.0 + GRACE) == 0


def test_picks_are_bounded() -> None:
    """The oldest goes first."""
    picks = OwnPicks(picks_max=2)
    for prompt in ([1], [2], [3]):
        picks.add(A, prompt, 0.0)
    assert [picks.blocks(A, [number], 0.0) for number in (1, 2, 3)] == [0, 1, 1]


def test_a_forgotten_engine_has_no_picks() -> None:
    """Its cache began anew."""
    picks = OwnPicks()
    picks.add(A, PROMPT, 0.0)
    picks.forget(A)
    picks.forget(B)
    assert picks.blocks(A, PROMPT, 0.0) == 0


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_halving_finds_what_counting_finds(left: list[int], right: list[int]) -> None:
    """For chained hashes the common beginning is the number of leading pairs that agree."""
    assert common_blocks(chain(left), chain(right)) == common(left, right)


@given(st.lists(st.lists(st.integers(0, 1), max_size=8), max_size=8), st.lists(st.integers(0, 1), max_size=8))
def test_the_best_of_all_picks_is_found(prompts: list[list[int]], query: list[int]) -> None:
    """As if every pick were compared in full."""
    picks = OwnPicks()
    for prompt in prompts:
        picks.add(A, chain(prompt), 0.0)
    best = max((common(prompt, query) for prompt in prompts), default=0)
    assert picks.blocks(A, chain(query), 0.0) == best
