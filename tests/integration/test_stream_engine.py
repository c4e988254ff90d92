"""
Stream and simulated engine over real sockets: whatever happens, a record ends equal to what its engine holds.

And in time: `pytest -s` prints how long each takes, from the first answered request that shows what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import aiohttp
import pytest
import zmq
import zmq.asyncio
from tests.integration.engine_helpers import engine_process
from tests.integration.ports import free_ports
from tests.integration.serve_helpers import until
from tests.integration.stream_helpers import FLOWING_S, NEVER_S, QUICK, in_time

from kvsync.index import Index
from kvsync.stream.endpoints import Source
from kvsync.stream.options import SequenceOptions
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.truth import hash_text
from kvsync.types import Engine, Trust

MODEL = "simulated"
POD = "pod"
SMALL = ("--prefill-rate", "1e7", "--decode-rate", "1e4", "--answer-tokens", "8", "--block-size", "4", "--blocks", "64")
# Connections are tried again within a fifth of a second. The promise for an idle engine is `probe_idle_s`, ten seconds
# unless set: here it is two, so that a test need not wait for nine.
PROBE_IDLE_S = 2.0
SEQUENCE = SequenceOptions(replay_timeout_s=NEVER_S, probe_idle_s=PROBE_IDLE_S)
PROBING = replace(QUICK, sequence=SEQUENCE, reconnect_max_s=0.2)


@dataclass(slots=True)
class Ready:
    """A running engine: its process and what it said of itself."""

    process: asyncio.subprocess.Process
    http: str
    events: list[str]
    replay: list[str]

    async def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def engine(*flags: str, at: Ready | None = None) -> AsyncIterator[Ready]:
    """A simulated engine, on free ports (of two ranks at most) or where another was before."""
    if at is None:
        base = free_ports(5)
        listen, events, replay = f"127.0.0.1:{base}", *(f"tcp://127.0.0.1:{base + after}" for after in (1, 3))
    else:
        listen, events, replay = at.http[7:], at.events[0], at.replay[0]
    where = ["--listen", listen, "--events", events, "--replay", replay]
    async with engine_process(*where, *SMALL, *flags) as (process, said):
        yield Ready(process, said["http"], said["events"], said["replay"])


@dataclass(slots=True)
class Network:
    """What carries the events of an engine to us, or loses them."""

    events: str
    is_down: bool = False
    lost: int = 0

    async def carry(self, engine: zmq.asyncio.Socket, us: zmq.asyncio.Socket) -> None:
        """Hand on every message, for ever."""
        while True:
            frames = await engine.recv_multipart()
            self.lost += self.is_down
            if not self.is_down:
                await us.send_multipart(frames)


@asynccontextmanager
async def network(ready: Ready) -> AsyncIterator[Network]:
    """Something between an engine's events and us; replays go past it."""
    context = zmq.asyncio.Context()
    with context.socket(zmq.SUB) as engine, context.socket(zmq.PUB) as us:
        engine.subscribe(b"")
        engine.connect(ready.events[0])
        us.bind_to_random_port("tcp://127.0.0.1")
        made = Network(us.getsockopt_string(zmq.LAST_ENDPOINT))
        carrying = asyncio.create_task(made.carry(engine, us))
        yield made
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)
    context.destroy(linger=0)


@dataclass(slots=True)
class Scene:
    """An index that follows, a client, and when it could first be seen what the record lacks."""

    index: Index
    streams: Subscriber
    client: aiohttp.ClientSession
    since: float = field(default_factory=time.monotonic)

    def follow(self, ready: Ready, *, replay: bool = True) -> None:
        """Follow all ranks of an engine."""
        for rank, events in enumerate(ready.events):
            there = ready.replay[rank] if replay and ready.replay else None
            self.streams.add(Source(Engine(POD, rank), MODEL, events, there))

    async def connected(self, ready: Ready) -> None:
        """Return once every rank's stream is connected and live."""
        ranks = range(len(ready.events))
        await until(
            lambda: all(
                (status := self.streams.status()[Engine(POD, rank)]).connected and status.state == "live"
                for rank in ranks
            )
        )

    async def ask(self, ready: Ready, *numbers: int, model: str = MODEL, rank: int = 0) -> None:
        """Send requests that share a beginning; what follows is timed from the first answer on."""
        for nth, number in enumerate(numbers):
            prompt = [*range(40), *([number] * 20)]
            async with self.client.post(
                f"{ready.http}/v1/completions",
                json={"model": model, "prompt": prompt, "max_tokens": 4},
                headers={"X-data-parallel-rank": str(rank)},
            ) as answer:
                assert answer.status == 200, await answer.text()
            if nth == 0:
                self.since = time.monotonic()

    async def equals(self, ready: Ready, what: str, limit_s: float = FLOWING_S) -> None:
        """Return once every rank's record is exactly what the rank holds, and says so; fail if it took too long."""
        async with self.client.get(f"{ready.http}/debug/blocks") as answer:
            ranks = (await answer.json())["ranks"]
        for rank, truth in ranks.items():
            await until(partial(self.is_truly, Engine(POD, int(rank)), truth["media"]))
        in_time(what, self.since, limit_s)

    def is_truly(self, engine: Engine, media: dict[str, Any]) -> bool:
        """Whether an engine's record is exactly this, and says so."""
        return self.listed(engine) == media and self.index.trust(engine) is Trust.EXACT

    def listed(self, engine: Engine) -> dict[str, Any]:
        """The record as the engine writes its own."""
        return {
            medium: {
                str(group): {hash_text(name): copies for name, copies in hashes.items()}
                for group, hashes in groups.items()
            }
            for medium, groups in self.index.engine_hashes(engine).items()
        }


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """An index, a subscriber and a client."""
    with Index() as index, Subscriber(index, PROBING) as streams:
        async with aiohttp.ClientSession() as client:
            yield Scene(index, streams, client)


@pytest.mark.parametrize("unheard", [False, True], ids=["heard", "passed the old number unheard"])
def test_an_engine_killed_and_started_again_on_its_port(unheard: bool) -> None:
    """The record of the old life goes, and that of the new one is exact, though its number may have passed the old."""

    async def story() -> None:
        async with scene() as here, engine() as old:
            here.follow(old)
            await here.connected(old)
            await here.ask(old, 1, 2)
            await here.equals(old, "first contact")
            await old.kill()
            async with engine("--seed", "1", at=old) as new:
                if not unheard:
                    await here.connected(new)
                await here.ask(new, *range(10, 16))
                await here.equals(new, "killed and started again")
                assert here.streams.status()[Engine(POD)].restarts == 1

    asyncio.run(story())


@pytest.mark.parametrize("flows", [True, False], ids=["batches flow", "the engine is idle"])
def test_batches_that_are_lost_on_the_way(flows: bool) -> None:
    """Where batches flow the next one shows the hole, within a second; the last ones are missed by a probe."""

    async def story() -> None:
        async with scene() as here, engine() as ready, network(ready) as way:
            here.streams.add(Source(Engine(POD), MODEL, way.events, ready.replay[0]))
            await here.connected(ready)
            await here.ask(ready, 1, 2)
            await here.equals(ready, "first contact")
            way.is_down = True
            await here.ask(ready, *range(10, 14))
            await until(lambda: way.lost > 0)
            if flows:
                way.is_down = False
                await here.ask(ready, 20)
                await here.equals(ready, "lost where batches flow")
            else:
                await here.equals(ready, "lost, then silence", PROBE_IDLE_S)
            assert here.streams.status()[Engine(POD)].restarts == 0

    asyncio.run(story())


def test_two_ranks_and_an_adapter() -> None:
    """Each rank is an engine of its own, and the adapter's blocks are among its."""

    async def story() -> None:
        async with scene() as here, engine("--ranks", "2", "--lora", "adapter") as ready:
            here.follow(ready)
            await here.connected(ready)
            for rank in (0, 1):
                await here.ask(ready, 1, 2, rank=rank)
                await here.ask(ready, 2, 3, model="adapter", rank=rank)
            await here.equals(ready, "two ranks and an adapter")
            prompt = [*range(40), *([3] * 20)]
            of_base, of_adapter = (here.index.match(prompt, model=MODEL, lora=lora) for lora in (None, "adapter"))
            assert [match.tokens for match in of_base.values()] == [40, 40]
            assert [match.tokens for match in of_adapter.values()] == [60, 60]

    asyncio.run(story())


def test_a_buffer_that_wrapped_is_partial_until_a_clear() -> None:
    """What is known is a part of the truth, and a reset of the engine's cache makes it the whole."""

    async def story() -> None:
        async with scene() as here, engine("--buffer-steps", "3") as ready:
            await here.ask(ready, *range(8))
            here.follow(ready)
            await here.connected(ready)
            await until(lambda: here.index.trust(Engine(POD)) is Trust.PARTIAL)
            in_time("partial after a wrapped buffer", here.since)
            async with here.client.post(f"{ready.http}/reset_prefix_cache") as answer:
                assert answer.status == 200
            await here.ask(ready, 1)
            await here.equals(ready, "exact after a clear")

    asyncio.run(story())


def test_an_engine_without_a_replay_port() -> None:
    """Heard from its first batch on it is exact; after a restart the new life is, once it is heard."""

    async def story() -> None:
        async with scene() as here:
            old = await first_heard(here, None, "first contact")
            await first_heard(here, old, "killed and started again, no replay port")

    asyncio.run(story())


async def first_heard(here: Scene, before: Ready | None, what: str) -> Ready:
    """
    Start an engine, in the place of the one before, until one is heard from its first batch on; then it is killed.

    Connected is not yet subscribed: what an engine publishes before it has read our wish is lost, on a slow machine.
    """
    while True:
        reconnects = 0 if before is None else here.streams.status()[Engine(POD)].reconnects
        async with engine("--seed", "0" if before is None else "1", at=before) as ready:
            if before is None:
                here.follow(ready, replay=False)
                await here.connected(ready)
            else:
                await until(lambda: here.streams.status()[Engine(POD)].reconnects > reconnects)  # noqa: B023
                assert here.index.trust(Engine(POD)) is Trust.STALE
            received = here.streams.status()[Engine(POD)].received
            await here.ask(ready, 1, 2)
            for number in range(3, 1_000):
                if here.streams.status()[Engine(POD)].received > received:
                    break
                await here.ask(ready, number)
            with contextlib.suppress(TimeoutError):
                await until(lambda: here.index.trust(Engine(POD)) is Trust.EXACT, within=1.0)
            if here.index.trust(Engine(POD)) is Trust.EXACT:
                await here.equals(ready, what)
                return ready
        if before is None:
            here.streams.remove(Engine(POD))
