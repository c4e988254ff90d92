"""
The router: what it remembers between questions, and how a pick is begun, followed and ended.

    consider   engines and their matches -> candidates, with load and own picks
    choose     candidates -> one of them, by a policy
    begin      the request goes there: load, own pick and approximate record are entered before the next question
    first_token, finish   what the engine then did; predicted and actual cached tokens are compared

Nothing here looks at a clock or a socket. One thread (the daemon's event loop) uses a router.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from kvsync.routing.approximate import ApproximateRecord
from kvsync.routing.candidate import Candidate, Choice, CostOptions, Estimate, Question
from kvsync.routing.catalog import policy_named
from kvsync.routing.interest import Interest
from kvsync.routing.load import Loads
from kvsync.routing.policies import Policy, cost
from kvsync.routing.rate import PrefillRate
from kvsync.routing.score import estimate
from kvsync.routing.speculative import OwnPick, OwnPicks
from kvsync.types import GPU, Engine, Match, Trust

_logger = logging.getLogger(__name__)

AFFINITY_BLOCKS = 2
"""Prompts whose first blocks, at most so many, are equal begin alike for `consistent-hash`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """
    A request, as far as routing needs it.

    `block_hashes(block_size)` gives the prompt's chained hashes; it is called once per block size and remembered.
    """

    model: str
    prompt_tokens: int
    block_hashes: Callable[[int], Sequence[int]]
    _hashes: dict[int, Sequence[int]] = field(default_factory=dict)

    def hashes(self, block_size: int) -> Sequence[int]:
        known = self._hashes.get(block_size)
        if known is None:
            known = self._hashes[block_size] = self.block_hashes(block_size)
        return known


@dataclass(frozen=True, slots=True)
class Considered:
    """
    One engine that could take the request, and what its record says; `has_events` false: it has none.
    """

    engine: Engine
    match: Match
    block_size: int
    has_events: bool = True


@dataclass(frozen=True, slots=True)
class Pick:
    """Where the request goes, by which policy and why; `estimate` is what the score made of the chosen one."""

    estimate: Estimate
    policy: str
    reason: str

    @property
    def candidate(self) -> Candidate:
        return self.estimate.candidate

    @property
    def engine(self) -> Engine:
        return self.estimate.candidate.engine


@dataclass(slots=True)
class Flight:
    """A request on its way: what was entered for it, to be put right when it ends."""

    ask: Ask
    pick: Pick
    ticket: int
    own_pick: OwnPick
    computed: bool = False


class Router:
    """
    Load, own picks, rates and turns of one daemon. Pass `prefill_rate` where it is known, else it is learned.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        *,
        default: str = "cost",
        options: CostOptions | None = None,
        prefill_rate: float | None = None,
        seed: int | None = None,
    ) -> None:
        policy_named(default, policies)
        self.policies = policies
        self.default = default
        self.options = options or CostOptions()
        self.loads = Loads()
        self.own_picks = OwnPicks()
        self.approximate = ApproximateRecord()
        self.interest = Interest()
        self.policy_failures = 0
        self._fixed_rate = prefill_rate
        self._rates: dict[str, PrefillRate] = {}
        self._turns: Counter[str] = Counter()
        self._random = Random(seed)

    def __repr__(self) -> str:
        return f"<Router {self.default} {self.loads!r} {self.own_picks!r}>"

    def rate(self, model: str) -> PrefillRate:
        """How fast engines of this model prefill."""
        return self._rates.setdefault(model, PrefillRate(self._fixed_rate))

    def rates(self) -> dict[str, float]:
        """Prefill rates in tokens a second, by base model asked for so far."""
        return {name: round(rate.tokens_per_second, 1) for name, rate in self._rates.items()}

    def consider(self, ask: Ask, engines: Iterable[Considered], now: float) -> tuple[Candidate, ...]:
        """The candidates, in order of engine."""
        self.interest.add(ask.model, now)
        rate = self.rate(ask.model).tokens_per_second
        return tuple(self._candidate(ask, engine, now, rate) for engine in sorted(engines, key=lambda c: c.engine))

    def estimates(self, ask: Ask, candidates: Iterable[Candidate]) -> list[Estimate]:
        """What the score makes of each candidate."""
        return [estimate(candidate, ask.prompt_tokens, self.options) for candidate in candidates]

    def choose(self, ask: Ask, candidates: tuple[Candidate, ...], policy: str | None = None) -> Pick:
        """
        Ask a policy; `ConfigError` when there is none of that name. There must be a candidate.
        """
        name = policy or self.default
        choice = self._decide(name, policy_named(name, self.policies), self._question(ask, candidates))
        self._turns[ask.model] += 1
        return Pick(estimate(choice.candidate, ask.prompt_tokens, self.options), name, choice.reason)

    def begin(self, ask: Ask, pick: Pick, now: float, *, observed: bool) -> Flight:
        """The request goes where the pick says; `observed` false: its caller sends it, and tells us no more."""
        self.interest.add(pick.engine, now)
        hashes = ask.hashes(pick.candidate.block_size)
        ticket = self.loads.begin(
            pick.engine,
            ask.prompt_tokens - pick.estimate.cached_tokens,
            now,
            rate=self.rate(ask.model).tokens_per_second,
            observed=observed,
        )
        own_pick = self.own_picks.add(pick.engine, hashes, now)
        if not pick.candidate.has_events:
            self.approximate.enter(pick.engine, hashes, now)
        return Flight(ask, pick, ticket, own_pick)

    def first_token(self, flight: Flight, now: float) -> None:
        """The answer's first bytes came."""
        if flight.computed:
            return
        flight.computed = True
        self.loads.first_token(flight.ticket, now)
        service_seconds = self.loads.service_seconds(flight.ticket)
        if service_seconds is not None:
            tokens = flight.ask.prompt_tokens - flight.pick.estimate.cached_tokens
            self.rate(flight.ask.model).guess(tokens, service_seconds)

    def finish(
        self, flight: Flight, now: float, *, cached_tokens: int | None = None, prompt_tokens: int | None = None
    ) -> None:
        """
        The request is over; `cached_tokens` of `prompt_tokens` is what the engine did not have to compute, if it says.

        The engine may count tokens otherwise than we do; what is learned is in ours, as all that it is used for.
        """
        flight.computed = flight.computed or cached_tokens is not None
        if cached_tokens is not None:
            self._learn(flight, cached_tokens * flight.ask.prompt_tokens // (prompt_tokens or flight.ask.prompt_tokens))
        self.loads.finish(flight.ticket)
        self.own_picks.settle(flight.own_pick, now, computed=flight.computed)

    def forget(self, engine: Engine) -> None:
        """The engine is gone, or began anew: it has nothing to do, and nothing of ours in its cache."""
        self.loads.forget(engine)
        self.own_picks.forget(engine)
        self.approximate.forget(engine)
        self.interest.forget(engine)

    def _candidate(self, ask: Ask, considered: Considered, now: float, rate: float) -> Candidate:
        engine, block_size = considered.engine, considered.block_size
        hashes = ask.hashes(block_size)
        own_blocks = self.own_picks.blocks(engine, hashes, now)
        match = considered.match if considered.has_events else self._guess(considered, hashes, now)
        return Candidate(
            engine=engine,
            match=match,
            has_events=considered.has_events,
            own_tokens=own_blocks * block_size,
            block_size=block_size,
            load=self.loads.load(engine, now, rate=rate),
            prefill_rate=rate,
        )

    def _decide(self, name: str, policy: Policy, question: Question) -> Choice:
        """Ask a policy; one that fails or answers nonsense is a foreign mistake, and `cost` answers instead."""
        try:
            choice = policy(question)
            if choice.candidate not in question.candidates:
                raise ValueError(f"it chose {choice.candidate!r}, which is no candidate")
        except Exception as error:
            self.policy_failures += 1
            _logger.exception("policy %s failed, cost decides", name)
            fallback = cost(question)
            return Choice(fallback.candidate, f"policy {name} failed ({error!r}), cost decides: {fallback.reason}")
        return choice

    def _guess(self, considered: Considered, hashes: Sequence[int], now: float) -> Match:
        blocks = self.approximate.blocks(considered.engine, hashes, now)
        media = {GPU: blocks} if blocks else {}
        return Match(blocks, blocks * considered.block_size, media, certain=False, trust=Trust.UNKNOWN)

    def _question(self, ask: Ask, candidates: tuple[Candidate, ...]) -> Question:
        hashes = ask.hashes(candidates[0].block_size)
        return Question(
            prompt_tokens=ask.prompt_tokens,
            candidates=candidates,
            turn=self._turns[ask.model],
            affinity=int(hashes[min(len(hashes), AFFINITY_BLOCKS) - 1]) if len(hashes) else 0,
            random=self._random,
            options=self.options,
        )

    def _learn(self, flight: Flight, cached_tokens: int) -> None:
        service_seconds = self.loads.service_seconds(flight.ticket)
        if service_seconds is not None:
            self.rate(flight.ask.model).observe(flight.ask.prompt_tokens - cached_tokens, service_seconds)
        if not flight.pick.candidate.has_events:
            block_size = flight.pick.candidate.block_size
            self.approximate.correct(
                flight.pick.engine,
                flight.ask.hashes(block_size),
                predicted_blocks=flight.pick.estimate.cached_tokens // block_size,
                actual_blocks=cached_tokens // block_size,
            )
