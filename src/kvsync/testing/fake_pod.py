"""
A pod that only pretends: OpenAI's HTTP on loopback, no cache and no events. A test scripts what it does.

    async with FakePod() as pod:
        ...requests to pod.url...
        assert pod.requests[0].headers["X-data-parallel-rank"] == "1"

A stream is sent piece by piece; with `gate` set, each piece after the first waits until the test lets it go, so that a
test can see that pieces are passed on before the end.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from kvsync.testing.ports import hold_port, port_of

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the pod got it."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(slots=True)
class FakePod:
    """
    Answers completions with `words`, and says that `cached_tokens` of `prompt_tokens` were cached.

    `hang_up` closes the connection in place of an answer, `cut_after` after so many pieces; `status` other than 200 is
    answered with an error. `models` is what it lists, None for no list at all; `pages` are other paths and what they
    answer. `cancelled` is set when a client went
    away during an answer.
    """

    words: tuple[str, ...] = ("one", "two", "three")
    prompt_tokens: int = 100
    cached_tokens: int = 64
    status: int = 200
    health_status: int = 200
    models: tuple[str, ...] | None = None
    pages: dict[str, bytes] = field(default_factory=dict)
    hang_up: bool = False
    cut_after: int | None = None
    gate: asyncio.Semaphore | None = None
    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _held: socket.socket | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._held is not None:
            self._held.close()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port again, which is held until the context ends."""
        if not self.port:
            self._held = hold_port(LOOPBACK)
            self.port = port_of(self._held)
        app = web.Application(client_max_size=1 << 28)
        app.add_routes(
            [
                web.post("/v1/completions", self._complete),
                web.post("/v1/chat/completions", self._complete),
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.get("/{page}", self._page),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Refuse connections from here on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(status=self.health_status)

    async def _page(self, request: web.Request) -> web.Response:
        body = self.pages.get(request.path)
        return web.Response(status=404) if body is None else web.Response(body=body)

    async def _models(self, _request: web.Request) -> web.Response:
        if self.models is None:
            return web.Response(status=404)
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.models]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(Seen(request.path_qs, request.headers.copy(), body))
        if self.hang_up:
            return self._abort(request)
        if self.status != 200:
            return web.json_response({"error": {"message": "scripted"}}, status=self.status)
        try:
            return await (self._stream(request) if body.get("stream") else self._whole())
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _whole(self) -> web.Response:
        if self.gate is not None:
            await self.gate.acquire()
        choice = {"index": 0, "text": " ".join(self.words), "finish_reason": "stop"}
        return web.json_response({"object": "text_completion", "choices": [choice], "usage": self._usage()})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Of-The-Pod": "kept"})
        await response.prepare(request)
        for number, word in enumerate(self.words):
            if number and self.gate is not None:
                await self.gate.acquire()
            if number == self.cut_after:
                return self._abort(request, response)
            await response.write(_event({"choices": [{"index": 0, "text": word}]}))
        if self.gate is not None:
            await self.gate.acquire()
        await response.write(_event({"choices": [], "usage": self._usage()}) + b"data: [DONE]\n\n")
        return response

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.words),
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def _abort(self, request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return response or web.Response()


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"
