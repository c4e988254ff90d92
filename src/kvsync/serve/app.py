"""
The daemon, put together and run.

    Subscriber's thread   frames -> index
    event loop            HTTP (api, proxy), monitor (streams -> health), follow (fleet -> everyone)

The subscriber starts first, so that no event is missed, and the HTTP port opens last, so that whoever reaches it gets
answers. Stopping goes the other way: the port closes, running answers get up to `drain_seconds`, then the rest ends.
A second signal ends it without waiting.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from aiohttp.typedefs import Handler, Middleware

from kvsync.errors import ConfigError
from kvsync.fleet import PodSource, StaticPods
from kvsync.index import Index
from kvsync.routing import Router, policies
from kvsync.serve import fleet, malformed
from kvsync.serve.api import Api
from kvsync.serve.auth import make_middleware, token_of
from kvsync.serve.curve import curve_of
from kvsync.serve.monitor import Monitor
from kvsync.serve.parts import Parts
from kvsync.serve.problems import answer_problems
from kvsync.serve.proxy import Proxy
from kvsync.serve.settings import Listen, Settings, unknown_variables
from kvsync.serve.signals import Signals
from kvsync.serve.snapshots.begin import begin
from kvsync.serve.snapshots.folder import SnapshotFolder
from kvsync.serve.snapshots.giving import Giving
from kvsync.serve.snapshots.keeper import Keeper
from kvsync.serve.snapshots.siblings import siblings_of
from kvsync.serve.sources import source_of
from kvsync.stream.options import Curve, SubscriberOptions
from kvsync.stream.subscriber import Subscriber

KEEP_ALIVE_S = 4.0
"""How long a connection to a pod is kept unused: shorter than the 5 s after which common servers drop it."""

READ_BYTES = 1024 * 1024
"""
How much of a body is read ahead before the connection is held back: a prompt of 131,072 token ids in one go, where
aiohttp's own 64 KiB stop and wake the connection eight times.
"""

ENDING_S = 0.1
"""What a request gets that is still there after `drain_seconds`, to take note of its end."""

SWITCH_S = 0.0005
"""
How long a thread of ours keeps the interpreter from another that wants it, instead of Python's 5 ms: an answer wants it
several times, and while an engine floods us the thread of the streams has it nearly always.
"""

CLAIM_S = 60.0
"""How long a loaded record waits for its engine to be found again."""

_logger = logging.getLogger(__name__)


async def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """
    Run until SIGTERM or SIGINT; `ready` is called with the URL once requests are answered.

    Raises `ConfigError` for settings that cannot work, before anything is opened.
    """
    sys.setswitchinterval(SWITCH_S)
    source, curve = source_of(settings), curve_of(settings)
    token, router = token_of(settings), make_router(settings)
    siblings = siblings_of(settings, token)
    stop, hurry = asyncio.Event(), asyncio.Event()
    with _signals(stop, hurry), _folder(settings.snapshot_dir) as folder:
        start = await begin(settings, folder, siblings)
        with start.index as index, Subscriber(index, stream_options(settings, curve)) as streams:
            parts = Parts(settings, index, streams, router, token, inherited=start.inherited)
            async with _kept(parts, index, folder, hurry), running(parts, source, hurry) as url:
                for name in unknown_variables(os.environ):
                    _logger.warning("variable %s means nothing to kvsync; check its spelling", name)
                ready(url)
                await stop.wait()


@contextmanager
def _folder(path: Path | None) -> Iterator[SnapshotFolder | None]:
    if path is None:
        yield None
        return
    with closing(SnapshotFolder(path)) as folder:
        yield folder


@asynccontextmanager
async def _kept(parts: Parts, index: Index, folder: SnapshotFolder | None, hurry: asyncio.Event) -> AsyncIterator[None]:
    """Keep a snapshot while the context lasts, and make a last one when it ends in peace."""
    if folder is None:
        yield
        return
    hold = parts.inherited.holding(parts.streams.hold)
    with Keeper(index, hold, folder.file, parts.settings.snapshot_interval) as keeper:
        parts.keeper = keeper
        yield
    if not hurry.is_set():
        await asyncio.to_thread(keeper.save)


def stream_options(settings: Settings, curve: Curve | None) -> SubscriberOptions:
    """What the settings say of the event streams; a rate of 0 is none."""
    return SubscriberOptions(
        frames_per_s=settings.frames_per_s or None,
        replays_max=settings.replays_max,
        replay_spread_s=settings.replay_spread_s,
        curve=curve,
    )


def make_router(settings: Settings, *, seed: int | None = None) -> Router:
    """The router that the settings ask for."""
    return Router(policies(), default=settings.policy, prefill_rate=settings.prefill_rate, seed=seed)


@asynccontextmanager
async def running(parts: Parts, source: PodSource, hurry: asyncio.Event | None = None) -> AsyncIterator[str]:
    """
    A daemon that answers requests while the context lasts; gives its URL.

    At the end running answers are waited for, until `hurry` is set.
    """
    async with _session(parts.settings) as session:
        await source.open()
        fleet.adopt(parts, source)
        if isinstance(source, StaticPods):
            parts.inherited.drop_unclaimed(parts.index)  # all that will ever come is there
        monitor, signals = Monitor(parts, session), Signals(parts, session)
        parts.signals = signals.view
        await monitor.begin()
        background = [
            asyncio.create_task(_forever("monitor", monitor.run)),
            asyncio.create_task(_forever("signals", signals.run)),
            asyncio.create_task(_let_go(parts)),
            asyncio.create_task(_forever("fleet", lambda: fleet.follow(parts, source))),
        ]
        runner = web.AppRunner(
            make_app(parts, session),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            logger=malformed.logger,
            read_bufsize=READ_BYTES,
            shutdown_timeout=ENDING_S,
        )
        await runner.setup()
        await parts.tokenizing.preload()
        try:
            yield await _listen(runner, parts.settings.listen)
        finally:
            await _drain(parts, runner, hurry or asyncio.Event())
            await runner.cleanup()
            parts.tokenizing.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await source.close()


async def _let_go(parts: Parts) -> None:
    """Drop the loaded records whose engines have not come."""
    await asyncio.sleep(CLAIM_S)
    parts.inherited.drop_unclaimed(parts.index)


def make_app(parts: Parts, session: ClientSession) -> web.Application:
    """The HTTP application over the daemon's parts."""
    app = web.Application(
        middlewares=[_count(parts), answer_problems, make_middleware(parts.token)],
        client_max_size=parts.settings.body_bytes_max,
    )
    app.add_routes(Api(parts).routes())
    app.add_routes(Giving(parts).routes())
    app.add_routes(Proxy(parts, session).routes())
    return app


def _count(parts: Parts) -> Middleware:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        with parts.in_flight.one():
            response = await handler(request)
        resource = request.match_info.route.resource
        # What is not a route of ours is one label, or a scanner could make as many as it likes.
        path = resource.canonical if resource is not None else "other"
        parts.metrics.requests.labels(path, str(response.status)).inc()
        return response

    return count


def _session(settings: Settings) -> ClientSession:
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=ClientTimeout(total=None, sock_connect=settings.connect_seconds, sock_read=settings.silence_seconds),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
    )


async def _listen(runner: web.AppRunner, listen: Listen) -> str:
    site = web.TCPSite(runner, listen.host, listen.port)
    try:
        await site.start()
    except OSError as error:
        why = (
            "is taken; stop who listens there, or give another port"
            if error.errno == errno.EADDRINUSE
            else f"cannot be listened at ({error.strerror or error}); give an address of this machine, as 127.0.0.1"
        )
        raise ConfigError(f"listen {listen.host}:{listen.port} {why}") from error
    port = runner.addresses[0][1]
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"http://{host}:{port}"


async def _drain(parts: Parts, runner: web.AppRunner, hurry: asyncio.Event) -> None:
    """Take no new request, and wait for those that run."""
    for site in list(runner.sites):
        await site.stop()
    if runner.server is not None:
        runner.server.pre_shutdown()  # kept connections close: at once, or when their answer has ended
    seconds, in_flight = parts.settings.drain_seconds, parts.in_flight
    if not in_flight.count:
        _logger.info("stopping")
        return
    _logger.info(
        "stopping: waiting up to %g s for %s; another signal ends it at once", seconds, _requests(in_flight.count)
    )
    await in_flight.wait_none(seconds=seconds, hurry=hurry)
    if in_flight.count:
        _logger.warning("stopping: %s cut short", _requests(in_flight.count))


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


async def _forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a task that should never end; should it fail, say so and begin it again."""
    while True:
        try:
            await work()
        except Exception:
            _logger.exception("the %s task failed and is begun again", name)
        await asyncio.sleep(1.0)


@contextmanager
def _signals(stop: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    def told() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    names = (signal.SIGTERM, signal.SIGINT)
    for name in names:
        loop.add_signal_handler(name, told)
    try:
        yield
    finally:
        for name in names:
            loop.remove_signal_handler(name)
