"""
The HTTP side of a simulated engine: an OpenAI-compatible interface, the engine's own controls, and its truth.

A handler checks the request, queues it at a rank and waits for tokens. When its client goes away the
handler is cancelled, and the request is aborted between two steps.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from aiohttp import web

from kvsync.engine.answers import Answer
from kvsync.engine.api_answers import DONE, Shapes, Usage, models
from kvsync.engine.api_requests import (
    Generation,
    RequestError,
    Served,
    check_rank,
    describe,
    parse_chat,
    parse_completion,
    parse_detokenize,
    parse_tokenize,
)
from kvsync.engine.options import EngineOptions
from kvsync.engine.rank import Rank
from kvsync.engine.request import Finish, Produced, Request
from kvsync.engine.stream import TextAssembler, TokenStream
from kvsync.tokens.bytelevel import decode

RANK_HEADER = "X-data-parallel-rank"
_OPEN_PATHS = frozenset({"/health"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class EngineServer:
    """
    Handlers over the ranks of one engine; `application` makes what an aiohttp runner serves.
    """

    def __init__(self, options: EngineOptions, ranks: Sequence[Rank]) -> None:
        self._options = options
        self._ranks = ranks
        self._served = Served(options.model, options.adapters, options.model_tokens_max, options.image_tokens)
        self._created = int(time.time())
        self._numbers = count()

    def application(self) -> web.Application:
        """Make the application: routes, errors in OpenAI's shape, and the token where one is asked for."""
        application = web.Application(
            middlewares=[_errors, self._authorize], client_max_size=self._options.body_bytes_max
        )
        application.add_routes(
            [
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat_completions),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.post("/detokenize", self._detokenize),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/version", self._version),
                web.post("/reset_prefix_cache", self._reset_prefix_cache),
                web.post("/sleep", self._sleep),
                web.post("/wake_up", self._wake_up),
                web.get("/is_sleeping", self._is_sleeping),
                web.get("/debug/blocks", self._debug_blocks),
            ]
        )
        return application

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        token = self._options.token
        if token is not None and request.path not in _OPEN_PATHS:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode()):
                raise RequestError(
                    "Send the engine's token: Authorization: Bearer ...", status=401, kind="Unauthorized"
                )
        return await handler(request)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, parse_completion(await _body(request), self._served))

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, parse_chat(await _body(request), self._served))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(models(self._served, self._created))

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        tokens = parse_tokenize(await _body(request), self._served)
        return web.json_response(
            {"count": len(tokens), "max_model_len": self._served.model_tokens_max, "tokens": tokens.tolist()}
        )

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"prompt": decode(parse_detokenize(await _body(request), self._served))})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        # Imported when first asked for: an engine that nobody scrapes starts faster.
        from kvsync.engine.metrics import CONTENT_TYPE, exposition

        body = exposition(self._options.model, self._ranks)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"version": self._options.wire, "simulated": True})

    async def _reset_prefix_cache(self, request: web.Request) -> web.StreamResponse:
        preempt = _query_flag(request, "reset_running_requests")
        done = [await rank.reset(preempt=preempt) for rank in self._ranks]
        # 200 in either case, as engines answer; only the body says that blocks in use made it fail.
        return web.json_response({"success": all(done)})

    async def _sleep(self, request: web.Request) -> web.StreamResponse:
        level = request.query.get("level", "1")
        mode = request.query.get("mode", "abort")
        if level not in ("1", "2"):
            raise RequestError(f"level is {level!r}; give 1 or 2.", param="level")
        if mode not in ("abort", "keep"):
            raise RequestError(f"mode is {mode!r}; give abort or keep.", param="mode")
        for rank in self._ranks:
            await rank.sleep(int(level), keep=mode == "keep")
        return web.Response()

    async def _wake_up(self, request: web.Request) -> web.StreamResponse:
        for rank in self._ranks:
            rank.wake_up()
        return web.Response()

    async def _is_sleeping(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"is_sleeping": any(rank.sleep_level for rank in self._ranks)})

    async def _debug_blocks(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ranks": {str(rank.number): await rank.truth() for rank in self._ranks}})

    async def _generate(self, http: web.Request, generation: Generation) -> web.StreamResponse:
        rank = self._choose(http)
        identifier = self._identifier(http, generation)
        shapes = Shapes(identifier, int(time.time()), generation)
        async with self._queued(rank, identifier, generation) as (request, tokens):
            if generation.stream:
                return await self._stream(http, rank, shapes, request, tokens)
            return await self._whole(rank, shapes, request, tokens)

    def _choose(self, http: web.Request) -> Rank:
        asked = check_rank(http.headers.get(RANK_HEADER), len(self._ranks))
        return min(self._ranks, key=lambda rank: rank.load) if asked is None else self._ranks[asked]

    def _identifier(self, http: web.Request, generation: Generation) -> str:
        given = http.headers.get("X-Request-Id") or f"{self._options.seed:x}-{next(self._numbers)}"
        return f"{'chatcmpl' if generation.chat else 'cmpl'}-{given}"

    @asynccontextmanager
    async def _queued(
        self, rank: Rank, identifier: str, generation: Generation
    ) -> AsyncIterator[tuple[Request, TokenStream]]:
        """Queue a request for as long as somebody waits for it."""
        tokens = TokenStream()
        ended = False

        def note(produced: Produced) -> None:
            nonlocal ended
            ended = produced.finish is not None
            tokens.put(produced)

        request = Request(
            identifier=identifier,
            asked=generation.asked,
            answer=Answer(
                generation.asked.prompt,
                seed=self._options.seed,
                salt=generation.salt,
                length_mean=self._options.answer_tokens,
                end=generation.end,
            ),
            sink=note,
            arrived_s=rank.clock(),
        )
        rank.add(request)
        try:
            yield request, tokens
        finally:
            if not ended:
                rank.abort(request)

    async def _whole(self, rank: Rank, shapes: Shapes, request: Request, tokens: TokenStream) -> web.StreamResponse:
        assembler = TextAssembler(request.asked.stops)
        finish: Finish | None = None
        while finish is None:
            finish = (await tokens.take())[-1].finish
        answer = request.tokens[len(request.asked.prompt) :]
        text = assembler.add(answer, finish)
        return web.json_response(
            shapes.whole(text, finish, _usage(request), answer), headers={RANK_HEADER: str(rank.number)}
        )

    async def _stream(
        self, http: web.Request, rank: Rank, shapes: Shapes, request: Request, tokens: TokenStream
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                RANK_HEADER: str(rank.number),
            }
        )
        assembler = TextAssembler(request.asked.stops)
        finish: Finish | None = None
        while finish is None:
            produced = await tokens.take()
            finish = produced[-1].finish
            fresh = [one.token for one in produced if one.token is not None]
            chunk = shapes.chunk(assembler.add(fresh, finish), finish, fresh, first=not response.prepared)
            if not response.prepared:
                await response.prepare(http)
            await response.write(chunk)
        tail = shapes.usage_chunk(_usage(request)) if shapes.generation.include_usage else b""
        await response.write(tail + DONE)
        await response.write_eof()
        return response


def _usage(request: Request) -> Usage:
    return Usage(len(request.asked.prompt), request.answered, request.cached_tokens or 0)


async def _body(request: web.Request) -> Any:
    raw = await request.read()
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body of {len(raw)} bytes is not JSON: {error}.") from error


def _query_flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise RequestError(f"{name} is {value!r}; give true or false.", param=name)
    return value in ("true", "1")


def _refusal(request: web.Request, error: web.HTTPException) -> web.Response:
    message = f"{request.method} {request.path}: {error.reason}."
    refused = RequestError(message, status=error.status, kind=_KINDS.get(error.status, "BadRequestError"))
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return web.json_response(describe(refused), status=error.status, headers=allow)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        return web.json_response(describe(error), status=error.status)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _refusal(request, error)


_KINDS = {404: "NotFoundError", 405: "MethodNotAllowed", 413: "RequestTooLarge"}
