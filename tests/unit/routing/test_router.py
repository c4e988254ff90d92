"""What the router remembers from pick to pick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from tests.unit.routing.chains import chain

from kvsync.errors import ConfigError
from kvsync.routing import BUILT_IN, Ask, Choice, Considered, Pick, Policy, Question, Router
from kvsync.routing.candidate import Candidate
from kvsync.routing.load import EXPIRY_ADVISED
from kvsync.types import Engine, Match, Trust

BLOCK = 16
MODEL = "m"
RATE = 1_000.0
ENGINES = [Engine(name) for name in "abcd"]


def make_router(policies: dict[str, Policy] | None = None, default: str = "cost") -> Router:
    """A router with a known rate and seed."""
    return Router(policies or dict(BUILT_IN), default=default, prefill_rate=RATE, seed=1)


def make_ask(*prompt: int, model: str = MODEL) -> Ask:
    """A prompt whose blocks are these numbers."""
    hashes = chain(list(prompt))
    return Ask(model, len(prompt) * BLOCK, lambda _block_size: hashes)


def consider(blocks: dict[Engine, int] | None = None, *, has_events: bool = True) -> list[Considered]:
    """All engines, with what their records hold."""
    held = blocks or {}
    return [
        Considered(engine, Match(n, n * BLOCK, {"GPU": n} if n else {}, True, Trust.EXACT), BLOCK, has_events)
        for engine in ENGINES
        for n in [held.get(engine, 0)]
    ]


def pick(router: Router, ask: Ask, now: float, blocks: dict[Engine, int] | None = None, **options: bool) -> Pick:
    """The default policy's pick."""
    return router.choose(ask, router.consider(ask, consider(blocks, **options), now))


def test_candidates_come_in_order_of_engine() -> None:
    """So that turns and ties do not depend on who was heard first."""
    ask = make_ask(1)
    candidates = make_router().consider(ask, reversed(consider()), 0.0)
    assert [candidate.engine for candidate in candidates] == ENGINES


def test_a_burst_of_one_prompt_goes_to_one_pod_until_waiting_costs_more() -> None:
    """No event has come, yet the first picks follow each other; a long burst spills over to others."""
    router, prompt = make_router(), range(100)
    counts: Counter[str] = Counter()
    first: str | None = None
    for number in range(12):
        ask = make_ask(*prompt)
        made = pick(router, ask, 0.0)
        router.begin(ask, made, 0.0, observed=True)
        first = first or made.engine.pod
        counts[made.engine.pod] += 1
        assert number > 1 or made.engine.pod == first
    assert len(counts) > 1


def test_a_failed_request_leaves_neither_load_nor_cache() -> None:
    """A pod that gave no answer is as it was."""
    router, ask = make_router(), make_ask(*range(100))
    made = pick(router, ask, 0.0)
    flight = router.begin(ask, made, 0.0, observed=True)
    router.finish(flight, 0.1)
    candidates = router.consider(ask, consider(), 0.1)
    assert all(candidate.own_tokens == 0 and candidate.load.requests == 0 for candidate in candidates)


def test_a_finished_request_stays_in_the_cache_for_a_moment() -> None:
    """Its load is gone and its blocks count until events have surely come."""
    router, ask = make_router(), make_ask(*range(100))
    made = pick(router, ask, 0.0)
    flight = router.begin(ask, made, 0.0, observed=True)
    router.first_token(flight, 1.6)
    router.finish(flight, 2.0, cached_tokens=0)
    chosen = next(c for c in router.consider(ask, consider(), 2.1) if c.engine == made.engine)
    assert (chosen.own_tokens, chosen.load.requests) == (1_600, 0)


def test_an_advised_request_is_entered_and_forgotten() -> None:
    """Whoever was told where to go is expected to go there, and is never heard of again."""
    router, ask = make_router(), make_ask(*range(100))
    made = pick(router, ask, 0.0)
    router.begin(ask, made, 0.0, observed=False)

    def requests(now: float) -> int:
        return sum(candidate.load.requests for candidate in router.consider(ask, consider(), now))

    assert (requests(0.0), requests(EXPIRY_ADVISED)) == (1, 0)


def test_the_rate_is_learned_from_streams_that_say_what_was_cached() -> None:
    """A prefill of 1,600 tokens, 800 of them cached, that took 0.4 s: 2,000 tokens a second."""
    router = Router(dict(BUILT_IN), seed=1)
    for number in range(200):
        ask = make_ask(*range(100))
        flight = router.begin(ask, pick(router, ask, number * 10.0), number * 10.0, observed=True)
        router.first_token(flight, number * 10.0 + 0.4)
        router.finish(flight, number * 10.0 + 1.0, cached_tokens=800)
    assert router.rate(MODEL).tokens_per_second == pytest.approx(2_000, rel=0.02)
    assert set(router.rates()) == {MODEL}


def test_a_first_token_is_enough_to_begin_with() -> None:
    """The rate is near the truth while the very first answer is still under way; a second piece of it adds nothing."""
    router, ask = Router(dict(BUILT_IN), seed=1), make_ask(*range(100))
    flight = router.begin(ask, pick(router, ask, 0.0), 0.0, observed=True)
    router.first_token(flight, 0.8)
    first = router.rate(MODEL).tokens_per_second
    assert first == pytest.approx(2_000, rel=0.3)
    router.first_token(flight, 9.0)
    assert router.rate(MODEL).tokens_per_second == first


def test_an_engine_may_count_tokens_otherwise() -> None:
    """Half of its prompt is half of ours: the rate is learned in the tokens that queues are counted in."""
    router = Router(dict(BUILT_IN), seed=1)
    for number in range(200):
        ask = make_ask(*range(100))
        flight = router.begin(ask, pick(router, ask, number * 10.0), number * 10.0, observed=True)
        router.first_token(flight, number * 10.0 + 0.4)
        router.finish(flight, number * 10.0 + 1.0, cached_tokens=200, prompt_tokens=400)
    assert router.rate(MODEL).tokens_per_second == pytest.approx(2_000, rel=0.02)


def test_pods_without_events_are_routed_by_a_guess() -> None:
    """The guess is shown as an unknown, uncertain match, long after the own pick has settled."""
    router, ask = make_router(), make_ask(*range(100))
    made = pick(router, ask, 0.0, has_events=False)
    flight = router.begin(ask, made, 0.0, observed=True)
    router.finish(flight, 2.0, cached_tokens=0)
    later = pick(router, ask, 60.0, has_events=False)
    assert later.engine == made.engine
    match = later.candidate.match
    assert (match.blocks, match.certain, match.trust) == (100, False, Trust.UNKNOWN)


def test_pods_with_events_are_not_guessed_about() -> None:
    """Once the own pick has settled, the record alone speaks."""
    router, ask = make_router(), make_ask(*range(100))
    flight = router.begin(ask, pick(router, ask, 0.0), 0.0, observed=True)
    router.finish(flight, 2.0, cached_tokens=0)
    assert all(candidate.match.blocks == 0 for candidate in router.consider(ask, consider(), 60.0))


def test_turns_are_counted_by_model() -> None:
    """Two models take turns on their own."""
    router = make_router(default="round-robin")
    picks = [pick(router, make_ask(1, model=model), 0.0).engine.pod for model in ("m", "n", "m", "n")]
    assert picks == ["a", "a", "b", "b"]


def test_a_question_may_name_its_policy() -> None:
    """The default is not changed by it, and an unknown name is refused."""
    router, ask = make_router(), make_ask(*range(100))
    candidates = router.consider(ask, consider({ENGINES[2]: 90}), 0.0)
    assert router.choose(ask, candidates, "round-robin").policy == "round-robin"
    assert router.choose(ask, candidates).engine == ENGINES[2]
    with pytest.raises(ConfigError, match="'none' is not known"):
        router.choose(ask, candidates, "none")


def test_an_unknown_default_is_refused_at_once() -> None:
    """Not at the first request."""
    with pytest.raises(ConfigError, match="'none' is not known"):
        make_router(default="none")


def _failing(_question: Question) -> Choice:
    raise ZeroDivisionError("mine")


def _foreign(question: Question) -> Choice:
    return Choice(Candidate(Engine("elsewhere")), f"of {len(question.candidates)}")


@pytest.mark.parametrize("policy", [_failing, _foreign])
def test_cost_answers_for_a_policy_that_fails(policy: Policy) -> None:
    """A user's mistake is counted, told in the reason, and survived."""
    router = make_router({**BUILT_IN, "mine": policy}, default="mine")
    made = pick(router, make_ask(*range(100)), 0.0, {ENGINES[1]: 90})
    assert made.engine == ENGINES[1]
    assert "policy mine failed" in made.reason
    assert router.policy_failures == 1


def test_a_forgotten_engine_is_as_new() -> None:
    """Load, own picks and guesses go together."""
    router, ask = make_router(), make_ask(*range(100))
    made = pick(router, ask, 0.0, has_events=False)
    router.begin(ask, made, 0.0, observed=True)
    router.forget(made.engine)
    candidates = router.consider(ask, consider(has_events=False), 0.0)
    assert all((c.own_tokens, c.load.requests, c.match.blocks) == (0, 0, 0) for c in candidates)


def test_hashes_are_made_once_per_block_size() -> None:
    """However many engines there are."""
    calls: list[int] = []

    def block_hashes(block_size: int) -> Sequence[int]:
        calls.append(block_size)
        return [1, 2]

    ask = Ask(MODEL, 32, block_hashes)
    router = make_router()
    router.begin(ask, router.choose(ask, router.consider(ask, consider(), 0.0)), 0.0, observed=True)
    assert calls == [BLOCK]


def test_a_prompt_without_tokens_is_routed_by_load() -> None:
    """There is nothing to hash, and something to compute all the same."""
    router = make_router()
    ask = Ask(MODEL, 500, lambda _block_size: [])
    for name in BUILT_IN:
        candidates = router.consider(ask, consider(), 0.0)
        router.begin(ask, router.choose(ask, candidates, name), 0.0, observed=True)
    assert sum(c.load.requests for c in router.consider(ask, consider(), 0.0)) == len(BUILT_IN)
