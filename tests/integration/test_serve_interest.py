"""After a rollout the daemon asks first the engine that requests are sent to most."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, SupportsIndex

from tests.integration.serve_helpers import until
from tests.integration.stream_helpers import QUICK_SEQUENCE
from tests.integration.test_serve_engine import Daemon, following
from tests.integration.test_serve_streams import MODEL, SIZE, Published, publishing

from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Engine

PICKS = {"rarely": 1, "often": 4, "never": 0}
"""In this order they come back from the rollout."""


class Noted(list[int]):
    """The questions of one engine, of which each is also noted in a list of everybody's."""

    def __init__(self, name: str, everybody: list[str]) -> None:
        super().__init__()
        self._name, self._everybody = name, everybody

    def append(self, start: SupportsIndex, /) -> None:
        """Note who was asked."""
        super().append(int(start))
        self._everybody.append(self._name)


def prompt(name: str) -> list[int]:
    """Blocks that only this pod holds."""
    base = 1_000 * (1 + list(PICKS).index(name))
    return list(range(base, base + 12 * SIZE))


async def publish_prompt(here: Daemon, published: Published) -> None:
    """Have a pod tell that it holds its own prompt."""
    name = published.pod.name
    tokens = prompt(name)
    published.ranks[0].wait_for_subscriber()
    published.ranks[0].publish(encode_batch([Stored(tuple(tokens[::SIZE]), None, tuple(tokens), SIZE)]))
    await until(lambda: here.applied(Engine(name)) == 0)
    await until(lambda: here.parts.health.is_up(name))


async def route(here: Daemon, name: str) -> None:
    """Ask where the prompt of a pod goes: there."""
    asked = {"model": MODEL, "token_ids": prompt(name)}
    async with here.client.post(f"{here.url}/v1/route", json=asked) as response:
        assert (await response.json())["pod"] == name


def test_the_engine_that_is_picked_most_is_asked_first() -> None:
    """Of records that wait for their turn to be verified, the one that most requests rest on has it first."""
    everybody: list[str] = []

    async def story() -> None:
        with ExitStack() as stack:
            first = stack.enter_context(publishing("first"))
            others = [stack.enter_context(publishing(name)) for name in PICKS]
            pods = (first.pod, *(other.pod for other in others))
            limits: dict[str, Any] = {"replays_max": 1, "replay_spread_s": 0, "signals_seconds": 0}
            async with following(*pods, sequence=QUICK_SEQUENCE, **limits) as here:
                status = here.parts.streams.status
                for other in others:
                    await publish_prompt(here, other)
                    for _ in range(PICKS[other.pod.name]):
                        await route(here, other.pod.name)
                first.ranks[0].wait_for_subscriber()
                first.ranks[0].publish(encode_batch([]))
                await until(lambda: here.applied(Engine("first")) == 0)
                # The first questions are answered, and their places free again.
                await until(lambda: all(s.replay_available and s.state == "live" for s in status().values()))
                first.ranks[0].silent = True  # it takes the only turn, and keeps it
                for published in (first, *others):
                    published.ranks[0].asked = Noted(published.pod.name, everybody)
                first.ranks[0].drop_connections()
                await until(lambda: everybody == ["first"])
                for other in others:
                    other.ranks[0].drop_connections()
                await until(lambda: all(stream.reconnects == 1 for stream in status().values()))
                here.parts.streams.remove(Engine("first"))
                await until(lambda: len(everybody) == 1 + len(PICKS))

    asyncio.run(story())
    assert everybody == ["first", *sorted(PICKS, key=lambda name: -PICKS[name])]
