"""The infinite cache."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from kvsync.demo.ideal import InfiniteCache, Served, ideal_hit_rate

BLOCK_SIZE = 4

# Few different tokens and short prompts, so that prefixes meet.
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=20).map(lambda ids: array("I", ids))
REQUESTS = st.lists(st.builds(Served, TOKENS, TOKENS), max_size=12)


def brute_force(requests: list[Served]) -> float:
    """Compare every prompt with everything served before, token by token."""
    cached = asked = 0
    seen: list[array[int]] = []
    for request in requests:
        prompt = request.prompt
        best = 0
        for earlier in seen:
            same = 0
            while same < min(len(prompt), len(earlier)) and prompt[same] == earlier[same]:
                same += 1
            best = max(best, same // BLOCK_SIZE)
        cached += min(best, (len(prompt) - 1) // BLOCK_SIZE) * BLOCK_SIZE
        asked += len(prompt)
        seen.append(prompt + request.answer)
    return cached / asked if asked else 0.0


@given(REQUESTS)
def test_the_rate_equals_brute_force(requests: list[Served]) -> None:
    """Walking blocks gives what comparing with every earlier request gives."""
    assert ideal_hit_rate(requests, BLOCK_SIZE) == brute_force(requests)


def test_one_token_is_always_computed() -> None:
    """A prompt that is cached to its last token still computes the block of that token."""
    cache = InfiniteCache(BLOCK_SIZE)
    prompt = array("I", range(8))
    cache.add(prompt)
    assert cache.cached_tokens(prompt) == 4
    assert cache.cached_tokens(prompt + array("I", [9])) == 8


def test_a_block_counts_only_behind_its_own_beginning() -> None:
    """Equal blocks at another place, or after other tokens, are other blocks."""
    cache = InfiniteCache(BLOCK_SIZE)
    cache.add(array("I", [1, 1, 1, 1, 2, 2, 2, 2]))
    assert cache.cached_tokens(array("I", [2, 2, 2, 2, 9])) == 0
    assert cache.cached_tokens(array("I", [3, 3, 3, 3, 2, 2, 2, 2, 9])) == 0


def test_answers_are_cached_too() -> None:
    """The next turn of a conversation finds the answer before it."""
    first = Served(array("I", range(6)), array("I", range(6, 12)))
    second = Served(array("I", range(13)), array("I"))
    assert ideal_hit_rate([first, second], BLOCK_SIZE) == 12 / 19


def test_no_requests_have_no_hits() -> None:
    """An empty run has a rate of zero."""
    assert ideal_hit_rate([], BLOCK_SIZE) == 0.0
