"""The daemon killed, and started again: a real process over real sockets, beside engines that go on or begin anew."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from tests.integration.engine_helpers import ENVIRONMENT, Client, running_engine
from tests.integration.ports import free_ports
from tests.integration.stream_helpers import IDLE_S, in_time
from tests.patience import PATIENCE_S

from kvsync.index import SnapshotFile

MODEL = "simulated"
SEED = 20260102
KILLS = 2


@dataclass
class Daemon:
    """A daemon in a process, and its URL."""

    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        """GET JSON."""
        async with self.http.get(path) as response:
            return await response.json()

    async def until_equal(self, engines: dict[str, Client], trust: dict[str, str] | None = None) -> None:
        """Wait until the daemon holds exactly what the engines say they hold, and trusts it as expected."""
        end = time.monotonic() + PATIENCE_S
        for name, one in engines.items():
            expected = (trust or {}).get(name, "exact")
            while True:
                truth = (await one.truth())["0"]
                told = await self.get(f"/v1/blocks?pod={name}")
                if (told["media"], told["sequence"], told["trust"]) == (truth["media"], truth["sequence"], expected):
                    break
                assert time.monotonic() < end, (name, told["trust"], told["sequence"], truth["sequence"])
                await asyncio.sleep(0.02)

    async def saved(self, engines: int) -> None:
        """Wait until a snapshot that began when so many engines had been heard is on disk."""
        while len(await self.heard()) < engines:  # noqa: ASYNC110  (another process's doing)
            await asyncio.sleep(0.02)
        whole = await self.snapshots() + 2  # the next may have begun before
        while await self.snapshots() < whole:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def heard(self) -> list[str]:
        """The engines that have told something."""
        rows = (await self.get("/v1/engines"))["engines"]
        return [row["pod"] for row in rows if row["sequence"] is not None]

    async def snapshots(self) -> int:
        """How many were saved."""
        count: int = (await self.get("/v1/stats"))["snapshots"]["saved"]
        return count

    async def loaded(self) -> Any:
        """What it began with."""
        return (await self.get("/v1/stats"))["loaded"]


@asynccontextmanager
async def daemon(engines: dict[str, Client], folder: Path, *flags: str, replay: bool = True) -> AsyncIterator[Daemon]:
    """A daemon that follows engines and keeps a snapshot; killed in the end if it still runs."""
    pods: list[str] = []
    for name, one in engines.items():
        where = one.engine.addresses
        port = f",replay={where.replay[0]}" if replay else ""
        pods += ["--pod", f"name={name},http={where.http},events={where.events[0]}{port},model={MODEL}"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kvsync", "serve", "--listen", "127.0.0.1:0", "--snapshot-dir", str(folder)),
        *(*pods, *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession(ready["http"]) as http:
            yield Daemon(process, http)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask(one: Client, random: Random) -> None:
    """A prompt whose beginning it may share with others."""
    begin = 1000 * random.randrange(8)
    await one.complete([*range(begin, begin + 64), *(random.randrange(50_000) for _ in range(64))])


@asynccontextmanager
async def busy(engines: dict[str, Client], random: Random) -> AsyncIterator[None]:
    """Requests for every engine while the context lasts."""

    async def keep_asking(one: Client) -> None:
        while True:
            await ask(one, random)
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(keep_asking(one)) for one in engines.values()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_killed_at_any_instant_it_goes_on(tmp_path: Path) -> None:
    """`kill -9` under load, again and again: the last start equals the engines, and went on from the snapshot."""

    async def scenario() -> None:
        random = Random(SEED)
        async with running_engine() as a, running_engine() as b:
            engines = {"a": a, "b": b}
            for _ in range(KILLS):
                flags = ("--snapshot-interval", "0.02")
                async with daemon(engines, tmp_path, *flags) as running, busy(engines, random):
                    await running.saved(len(engines))
                    await asyncio.sleep(random.uniform(0.0, 0.2))
                    running.process.kill()
                    await running.process.wait()
            async with daemon(engines, tmp_path) as running:
                since = time.monotonic()
                await running.until_equal(engines)
                in_time("killed, and started from a snapshot", since, IDLE_S)
                assert await running.loaded() | {"taken": 0} == {
                    "origin": "snapshot",
                    "taken": 0,
                    "loaded": 2,
                    "resumed": 2,
                    "dropped": 0,
                }
                for row in (await running.get("/v1/engines"))["engines"]:
                    assert row["stream"]["restarts"] == 0
                    assert row["stream"]["applied_frames"] < row["sequence"], "everything was learned again"

    asyncio.run(scenario())


def test_what_changed_meanwhile_is_found_out(tmp_path: Path) -> None:
    """
    After a clean end: an engine that began anew is learned anew, and one that is gone is dropped.
    """

    async def scenario() -> None:
        random = Random(SEED)
        async with running_engine() as a, AsyncExitStack() as life:
            base = free_ports(3)
            where = {"port": base, "events": f"tcp://127.0.0.1:{base + 1}", "replay": f"tcp://127.0.0.1:{base + 2}"}
            b = await life.enter_async_context(running_engine(**where))
            c = await life.enter_async_context(running_engine())
            for _ in range(8):
                for one in (a, b, c):
                    await ask(one, random)
            async with daemon({"a": a, "b": b, "c": c}, tmp_path) as running:
                await running.until_equal({"a": a, "b": b, "c": c})
                running.process.terminate()
                assert await running.process.wait() == 0
            with SnapshotFile(tmp_path / "index.snapshot") as file:
                file.verify()
                rows = file.contents.rows
            assert [(row.engine.pod, row.trust) for row in rows] == [("a", "exact"), ("b", "exact"), ("c", "exact")]
            assert all(row.bookmark is not None for row in rows)
            await life.aclose()
            async with running_engine(**where) as again:
                for _ in range(3):
                    await ask(again, random)
                engines = {"a": a, "b": again}
                async with daemon(engines, tmp_path) as running:
                    await running.until_equal(engines)
                    assert await running.loaded() | {"taken": 0} == {
                        "origin": "snapshot",
                        "taken": 0,
                        "loaded": 3,
                        "resumed": 2,
                        "dropped": 1,
                    }
                    rows = (await running.get("/v1/engines"))["engines"]
                    assert [(row["pod"], row["stream"]["restarts"]) for row in rows] == [("a", 0), ("b", 1)]

    asyncio.run(scenario())
