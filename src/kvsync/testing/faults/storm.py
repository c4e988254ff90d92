"""
A rollout in virtual time: so many daemons meet so many engines at the same moment, each with its own `Turns`.

An engine answers one replay at a time and takes `answer_s` for it; the others wait in its queue. A daemon looks at who
may ask every `tick_s`. What comes out is how many questions stood before one engine and before one daemon at worst,
and when the last engine was known to the last daemon.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from kvsync.stream.replays import Turns, Urgency

TICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is simulated."""

    daemons: int
    engines: int
    slots: int
    spread_s: float
    answer_s: float = 0.1
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of it: questions before one engine and of one daemon, at most; the seconds to the last answer."""

    engine_peak: int
    daemon_peak: int
    seconds: float


def rollout(setup: Rollout) -> Storm:
    """
    Let it happen.
    """
    random = Random(setup.seed)
    turns: list[Turns[int]] = [
        Turns(setup.slots, setup.spread_s, Random(random.random())) for _ in range(setup.daemons)
    ]
    wanted = [random.sample(range(setup.engines), setup.engines) for _ in range(setup.daemons)]
    queues: list[deque[int]] = [deque() for _ in range(setup.engines)]
    free_at = [0.0] * setup.engines
    now, engine_peak, daemon_peak = 0.0, 0, 0
    while any(wanted) or any(queues):
        for daemon, engines in enumerate(wanted):
            asking = [engine for engine in engines if turns[daemon].take(engine, Urgency.FIRST, now)]
            for engine in asking:
                engines.remove(engine)
                if not queues[engine]:
                    free_at[engine] = max(free_at[engine], now)
                queues[engine].append(daemon)
            daemon_peak = max(daemon_peak, turns[daemon].open)
        engine_peak = max(engine_peak, *map(len, queues))
        now += TICK_S
        for engine, queue in enumerate(queues):
            while queue and free_at[engine] + setup.answer_s <= now + 1e-9:
                free_at[engine] += setup.answer_s
                turns[queue.popleft()].give_back(engine)
    return Storm(engine_peak, daemon_peak, round(now, 1))
