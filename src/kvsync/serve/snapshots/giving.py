"""
`GET /v1/snapshot`: the whole index, for a sibling that has just started.

It holds the secret seed and what every engine has cached, so it takes a token even where nothing else does. One at a
time is given away; others are told to come again. Engines are saved one by one as the answer goes out, and no faster
than it is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from aiohttp import web

from kvsync.serve.parts import Parts
from kvsync.serve.problems import Problem

PIECE_BYTES = 1 << 18
STALL_S = 20.0
"""How long one piece may take to be read."""

AGAIN_S = 2

_logger = logging.getLogger(__name__)


class Giving:
    """The handler, and whether it is at work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._busy = False

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/snapshot", self.snapshot, allow_head=False)]

    async def snapshot(self, request: web.Request) -> web.StreamResponse:
        """Everything, in the format of a snapshot file."""
        if self._parts.token is None:
            raise Problem(
                403,
                "a snapshot holds the secret seed of the index and is given to those with a token only; start this"
                " daemon with --token-file",
                code="token_needed",
            )
        if self._busy:
            raise Problem(
                503,
                "a snapshot is being given to another; ask again in a few seconds",
                code="busy",
                headers={"Retry-After": str(AGAIN_S)},
            )
        self._busy = True
        try:
            return await self._give(request)
        finally:
            self._busy = False

    async def _give(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Cache-Control": "no-store"})
        pieces: Iterator[bytes | memoryview] = self._parts.index.snapshot(
            hold=self._parts.inherited.holding(self._parts.streams.hold)
        )
        await response.prepare(request)
        size = 0
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                for at in range(0, len(piece), PIECE_BYTES):
                    await asyncio.wait_for(response.write(bytes(piece[at : at + PIECE_BYTES])), STALL_S)
                size += len(piece)
        except TimeoutError:
            _logger.warning("a snapshot for %s was cut short: nothing was read for %g s", request.remote, STALL_S)
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        self._parts.metrics.snapshots_given.inc()
        _logger.info("a snapshot of %d bytes was given to %s", size, request.remote)
        return response
