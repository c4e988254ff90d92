"""
The daemon's own answers: where a prompt would go and why, who is there, and how much of it is known.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from kvsync.routing import Ask, Candidate
from kvsync.serve import views
from kvsync.serve.auth import is_bearer
from kvsync.serve.bodies import read_body
from kvsync.serve.figures import figures
from kvsync.serve.metrics import CONTENT_TYPE
from kvsync.serve.parts import Parts, with_tokens
from kvsync.serve.problems import Problem
from kvsync.serve.readiness import readiness
from kvsync.serve.requests import Prompt, read_json, read_octets
from kvsync.serve.tokenizing import NoTokens
from kvsync.types import Engine


class Api:
    """Handlers over the daemon's parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/score", self.score),
            web.post("/v1/route", self.route),
            web.get("/v1/pods", self.pods),
            web.get("/v1/engines", self.engines),
            web.get("/v1/blocks", self.blocks),
            web.get("/v1/stats", self.stats),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    async def score(self, request: web.Request) -> web.Response:
        """What every candidate holds of a prompt, and what it would cost there; nothing is entered."""
        prompt = await self._read(request)
        if prompt.policy is not None:
            raise Problem(400, "policy belongs to /v1/route; drop it", code="unknown_field", param="policy")
        ask, candidates, degraded = await self._consider(prompt)
        scores = [views.scored(e) for e in self._parts.router.estimates(ask, candidates)]
        return web.json_response({"pods": scores, **degraded})

    async def route(self, request: web.Request) -> web.Response:
        """Where a prompt should go: the caller is expected to send it there, so its load is entered."""
        parts = self._parts
        prompt = await self._read(request)
        policy = parts.picker.check_policy(prompt.policy, "policy")
        ask, candidates, degraded = await self._consider(prompt)
        with parts.metrics.pick_seconds.time():
            pick = parts.router.choose(ask, candidates, policy)
        parts.router.begin(ask, pick, parts.clock(), observed=False)
        parts.metrics.picks.labels(pick.policy, pick.engine.pod, str(pick.engine.rank)).inc()
        return web.json_response(
            {
                "pod": pick.engine.pod,
                "rank": pick.engine.rank,
                "endpoint": parts.pods[pick.engine.pod].http,
                "policy": pick.policy,
                "reason": pick.reason,
                "pods": [views.scored(e) for e in parts.router.estimates(ask, candidates)],
                **degraded,
            }
        )

    async def pods(self, _request: web.Request) -> web.Response:
        return web.json_response({"pods": views.pods(self._parts)})

    async def engines(self, _request: web.Request) -> web.Response:
        return web.json_response({"engines": views.engines(self._parts), "findings": views.findings(self._parts)})

    async def blocks(self, request: web.Request) -> web.Response:
        """Everything one engine's record holds: `?pod=NAME&rank=0`."""
        pod, rank = request.query.get("pod"), request.query.get("rank", "0")
        if not pod or not rank.isascii() or not rank.isdecimal():
            raise Problem(400, f"pod is {pod!r} and rank is {rank!r}; give ?pod=NAME&rank=0", code="invalid_field")
        try:
            return web.json_response(views.blocks(self._parts, Engine(pod, int(rank))))
        except KeyError:
            raise Problem(404, f"there is no engine {pod}/{rank}; see /v1/engines", code="engine_not_found") from None

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response(views.stats(self._parts))

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def readyz(self, request: web.Request) -> web.Response:
        """
        200 while any pod is up, engines' pasts are read and enough is seen; to those who may know, says how much.
        """
        token = self._parts.token
        told = readiness(self._parts)
        may_know = token is None or is_bearer(request.headers.get("Authorization"), token)
        answer = told if may_know else {"ready": told["ready"]}
        return web.json_response(answer, status=200 if told["ready"] else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=await self._parts.metrics.page(figures(self._parts)), headers={"Content-Type": CONTENT_TYPE}
        )

    async def _consider(self, prompt: Prompt) -> tuple[Ask, tuple[Candidate, ...], dict[str, Any]]:
        """Who could take it; and, where its tokens are not to be had, why only load counts."""
        parts, degraded, count = self._parts, dict[str, Any](), None
        target = parts.picker.resolve(prompt.model, prompt.lora)
        try:
            prompt = await with_tokens(parts, prompt, target)
        except NoTokens as error:
            assert prompt.text is not None
            if error.refused:
                param = prompt.text.param
                raise Problem(400, str(error), code=f"invalid_{param}", param=param) from error
            parts.metrics.degraded.labels(error.reason).inc()
            degraded = {"degraded": {"reason": error.reason, "message": str(error)}}
            count = max(prompt.text.chars // 4, 1)
        ask = parts.picker.ask(prompt, target, prompt_tokens=count)
        return ask, parts.picker.candidates(prompt, target, ask, parts.clock()), degraded

    async def _read(self, request: web.Request) -> Prompt:
        settings = self._parts.settings
        tokens_max = settings.prompt_tokens_max
        body = await read_body(request, bytes_max=settings.body_bytes_max)
        if request.content_type == "application/octet-stream":
            return read_octets(body, request.query, tokens_max=tokens_max)
        if request.content_type == "application/json":
            return read_json(body, tokens_max=tokens_max)
        raise Problem(
            415,
            f"Content-Type is {request.content_type!r}; send application/json, or application/octet-stream with"
            " little-endian uint32 token ids",
            code="content_type",
        )
