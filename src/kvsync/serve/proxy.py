"""
The OpenAI proxy: a request goes to the pod that the router picks, and its answer comes back byte by byte.

    read the body -> resolve the model -> pick -> send -> pass the answer on while reading along -> put the record right

Nothing is held back. A pod that cannot be reached, or that hangs up before its answer begins, is tried no further; one
other candidate is. Once the answer has begun there is no going back: if the pod breaks off, so do we, and the client
sees an answer cut short rather than one that looks whole. A client that goes away ends the request at the pod.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ConnectionTimeoutError, web
from multidict import CIMultiDict

from kvsync.fleet import Pod
from kvsync.routing import Ask, Flight, Pick
from kvsync.serve.bodies import read_body
from kvsync.serve.parts import Parts, with_tokens
from kvsync.serve.picker import Target
from kvsync.serve.problems import Problem
from kvsync.serve.repair import Repair
from kvsync.serve.requests import NO_TOKENS, Prompt, model_of, read_document, read_openai
from kvsync.serve.tokenizing import NoTokens
from kvsync.serve.usage import UsageWatch
from kvsync.types import Engine

ATTEMPTS = 2
COMPLETIONS = "/v1/completions"
POLICY_HEADER = "x-kvsync-policy"
RANK_HEADER = "X-data-parallel-rank"

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The body is read, unpacked and sent anew; the answer is read along, so it must come uncompressed; the rank is that of
# the pick.
_OWN_REQUEST_HEADERS = frozenset(
    {"host", "content-length", "content-encoding", "expect", "accept-encoding", RANK_HEADER.lower()}
)

_logger = logging.getLogger(__name__)


class UpstreamFailed(Exception):
    """A pod gave no answer; nothing has been sent to the client."""

    def __init__(self, engine: Engine, reason: str, detail: str) -> None:
        super().__init__(f"{engine}: {detail}")
        self.engine = engine
        self.reason = reason


class CutShort(Exception):
    """A pod broke off an answer that it had begun."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request on its way through the proxy."""

    request: web.Request
    body: bytes
    document: Mapping[str, Any]
    arrived: float
    prompt: Prompt
    target: Target
    ask: Ask
    policy: str | None


class Proxy:
    """Handlers for `/v1/chat/completions`, `/v1/completions` and `/v1/models`."""

    def __init__(self, parts: Parts, session: ClientSession) -> None:
        self._parts = parts
        self._session = session
        self._repair = Repair(parts, session)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.forward),
            web.post(COMPLETIONS, self.forward),
            web.get("/v1/models", self.models),
        ]

    async def models(self, _request: web.Request) -> web.Response:
        """Every model and adapter that some pod serves."""
        names = self._parts.picker.model_names()
        data = [
            {
                "id": name,
                "object": "model",
                "created": 0,
                "owned_by": "kvsync",
                "root": parent or name,
                "parent": parent,
            }
            for name, parent in sorted(names.items())
        ]
        return web.json_response({"object": "list", "data": data})

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Send the request to the best pod, or to the next best if that one is gone."""
        job = await self._accept(request)
        failed: list[UpstreamFailed] = []
        while len(failed) < ATTEMPTS:
            try:
                return await self._attempt(job, failed)
            except UpstreamFailed as failure:
                failed.append(failure)
                self._note(failure)
            except Problem as problem:
                if not failed or problem.status != 503:
                    raise
                break  # nobody is left to try
        tried = "; ".join(str(failure) for failure in failed)
        raise Problem(502, f"{_nobody_answered(failed, job.target)} ({tried})", code="upstream_failed") from failed[-1]

    async def _accept(self, request: web.Request) -> Job:
        parts = self._parts
        if request.content_type != "application/json":
            raise Problem(415, f"Content-Type is {request.content_type!r}; send application/json", code="content_type")
        policy = parts.picker.check_policy(request.headers.get(POLICY_HEADER), POLICY_HEADER)
        body = await read_body(request, bytes_max=parts.settings.body_bytes_max)
        document = read_document(body)
        target = parts.picker.resolve(model_of(document), None)
        try:
            asked = read_openai(document, tokens_max=parts.settings.prompt_tokens_max)
            prompt, count = await with_tokens(parts, asked, target), None
            # By the operator's own word only: ids of another tokenizer would be another prompt.
            is_ours = parts.settings.forward_token_ids and target.model in parts.settings.tokenizers
            if is_ours and request.path == COMPLETIONS:
                body = _with_ids(body, document, asked, prompt)
        except (ValueError, Problem, NoTokens) as error:
            # Whether such a prompt is wrong is for the engine to say; by load alone any pod can be asked.
            parts.metrics.degraded.labels(_reason(error)).inc()
            prompt, count = Prompt(target.model, NO_TOKENS), max(len(body) // 4, 1)
        ask = parts.picker.ask(prompt, target, prompt_tokens=count)
        return Job(request, body, document, parts.clock(), prompt, target, ask, policy)

    async def _attempt(self, job: Job, failed: list[UpstreamFailed]) -> web.StreamResponse:
        parts = self._parts
        with parts.metrics.pick_seconds.time():
            pick = parts.picker.pick(
                job.prompt,
                job.target,
                job.ask,
                parts.clock(),
                policy=job.policy,
                without=[failure.engine for failure in failed],
            )
        if failed:
            parts.metrics.retries.inc()
        flight = parts.router.begin(job.ask, pick, parts.clock(), observed=True)
        watch: UsageWatch | None = None
        try:
            async with await self._send(job, pick) as answer:
                self._count(job, pick)
                watch = UsageWatch(is_stream=answer.content_type == "text/event-stream")
                return await self._pass_on(job, flight, answer, watch)
        except asyncio.CancelledError:
            parts.metrics.cancelled.labels(pick.engine.pod).inc()
            raise
        finally:
            self._finish(flight, watch)

    async def _send(self, job: Job, pick: Pick) -> ClientResponse:
        """Bring the request to the pod and wait until its answer begins."""
        pod = self._parts.pods[pick.engine.pod]
        query = f"?{job.request.query_string}" if job.request.query_string else ""
        try:
            return await self._session.post(
                f"{pod.http}{job.request.path}{query}",
                data=self._repair.body(job.body, job.document, pick, len(job.prompt.tokens)),
                headers=self._request_headers(job.request, pod, pick.engine),
                allow_redirects=False,
            )
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise UpstreamFailed(pick.engine, "connect", f"no connection to {pod.http} ({error})") from error
        except TimeoutError as error:
            raise UpstreamFailed(
                pick.engine, "timeout", f"silent for {self._parts.settings.silence_seconds:g} s"
            ) from error
        except (ClientError, OSError) as error:
            raise UpstreamFailed(pick.engine, "broken", f"broke off ({type(error).__name__})") from error

    async def _pass_on(self, job: Job, flight: Flight, answer: ClientResponse, watch: UsageWatch) -> web.StreamResponse:
        """Pass the answer on as it comes; what the client gets from here on is the pod's."""
        parts, pod, is_stream = self._parts, flight.pick.engine.pod, answer.content_type == "text/event-stream"
        response = web.StreamResponse(
            status=answer.status, reason=answer.reason, headers=_answer_headers(answer, flight.pick)
        )
        await response.prepare(job.request)
        try:
            async for piece in _pieces(answer):
                if is_stream and answer.status == 200 and not flight.computed:
                    parts.router.first_token(flight, parts.clock())
                    parts.metrics.first_byte_seconds.labels(pod).observe(parts.clock() - job.arrived)
                watch.feed(piece)
                await response.write(piece)
            await response.write_eof()
        except CutShort as error:
            parts.metrics.upstream_failures.labels(pod, "cut_short").inc()
            _logger.warning("pod %s broke off an answer", pod, extra={"pod": pod, "error": str(error)})
            if job.request.transport is not None:
                job.request.transport.abort()
        except ConnectionResetError:
            parts.metrics.cancelled.labels(pod).inc()
        return response

    def _finish(self, flight: Flight, watch: UsageWatch | None) -> None:
        usage = watch.end() if watch is not None else None
        cached = usage.cached_tokens if usage is not None else None
        if usage is not None and cached is not None:
            self._parts.metrics.compare(flight.pick.engine.pod, flight.pick.estimate.cached_tokens, cached)
        prompt = usage.prompt_tokens if usage is not None else None
        self._parts.router.finish(flight, self._parts.clock(), cached_tokens=cached, prompt_tokens=prompt)

    def _count(self, job: Job, pick: Pick) -> None:
        metrics, engine = self._parts.metrics, pick.engine
        metrics.picks.labels(pick.policy, engine.pod, str(engine.rank)).inc()
        metrics.prompt_tokens.labels(engine.pod).inc(len(job.prompt.tokens))
        metrics.matched_tokens.labels(engine.pod).inc(pick.candidate.match.tokens)
        _logger.debug("picked", extra={"pod": engine.pod, "rank": engine.rank, "reason": pick.reason})

    def _note(self, failure: UpstreamFailed) -> None:
        parts, pod = self._parts, failure.engine.pod
        parts.metrics.upstream_failures.labels(pod, failure.reason).inc()
        _logger.warning("pod %s did not take a request", pod, extra={"pod": pod, "error": str(failure)})
        # Only a refused connection says that the pod is down: a kept one may have ended for want of use.
        if failure.reason == "connect":
            parts.health.refused(pod, f"HTTP refused: {failure}", parts.clock())

    def _request_headers(self, request: web.Request, pod: Pod, engine: Engine) -> CIMultiDict[str]:
        own = _OWN_REQUEST_HEADERS | HOP_BY_HOP | _named_by_connection(request.headers)
        # Our token is for us; without one, the header is meant for the engines.
        if self._parts.token is not None:
            own |= {"authorization"}
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in own and not name.lower().startswith("x-kvsync-")
        )
        headers["Accept-Encoding"] = "identity"
        if pod.ranks > 1:
            headers[RANK_HEADER] = str(engine.rank)
        return headers


def _reason(error: Exception) -> str:
    """Under what it is counted that a request is routed by load alone."""
    return error.code if isinstance(error, Problem) else error.reason if isinstance(error, NoTokens) else "no_tokens"


def _with_ids(body: bytes, document: Mapping[str, Any], asked: Prompt, prompt: Prompt) -> bytes:
    """
    The body with the prompt's ids in place of its text, so that the engine does not tokenize it again.

    Only where the text is the whole prompt, and nothing asks for the text itself back.
    """
    if (
        asked.text is None
        or not isinstance(document.get("prompt"), str)
        or document.get("echo")
        or document.get("suffix")
    ):
        return body
    return json.dumps({**document, "prompt": list(prompt.tokens)}).encode()


def _nobody_answered(failed: list[UpstreamFailed], target: Target) -> str:
    """Who was tried in vain, of how many."""
    tried, count = len({failure.engine.pod for failure in failed}), len(target.pods)
    if count == 1:
        return f"the only pod of {target.name} gave no answer"
    if tried == 1:
        return f"1 of the {count} pods of {target.name} was tried and gave no answer"
    return f"{tried} of the {count} pods of {target.name} were tried and none gave an answer"


async def _pieces(answer: ClientResponse) -> AsyncIterator[bytes]:
    """The answer's bytes as they come, the library's errors told apart from those of writing to the client."""
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except (ClientError, OSError, TimeoutError) as error:
        raise CutShort(repr(error)) from error


def _answer_headers(answer: ClientResponse, pick: Pick) -> CIMultiDict[str]:
    own = HOP_BY_HOP | _named_by_connection(answer.headers) | {"date", "server"}
    headers = CIMultiDict(
        (name, value)
        for name, value in answer.headers.items()
        if name.lower() not in own and not name.lower().startswith("x-kvsync-")
    )
    headers["x-kvsync-pod"] = pick.engine.pod
    headers["x-kvsync-rank"] = str(pick.engine.rank)
    headers["x-kvsync-policy"] = pick.policy
    headers["x-kvsync-matched-tokens"] = str(pick.candidate.match.tokens)
    headers["x-kvsync-trust"] = pick.candidate.match.trust.value
    if not pick.candidate.match.certain:
        headers["x-kvsync-certain"] = "false"
    return headers


def _named_by_connection(headers: Mapping[str, str]) -> frozenset[str]:
    """Headers that Connection names are for one hop as well."""
    return frozenset(name.strip().lower() for name in headers.get("Connection", "").split(",") if name.strip())
