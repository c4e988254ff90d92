"""
Listens to what engines say of themselves over HTTP: each pod's `/metrics`, gently, and hands it to `reconcile`.

One task decides who is due; polls run beside it, few at a time. Pods are asked every `signals_seconds`, each at its own
moment, and beyond a hundred of them less often; one that sleeps is asked every second, for it gets no requests until it
is seen awake. An answer is read up to a limit and given up after a timeout. What cannot be had is reported (here, in
`/v1/pods` and once in the log) and changes no trust.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from kvsync.fleet import Pod
from kvsync.serve.engine_metrics import Reading, Sleep, of_rank, read_metrics, with_sleep
from kvsync.serve.parts import Parts
from kvsync.serve.reconcile import Doubt, Known, Look, is_serving, judge
from kvsync.serve.views import record_of
from kvsync.types import GPU, Engine

TURN_S = 0.25
TIMEOUT_S = 2.0
POLLS_PER_S = 20.0
FIRST_POLLS_PER_S = 100.0
"""Of pods that are new: soon, but not all in one moment."""

AT_ONCE = 16
ASLEEP_EVERY_S = 1.0
WITHOUT_METRICS_EVERY_S = 60.0
"""How often a pod is asked again that has no such page: it may have been restarted with one."""

MISSES_MAX = 3
"""Answers in a row that say nothing, after which a pod is no longer taken to sleep."""

PAGE_BYTES_MAX = 4 * 1024 * 1024

_logger = logging.getLogger(__name__)


class Unreadable(Exception):
    """A pod's answer that says nothing; the message says why."""


@dataclass(slots=True)
class PodSignals:
    """What one pod last said, and when to ask it again; times are of the daemon's clock."""

    due: float
    heard: float | None = None
    problem: str | None = None
    readings: dict[int, Reading] = field(default_factory=dict)
    looks: dict[int, Look] = field(default_factory=dict)
    misses: int = 0
    asking: bool = False
    tells_sleep: bool = True


class Signals:
    """Polls every pod while `run` runs; `view` shows what was heard."""

    def __init__(self, parts: Parts, session: ClientSession, *, seed: int | None = None) -> None:
        self._parts = parts
        self._session = session
        self._random = Random(seed)
        self._pods: dict[Pod, PodSignals] = {}
        self._polls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Poll for ever; cancel to stop. Does nothing where the setting `signals_seconds` is 0."""
        try:
            while self._parts.settings.signals_seconds:
                for pod in self._due():
                    task = asyncio.create_task(self.poll(pod))
                    self._polls.add(task)
                    task.add_done_callback(self._polls.discard)
                await asyncio.sleep(TURN_S)
            await asyncio.Event().wait()
        finally:
            for task in self._polls:
                task.cancel()

    async def poll(self, pod: Pod) -> None:
        """Ask one pod, take over what it says, and say when it is asked next."""
        state = self._pods.setdefault(pod, PodSignals(due=0.0))
        state.asking = True
        try:
            readings, problem = await self._read(pod, state), None
        except Unreadable as error:
            readings, problem = {}, str(error)
        finally:
            state.asking = False
            state.due = self._parts.clock() + self._pause(state)
        if self._parts.pods.get(pod.name) is pod:
            self._tell(pod, state, problem)
            self._take(pod, state, readings)
            self._parts.metrics.signals.labels(pod.name, "unreadable" if problem else "read").inc()

    def view(self, pod: Pod) -> dict[str, Any] | None:
        """What a pod last said, for `/v1/pods`; None where it is not asked."""
        state = self._pods.get(pod)
        if state is None or (state.heard is None and state.problem is None):
            return None
        heard_s = None if state.heard is None else round(self._parts.clock() - state.heard, 3)
        ranks = [{"rank": rank, **_reading_view(reading)} for rank, reading in sorted(state.readings.items())]
        return {"heard_s": heard_s, "problem": state.problem, "ranks": ranks}

    # ------------------------------------------------------------------ when

    def _due(self) -> list[Pod]:
        now = self._parts.clock()
        pods = set(self._parts.pods.values())
        for pod in self._pods.keys() - pods:
            del self._pods[pod]
        new = pods - self._pods.keys()
        spread_s = 1.0 if len(new) > POLLS_PER_S else len(new) / POLLS_PER_S
        spread_s = max(spread_s, len(new) / FIRST_POLLS_PER_S)
        for pod in new:
            self._pods[pod] = PodSignals(due=now + self._random.random() * spread_s)
        free = AT_ONCE - len(self._polls)
        return sorted(
            (pod for pod, state in self._pods.items() if now >= state.due and not state.asking),
            key=lambda pod: self._pods[pod].due,
        )[: max(0, free)]

    def _pause(self, state: PodSignals) -> float:
        if any(reading.sleep is Sleep.ASLEEP for reading in state.readings.values()):
            return ASLEEP_EVERY_S
        if state.problem is not None and state.heard is None:
            return WITHOUT_METRICS_EVERY_S
        every = max(self._parts.settings.signals_seconds, len(self._pods) / POLLS_PER_S)
        return every * (0.9 + 0.2 * self._random.random())

    # ------------------------------------------------------------------ asking

    async def _read(self, pod: Pod, state: PodSignals) -> dict[int, Reading]:
        found = read_metrics(await self._get(f"{pod.http}/metrics"))
        readings = {}
        for engine in pod.engines:
            reading = of_rank(found, engine.rank, ranks=pod.ranks)
            if reading is not None:
                readings[engine.rank] = reading
        if not readings:
            raise Unreadable("GET /metrics names no rank of it: is it an engine, and are its metrics on?")
        if all(reading.sleep is None for reading in readings.values()) and state.tells_sleep:
            return await self._ask_sleep(pod, state, readings)
        return readings

    async def _ask_sleep(self, pod: Pod, state: PodSignals, readings: dict[int, Reading]) -> dict[int, Reading]:
        try:
            document = json.loads(await self._get(f"{pod.http}/is_sleeping"))
            sleeps = document["is_sleeping"]
        except (Unreadable, ValueError, TypeError, KeyError):
            state.tells_sleep = False  # most engines have no such page: it is asked for once
            return readings
        return {rank: with_sleep(reading, bool(sleeps)) for rank, reading in readings.items()}

    async def _get(self, url: str) -> bytes:
        path = f"/{url.rpartition('/')[2]}"
        try:
            async with self._session.get(
                url, timeout=ClientTimeout(total=TIMEOUT_S), allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise Unreadable(f"GET {path} answered {response.status}")
                return await _body(response, path)
        except TimeoutError as error:
            raise Unreadable(f"GET {path} took more than {TIMEOUT_S:g} s") from error
        except (ClientError, OSError) as error:
            raise Unreadable(f"GET {path} got no answer ({type(error).__name__})") from error

    # ------------------------------------------------------------------ taking over

    def _take(self, pod: Pod, state: PodSignals, readings: Mapping[int, Reading]) -> None:
        state.misses = 0 if readings else state.misses + 1
        if state.misses >= MISSES_MAX:  # what it said is too long ago to keep requests away from it
            self._parts.health.serves(pod.name, is_serving=True, now=self._parts.clock())
        if not readings:
            return
        state.heard, state.readings = self._parts.clock(), dict(readings)
        self._parts.health.serves(pod.name, is_serving=is_serving(list(readings.values())), now=self._parts.clock())
        for engine in pod.engines:
            known = self._known(engine)
            if engine.rank not in readings or known is None:
                continue
            look = Look(readings[engine.rank], known)
            verdict = judge(state.looks.get(engine.rank), look)
            state.looks[engine.rank] = look
            if verdict is not None:
                self._doubt(engine, verdict)

    def _known(self, engine: Engine) -> Known | None:
        record = record_of(self._parts, engine)
        if record is None:
            return None
        gpu = record.media.get(GPU)
        return Known(
            entries=gpu.entries if gpu else 0,
            certain=sum(medium.entries - medium.doubtful for medium in record.media.values()),
            block_size=record.block_size or 0,
            sequence=record.sequence,
            lives=record.lives,
        )

    def _doubt(self, engine: Engine, verdict: Doubt) -> None:
        self._parts.index.doubt(engine, verdict.cause.value, verdict.medium)
        self._parts.router.own_picks.forget(engine)
        self._parts.metrics.signal_doubts.labels(engine.pod, str(engine.rank), verdict.cause.name.lower()).inc()
        where = {"pod": engine.pod, "rank": engine.rank}
        _logger.warning("engine %s: its record is doubted: %s", engine, verdict.cause, extra=where)

    def _tell(self, pod: Pod, state: PodSignals, problem: str | None) -> None:
        if problem != state.problem:
            level = logging.INFO if problem is None else logging.WARNING
            what = "its signals are read" if problem is None else f"its signals cannot be read: {problem}"
            if problem is not None or state.problem is not None:
                _logger.log(level, "pod %s: %s", pod.name, what, extra={"pod": pod.name, "http": pod.http})
        state.problem = problem


async def _body(response: ClientResponse, path: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > PAGE_BYTES_MAX:
            raise Unreadable(f"GET {path} answered more than {PAGE_BYTES_MAX} bytes")
    return bytes(body)


def _reading_view(reading: Reading) -> dict[str, Any]:
    return {
        "sleep": None if reading.sleep is None else reading.sleep.value,
        "usage": reading.usage,
        "blocks_total": reading.blocks_total,
        "cached_tokens": reading.cached_tokens,
        "running": reading.running,
        "waiting": reading.waiting,
    }
