"""A simulated engine in the test's own event loop, with clients beside it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import zmq
import zmq.asyncio
from tests.patience import PATIENCE_S

from kvsync.engine.options import EngineOptions
from kvsync.engine.process import SimulatedEngine

T = TypeVar("T")

# Steps take next to no time, so that tests wait for work and not for the time model.
FAST: dict[str, Any] = {
    "port": 0,
    "events": "tcp://127.0.0.1:0",
    "prefill_rate": 1e7,
    "decode_rate": 1e4,
    "blocks": 256,
    "answer_tokens": 20,
}
FREE_PORTS = ("--listen", "127.0.0.1:0", "--events", "tcp://127.0.0.1:0")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("KVSYNC_")}
"""Without what the shell of whoever runs the tests says of a daemon of theirs."""


@dataclass
class Client:
    """One engine, one HTTP session, and one ZeroMQ context for subscribers."""

    engine: SimulatedEngine
    http: aiohttp.ClientSession
    context: zmq.asyncio.Context
    sockets: list[zmq.asyncio.Socket]

    def socket(self, kind: int, endpoint: str) -> zmq.asyncio.Socket:
        """Open a socket that is connected to the engine and closed with the test."""
        socket = self.context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        self.sockets.append(socket)
        return socket

    async def post(self, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Post a JSON body; give the status and the answer's document."""
        async with self.http.post(path, json=body, **more) as response:
            return response.status, await response.json() if response.content_type == "application/json" else None

    async def get(self, path: str) -> Any:
        """Get a JSON document."""
        async with self.http.get(path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def text(self, path: str) -> str:
        """Get a text."""
        async with self.http.get(path) as response:
            return await response.text()

    async def complete(self, prompt: str | list[int], **fields: Any) -> Any:
        """Complete a prompt and give the answer's document."""
        status, document = await self.post("/v1/completions", {"prompt": prompt, "max_tokens": 5} | fields)
        assert status == 200, document
        return document

    async def truth(self) -> Any:
        """Say what every rank holds."""
        return (await self.get("/debug/blocks"))["ranks"]


@asynccontextmanager
async def running_engine(**options: Any) -> AsyncIterator[Client]:
    """Run an engine on free loopback ports for as long as the block lasts."""
    async with SimulatedEngine(EngineOptions(**(FAST | options))) as engine:
        token = engine.options.token
        headers = {"Authorization": f"Bearer {token}"} if token else None
        context = zmq.asyncio.Context()
        sockets: list[zmq.asyncio.Socket] = []
        try:
            async with aiohttp.ClientSession(engine.addresses.http, headers=headers) as http:
                yield Client(engine, http, context, sockets)
        finally:
            for socket in sockets:
                socket.close(0)
            context.term()


@asynccontextmanager
async def engine_process(*flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    """Run an engine in a process of its own, killed in the end if it still runs; with it what it said of itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kvsync", "engine"), *flags, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextmanager
def engine_beside(*flags: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """The same on free ports, for tests without an event loop."""
    command = [sys.executable, "-m", "kvsync", "engine", *FREE_PORTS, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def run(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run a scenario to its end, or to the end of patience."""

    async def limited() -> T:
        return await asyncio.wait_for(scenario(), PATIENCE_S)

    return asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; `run` bounds the wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event to tell of it
        await asyncio.sleep(0.002)


async def replay(dealer: zmq.asyncio.Socket, start: bytes) -> list[list[bytes]]:
    """Ask for batches from `start` on, and give all frames of the answer, the end marker's last."""
    await dealer.send_multipart([b"", start])
    answer = []
    while True:
        answer.append(await dealer.recv_multipart())
        if not answer[-1][-1]:
            return answer


def number(sequence: int) -> bytes:
    """Write a sequence number as frames carry it."""
    return sequence.to_bytes(8, "big")
