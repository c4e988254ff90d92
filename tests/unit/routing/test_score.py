"""Expected seconds to the first token."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.routing.candidate import IDLE, NO_MATCH, Candidate, CostOptions, Load
from kvsync.routing.score import belief, believed_tokens, estimate, usable_tokens
from kvsync.types import Engine, Match, Trust

OPTIONS = CostOptions()
RATE = 1_000.0
BLOCK = 16


def make_match(blocks: int, trust: Trust = Trust.EXACT, *, medium: str = "GPU", certain: bool = True) -> Match:
    """A match of so many blocks on one medium."""
    return Match(blocks, blocks * BLOCK, {medium: blocks} if blocks else {}, certain, trust)


def make_candidate(match: Match = NO_MATCH, own_tokens: int = 0, load: Load = IDLE) -> Candidate:
    """A candidate at a rate of a thousand tokens a second."""
    return Candidate(Engine("a"), match, own_tokens, BLOCK, load, RATE)


def test_doubt_of_one_medium_leaves_the_others_believed() -> None:
    """After a clear, the lower media are stale; what lies on the GPU is worth what it was."""
    on = {"GPU": Trust.EXACT, "CPU": Trust.STALE}
    gpu = Match(8, 8 * BLOCK, {"GPU": 8}, trust=Trust.STALE, trust_by_medium=on)
    both = Match(8, 8 * BLOCK, {"GPU": 4, "CPU": 4}, trust=Trust.STALE, trust_by_medium=on)
    assert (belief(gpu, OPTIONS), belief(both, OPTIONS)) == (1.0, (1 + OPTIONS.stale_belief) / 2)


def test_an_idle_engine_that_holds_nothing_computes_the_prompt() -> None:
    """The estimate is the prompt at the prefill rate."""
    assert estimate(make_candidate(), 500, OPTIONS).seconds == pytest.approx(0.5)


def test_what_is_held_need_not_be_computed() -> None:
    """A match shortens the prefill by its tokens."""
    made = estimate(make_candidate(make_match(20)), 500, OPTIONS)
    assert made.cached_tokens == 320
    assert made.seconds == pytest.approx(0.180)


def test_what_is_queued_comes_before() -> None:
    """Queued tokens and running requests delay the first token."""
    made = estimate(make_candidate(load=Load(queued_tokens=200, waiting=1, running=2)), 500, OPTIONS)
    assert made.queue_seconds == pytest.approx((200 + 2 * OPTIONS.decode_tokens) / RATE)
    assert made.seconds == pytest.approx(made.queue_seconds + 0.5)


@pytest.mark.parametrize(("prompt_tokens", "cached"), [(0, 0), (1, 0), (16, 0), (17, 16), (32, 16), (33, 32), (99, 64)])
def test_at_least_one_token_is_computed_anew(prompt_tokens: int, cached: int) -> None:
    """Of four blocks held, (T - 1) // block size can be used at most."""
    assert usable_tokens(64, BLOCK, prompt_tokens) == cached
    assert believed_tokens(make_match(4), prompt_tokens, OPTIONS) == cached


def test_a_lower_bound_counts_whole() -> None:
    """A partial record is true as far as it goes."""
    assert belief(make_match(4, Trust.PARTIAL), OPTIONS) == belief(make_match(4, Trust.EXACT), OPTIONS) == 1.0


@pytest.mark.parametrize("trust", [Trust.STALE, Trust.UNKNOWN])
def test_what_may_be_gone_counts_in_part(trust: Trust) -> None:
    """A stale or unknown record is believed in part, in whole blocks."""
    tokens = believed_tokens(make_match(5, trust), 1_000, OPTIONS)
    assert 0 < tokens < 5 * BLOCK
    assert tokens % BLOCK == 0


def test_what_is_not_certain_counts_in_part() -> None:
    """A match that the engine's dialect cannot make certain is believed a little less."""
    assert belief(make_match(4, certain=False), OPTIONS) == OPTIONS.uncertain_belief


def test_a_slower_medium_costs_its_transfer() -> None:
    """GPU is cheaper than CPU, CPU than anything slower, and even that than computing."""
    gpu, cpu, disk = (
        estimate(make_candidate(make_match(20, medium=medium)), 500, OPTIONS).seconds
        for medium in ("GPU", "CPU", "STORAGE")
    )
    assert gpu < cpu < disk < estimate(make_candidate(), 500, OPTIONS).seconds


def test_own_picks_count_whole_and_lie_on_the_gpu() -> None:
    """What an own pick has put there needs neither belief nor transfer."""
    made = estimate(make_candidate(make_match(10, Trust.STALE, medium="CPU"), own_tokens=320), 500, OPTIONS)
    assert (made.cached_tokens, made.transfer_seconds) == (320, 0.0)


@given(
    blocks=st.integers(0, 64),
    more=st.integers(1, 8),
    trust=st.sampled_from(Trust),
    medium=st.sampled_from(["GPU", "CPU", "DISK"]),
    prompt_tokens=st.integers(1, 2_000),
)
def test_the_score_falls_with_the_match(blocks: int, more: int, trust: Trust, medium: str, prompt_tokens: int) -> None:
    """Holding more never costs more."""
    small, large = make_match(blocks, trust, medium=medium), make_match(blocks + more, trust, medium=medium)
    low, high = (estimate(make_candidate(match), prompt_tokens, OPTIONS).seconds for match in (large, small))
    assert low <= high + 1e-12


@given(
    queued=st.floats(0, 1e6),
    running=st.integers(0, 100),
    more=st.floats(0, 1e5),
    others=st.integers(0, 10),
    blocks=st.integers(0, 50),
)
def test_the_score_rises_with_load(queued: float, running: int, more: float, others: int, blocks: int) -> None:
    """Having more to do never makes the first token come sooner."""
    light = make_candidate(make_match(blocks), load=Load(queued, 1, running))
    heavy = replace(light, load=Load(queued + more, 1, running + others))
    assert estimate(heavy, 500, OPTIONS).seconds >= estimate(light, 500, OPTIONS).seconds


@given(
    blocks=st.integers(0, 64), trust=st.sampled_from(Trust), own=st.integers(0, 64), prompt_tokens=st.integers(1, 2_000)
)
def test_the_estimate_is_made_of_its_parts(blocks: int, trust: Trust, own: int, prompt_tokens: int) -> None:
    """The seconds are queue, prefill and transfer; cached tokens are whole blocks, fewer than the prompt."""
    made = estimate(make_candidate(make_match(blocks, trust), own * BLOCK), prompt_tokens, OPTIONS)
    assert made.seconds == pytest.approx(made.queue_seconds + made.prefill_seconds + made.transfer_seconds)
    assert made.cached_tokens % BLOCK == 0
    assert 0 <= made.cached_tokens < prompt_tokens
