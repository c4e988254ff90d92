"""
A whole simulated engine: its ranks, their sockets and the HTTP server, started and ended as one.

    async with SimulatedEngine(options) as engine:
        engine.addresses            # where everything really is
        await engine.failed()       # returns never, or raises what ended a rank

One event loop runs it all: a task per rank, a task per replay socket, and the server's connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq
from aiohttp import web

from kvsync.engine.cache import PrefixCache
from kvsync.engine.hashing import BlockHasher
from kvsync.engine.options import EngineOptions
from kvsync.engine.pool import BlockPool
from kvsync.engine.publisher import Publisher, PublisherOptions
from kvsync.engine.rank import Rank
from kvsync.engine.scheduler import Scheduler
from kvsync.engine.server import EngineServer
from kvsync.errors import ConfigError, KvsyncError

# Connections that still stream when the engine ends are cut, as a killed engine cuts them.
_SHUTDOWN_S = 0.1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started engine is to be found; one entry per rank, `replay` empty if there is none."""

    http: str
    events: tuple[str, ...]
    replay: tuple[str, ...]

    def ready(self) -> dict[str, Any]:
        """Give the document that says so."""
        return {"ready": True, "http": self.http, "events": list(self.events), "replay": list(self.replay)}


def make_scheduler(options: EngineOptions) -> Scheduler:
    """Make one rank's scheduler with an empty cache; equal options make equal ones."""
    cache = PrefixCache(
        BlockPool(options.blocks, empty_first=options.make_wire().empty_first),
        block_size=options.block_size,
        hasher=BlockHasher(options.seed),
        groups=options.groups,
    )
    return Scheduler(cache, options.limits, options.time_model)


class SimulatedEngine:
    """
    One engine process' worth of ranks; an async context manager.

    Entering raises `ConfigError` for an address that cannot be had and leaves nothing open.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.ranks: list[Rank] = []
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._http = ""

    def __repr__(self) -> str:
        return f"<SimulatedEngine {self.options.model} {self._http or 'not started'} ranks={len(self.ranks)}>"

    @property
    def addresses(self) -> Addresses:
        publishers = [rank.publisher for rank in self.ranks]
        replays = tuple(publisher.replay for publisher in publishers if publisher.replay is not None)
        return Addresses(self._http, tuple(publisher.events for publisher in publishers), replays)

    async def __aenter__(self) -> Self:
        try:
            self._open_ranks()
            await self._open_http()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def failed(self) -> None:
        """Wait until a rank ends, which none does by itself, and raise what ended it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _open_ranks(self) -> None:
        self._context = zmq.Context()
        wire = self.options.make_wire()

        def make_rank(number: int, sockets: PublisherOptions) -> Rank:
            assert self._context is not None
            return Rank(
                number,
                scheduler=make_scheduler(self.options),
                publisher=Publisher(sockets, wire=wire, rank=number, context=self._context),
                hash_form=wire.hash_form,
                reset_events=self.options.reset_events,
            )

        for number, sockets in enumerate(self.options.publishers()):
            rank = make_rank(number, sockets)
            self.ranks.append(rank)
            try:
                rank.publisher.open()
            except zmq.ZMQError as error:
                raise KvsyncError(
                    f"the sockets of rank {number} cannot be opened: {error.strerror}; give fewer --ranks, or raise the"
                    " limit of open files (ulimit -n)"
                ) from error
        self._tasks = [asyncio.create_task(rank.run(), name=f"rank {rank.number}") for rank in self.ranks]

    async def _open_http(self) -> None:
        server = EngineServer(self.options, self.ranks)
        self._runner = web.AppRunner(
            server.application(),
            access_log=None,
            # Engines do not unpack bodies either; the library would, and log a traceback for what it cannot unpack.
            auto_decompress=False,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        host, port = self.options.host.strip("[]"), self.options.port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"--listen {self.options.host}:{port} cannot be bound: {error.strerror}; choose a free port, or port 0"
            ) from error
        bound_host, bound_port = self._runner.addresses[0][:2]
        self._http = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for rank in self.ranks:
            await rank.publisher.close()
        if self._context is not None:
            self._context.term()
        self._runner = self._context = None
        self._tasks = []


async def serve(options: EngineOptions, *, ready: Callable[[Addresses], None]) -> None:
    """
    Run an engine until SIGINT or SIGTERM; `ready` is called once everything answers.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end(number: int) -> None:
        if number == signal.SIGINT and sys.stderr.isatty():
            sys.stderr.write("\n")  # the shell's prompt would stand behind ^C
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    async with SimulatedEngine(options) as engine:
        ready(engine.addresses)
        waits = [asyncio.create_task(ended.wait()), asyncio.create_task(engine.failed())]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()


def write_ready(addresses: Addresses, ready_file: Path | None) -> None:
    """Say on standard output, and in a file if one is asked for, where everything is."""
    line = json.dumps(addresses.ready(), separators=(", ", ": "))
    if ready_file is not None:
        unfinished = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        try:
            unfinished.write_text(line + "\n", encoding="utf-8")
            unfinished.replace(ready_file)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise ConfigError(
                f"--ready-file {ready_file} cannot be written: {error.strerror}; give a file in a directory that can be"
                " written to"
            ) from error
    # Last: who reads the line may look for the file at once.
    print(line, flush=True)  # noqa: T201 - this line is what whoever started the engine waits for


def check_ready_file(ready_file: Path) -> None:
    """Raise `ConfigError` for a path that no file can be put at."""
    if ready_file.is_dir():
        raise ConfigError(f"--ready-file {ready_file} is a directory; give the name of a file in it")
    if not ready_file.parent.is_dir():
        raise ConfigError(f"--ready-file {ready_file} is in no directory; make {ready_file.parent} first")


def run(options: EngineOptions, ready_file: Path | None = None) -> None:
    """Run an engine in this process until it is told to end."""
    if ready_file is not None:
        check_ready_file(ready_file)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options, ready=lambda addresses: write_ready(addresses, ready_file)))
