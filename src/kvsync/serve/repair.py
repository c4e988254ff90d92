"""
Asks an engine to tell again what it holds of a prompt, along with a request that goes there anyway.

A record that is partial or stale can be mended: vLLM (0.26 and later) announces the whole cached prefix of a request
that carries `vllm_xargs: {"kv_cache_report_mode": "full"}`. What is told again is believed again, and what was never
heard comes to be known. That costs the engine one event, and us its bytes; nothing is computed for it, and no request
is sent that a client has not sent.

    asked for     by the setting `repair`, of a request that is proxied
    of            vLLM of a release that knows the option (`GET /version`, asked once), with one KV group: of hybrids,
                  a prefix told again cannot be told from a new copy
    when          its GPU record is stale, or is partial and knows less of the prompt than the engine could hold
    how often     at most so many prompt tokens a second and engine, as the events they make are as long
    not           where the client itself says something in `vllm_xargs`
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout

from kvsync.fleet import Pod
from kvsync.routing import Pick
from kvsync.serve.parts import Parts
from kvsync.serve.views import record_of
from kvsync.types import GPU, Engine, Trust

OPTION = b'"vllm_xargs":{"kv_cache_report_mode":"full"},'
SINCE = (0, 26)

TOKENS_PER_S = 65_536.0
"""Prompt tokens a second that one engine is asked about; a block of 16 makes some 80 bytes of events."""

BURST_S = 4.0
ASK_TIMEOUT_S = 2.0
ASK_AGAIN_S = 60.0
VERSION_BYTES_MAX = 4_096


@dataclass(slots=True)
class Allowance:
    """How many tokens one engine may still be asked about; it fills up with time. Time is an argument."""

    tokens: float
    at: float

    def take(self, tokens: int, now: float) -> bool:
        """Whether so many are allowed now; they are spent then. A prompt longer than all of it empties it."""
        most = TOKENS_PER_S * BURST_S
        self.tokens = min(most, self.tokens + TOKENS_PER_S * (now - self.at))
        self.at = now
        if self.tokens < min(tokens, most):
            return False
        self.tokens -= tokens
        return True


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the engine that a request goes to: trust of its GPU record, KV groups, tokens in a block."""

    trust: Trust
    groups: int
    block_size: int


def would_mend(known: Known, *, prompt_tokens: int, matched_tokens: int) -> bool:
    """Whether telling the prompt's cached prefix again would make more of the record true."""
    if known.groups > 1 or not known.block_size:
        return False
    usable = (prompt_tokens - 1) // known.block_size * known.block_size
    if known.trust is Trust.STALE:
        return usable > 0
    return known.trust is Trust.PARTIAL and matched_tokens < usable


def with_option(body: bytes) -> bytes | None:
    """The request's body with the option in front; None where it is no JSON object in UTF-8."""
    start = len(body) - len(body.lstrip(b" \t\r\n"))
    if body[start : start + 1] != b"{" or body[start + 1 : start + 2] == b"\0":
        return None
    return body[: start + 1] + OPTION + body[start + 1 :]


def knows_option(version: object) -> bool:
    """Whether a release of vLLM, as `/version` names it, announces prefixes on request."""
    found = re.match(r"(?:vllm-)?(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return found is not None and (int(found[1]), int(found[2])) >= SINCE


class Repair:
    """Decides for each proxied request, and remembers which pods know the option."""

    def __init__(self, parts: Parts, session: ClientSession) -> None:
        self._parts = parts
        self._session = session
        self._able: dict[Pod, bool] = {}
        self._asked_at: dict[Pod, float] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._allowances: dict[Engine, Allowance] = {}

    def body(self, body: bytes, document: Mapping[str, object], pick: Pick, prompt_tokens: int) -> bytes:
        """The body to send: with the option where that would mend the record, else as it came."""
        pod = self._parts.pods[pick.engine.pod]
        if not self._parts.settings.repair or pod.events is None or "vllm_xargs" in document:
            return body
        known = self._known(pick.engine)
        matched = pick.candidate.match.tokens
        if known is None or not would_mend(known, prompt_tokens=prompt_tokens, matched_tokens=matched):
            return body
        changed = with_option(body)
        if changed is None or not self._is_able(pod) or not self._is_allowed(pick.engine, prompt_tokens):
            return body
        self._parts.metrics.repairs.labels(pick.engine.pod, str(pick.engine.rank)).inc()
        return changed

    def _known(self, engine: Engine) -> Known | None:
        record = record_of(self._parts, engine)
        if record is None or GPU not in record.media:
            return None
        return Known(record.media[GPU].trust, record.groups, record.block_size or 0)

    def _is_allowed(self, engine: Engine, tokens: int) -> bool:
        now = self._parts.clock()
        for gone in [known for known in self._allowances if known.pod not in self._parts.pods]:
            del self._allowances[gone]
        return self._allowances.setdefault(engine, Allowance(TOKENS_PER_S * BURST_S, now)).take(tokens, now)

    def _is_able(self, pod: Pod) -> bool:
        """Whether the pod knows the option; the first request asks, in the background, and goes as it came."""
        now = self._parts.clock()
        if pod not in self._able and now - self._asked_at.get(pod, float("-inf")) >= ASK_AGAIN_S:
            for gone in self._asked_at.keys() - set(self._parts.pods.values()):
                del self._asked_at[gone]
                self._able.pop(gone, None)
            self._asked_at[pod] = now
            task = asyncio.create_task(self._ask(pod))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return self._able.get(pod, False)

    async def _ask(self, pod: Pod) -> None:
        try:
            async with self._session.get(
                f"{pod.http}/version", timeout=ClientTimeout(total=ASK_TIMEOUT_S), allow_redirects=False
            ) as response:
                document = json.loads(await response.content.read(VERSION_BYTES_MAX)) if response.status == 200 else {}
        except (ClientError, OSError, TimeoutError, ValueError):
            return
        self._able[pod] = isinstance(document, dict) and knows_option(document.get("version"))
