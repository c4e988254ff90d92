"""
The scheduler of one rank: who computes how many tokens in the next step, and what came of it.

No clock, no socket: `schedule` decides a step and says how long it takes, the caller lets that time pass,
then calls `finish` for the cache's events of the step and `deliver` to hand out its tokens. Between
`schedule` and `deliver` nothing may be called but `add`.

    waiting --schedule--> running --finish--> answered
       ^                     |
       +---- preempted ------+     (no block left: the youngest starts over, at the head of the queue)

Running requests come first, in order of their admission; what is left of the step's token budget goes to
waiting ones, first come first served. Nobody is admitted in a step that had to preempt.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from kvsync.engine.cache import PrefixCache
from kvsync.engine.events import CacheEvent
from kvsync.engine.request import Finish, Produced, Request
from kvsync.engine.stats import RankStats
from kvsync.engine.timing import TimeModel


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one step may take on.

    Without `chunked_prefill` a prompt is computed in one step or not yet, so `step_tokens` must hold the
    longest prompt.
    """

    running_max: int = 256
    step_tokens: int = 2_048
    chunked_prefill: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One step under way: how many tokens of which request, and how long that takes."""

    parts: tuple[tuple[Request, int], ...]
    duration_s: float


@dataclass(slots=True)
class _Plan:
    """A step in the making."""

    budget: int
    parts: list[tuple[Request, int]] = field(default_factory=list)
    prefill_tokens: int = 0
    decodes: int = 0

    def add(self, request: Request, count: int) -> None:
        self.parts.append((request, count))
        self.budget -= count
        if count == 1 and request.answered:
            self.decodes += 1
        else:
            self.prefill_tokens += count


class Scheduler:
    """
    Requests and blocks of one rank.

    State: `waiting` and `running`, disjoint, in order; the cache below; and counters nobody decides by.
    """

    def __init__(
        self, cache: PrefixCache, limits: Limits, time_model: TimeModel, stats: RankStats | None = None
    ) -> None:
        self.cache = cache
        self.limits = limits
        self.time_model = time_model
        self.stats = stats or RankStats()
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    def __repr__(self) -> str:
        return f"<Scheduler waiting={len(self.waiting)} running={len(self.running)} {self.cache.pool!r}>"

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, request: Request) -> None:
        """Queue a request; with its whole answer it must fit into the empty pool, or it waits for ever."""
        self.waiting.append(request)

    def schedule(self) -> Step | None:
        """Decide the next step and take its blocks; None when there is nothing to do."""
        plan = _Plan(self.limits.step_tokens)
        if not self._continue_running(plan):
            self._admit_waiting(plan)
        if not plan.parts:
            return None
        return Step(tuple(plan.parts), self.time_model.step_s(plan.prefill_tokens, plan.decodes))

    def finish(self, step: Step) -> list[CacheEvent]:
        """
        Account for a step that has run, and take the cache's events since the last one.

        They are to be published before any client hears of its token: `deliver` comes after.
        """
        for request, count in step.parts:
            request.computed += count
        return self.cache.pool.take_events()

    def deliver(self, step: Step, now_s: float) -> None:
        """Hand out the tokens of a finished step; what has ended gives its blocks back."""
        for request, _ in step.parts:
            if request.uncomputed == 0:
                self._produce(request, now_s)

    def abort(self, request: Request) -> bool:
        """Drop a request wherever it is; False if it had ended already."""
        if request in self.running:
            self.running.remove(request)
            self.cache.release(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        else:
            return False
        self.stats.ended(Finish.ABORT)
        request.sink(Produced(None, Finish.ABORT))
        return True

    def abort_all(self) -> None:
        for request in [*self.running, *self.waiting]:
            self.abort(request)

    def reset(self, *, preempt: bool = False) -> bool:
        """
        Empty the cache; refused, without a trace, while a block is in use.

        With `preempt`, running requests start over instead, so it always succeeds.
        """
        if preempt:
            while self.running:
                self._preempt(self.running.pop())
        return self.cache.pool.reset()

    def _continue_running(self, plan: _Plan) -> bool:
        """Give every running request its part; true if somebody had to be preempted for it."""
        preempted = False
        index = 0
        while index < len(self.running) and plan.budget > 0:
            request = self.running[index]
            count = min(request.uncomputed, plan.budget)
            while not self.cache.allocate(request, count):
                victim = self.running.pop()
                self._preempt(victim)
                preempted = True
                if victim is request:
                    return True
            plan.add(request, count)
            index += 1
        return preempted

    def _admit_waiting(self, plan: _Plan) -> None:
        while self.waiting and plan.budget > 0 and len(self.running) < self.limits.running_max:
            request = self.waiting[0]
            hit = self.cache.look_up(request)
            count = len(request.tokens) - hit.tokens
            if count > plan.budget and not self.limits.chunked_prefill:
                return
            count = min(count, plan.budget)
            if not self.cache.allocate(request, count, hit):
                return
            self.waiting.popleft()
            self.running.append(request)
            self._note_hit(request, hit.tokens)
            plan.add(request, count)

    def _note_hit(self, request: Request, tokens: int) -> None:
        if request.cached_tokens is None:
            request.cached_tokens = tokens
            self.stats.looked_up(len(request.tokens), tokens)

    def _preempt(self, request: Request) -> None:
        self.cache.release(request)
        request.preemptions += 1
        self.stats.preemptions += 1
        self.waiting.appendleft(request)

    def _produce(self, request: Request, now_s: float) -> None:
        produced = request.append_answer()
        if request.first_token_s is None:
            request.first_token_s = now_s
            self.stats.first_token(len(request.asked.prompt), now_s - request.arrived_s)
        self.stats.generation_tokens += 1
        if produced.finish is not None:
            self.running.remove(request)
            self.cache.release(request)
            self.stats.ended(produced.finish, now_s - request.arrived_s)
        request.sink(produced)
