"""
The demo from beginning to end.

    engines start ─┬─ for each policy: daemon starts, traffic runs, stream falls quiet, truth is checked, caches emptied
                   └─ all processes end, whatever happened

Three tasks run beside the traffic: one watches that no process ends, one feeds the screen, and the caller's. The first
that fails ends the demo with its error; a cancellation (Ctrl-C) ends it with nothing left running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Self

import aiohttp

from kvsync.demo.chat import Chat
from kvsync.demo.ideal import ideal_hit_rate
from kvsync.demo.measure import Outcome, PolicyResult, summarise
from kvsync.demo.processes import Children
from kvsync.demo.report import COST, ROUND_ROBIN, Report
from kvsync.demo.screen import Screen, Tally
from kvsync.demo.stage import MODEL, EngineSize, PodStatus, Stage
from kvsync.demo.tasks import beside
from kvsync.demo.traffic import Person, TrafficOptions, count_turns, plan_traffic
from kvsync.demo.truth import differences
from kvsync.errors import ConfigError
from kvsync.routing.catalog import policies, policy_named

PODS_MAX = 64
PEOPLE_PER_POD = 8
ASSISTANTS_PER_POD = 1.5
SHOW_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """
    What the demo is told; raises `ConfigError` for what cannot be run.

    `seconds` is the planned length of each policy's run: one under which requests queue takes longer.
    """

    seconds: float = 20.0
    pods: int = 8
    seed: int = 0
    policies: tuple[str, ...] = (COST, ROUND_ROBIN)
    size: EngineSize = field(default_factory=EngineSize)

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 86_400:
            raise ConfigError(f"--seconds is {self.seconds:g}; give between 1 and 86400")
        if not 1 <= self.pods <= PODS_MAX:
            raise ConfigError(f"--pods is {self.pods}; give between 1 and {PODS_MAX}")
        if not self.policies:
            raise ConfigError("--policy names no policy; give one or more, with commas between them")
        for name in self.policies:
            policy_named(name, policies())
        if len(set(self.policies)) < len(self.policies):
            raise ConfigError(f"--policy {','.join(self.policies)} names a policy twice; give each once")

    def traffic(self) -> TrafficOptions:
        assistants = max(2, round(self.pods * ASSISTANTS_PER_POD))
        return TrafficOptions(self.seconds, PEOPLE_PER_POD * self.pods, assistants, self.seed)


class Demo:
    """
    One demo; an async context manager that ends with every process it started gone.
    """

    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self.options = options
        self._screen = screen
        self._children = Children()
        self._session: aiohttp.ClientSession | None = None
        self._stage: Stage | None = None

    async def __aenter__(self) -> Self:
        # No limits on our side: what queues shall queue in the fleet.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        self._stage = Stage(self._children, self._session)
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self._children.close()

    @property
    def stage(self) -> Stage:
        assert self._stage is not None, "a Demo is used inside `async with`"
        return self._stage

    async def run(self) -> Report:
        """Run every policy over the same traffic, and hold the index against the engines after each."""
        return await beside(self._run(), self._children.watch())

    async def keep(self) -> None:
        """Leave the fleet and the daemon running until cancelled, or until one of them ends."""
        await beside(asyncio.Event().wait(), self._children.watch())

    async def _run(self) -> Report:
        people = plan_traffic(self.options.traffic())
        several = "" if self.options.pods == 1 else "s"
        self._screen.say(f"Starting {self.options.pods} simulated engine{several} and the daemon.")
        await self.stage.start_pods(self.options.pods, self.options.size)
        results: dict[str, PolicyResult] = {}
        ideal = 0.0
        wrong: list[str] = []
        events = 0
        for policy in self.options.policies:
            if results:
                await self.stage.empty_caches()
            await self.stage.start_daemon(policy, self.options.size)
            events_before = await self._events()
            self._screen.say(f"{policy}: {count_turns(people)} requests of {len(people)} people begin.")
            outcomes, results[policy] = await self._run_policy(policy, people)
            # The requests are the same under every policy; only their order differs a little.
            ideal = max(ideal, ideal_hit_rate((one.served() for one in outcomes), self.options.size.block_size))
            wrong += [f"{policy}: {sentence}" for sentence in await self._check()]
            events += await self._events() - events_before
        return Report(results, ideal, tuple(wrong), events)

    async def _run_policy(self, policy: str, people: Sequence[Person]) -> tuple[list[Outcome], PolicyResult]:
        assert self._session is not None
        names = [pod.name for pod in self.stage.pods]
        tally = Tally(names)
        chat = Chat(self._session, self.stage.url, MODEL, tally.add)
        begin = perf_counter()
        look = Look(self.stage, self._screen, tally, policy, count_turns(people))
        outcomes = await beside(chat.run(people), look.forever())
        result = summarise(outcomes, names, perf_counter() - begin)
        await look.once()
        return outcomes, result

    async def _events(self) -> int:
        # A new daemon is told by replay of all that happened before it came.
        return sum(status.events for status in (await self.stage.status()).values())

    async def _check(self) -> list[str]:
        """Compare every pod with its record, once all that was published is applied."""
        await self.stage.quiet()
        wrong: list[str] = []
        blocks = 0
        for pod in self.stage.pods:
            held, recorded = await self.stage.listings(pod)
            wrong += [f"{pod.name}: {sentence}" for sentence in differences(held, recorded)]
            blocks += held.blocks
        verdict = f"differs in {len(wrong)} places from" if wrong else "equals"
        self._screen.say(f"The index {verdict} what the engines hold, {blocks} blocks compared one by one.")
        return wrong


class Look:
    """
    What the screen is fed: the answers counted so far beside what the daemon knows, and how fast that changes.
    """

    def __init__(self, stage: Stage, screen: Screen, tally: Tally, policy: str, planned: int) -> None:
        self._stage = stage
        self._screen = screen
        self._tally = tally
        self._policy = policy
        self._planned = planned
        self._begin = self._before_at = perf_counter()
        self._before: dict[str, PodStatus] = {}

    async def forever(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(SHOW_EVERY_S)

    async def once(self) -> None:
        """Look now."""
        status, now = await self._stage.status(), perf_counter()
        before, elapsed = self._before, now - self._before_at
        rates = {pod: (one.events - before[pod].events) / elapsed for pod, one in status.items() if pod in before}
        self._before, self._before_at = status, now
        self._screen.show(self._tally.progress(self._policy, now - self._begin, self._planned, status, rates))
