"""The daemon over real sockets: simulated engines, their events, the subscriber, the proxy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from tests.integration.engine_helpers import FREE_PORTS, engine_process
from tests.integration.serve_helpers import until
from tests.integration.stream_helpers import NEVER_S, in_time

from kvsync.fleet import Pod, StaticPods, pod_of
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve.app import running, stream_options
from kvsync.serve.parts import Parts
from kvsync.serve.readiness import coverage
from kvsync.serve.settings import load_settings
from kvsync.stream.options import SequenceOptions
from kvsync.stream.subscriber import Subscriber
from kvsync.types import Engine, Trust

MODEL = "simulated"
CHAT = "/v1/chat/completions"
FAST = ("--prefill-rate", "1e7", "--decode-rate", "1e4", "--answer-tokens", "20")
STEADY = SequenceOptions(replay_timeout_s=NEVER_S)
"""However slow an engine, its answer is not late. A batch lost at the very beginning is found by a probe within ten."""

SYSTEM = {"role": "system", "content": "You are brief. " * 40}


@asynccontextmanager
async def engine(name: str, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Pod]]:
    """A simulated engine in a process of its own, killed in the end if it still runs."""
    async with engine_process(*FREE_PORTS, *FAST, *flags) as (process, ready):
        fields = {"name": name, "http": ready["http"], "model": MODEL, "events": ready["events"][0]}
        yield process, pod_of(fields | ({"replay": ready["replay"][0]} if ready["replay"] else {}), name)


@dataclass(slots=True)
class Daemon:
    """A daemon that follows real streams, and a client."""

    url: str
    parts: Parts
    client: aiohttp.ClientSession

    async def chat(self, messages: list[dict[str, str]]) -> tuple[str, str, int]:
        """Ask through the proxy; give pod, answer and cached tokens."""
        body = {"model": MODEL, "messages": messages, "max_tokens": 20}
        async with self.client.post(f"{self.url}{CHAT}", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return response.headers["x-kvsync-pod"], answer["choices"][0]["message"]["content"], cached

    async def get(self, url: str) -> Any:
        """GET JSON."""
        async with self.client.get(url) as response:
            return await response.json()

    async def truth(self, pod: Pod) -> Any:
        """What the engine holds, once the daemon has applied all that it has published."""
        truth = (await self.get(f"{pod.http}/debug/blocks"))["ranks"]["0"]
        await until(lambda: self.applied(Engine(pod.name)) == truth["sequence"])
        return truth

    def applied(self, engine: Engine) -> int | None:
        """The last number in an engine's record; of one never heard of there is no record yet."""
        index = self.parts.index
        return index.record(engine).sequence if engine in index.engines() else None


@asynccontextmanager
async def following(*pods: Pod, sequence: SequenceOptions = STEADY, **flags: Any) -> AsyncIterator[Daemon]:
    """A daemon for these pods, connected to all of them; `sequence` in place of its own times and limits."""
    settings = load_settings({"listen": "127.0.0.1:0", "pods": pods, **flags}, environment={})
    options = replace(stream_options(settings, None), sequence=sequence)
    with Index(**settings.index_limits) as index, Subscriber(index, options) as streams:
        parts = Parts(settings, index, streams, Router(dict(BUILT_IN), seed=1))
        async with running(parts, StaticPods(pods)) as url, aiohttp.ClientSession() as client:
            engines = sum(pod.ranks for pod in pods)
            await until(lambda: coverage(parts)["engines"]["connected"] == engines)
            await until(lambda: all(parts.health.is_up(pod.name) for pod in pods))
            yield Daemon(url, parts, client)


def test_a_conversation_stays_where_its_cache_is() -> None:
    """Each turn goes back to its pod and finds its history there, after own picks have long been forgotten."""

    async def story() -> None:
        async with engine("a") as (_, a), engine("b", "--seed", "1") as (_, b), following(a, b) as here:
            messages = [SYSTEM, {"role": "user", "content": "Why is the sky blue? " * 10}]
            home, answer, _ = await here.chat(messages)
            await here.truth({"a": a, "b": b}[home])
            assert here.parts.index.trust(Engine(home)) is Trust.EXACT
            here.parts.router.own_picks.forget(Engine(home))
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And red at dusk?"}]
            again, _, cached = await here.chat(messages)
            assert again == home
            assert cached > 800

    asyncio.run(story())


def test_the_record_is_what_the_engine_holds() -> None:
    """Block by block with copies, as of the same number."""

    async def story() -> None:
        async with engine("a") as (_, a), following(a) as here:
            for number in range(5):
                await here.chat([SYSTEM, {"role": "user", "content": f"{number} " * 50}])
            truth = await here.truth(a)
            record = await here.get(f"{here.url}/v1/blocks?pod=a&rank=0")
            assert record["media"] == truth["media"]
            assert record["trust"] == "exact"

    asyncio.run(story())


def test_prediction_equals_what_the_engine_reports() -> None:
    """With every event applied, the predicted cached tokens are the engine's own."""

    async def story() -> None:
        async with engine("a") as (_, a), following(a) as here:
            for number in range(6):
                await here.chat([SYSTEM, {"role": "user", "content": f"question {number % 3} " * (10 + number)}])
                await here.truth(a)
            figures = here.parts.metrics
            predicted, actual = (
                figures.registry.get_sample_value(f"kvsync_{name}_cached_tokens_total", {"pod": "a"})
                for name in ("predicted", "actual")
            )
            assert predicted == actual
            assert actual

    asyncio.run(story())


def test_a_killed_pod_gets_nothing_a_second_later() -> None:
    """Its event socket closed; everything goes to the other, and no request fails."""

    async def story() -> None:
        async with engine("a") as (process, a), engine("b") as (_, b), following(a, b) as here:
            messages = [SYSTEM, {"role": "user", "content": "Why?"}]
            await here.chat(messages)
            await until(lambda: here.parts.health.state("a").connected)
            process.kill()
            since = time.monotonic()
            await until(lambda: not here.parts.health.is_up("a"))
            in_time("killed, and out of the running", since)
            for _ in range(5):
                assert (await here.chat(messages))[0] == "b"

    asyncio.run(story())
