"""Bytes that are no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.integration.serve_helpers import Daemon, daemon, make_pod
from tests.patience import PATIENCE_S

POST = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def connected(here: Daemon) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to the daemon."""
    host, _, port = here.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


def check_hushed(records: list[logging.LogRecord]) -> None:
    """One line at debug, and no traceback anywhere."""
    assert [record.levelname for record in records if record.getMessage().startswith("malformed HTTP")] == ["DEBUG"]
    assert not [record for record in records if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "sent",
    [
        POST % b"/v1/route" + b"Content-Length: -5\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"no HTTP\r\n\r\n",
    ],
    ids=["negative length", "long header", "no HTTP"],
)
def test_malformed_http_leaves_no_traceback(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The client gets 400, the log one line."""
    caplog.set_level(logging.DEBUG)

    async def story() -> None:
        async with daemon(make_pod("a")) as here, connected(here) as (reader, writer):
            writer.write(sent)
            async with asyncio.timeout(PATIENCE_S):
                assert b" 400 " in await reader.readline()

    asyncio.run(story())
    check_hushed(caplog.records)
