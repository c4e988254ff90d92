"""
What several daemons lose by not knowing of each other's requests in flight, against one that knows of all.

    python -m benchmarks.blind [--routers 1,2,4,8] [--pods 8] [--loads 0.5,0.8] [--requests 4000] [--json]

A fleet in virtual time, with the daemon's own routers and policy: each request comes to one of the routers by lot. All
see every pod's cache as it is, as daemons that follow the same events do; each knows only its own requests in flight
and its own recent picks. A pod computes prompts one after the other, keeps the blocks it used last, and an answer ends
some time later. Prompts are turns of conversations that begin with one of a few system prompts. `load` is the share of
the pods' time that computing would take if each conversation's earlier turns were always cached. The first quarter of
the requests, to empty pods, is not counted. `holders` is how many pods hold the commonest system prompt, with which
half of the conversations begin, when that quarter is over. Figures are of the model, not of this machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Any, Final

from kvsync.routing import Ask, Considered, Flight, Router, policies
from kvsync.types import GPU, Engine, Match, Trust

BLOCK: Final = 64
PREFILL_RATE: Final = 20_000.0
CACHE_BLOCKS: Final = 4_000
SYSTEMS: Final = 12
SYSTEM_BLOCKS: Final = 32
TURN_BLOCKS: Final = 10
TURNS: Final = 6
TALKS_TOGETHER: Final = 400
ANSWER_S: Final = (1.0, 8.0)
COMMONEST: Final = [-(10_000 + n) for n in range(SYSTEM_BLOCKS)]
SEEDS: Final = tuple(range(1, 13))


Cache = OrderedDict[int, None]


@dataclass(slots=True)
class Pod:
    """One engine: a queue computed in order, and the blocks used last."""

    engine: Engine
    free_at: float = 0.0
    queued: Cache = field(default_factory=OrderedDict)
    """What it will hold once all that is queued was computed."""

    told: Cache = field(default_factory=OrderedDict)
    """What it holds now, as its events say."""


def match(cache: Cache, blocks: list[int]) -> int:
    """Leading blocks that are cached."""
    return next((n for n, block in enumerate(blocks) if block not in cache), len(blocks))


def use(cache: Cache, blocks: list[int]) -> None:
    """The prompt's blocks are the last used, its beginning the very last."""
    for block in reversed(blocks):
        cache[block] = None
        cache.move_to_end(block)
    while len(cache) > CACHE_BLOCKS:
        cache.popitem(last=False)


def prompts(random: Random) -> Iterator[list[int]]:
    """Turns of conversations, many side by side, for ever; equal numbers are equal blocks after equal beginnings."""
    talks: list[tuple[int, int, int]] = []
    number = 0
    while True:
        if len(talks) < TALKS_TOGETHER:
            number += 1
            talks.append((number, min(int(random.paretovariate(1.0)), SYSTEMS), 0))
        place = random.randrange(len(talks))
        talk, system, turn = talks[place]
        own = range((turn + 1) * TURN_BLOCKS)
        yield [-(system * 10_000 + n) for n in range(SYSTEM_BLOCKS)] + [talk * 10_000 + n for n in own]
        talks[place] = (talk, system, turn + 1)
        if turn + 1 == TURNS:
            talks[place] = talks[-1]
            talks.pop()


def run(routers: int, pods: int, load: float, requests: int, seed: int) -> dict[str, float]:
    """One fleet's life; the figures."""
    random = Random(seed)
    fleet = [Pod(Engine(f"p{number}")) for number in range(pods)]
    by_engine = {pod.engine: pod for pod in fleet}
    known = policies()
    gateways = [Router(known, prefill_rate=PREFILL_RATE, seed=seed + n) for n in range(routers)]
    pause_s = TURN_BLOCKS * BLOCK / PREFILL_RATE / load / pods
    coming: list[tuple[float, int, str, Any]] = [(0.0, 0, "arrives", None)]
    told, number = prompts(random), 0
    waits: list[float] = []
    cached = total = holders = 0
    sent: Counter[Engine] = Counter()

    def later(at: float, what: str, data: Any) -> None:
        nonlocal number
        number += 1
        heapq.heappush(coming, (at, number, what, data))

    while len(waits) < requests:
        now, _, what, data = heapq.heappop(coming)
        if what == "arrives":
            later(now + random.expovariate(1 / pause_s), "arrives", None)
            blocks, router = next(told), random.choice(gateways)
            flight = route(router, fleet, blocks, now)
            pod = by_engine[flight.pick.engine]
            sent[pod.engine] += 1
            begins = max(now, pod.free_at)
            hit = match(pod.queued, blocks[:-1])
            use(pod.queued, blocks)
            pod.free_at = begins + (len(blocks) - hit) * BLOCK / PREFILL_RATE
            cached, total = cached + hit, total + len(blocks)
            later(pod.free_at, "computed", (router, flight, hit * BLOCK, now, blocks))
        elif what == "computed":
            router, flight, hit_tokens, came, blocks = data
            use(by_engine[flight.pick.engine].told, blocks)
            router.first_token(flight, now)
            waits.append(now - came)
            if len(waits) == requests // 4:
                holders = sum(match(pod.told, COMMONEST) == SYSTEM_BLOCKS for pod in fleet)
            later(now + random.uniform(*ANSWER_S), "ends", (router, flight, hit_tokens))
        else:
            router, flight, hit_tokens = data
            router.finish(flight, now, cached_tokens=hit_tokens)
    waits = sorted(waits[requests // 4 :])
    return {
        "hit_rate": cached / total,
        "ttft_mean_s": sum(waits) / len(waits),
        "ttft_p99_s": waits[int(0.99 * len(waits))],
        "requests_max_over_mean": max(sent.values()) * pods / sum(sent.values()),
        "holders": holders,
    }


def route(router: Router, fleet: list[Pod], blocks: list[int], now: float) -> Flight:
    """One request at one router."""
    ask = Ask("m", len(blocks) * BLOCK, lambda _: blocks)
    considered = []
    for pod in fleet:
        n = match(pod.told, blocks)
        held = Match(n, n * BLOCK, {GPU: n} if n else {}, trust=Trust.EXACT, trust_by_medium={GPU: Trust.EXACT})
        considered.append(Considered(pod.engine, held, BLOCK))
    pick = router.choose(ask, router.consider(ask, considered, now))
    return router.begin(ask, pick, now, observed=True)


def measure(routers: int, pods: int, load: float, requests: int) -> dict[str, Any]:
    """The medians over the seeds, and the worst mean: a crowd on one pod comes by chance, and ruins the whole run."""
    runs = [run(routers, pods, load, requests, seed) for seed in SEEDS]
    medians = {name: round(median(one[name] for one in runs), 4) for name in runs[0]}
    worst = max(runs, key=lambda one: one["ttft_mean_s"])
    at_worst = {"ttft_mean_s_worst": round(worst["ttft_mean_s"], 4), "holders_at_worst": worst["holders"]}
    return {"load": load, "pods": pods, "routers": routers, "seeds": len(runs), **medians, **at_worst}


def main() -> None:
    """Print a line for each number of routers at each load."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blind", description=__doc__.split("\n\n")[0])
    parser.add_argument("--routers", default="1,2,4,8")
    parser.add_argument("--pods", type=int, default=8)
    parser.add_argument("--loads", default="0.5,0.8")
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for load in map(float, asked.loads.split(",")):
        for routers in map(int, asked.routers.split(",")):
            figures = measure(routers, asked.pods, load, asked.requests)
            print(json.dumps(figures) if asked.json else "  ".join(f"{k}={v}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
