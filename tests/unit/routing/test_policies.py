"""Every policy, and what each is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.routing.candidate import Candidate, Load, Question
from kvsync.routing.policies import (
    BUILT_IN,
    IMBALANCE_MAX,
    Policy,
    consistent_hash,
    cost,
    least_loaded,
    prefix,
    random,
    round_robin,
)
from kvsync.types import Engine, Match, Trust

BLOCK = 16
PROMPT = 1_600
RATE = 1_000.0


def make_candidate(
    name: str,
    blocks: int = 0,
    *,
    queued: float = 0,
    waiting: int = 0,
    running: int = 0,
    trust: Trust = Trust.EXACT,
    own: int = 0,
) -> Candidate:
    """A candidate that holds so many blocks and has so much to do."""
    match = Match(blocks, blocks * BLOCK, {"GPU": blocks} if blocks else {}, True, trust)
    return Candidate(Engine(name), match, own * BLOCK, BLOCK, Load(queued, waiting, running), RATE)


def ask(*candidates: Candidate, turn: int = 0, affinity: int = 0, seed: int = 0) -> Question:
    """A question with these candidates."""
    return Question(PROMPT, candidates, turn, affinity, Random(seed))


def chosen(policy: Policy, questions: Sequence[Question]) -> Counter[str]:
    """How often each pod was chosen."""
    return Counter(policy(question).candidate.engine.pod for question in questions)


CANDIDATES = st.lists(
    st.builds(
        make_candidate,
        st.just("x"),
        st.integers(0, 120),
        queued=st.floats(0, 1e6),
        waiting=st.integers(0, 20),
        running=st.integers(0, 50),
        trust=st.sampled_from(Trust),
        own=st.integers(0, 120),
    ),
    min_size=1,
    max_size=9,
).map(
    lambda made: tuple(
        Candidate(Engine(f"p{i}"), c.match, c.own_tokens, BLOCK, c.load, RATE) for i, c in enumerate(made)
    )
)


@pytest.mark.parametrize("name", BUILT_IN)
@given(candidates=CANDIDATES, turn=st.integers(0, 100), affinity=st.integers(0, 2**64 - 1), seed=st.integers(0, 9))
def test_the_choice_is_a_candidate(
    name: str, candidates: tuple[Candidate, ...], turn: int, affinity: int, seed: int
) -> None:
    """Whatever the candidates hold and do, one of them is chosen, with a reason that names it on one line."""
    choice = BUILT_IN[name](Question(PROMPT, candidates, turn, affinity, Random(seed)))
    assert choice.candidate in candidates
    assert str(choice.candidate.engine) in choice.reason
    assert "\n" not in choice.reason


@pytest.mark.parametrize("name", BUILT_IN)
def test_equal_candidates_are_spread(name: str) -> None:
    """Over many questions each of four equal candidates gets its share; for hashing, over many beginnings."""
    candidates, chance = [make_candidate(pod) for pod in "abcd"], Random(7)
    counts = chosen(
        BUILT_IN[name],
        [Question(PROMPT, tuple(candidates), turn, chance.getrandbits(64), chance) for turn in range(400)],
    )
    assert set(counts) == set("abcd")
    assert min(counts.values()) > 60


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_question_has_the_same_answer(name: str) -> None:
    """Chance comes from the question alone."""
    candidates = [make_candidate(pod, blocks) for pod, blocks in zip("abcd", (3, 0, 3, 1), strict=True)]
    first, second = (BUILT_IN[name](ask(*candidates, turn=5, affinity=9, seed=3)) for _ in range(2))
    assert first == second


def test_cost_goes_where_the_prefix_lies() -> None:
    """With equal load the longest match wins, and the reason says how much is cached."""
    choice = cost(ask(make_candidate("a"), make_candidate("b", 60), make_candidate("c", 20)))
    assert choice.candidate.engine.pod == "b"
    assert "960 of 1600 tokens cached" in choice.reason


def test_cost_leaves_a_busy_holder() -> None:
    """Where computing elsewhere is sooner than waiting, it is computed elsewhere."""
    assert cost(ask(make_candidate("a", 60, queued=2_000, waiting=2), make_candidate("b"))).candidate.engine.pod == "b"


def test_cost_waits_for_a_holder_that_is_soon_free() -> None:
    """Where waiting is sooner than computing, it waits."""
    assert cost(ask(make_candidate("a", 60, queued=500, waiting=1), make_candidate("b"))).candidate.engine.pod == "a"


def test_cost_prefers_an_exact_record_to_a_stale_one() -> None:
    """Equal matches are not equally likely to be true."""
    candidates = [make_candidate("a", 60, trust=Trust.STALE), make_candidate("b", 60)]
    assert cost(ask(*candidates)).candidate.engine.pod == "b"


def test_cost_breaks_ties_by_cache_then_by_requests() -> None:
    """Among estimates that are equal for all we know, the larger cache wins, then the fewer requests."""
    near = [make_candidate("a", queued=1_000, own=62, waiting=1), make_candidate("b")]
    assert chosen(cost, [ask(*near, seed=seed) for seed in range(20)]) == {"a": 20}
    equal = [make_candidate("a", 30, waiting=3), make_candidate("b", 30, waiting=1)]
    assert chosen(cost, [ask(*equal, seed=seed) for seed in range(20)]) == {"b": 20}


def test_round_robin_takes_turns() -> None:
    """One after the other, whatever they hold."""
    candidates = [make_candidate("a", 90), make_candidate("b"), make_candidate("c", running=40)]
    picks = [round_robin(ask(*candidates, turn=turn)).candidate.engine.pod for turn in range(6)]
    assert "".join(picks) == "abcabc"


def test_least_loaded_looks_at_the_queue_then_at_requests() -> None:
    """Queued tokens count first."""
    assert least_loaded(ask(make_candidate("a", queued=9), make_candidate("b", running=9))).candidate.engine.pod == "b"
    assert least_loaded(ask(make_candidate("a", running=1), make_candidate("b", running=9))).candidate.engine.pod == "a"


def test_random_ignores_everything() -> None:
    """A full cache draws nobody, a long queue repels nobody."""
    counts = chosen(random, [ask(make_candidate("a", 90), make_candidate("b", queued=1e6), seed=n) for n in range(100)])
    assert min(counts.values()) > 25


def test_prefix_goes_where_the_prefix_lies() -> None:
    """With even load the longest match wins."""
    assert (
        prefix(ask(make_candidate("a", 10), make_candidate("b", 60), make_candidate("c"))).candidate.engine.pod == "b"
    )


def test_prefix_gives_way_to_load_when_it_is_uneven() -> None:
    """Beyond the gate only load counts."""
    candidates = [make_candidate("a", 60, running=IMBALANCE_MAX + 1), make_candidate("b")]
    choice = prefix(ask(*candidates))
    assert choice.candidate.engine.pod == "b"
    assert "uneven" in choice.reason


def test_prefix_skips_a_holder_far_above_the_mean() -> None:
    """A holder with more than mean plus deviation requests is left alone."""
    candidates = [make_candidate("a", 60, running=6), *(make_candidate(pod, running=1) for pod in "bcd")]
    assert prefix(ask(*candidates)).candidate.engine.pod in "bcd"


def test_consistent_hash_is_faithful() -> None:
    """A beginning stays where it is when another pod goes, as long as load is even."""
    candidates = [make_candidate(pod) for pod in "abcdef"]
    for affinity in range(50):
        first = consistent_hash(ask(*candidates, affinity=affinity)).candidate
        fewer = [candidate for candidate in candidates if candidate.engine.pod != "c"]
        if first.engine.pod != "c":
            assert consistent_hash(ask(*fewer, affinity=affinity)).candidate == first


def test_consistent_hash_is_bounded() -> None:
    """A pod with more than its share of requests is passed over."""
    home = consistent_hash(ask(make_candidate("a"), make_candidate("b"), affinity=4)).candidate.engine.pod
    candidates = [make_candidate(pod, running=20 if pod == home else 0) for pod in "ab"]
    assert consistent_hash(ask(*candidates, affinity=4)).candidate.engine.pod != home
