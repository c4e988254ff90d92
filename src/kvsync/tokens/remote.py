"""
The engine's own `/tokenize`, for models whose tokenizer is nowhere else to be had: exact by definition, and a request
on the way of every request.

Each call has one deadline over all its tries. The engines of a model take turns. One that fails is asked again at most
once, elsewhere where there is another. After three failures in a row an engine's breaker opens: it is left alone for a
while, then tried by one call, and by all again once that succeeds. With every breaker open a call fails at once.

What comes back is checked, for an engine may be another model's by now: where there are several, each is asked for the
ids of a short text first, until two agree, and only those are believed whose ids more of them give than any others.

No lock is held while a request is under way.
"""

from __future__ import annotations

import json
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from kvsync.errors import ConfigError, TokenizeError, TokenizerUnavailable
from kvsync.tokens.chat import Chat
from kvsync.tokens.http import CallFailed, Client, urllib3_client
from kvsync.tokens.messages import tools_of
from kvsync.tokens.model import ModelSpec

TRIES = 2
FAILURES_TO_OPEN = 3
OPEN_SECONDS = 5.0
PROBE = "kvsync 1 2\n\u00e9\u6f22"
"""A short text that few tokenizers turn into the same ids."""


class Disagrees(CallFailed):
    """An engine's ids for the probe are not those that most give."""


class Refused(TokenizeError):
    """An engine says that the request is wrong, which another of the same model would say too."""


@dataclass(slots=True)
class _Endpoint:
    """One engine as the breaker sees it; changed under the backend's lock."""

    url: str
    failures: int = 0
    left_alone_until: float = 0.0
    trying: bool = False
    probe: tuple[int, ...] | None = None
    reason: str = ""

    def is_free(self, now: float) -> bool:
        """Whether a call may go there: its breaker is closed, or it is time for one to try."""
        return self.failures < FAILURES_TO_OPEN or (self.left_alone_until <= now and not self.trying)


class RemoteBackend:
    """The engines that serve a model, asked for its tokens."""

    def __init__(
        self, spec: ModelSpec, *, client: Client | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        if not spec.endpoints:
            raise ConfigError(f"tokenizer of {spec.base!r}: kind 'remote' needs endpoints, as in http://HOST:PORT")
        self._spec = spec
        self._clock = clock
        self._client = client or urllib3_client(spec, clock)
        self._lock = threading.Lock()
        self._endpoints = [_Endpoint(url.rstrip("/")) for url in spec.endpoints]
        self._turn = 0
        self._counts = {"calls": 0, "failures": 0, "refused": 0, "breaker_opened": 0, "disagreements": 0}

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        return self._ask({"prompt": text, "add_special_tokens": add_special_tokens})

    def encode_chat(self, chat: Chat) -> array[int]:
        asked: dict[str, Any] = {
            "messages": list(chat.messages),
            "add_generation_prompt": chat.add_generation_prompt,
            "continue_final_message": chat.continue_final_message,
            "add_special_tokens": chat.add_special_tokens,
        }
        if chat.tools:
            asked["tools"] = tools_of(chat.tools)
        kwargs = dict(chat.template_kwargs) | ({"documents": list(chat.documents)} if chat.documents else {})
        if kwargs:
            asked["chat_template_kwargs"] = kwargs
        return self._ask(asked)

    def decode(self, ids: array[int]) -> str:
        answer = self._with_engine("/detokenize", {"tokens": list(ids)}, self._clock() + self._spec.timeout_seconds)
        text = answer.get("prompt")
        if not isinstance(text, str):
            raise TokenizerUnavailable(f"/detokenize of {self._spec.base!r} answered without a prompt")
        return text

    def stats(self) -> Mapping[str, float]:
        with self._lock:
            now = self._clock()
            is_open = sum(endpoint.left_alone_until > now for endpoint in self._endpoints)
            return {**self._counts, "endpoints": len(self._endpoints), "breakers_open": is_open}

    def health(self) -> dict[str, str]:
        """Why each engine that is left alone is; none where all is well."""
        with self._lock:
            now = self._clock()
            return {one.url: one.reason for one in self._endpoints if one.left_alone_until > now}

    def close(self) -> None:
        if (close := getattr(self._client, "close", None)) is not None:
            close()

    def _ask(self, asked: Mapping[str, Any]) -> array[int]:
        return array("I", _ids(self._with_engine("/tokenize", asked, self._clock() + self._spec.timeout_seconds)))

    def _with_engine(self, path: str, asked: Mapping[str, Any], deadline: float) -> Mapping[str, Any]:
        """Ask one engine, and another if that fails, until the deadline."""
        failed: list[str] = []
        tried: list[_Endpoint] = []
        while len(tried) < TRIES and (not tried or self._clock() < deadline):
            endpoint = self._take(tried)
            if endpoint is None:
                break
            tried.append(endpoint)
            try:
                answer = self._believed(endpoint, path, asked, deadline)
            except CallFailed as error:
                failed.append(f"{endpoint.url}: {error}")
                self._note(endpoint, str(error), forget=not isinstance(error, Disagrees))
            except BaseException as error:
                # A refusal is an answer; and whatever else comes, the engine must not stay marked as being tried.
                self._note(endpoint, None, refused=isinstance(error, Refused))
                raise
            else:
                self._note(endpoint, None)
                return answer
        why = "; ".join(failed) or "; ".join(f"{url}: {reason}" for url, reason in self.health().items())
        raise TokenizerUnavailable(f"no engine of {self._spec.base!r} answers {path} ({why or 'all are being tried'})")

    def _take(self, tried: Sequence[_Endpoint]) -> _Endpoint | None:
        """The next engine whose breaker lets a call through; one that was tried only where there is no other."""
        with self._lock:
            now, count = self._clock(), len(self._endpoints)
            order = [self._endpoints[(self._turn + step) % count] for step in range(count)]
            free = [one for one in order if one.is_free(now)]
            if not free:
                return None
            chosen = min(free, key=lambda one: one in tried)
            self._turn = (self._endpoints.index(chosen) + 1) % count
            chosen.trying = chosen.failures >= FAILURES_TO_OPEN
            self._counts["calls"] += 1
            return chosen

    def _note(self, endpoint: _Endpoint, failure: str | None, *, refused: bool = False, forget: bool = True) -> None:
        with self._lock:
            endpoint.trying = False
            self._counts["refused"] += refused
            if failure is None:
                endpoint.failures, endpoint.left_alone_until = 0, 0.0
                return
            self._counts["failures"] += 1
            endpoint.failures += 1
            if forget:  # it may be another model's when it comes back
                endpoint.probe = None
            endpoint.reason = failure
            if endpoint.failures >= FAILURES_TO_OPEN:
                self._counts["breaker_opened"] += 1
                endpoint.left_alone_until = self._clock() + OPEN_SECONDS

    def _believed(self, endpoint: _Endpoint, path: str, asked: Mapping[str, Any], deadline: float) -> Mapping[str, Any]:
        """The answer of an engine that agrees with the others about the probe."""
        if len(self._endpoints) > 1:
            if endpoint.probe is None or endpoint.trying:
                endpoint.probe = self._probe(endpoint, deadline)
            self._ask_others(endpoint, deadline)
            self._check(endpoint)
        answer = self._call(endpoint, path, asked, deadline)
        if path == "/tokenize":
            _ids(answer)
        return answer

    def _probe(self, endpoint: _Endpoint, deadline: float) -> tuple[int, ...]:
        return tuple(_ids(self._call(endpoint, "/tokenize", {"prompt": PROBE}, deadline)))

    def _ask_others(self, endpoint: _Endpoint, deadline: float) -> None:
        """Ask other engines for the probe until two agree or none is left, each for half the time that there is."""
        asked = [endpoint]
        while (other := self._undecided(asked)) is not None:
            asked.append(other)
            now, failure = self._clock(), "it was interrupted"
            try:
                other.probe, failure = self._probe(other, now + (deadline - now) / 2), ""
            except (CallFailed, Refused) as error:
                failure = str(error)
            finally:
                self._note(other, failure or None)

    def _undecided(self, asked: Sequence[_Endpoint]) -> _Endpoint | None:
        """An engine to ask for the probe; None where two gave the same, or all were asked that may be."""
        with self._lock:
            votes, now = Counter(one.probe for one in self._endpoints if one.probe is not None), self._clock()
            if any(count > 1 for count in votes.values()):
                return None
            unknown = (one for one in self._endpoints if one.probe is None and one not in asked and one.is_free(now))
            if (found := next(unknown, None)) is not None:
                found.trying = found.failures >= FAILURES_TO_OPEN
            return found

    def _check(self, endpoint: _Endpoint) -> None:
        with self._lock:
            votes = Counter(one.probe for one in self._endpoints if one.probe is not None or one is endpoint)
            mine = votes[endpoint.probe]
            agrees = all(mine > count for probe, count in votes.items() if probe != endpoint.probe)
            self._counts["disagreements"] += not agrees
        if not agrees:
            raise Disagrees("its tokens are not those of the other engines: one of them serves another model")

    def _call(self, endpoint: _Endpoint, path: str, asked: Mapping[str, Any], deadline: float) -> Mapping[str, Any]:
        body = json.dumps({"model": self._spec.base, **asked}).encode()
        status, data = self._client(f"{endpoint.url}{path}", body, deadline)
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if status in (400, 413, 422):
            raise Refused(f"the engine refuses the request ({status}: {_message(answer)})")
        if status != 200:
            raise CallFailed(f"{path} answered {status}: {_message(answer)}")
        if not isinstance(answer, dict):
            raise CallFailed(f"{path} answered with no JSON object")
        return answer


def _ids(answer: Mapping[str, Any]) -> list[int]:
    ids = answer.get("tokens")
    if not isinstance(ids, list) or not all(type(one) is int and 0 <= one < 2**32 for one in ids):
        raise CallFailed("the answer has no list of token ids")
    return ids


def _message(answer: Any) -> str:
    """What an engine said was wrong, in one of the shapes that engines have."""
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return str(said)[:200] if said else "no reason given"
