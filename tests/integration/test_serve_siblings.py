"""A snapshot from one daemon to another over HTTP: who gets it, how many at a time, and what if nobody gives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.integration.serve_helpers import MODEL, Daemon, daemon, make_pod, until
from tests.patience import PATIENCE_S

from kvsync.errors import ConfigError
from kvsync.index import Index, SnapshotFile
from kvsync.serve.settings import load_settings
from kvsync.serve.snapshots import giving
from kvsync.serve.snapshots.begin import begin
from kvsync.serve.snapshots.siblings import Siblings, siblings_of
from kvsync.types import Engine, Trust

TOKEN = b"a-token-for-tests"
BEARER = {"Authorization": f"Bearer {TOKEN.decode()}"}
A, B = Engine("a"), Engine("b")


@asynccontextmanager
async def elder(**flags: Any) -> AsyncIterator[Daemon]:
    """A daemon with two engines, one of which has told something."""
    async with daemon(make_pod("a"), make_pod("b"), token=TOKEN, **flags) as running:
        running.hold("a", range(64))
        yield running


async def ask(running: Daemon, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """GET /v1/snapshot: status, headers and body."""
    async with running.client.get(f"{running.url}/v1/snapshot", headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario, not for ever."""

    async def limited() -> None:
        await asyncio.wait_for(scenario(), PATIENCE_S)

    asyncio.run(limited())


def test_who_brings_the_token_gets_a_whole_one(tmp_path: Path) -> None:
    """The answer is a snapshot file, not to be cached, with the bookmarks of the streams."""

    async def scenario() -> None:
        async with elder() as running:
            status, headers, body = await ask(running, **BEARER)
            assert status == 200
            assert headers["Content-Type"] == "application/octet-stream"
            assert headers["Cache-Control"] == "no-store"
            (tmp_path / "given").write_bytes(body)
            with SnapshotFile(tmp_path / "given") as file:
                file.verify()
            with Index.load(tmp_path / "given") as index:
                assert index.engines() == [A]
                assert index.bookmarks[A].number == index.record(A).sequence == 0
            assert (await running.scrape(**BEARER))["kvsync_snapshots_given_total"] == 1

    run(scenario)


def test_without_the_token_there_is_nothing() -> None:
    """401 for the wrong one; 403 where the daemon has none, though it listens on loopback."""

    async def scenario() -> None:
        async with elder() as running:
            assert (await ask(running))[0] == 401
            assert (await ask(running, Authorization="Bearer another-token"))[0] == 401
        async with daemon(make_pod("a")) as running:
            status, body = await running.get("/v1/snapshot")
            assert status == 403
            assert "--token-file" in body["error"]["message"]
            async with running.client.head(f"{running.url}/v1/snapshot") as answer:
                assert answer.status == 405

    run(scenario)


def test_one_at_a_time() -> None:
    """While one is being read another is told when to come again; one whose reader went away frees the place."""

    async def scenario() -> None:
        async with elder(drain_seconds=0.1) as running:
            held_up = HeldUp(running.index)
            running.parts.index = held_up  # type: ignore[assignment]
            first = asyncio.create_task(ask(running, **BEARER))
            await until(held_up.begun.is_set)
            status, headers, _ = await ask(running, **BEARER)
            assert (status, headers["Retry-After"]) == (503, str(giving.AGAIN_S))
            first.cancel()
            held_up.goes_on.set()
            running.parts.index = running.index
            while (status := (await ask(running, **BEARER))[0]) == 503:  # noqa: ASYNC110  (nobody tells that it went)
                await asyncio.sleep(0.02)
            assert status == 200

    run(scenario)


def test_a_reader_that_stalls_is_cut_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Who does not read what was asked for does not keep the place from others."""

    async def scenario() -> None:
        async with elder() as running:
            monkeypatch.setattr(giving, "STALL_S", 0.1)
            running.parts.index = Endless()  # type: ignore[assignment]
            host, port = running.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            head = f"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\nAuthorization: {BEARER['Authorization']}\r\n\r\n"
            writer.write(head.encode())
            await reader.readline()
            while "was cut short" not in caplog.text:  # noqa: ASYNC110  (the daemon tells its log alone)
                await asyncio.sleep(0.02)
            writer.close()
            monkeypatch.undo()
            running.parts.index = running.index
            assert (await ask(running, **BEARER))[0] == 200

    run(scenario)


def test_a_new_daemon_begins_with_it(tmp_path: Path) -> None:
    """Fetched, checked and loaded: nothing is left on disk, and nothing is trusted yet."""

    async def scenario() -> None:
        async with elder() as running:
            settings = load_settings({}, environment={})
            start = await begin(settings, None, Siblings((running.url,), TOKEN))
            with start.index as index:
                assert (start.inherited.origin, index.engines()) == (running.url, [A])
                assert index.trust(A) is Trust.STALE
                assert index.match(list(range(64)), model=MODEL)[A].blocks == 4

    run(scenario)


@asynccontextmanager
async def answering(*answers: Callable[[], web.StreamResponse]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers GET /v1/snapshot with these in turn, the last for ever; and what it was sent."""
    seen: list[str] = []
    left = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        return left.pop(0)() if len(left) > 1 else left[0]()

    app = web.Application()
    app.router.add_get("/v1/snapshot", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "does not take our token (401)"), (403, "has no token"), (404, "no /v1/snapshot"), (302, "answered 302")],
)
def test_who_refuses_is_asked_once(status: int, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why; the token goes nowhere else."""

    async def scenario() -> None:
        moved = {"Location": "http://127.0.0.1:9/elsewhere"}
        async with (
            answering(lambda: web.Response(status=status, headers=moved)) as (url, seen),
            Siblings((url,), TOKEN, seconds=PATIENCE_S).fetched(None) as given,
        ):
            assert given is None
            assert seen == [BEARER["Authorization"]]

    run(scenario)
    assert told in caplog.text
    assert TOKEN.decode() not in caplog.text


def test_who_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it gives; the first that gives counts."""
    monkeypatch.setattr("kvsync.serve.snapshots.siblings.AGAIN_S", 0.01)

    async def scenario() -> None:
        busy, ok = (lambda: web.Response(status=503)), (lambda: web.Response(body=b"whole"))
        async with (
            answering(busy, busy, ok) as (url, seen),
            Siblings(("http://127.0.0.1:9", url), TOKEN, seconds=PATIENCE_S).fetched(None) as given,
        ):
            assert given is not None
            assert given[0].read_bytes() == b"whole"
            assert given[0].stat().st_mode & 0o777 == 0o600
            assert given[1] == url
            assert len(seen) == 3

    run(scenario)


def test_too_much_and_too_long_are_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A sibling can neither fill the disk nor hold up the start."""

    async def scenario() -> None:
        async with (
            answering(lambda: web.Response(body=bytes(5_000_000))) as (url, _),
            Siblings((url,), TOKEN, seconds=PATIENCE_S, bytes_max=1_000_000).fetched(None) as given,
        ):
            assert given is None
        async with (
            answering(lambda: web.Response(status=503)) as (url, _),
            Siblings((url,), TOKEN, seconds=0.2).fetched(None) as given,
        ):
            assert given is None

    run(scenario)
    assert "it is larger than 1000000 bytes" in caplog.text
    assert "no sibling gave a snapshot within 0.2 s" in caplog.text


def test_a_broken_answer_is_nothing(tmp_path: Path) -> None:
    """An answer that ends too soon leaves the daemon cold, and no file behind."""

    async def scenario() -> None:
        async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nkvsyn\r\n")
            writer.close()

        server = await asyncio.start_server(broken, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Siblings((url,), TOKEN, seconds=PATIENCE_S).fetched(tmp_path) as given:
                assert given is None

    run(scenario)
    assert list(tmp_path.iterdir()) == []


def test_a_token_is_needed_to_ask(tmp_path: Path) -> None:
    """Settings that cannot work are told before anything is opened; our own token serves where no other is given."""
    settings = load_settings({"bootstrap": ["http://other:8090/"]}, environment={})
    with pytest.raises(ConfigError, match="--bootstrap-token-file"):
        siblings_of(settings, None)
    assert siblings_of(settings, TOKEN).token == TOKEN
    (tmp_path / "token").write_bytes(b"theirs-is-this\n")
    flags = {"bootstrap": "http://a:1 http://b:2", "bootstrap_token_file": tmp_path / "token", "max_bytes": "64MiB"}
    found = siblings_of(load_settings(flags, environment={}), TOKEN)
    assert (found.urls, found.token) == (("http://a:1", "http://b:2"), b"theirs-is-this")
    assert found.bytes_max == 64 * 1024 * 1024
    assert "theirs-is-this" not in repr(found)
    with pytest.raises(ConfigError, match="bootstrap"):
        load_settings({"bootstrap": ["ftp://a"]}, environment={})


class HeldUp:
    """An index whose snapshot has begun, and goes on when it is told to."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def snapshot(self, *, hold: Any) -> Any:
        """The whole, later."""
        self.begun.set()
        self.goes_on.wait(PATIENCE_S)
        yield from self._index.snapshot(hold=hold)


class Endless:
    """An index of no end."""

    def snapshot(self, *, hold: Any) -> Any:
        """As much as anybody reads."""
        while True:
            yield bytes(1 << 20)
