"""
The eyes of `health`: a look at what is new of event connections five times a second, and a knock at the HTTP port of
pods in doubt, which all are in the beginning. One task; knocks run beside it, so that a pod that hangs delays no
other's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial

from aiohttp import ClientError, ClientSession, ClientTimeout

from kvsync.fleet import Pod
from kvsync.serve import fleet
from kvsync.serve.absence import PATIENCE_S, Absence, News
from kvsync.serve.health import NOT_SEEN
from kvsync.serve.parts import Parts
from kvsync.serve.served import ServedModels
from kvsync.stream.status import Pulse
from kvsync.types import Engine

LOOK_EVERY = 0.2
KNOCK_TIMEOUT = 0.4
KNOCKS_AT_ONCE = 64
"""So few that each has its answer in time: a thousand would wait for each other longer than for their pods."""

_logger = logging.getLogger(__name__)


class Monitor:
    """Keeps `parts.health` true, and tells the router of engines that began anew."""

    def __init__(self, parts: Parts, session: ClientSession) -> None:
        self._parts = parts
        self._session = session
        self._absence = Absence()
        self._served = ServedModels(session, parts.clock, partial(fleet.learn, parts))
        self._seen: dict[Engine, Pulse] = {}
        self._looked_at: dict[str, Pod] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._knocking: set[str] = set()
        self._doors = asyncio.Semaphore(KNOCKS_AT_ONCE)

    async def begin(self) -> None:
        """Look once and knock where that is due, so that the first request finds the pods that are alive."""
        self.look()
        await asyncio.gather(*(self._knock(name) for name in self._parts.health.due(self._parts.clock())))

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        try:
            while True:
                self.look()
                self.knock()
                for pod in self._unasked():
                    self._beside(self._served.ask(pod))
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self.cancel()

    def knock(self) -> None:
        """Knock, beside, where that is due; not at a pod whose last knock still waits for its turn or an answer."""
        for name in self._parts.health.due(self._parts.clock()):
            if name not in self._knocking:
                self._knocking.add(name)
                self._beside(self._knock(name))

    def cancel(self) -> None:
        """Wait for no answer any more."""
        for task in self._tasks:
            task.cancel()

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unasked(self) -> list[Pod]:
        pods = list(self._parts.roster.described.values())
        self._served.keep_only(pods)
        return self._served.due([pod for pod in pods if self._parts.health.is_up(pod.name)])

    def look(self) -> None:
        """Take over into health what is new of the streams, and what has been missing for long."""
        pulses, seen, now = self._parts.streams.pulses(), self._seen, self._parts.clock()
        new = {engine: pulse for engine, pulse in pulses.items() if seen.get(engine) != pulse}
        of_pods, pods = {engine.pod for engine in new}, self._parts.pods
        self._absence.keep_only(pods.keys())
        for name, pod in pods.items():
            if name in of_pods or self._looked_at.get(name) is not pod or not self._absence.is_here(name):
                self._look_at(pod, pulses, now)
        for engine, pulse in new.items():
            if engine in seen and pulse.restarts != seen[engine].restarts:
                self._parts.router.own_picks.forget(engine)
        self._seen, self._looked_at = dict(pulses), dict(pods)

    def _look_at(self, pod: Pod, pulses: Mapping[Engine, Pulse], now: float) -> None:
        if pod.events is None:
            return
        of_pod = [pulses[engine] for engine in pod.engines if engine in pulses]
        if len(of_pod) == pod.ranks:
            was_up = self._parts.health.is_up(pod.name)
            self._parts.health.events(pod.name, [pulse.connected for pulse in of_pod], now)
            self._tell(pod.name, was_up)
            self._tell_events(pod, of_pod, now)

    def _tell_events(self, pod: Pod, pulses: Sequence[Pulse], now: float) -> None:
        """Say once that a pod's events are missing, and once that they came."""
        missing = next((number for number, pulse in enumerate(pulses) if not pulse.connected), None)
        news = self._absence.look(pod.name, connected=missing is None, now=now)
        if news is News.CAME:
            _logger.info("pod %s: events are connected", pod.name, extra={"pod": pod.name, "events": pod.events})
        elif news is News.MISSING and missing is not None:
            endpoint = pod.sources[missing].events
            stream = self._parts.streams.status().get(pod.engines[missing])
            _logger.warning(
                "pod %s: no event connection to %s for %g s; %s. Without events it is routed to by our own picks",
                pod.name,
                endpoint,
                PATIENCE_S,
                "check that the engine connects to us there"
                if pod.bind
                else "check that the engine publishes there (vLLM: --kv-events-config) and the port can be reached",
                extra={"pod": pod.name, "events": endpoint, "error": stream and stream.error},
            )

    async def _knock(self, name: str) -> None:
        try:
            async with self._doors:
                await self._ask(name)
        finally:
            self._knocking.discard(name)

    async def _ask(self, name: str) -> None:
        pod = self._parts.pods.get(name)
        if pod is None:
            return
        problem: str | None = None
        try:
            async with self._session.get(
                f"{pod.http}/health", timeout=ClientTimeout(total=KNOCK_TIMEOUT), allow_redirects=False
            ) as response:
                if response.status >= 500:
                    problem = f"GET /health answered {response.status}"
        except (ClientError, OSError, TimeoutError) as error:
            problem = f"HTTP does not answer ({type(error).__name__})"
        if self._parts.pods.get(name) is not pod:
            return  # it went, or is another by now
        before = self._parts.health.state(name)
        was_up, was_seen = before.up, before.reason != NOT_SEEN
        self._parts.health.answered(name, problem, self._parts.clock())
        self._tell(name, was_up)
        if problem is not None and not was_seen:
            _logger.warning(
                "pod %s is not up: %s at %s; it gets no requests until it answers GET /health or its events connect",
                *(name, problem, pod.http),
                extra={"pod": name, "http": pod.http},
            )

    def _tell(self, name: str, was_up: bool) -> None:
        is_up = self._parts.health.is_up(name)
        if is_up != was_up:
            reason = self._parts.health.state(name).reason
            level, what = (logging.INFO, "is up and gets requests") if is_up else (logging.WARNING, "is down")
            _logger.log(level, "pod %s %s", name, what, extra={"pod": name, "reason": reason})
