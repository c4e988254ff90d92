"""
The policies: plain functions from a question to a choice.

A policy sees only the question; what it remembers of earlier ones comes in as `turn` and as load. It gives one of the
candidates and a sentence with the figures that decided. Users add their own as an entry point, see `catalog`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import sqrt
from random import Random
from typing import TypeAlias, TypeVar

from kvsync.routing.candidate import Candidate, Choice, CostOptions, Estimate, Question
from kvsync.routing.score import believed_tokens, estimate

Policy: TypeAlias = Callable[[Question], Choice]

_Item = TypeVar("_Item")

IMBALANCE_MAX = 8
"""`prefix`: with more requests than this between the busiest and the idlest candidate, only load counts."""

DEVIATIONS_MAX = 1.0
"""`prefix`: a candidate may have this many standard deviations more requests than the mean."""

BOUND = 1.25
"""`consistent-hash`: a candidate may have this share of the mean requests, and one more."""


def cost(question: Question) -> Choice:
    """
    The candidate whose first token is expected soonest; equals go to the larger cache, then to fewer requests.
    """
    estimates = [estimate(candidate, question.prompt_tokens, question.options) for candidate in question.candidates]
    least = min(estimates, key=lambda estimate: estimate.seconds)
    limit = least.seconds + _tolerance(least, question.options)
    equals = [estimate for estimate in estimates if estimate.seconds <= limit]
    best = _spread(equals, question.random, key=lambda e: (-e.cached_tokens, e.candidate.load.requests))
    return Choice(best.candidate, _cost_reason(best, estimates, question))


def round_robin(question: Question) -> Choice:
    """One candidate after the other, whatever they hold or do."""
    place = question.turn % len(question.candidates)
    candidate = question.candidates[place]
    return Choice(
        candidate, f"{candidate.engine} is next in turn: {place + 1} of {len(question.candidates)} candidates"
    )


def least_loaded(question: Question) -> Choice:
    """The candidate with the least prefill queued, then the fewest requests."""
    best = _least_loaded(question.candidates, question.random)
    return Choice(best, f"{_loaded(best)}, the least of {len(question.candidates)} candidates")


def random(question: Question) -> Choice:
    """Any candidate, all alike."""
    best = question.random.choice(question.candidates)
    return Choice(best, f"{best.engine} was drawn from {len(question.candidates)} candidates")


def prefix(question: Question) -> Choice:
    """
    The candidate with the longest match among those not overloaded; when load is far apart, the least loaded.
    """
    candidates = question.candidates
    requests = [candidate.load.requests for candidate in candidates]
    if max(requests) - min(requests) > IMBALANCE_MAX:
        best = _least_loaded(candidates, question.random)
        return Choice(best, f"load is uneven ({min(requests)} to {max(requests)} requests): {_loaded(best)}, the least")
    mean = sum(requests) / len(requests)
    limit = mean + DEVIATIONS_MAX * sqrt(sum((n - mean) ** 2 for n in requests) / len(requests))
    fitting = [candidate for candidate in candidates if candidate.load.requests <= limit]
    best = _spread(fitting, question.random, key=lambda c: (-_cached(c, question), c.load.requests))
    cached = _cached(best, question)
    if not cached:
        best = _least_loaded(fitting, question.random)
        return Choice(best, f"no candidate within the load limit holds a prefix: {_loaded(best)}, the least")
    return Choice(
        best,
        f"{best.engine} holds {cached} of {question.prompt_tokens} tokens, the longest of {len(fitting)} candidates"
        f" with at most {limit:.1f} requests",
    )


def consistent_hash(question: Question) -> Choice:
    """
    The candidate that the prompt's beginning hashes to, skipping those over their share of the load.
    """
    candidates = question.candidates
    limit = BOUND * sum(candidate.load.requests for candidate in candidates) / len(candidates) + 1
    fitting = [candidate for candidate in candidates if candidate.load.requests < limit] or list(candidates)
    best = max(fitting, key=lambda candidate: _weight(candidate, question.affinity))
    return Choice(
        best,
        f"the prompt's beginning hashes to {best.engine} among {len(fitting)} of {len(candidates)} candidates"
        f" with fewer than {limit:.1f} requests",
    )


BUILT_IN: dict[str, Policy] = {
    "cost": cost,
    "round-robin": round_robin,
    "least-loaded": least_loaded,
    "random": random,
    "prefix": prefix,
    "consistent-hash": consistent_hash,
}


def _spread(items: Sequence[_Item], chance: Random, *, key: Callable[[_Item], tuple[float, ...]]) -> _Item:
    """One of the items with the least key, all of them alike."""
    least = min(map(key, items))
    return chance.choice([item for item in items if key(item) == least])


def _least_loaded(candidates: Sequence[Candidate], chance: Random) -> Candidate:
    return _spread(candidates, chance, key=lambda c: (c.load.queued_tokens, c.load.requests))


def _cached(candidate: Candidate, question: Question) -> int:
    return max(candidate.own_tokens, believed_tokens(candidate.match, question.prompt_tokens, question.options))


def _loaded(candidate: Candidate) -> str:
    load = candidate.load
    return f"{candidate.engine} has {load.requests} requests and {load.queued_tokens:.0f} tokens queued"


def _tolerance(least: Estimate, options: CostOptions) -> float:
    """How many seconds two estimates may be apart and still say the same."""
    block_seconds = least.candidate.block_size / least.candidate.prefill_rate
    return least.seconds * options.tie_share + options.tie_seconds + block_seconds


def _weight(candidate: Candidate, affinity: int) -> bytes:
    # Rendezvous hashing: a pod that comes or goes moves only the prompts that were or will be its own.
    name = f"{candidate.engine.pod}\0{candidate.engine.rank}".encode()
    return blake2b(name, digest_size=8, key=affinity.to_bytes(8, "little")).digest()


def _cost_reason(best: Estimate, estimates: Sequence[Estimate], question: Question) -> str:
    others = [e.seconds for e in estimates if e is not best]
    beside = f"; the best of {len(others)} others {min(others):.3f} s" if others else "; the only candidate"
    own = " (own recent pick)" if best.cached_tokens and best.cached_tokens > best.candidate.match.tokens else ""
    transfer = f" + transfer {best.transfer_seconds:.3f} s" if best.transfer_seconds else ""
    return (
        f"{best.candidate.engine} is expected to give the first token in {best.seconds:.3f} s"
        f" (queue {best.queue_seconds:.3f} s + prefill {best.prefill_seconds:.3f} s{transfer}):"
        f" {best.cached_tokens} of {question.prompt_tokens} tokens cached{own},"
        f" record {best.candidate.match.trust}{beside}"
    )
