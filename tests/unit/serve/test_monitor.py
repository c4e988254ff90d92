"""The daemon's eyes, with pods and streams that only pretend, where there are very many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import ClientSession
from tests.integration.serve_helpers import MadeUpStreams, make_pod, status_of

from kvsync.fleet import Pod, StaticPods
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve import fleet
from kvsync.serve.monitor import KNOCKS_AT_ONCE, Monitor
from kvsync.serve.parts import Parts
from kvsync.serve.settings import Settings
from kvsync.types import Engine

MANY = 3 * KNOCKS_AT_ONCE


class Doors:
    """In place of a session: every request waits until it is let in, and then it is answered."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.most = 0
        self.total = 0

    @asynccontextmanager
    async def get(self, url: str, **_: Any) -> AsyncIterator[SimpleNamespace]:
        """One request."""
        assert url not in self.waiting, f"{url} is asked twice at a time"
        self.waiting[url] = asyncio.get_running_loop().create_future()
        self.most, self.total = max(self.most, len(self.waiting)), self.total + 1
        await self.waiting[url]
        del self.waiting[url]
        yield SimpleNamespace(status=200)

    def let_in(self) -> int:
        """All that wait; gives how many they are."""
        for door in self.waiting.values():
            door.set_result(None)
        return len(self.waiting)


@contextmanager
def monitored(*pods: Pod) -> Iterator[tuple[Monitor, Parts, Doors]]:
    """A monitor of these pods, whose clock stands still."""
    with Index(seed=1) as index:
        parts = Parts(Settings(), index, MadeUpStreams(), Router(dict(BUILT_IN)), clock=lambda: 0.0)
        fleet.adopt(parts, StaticPods(pods))
        doors = Doors()
        yield Monitor(parts, cast(ClientSession, doors)), parts, doors


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_large_fleet_is_knocked_at_few_at_a_time() -> None:
    """Each pod once, and each has its full time to answer once it is asked."""
    with monitored(*(make_pod(f"p{number}", f"http://h/{number}", events=None) for number in range(MANY))) as (
        monitor,
        parts,
        doors,
    ):

        async def story() -> None:
            begun = asyncio.create_task(monitor.begin())
            for _ in range(MANY // KNOCKS_AT_ONCE):
                await _turns()
                assert doors.let_in() == KNOCKS_AT_ONCE
            await begun

        asyncio.run(story())
        assert (doors.most, doors.total) == (KNOCKS_AT_ONCE, MANY)
        assert all(parts.health.is_up(name) for name in parts.pods)


def test_a_pod_that_hangs_is_not_knocked_at_twice() -> None:
    """However long it is due; those that waited for a turn neither."""
    with monitored(*(make_pod(f"p{number}", f"http://h/{number}", events=None) for number in range(MANY))) as (
        monitor,
        parts,
        doors,
    ):

        async def story() -> None:
            for second in range(5):
                parts.clock = lambda now=float(second): now  # type: ignore[misc]
                monitor.knock()
                await _turns()
                assert doors.total == KNOCKS_AT_ONCE
                assert len(asyncio.all_tasks()) <= MANY + 1
            monitor.cancel()
            await _turns()

        asyncio.run(story())


def test_a_pod_of_the_same_name_is_looked_at_anew() -> None:
    """Though nothing changed about its stream: it is another, of which nothing is known."""
    pod = make_pod("a")
    with monitored(pod) as (monitor, parts, _):
        monitor.look()
        assert parts.health.is_up("a")
        monitor.look()
        parts.pods["a"] = replace(pod, uid="2")
        parts.health.add("a", 0.0)
        monitor.look()
        assert parts.health.is_up("a")


def test_what_stands_is_not_looked_at_again() -> None:
    """Only news of a stream change what is known of its pod: a pod that refused a request stays down."""
    with monitored(make_pod("a"), make_pod("b")) as (monitor, parts, _):
        monitor.look()
        streams = cast(MadeUpStreams, parts.streams)
        streams.statuses[Engine("b")] = status_of(Engine("b"), connected=False)
        parts.health.refused("a", "refused", 0.0)
        monitor.look()
        assert not parts.health.is_up("a")
        assert not parts.health.is_up("b")
        streams.statuses[Engine("b")] = status_of(Engine("b"))
        monitor.look()
        assert parts.health.is_up("b")
