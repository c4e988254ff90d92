"""
A daemon in this process, over a real index that the test fills and pods that only pretend.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgpack
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.patience import PATIENCE_S

from kvsync.fleet import Pod, StaticPods
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve.app import running
from kvsync.serve.parts import Parts
from kvsync.serve.settings import load_settings
from kvsync.stream.endpoints import Source
from kvsync.stream.status import Pulse, StreamStatus
from kvsync.types import Bookmark, Engine

BLOCK = 16
MODEL = "m"
EVENTS = "tcp://127.0.0.1:9"
"""Nobody listens there; the streams of these tests are made up."""


def make_pod(name: str, http: str = "http://127.0.0.1:9", **others: Any) -> Pod:
    """A pod of the model, with events unless told otherwise."""
    return Pod(**{"name": name, "http": http, "model": MODEL, "events": EVENTS, **others})


def status_of(engine: Engine, *, connected: bool = True, restarts: int = 0) -> StreamStatus:
    """A stream's status in which only this matters."""
    return StreamStatus(
        engine=engine,
        connected=connected,
        state="live" if connected else "disconnected",
        applied=None,
        live_last=None,
        received=3,
        applied_frames=2,
        duplicate=0,
        dropped={"late": 1},
        waiting=0,
        gaps=0,
        unfilled=0,
        replays=0,
        restarts=restarts,
        rebuilds=0,
        oversize=0,
        reconnects=0,
        index_errors=0,
        last_event_age_s=None,
        error=None,
        replay_available=None,
    )


@dataclass(slots=True)
class MadeUpStreams:
    """In place of the subscriber: a test says how each stream is."""

    sources: dict[Engine, Source] = field(default_factory=dict)
    statuses: dict[Engine, StreamStatus] = field(default_factory=dict)
    interest: Callable[[Engine], float] | None = None

    def add(self, source: Source, bookmark: Bookmark | None = None, *, is_whole: bool = True) -> None:
        """Begin with a connected stream."""
        self.sources[source.engine] = source
        self.statuses.setdefault(source.engine, status_of(source.engine))

    def remove(self, engine: Engine) -> None:
        """Forget the stream."""
        del self.sources[engine], self.statuses[engine]

    def hold(self, engine: Engine) -> AbstractContextManager[Bookmark | None]:
        """Nothing moves by itself."""
        return nullcontext(Bookmark(0, b"made up!") if engine in self.sources else None)

    def status(self) -> Mapping[Engine, StreamStatus]:
        """What the test said."""
        return dict(self.statuses)

    def pulses(self) -> Mapping[Engine, Pulse]:
        """The little of it that is looked at often."""
        return {engine: Pulse(status.connected, status.restarts) for engine, status in self.statuses.items()}


@dataclass(slots=True)
class Daemon:
    """A running daemon, what it is made of, and a client."""

    url: str
    parts: Parts
    index: Index
    streams: MadeUpStreams
    client: aiohttp.ClientSession

    def hold(
        self,
        pod: str,
        tokens: Iterable[int],
        *,
        rank: int = 0,
        lora: str | None = None,
        medium: str = "GPU",
        sequence: int = 0,
    ) -> None:
        """Have an engine tell that it stored the whole blocks of these tokens."""
        ids = list(tokens)
        count = len(ids) // BLOCK
        event = {
            "type": "BlockStored",
            "block_hashes": [hash((pod, tuple(ids[: (n + 1) * BLOCK]))) & (2**64 - 1) for n in range(count)],
            "parent_block_hash": None,
            "token_ids": ids[: count * BLOCK],
            "block_size": BLOCK,
            "lora_id": None,
            "lora_name": lora,
            "medium": medium,
        }
        payload = msgpack.packb([0.0, [event], rank])
        applied = self.index.apply(Engine(pod, rank), payload, model=MODEL, sequence=sequence)
        assert applied.stored == count

    async def post(self, path: str, body: Mapping[str, Any], **headers: str) -> tuple[int, Any]:
        """POST JSON; give status and JSON."""
        async with self.client.post(f"{self.url}{path}", json=body, headers=headers) as response:
            return response.status, await response.json()

    async def post_octets(self, path: str, tokens: Iterable[int]) -> tuple[int, Any]:
        """POST raw token ids; give status and JSON."""
        headers = {"Content-Type": "application/octet-stream"}
        async with self.client.post(
            f"{self.url}{path}", data=array("I", tokens).tobytes(), headers=headers
        ) as response:
            return response.status, await response.json()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """GET; give status and JSON."""
        async with self.client.get(f"{self.url}{path}", headers=headers) as response:
            return response.status, await response.json()

    async def scrape(self, **headers: str) -> dict[str, float]:
        """The daemon's metrics, by name with labels in the order of the alphabet."""
        async with self.client.get(f"{self.url}/metrics", headers=headers) as response:
            families = list(text_string_to_metric_families(await response.text()))
        return {_series(sample): sample.value for family in families for sample in family.samples}


def _series(sample: Sample) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}" if labels else sample.name


async def until(true: Callable[[], bool], within: float = PATIENCE_S) -> None:
    """Wait until something has become true, at most so many seconds."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110  (what is waited for is another task's doing, and it tells nobody)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def daemon(*pods: Pod, token: bytes | None = None, **flags: Any) -> AsyncIterator[Daemon]:
    """A daemon for these pods, answering while the context lasts."""
    given = {"listen": "127.0.0.1:0", "pods": pods, "prefill_rate": 1_000.0, "drain_seconds": 1.0, **flags}
    settings = load_settings(given, environment={})
    streams = MadeUpStreams()
    router = Router(dict(BUILT_IN), default=settings.policy, prefill_rate=settings.prefill_rate, seed=1)
    with Index(seed=1) as index:
        parts = Parts(settings, index, streams, router, token)
        async with running(parts, StaticPods(settings.pods)) as url, aiohttp.ClientSession() as client:
            yield Daemon(url, parts, index, streams, client)
