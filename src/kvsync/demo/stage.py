"""
The demo's stage: simulated engines and the daemon as processes, and what both say about the caches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import aiohttp

from kvsync.demo.processes import Child, Children
from kvsync.demo.tasks import together
from kvsync.demo.truth import Listing
from kvsync.errors import KvsyncError

MODEL = "simulated"
RANK = 0
LOOPBACK = "127.0.0.1:0"
QUIET_WITHIN_S = 20.0
ANSWER_WITHIN_S = 20.0
DRAIN_S = "0.5"
"""What a daemon may wait for running answers: its traffic has ended, or the demo was told to."""


@dataclass(frozen=True, slots=True)
class EngineSize:
    """One simulated engine: how much it holds, and how fast it is. Rates are tokens per second."""

    blocks: int = 2_000
    block_size: int = 16
    prefill_rate: float = 2_800.0
    decode_rate: float = 100.0
    seed: int = 0

    def arguments(self) -> list[str]:
        # A reset is announced at once: the next policy begins with an index that is as empty as the caches.
        return [
            *("engine", "--model", MODEL, "--listen", LOOPBACK, "--events", f"tcp://{LOOPBACK}"),
            *("--blocks", str(self.blocks), "--block-size", str(self.block_size), "--seed", str(self.seed)),
            *("--prefill-rate", str(self.prefill_rate), "--decode-rate", str(self.decode_rate)),
            *("--reset-events", "now"),
        ]


@dataclass(frozen=True, slots=True)
class Pod:
    """A running engine process and its addresses."""

    name: str
    http: str
    events: str
    replay: str

    @classmethod
    def from_ready(cls, name: str, ready: Mapping[str, Any]) -> Pod:
        return cls(name, str(ready["http"]), str(ready["events"][RANK]), str(ready["replay"][RANK]))

    def argument(self) -> str:
        """The value of the daemon's `--pod` for it."""
        return f"name={self.name},http={self.http},events={self.events},replay={self.replay},model={MODEL}"


@dataclass(frozen=True, slots=True)
class PodStatus:
    """What the daemon knows of one pod; `events` counts the blocks that events have told of since it listens."""

    blocks: int
    events: int
    trust: str

    @classmethod
    def from_json(cls, engine: Mapping[str, Any]) -> PodStatus:
        """Read one element of `/v1/engines`."""
        counters = engine.get("counters", {})
        events = sum(int(counters.get(name, 0)) for name in ("stored", "removed", "cleared", "reannounced"))
        return cls(int(engine["blocks"]), events, str(engine["trust"]))


class Stage:
    """
    The pods, started once, and the daemon, started anew for each policy so that nothing is remembered.
    """

    def __init__(self, children: Children, session: aiohttp.ClientSession) -> None:
        self._children = children
        self._session = session
        self._daemon: Child | None = None
        self.pods: Sequence[Pod] = ()
        self.url = ""

    async def start_pods(self, count: int, size: EngineSize) -> None:
        """Start the engines, all at once, and wait until they are ready."""
        names = [f"pod-{number}" for number in range(count)]
        children = await together(self._children.start(name, *size.arguments()) for name in names)
        self.pods = [Pod.from_ready(child.name, child.ready) for child in children]

    async def start_daemon(self, policy: str, size: EngineSize) -> None:
        """
        End the daemon, if there is one, and start another with this policy; it follows all pods when we return.

        It is told how fast the engines prefill, as an operator would: what it learns by itself in the first seconds
        would be part of the comparison.
        """
        if self._daemon is not None:
            await self._children.stop(self._daemon)
        pods = [argument for pod in self.pods for argument in ("--pod", pod.argument())]
        self._daemon = await self._children.start(
            *("kvsync serve", "serve", "--listen", LOOPBACK, "--policy", policy),
            *("--prefill-rate", str(size.prefill_rate), "--drain-seconds", DRAIN_S, *pods),
        )
        self.url = str(self._daemon.ready["http"])
        await self._until_none(self._unfollowed, "the daemon does not follow all pods")
        await self.quiet()

    async def empty_caches(self) -> None:
        """Make every engine forget its cache."""
        for pod in self.pods:
            answer = await self._json("POST", f"{pod.http}/reset_prefix_cache")
            if not answer.get("success"):
                raise KvsyncError(f"{pod.name} did not empty its cache: {answer}")

    async def status(self) -> dict[str, PodStatus]:
        """What the daemon knows now, by pod."""
        document = await self._json("GET", f"{self.url}/v1/engines")
        return {str(engine["pod"]): PodStatus.from_json(engine) for engine in document["engines"]}

    async def quiet(self) -> None:
        """Wait until the daemon has applied all that the engines have published."""
        await self._until_none(self._lagging, "the index lags behind")

    async def _lagging(self) -> list[str]:
        """Pods whose last batch the index has not applied, each with both numbers."""
        listings = await together(self.listings(pod) for pod in self.pods)
        return [
            f"{pod.name} published batch {held.sequence}, the index has {recorded.sequence}"
            for pod, (held, recorded) in zip(self.pods, listings, strict=True)
            if held.sequence != recorded.sequence
        ]

    async def listings(self, pod: Pod) -> tuple[Listing, Listing]:
        """What a pod holds, and what the daemon has on record for it."""
        held, recorded = await together(
            self._json("GET", url, missing={})
            for url in (f"{pod.http}/debug/blocks", f"{self.url}/v1/blocks?pod={pod.name}&rank={RANK}")
        )
        return Listing.from_json(held["ranks"][str(RANK)]), Listing.from_json(recorded)

    async def _unfollowed(self) -> list[str]:
        """Pods whose stream the daemon does not follow yet."""
        engines = (await self._json("GET", f"{self.url}/v1/engines"))["engines"]
        live = {engine["pod"] for engine in engines if (engine["stream"] or {}).get("state") == "live"}
        return [pod.name for pod in self.pods if pod.name not in live]

    async def _until_none(self, differences: Callable[[], Awaitable[list[str]]], complaint: str) -> None:
        give_up_at = monotonic() + QUIET_WITHIN_S
        while lag := await differences():
            if monotonic() > give_up_at:
                raise KvsyncError(f"{complaint}, after {QUIET_WITHIN_S:.0f} s: {'; '.join(lag)}")
            await asyncio.sleep(0.1)

    async def _json(self, method: str, url: str, missing: Any = None) -> Any:
        """The answer as JSON; `missing` in place of a 404, where it is given."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self._session.request(method, url) as response:
                if response.status == 404 and missing is not None:
                    return missing
                if response.status != 200:
                    raise KvsyncError(f"{method} {url} answered {response.status}: {(await response.text())[:300]}")
                return await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise KvsyncError(f"{method} {url} failed: {error!r}") from error
