"""
Text to tokens in the daemon: which tokenizer a model has, and its work kept off the event loop and under a deadline.

    event loop                              a model's threads
    which spec? -> queue, if not full  ---> lease its backend, loading it first -> ids
    wait until the deadline            <---

Every model has threads of its own, and a bound on what may wait for them: one whose tokenizer hangs or loads holds up
nobody else. What comes too late, or cannot be had, is `NoTokens`, whose `reason` is counted; such a request is routed
by load alone. A backend that could not be loaded is not tried again for a while.

A model without settings is read byte by byte, right here: that is what simulated engines do, and takes microseconds.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from kvsync.errors import ConfigError, TokenizeError, TokenizerUnavailable
from kvsync.fleet import Pod
from kvsync.tokens import encode, render_chat
from kvsync.tokens.cache import BackendCache
from kvsync.tokens.chat import Chat
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.written import spec_of_annotations

THREADS = 4
"""Of each model: an engine's `/tokenize` is waited for, and libraries let go of the interpreter while they work."""

WAITING_MAX = 64
CHARS_MAX = 16 * 1024 * 1024
"""Of all texts that a model's threads have or wait for, unless it is one: libraries take some 50 bytes a character for
words without end, and go on with a text whose request has left."""

LANES_MAX = 64
"""Models whose idle threads are kept; names come and go with a fleet."""

BROKEN_SECONDS = 10.0
PRELOAD_SECONDS = 5.0
"""How long the port stays closed for tokenizers that load: while one does, parsers keep all else from running."""

_logger = logging.getLogger(__name__)


class NoTokens(Exception):
    """A text whose tokens are not to be had, or not in time; `refused` where the text itself is at fault."""

    def __init__(self, reason: str, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt before it is tokens: a text, or a chat."""

    content: str | Chat
    add_special_tokens: bool = True

    @property
    def param(self) -> str:
        """The request's field that it came in."""
        return "prompt" if isinstance(self.content, str) else "messages"

    @property
    def chars(self) -> int:
        """About how long it is, to guess a number of tokens by."""
        if isinstance(self.content, str):
            return len(self.content)
        return sum(len(str(message)) for message in self.content.messages)


@dataclass(slots=True)
class _Lane:
    """A model's threads, and how much waits for them."""

    pool: ThreadPoolExecutor
    waiting: int = 0
    chars: int = 0
    key: object = None
    """The backend that was asked last."""


@dataclass(slots=True)
class _Broken:
    """A tokenizer that could not be loaded, and when it may be tried again."""

    until: float
    error: str


@dataclass(slots=True)
class Tokenizing:
    """
    Everybody's tokenizers. Called on the event loop; `close` ends the threads.
    """

    specs: Mapping[str, ModelSpec] = field(default_factory=dict)
    backends: BackendCache = field(default_factory=lambda: BackendCache(8))
    seconds: float = 1.0
    clock: Callable[[], float] = monotonic
    _lanes: dict[str, _Lane] = field(default_factory=dict)
    _broken: dict[object, _Broken] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def spec_of(self, model: str, pods: Collection[Pod]) -> ModelSpec | None:
        """
        The model's tokenizer: the settings', or what a pod of it is annotated with; None where neither says anything.
        """
        spec = self.specs.get(model) or self._annotated(model, pods)
        if spec is None:
            self._tell(f"model {model!r} has no tokenizer settings: its prompts are read byte by byte, as simulated"
                       " engines do, and match nothing on others; give tokenizers in the --config file")  # fmt: skip
        elif spec.kind == "remote" and not spec.endpoints:
            return spec.model_copy(update={"endpoints": tuple(sorted(pod.http for pod in pods))})
        return spec

    async def tokens(self, model: str, pods: Collection[Pod], text: Text) -> array[int]:
        """The text's ids; `NoTokens` where they cannot be had in time."""
        spec = self.spec_of(model, pods)
        if spec is None or spec.kind == "dummy":
            return _bytewise(text)
        work = self._submit(model, spec, text)
        try:
            # Work that has not begun by then is called off; what runs goes on, for those who ask next.
            return await asyncio.wait_for(asyncio.wrap_future(work), self.seconds)
        except TimeoutError:
            raise NoTokens("tokenizer_deadline", f"no tokens of {model!r} within {self.seconds:g} s") from None
        except TokenizerUnavailable as error:
            raise NoTokens("tokenizer_unavailable", str(error)) from error
        except TokenizeError as error:
            raise NoTokens("no_tokens", str(error), refused=True) from error
        except ConfigError as error:
            raise NoTokens("tokenizer_broken", str(error)) from error
        except Exception as error:
            _logger.exception("the tokenizer of %r failed", model)
            raise NoTokens("tokenizer_failed", f"the tokenizer of {model!r} failed ({type(error).__name__})") from error

    async def preload(self) -> None:
        """Load what the settings name, before there are requests; what takes too long goes on loading."""
        local = {model: spec for model, spec in self.specs.items() if spec.kind not in ("dummy", "remote")}
        loads = [asyncio.wrap_future(self._submit(model, spec, None)) for model, spec in local.items()]
        for load in loads:
            load.add_done_callback(lambda done: done.cancelled() or done.exception())  # it was logged where it failed
        if loads:
            await asyncio.wait(loads, timeout=PRELOAD_SECONDS)

    def stats(self) -> dict[str, Any]:
        """What is loaded, what it did, and what could not be loaded."""
        counts, now = self.backends.stats(), self.clock()
        models: dict[object, list[str]] = {}
        for model, lane in self._lanes.items():
            models.setdefault(lane.key, []).append(model)
        return {
            "max_size": self.backends.max_size,
            "hits": counts.hits,
            "misses": counts.misses,
            "waits": counts.waits,
            "failures": counts.failures,
            "evictions": counts.evictions,
            "close_failures": counts.close_failures,
            "loaded": [_loaded(entry, models.get(entry.key, [])) for entry in self.backends.loaded()],
            "waiting": {model: lane.waiting for model, lane in self._lanes.items()},
            "broken": [broken.error for broken in list(self._broken.values()) if broken.until > now],
        }

    def close(self) -> None:
        """Start nothing more, and let go of what is loaded; what runs ends on its own."""
        for lane in self._lanes.values():
            lane.pool.shutdown(wait=False, cancel_futures=True)
        self.backends.evict_all()

    def _annotated(self, model: str, pods: Collection[Pod]) -> ModelSpec | None:
        wrong = set()  # a model's pods mostly say the same, and each reading takes its time
        for pod in pods:
            if not pod.tokenizer or pod.tokenizer in wrong:
                continue
            try:
                if (spec := spec_of_annotations(pod.tokenizer, model, f"pod {pod.name}")) is not None:
                    return spec
            except ConfigError as error:
                wrong.add(pod.tokenizer)
                self._tell(str(error))
        return None

    def _submit(self, model: str, spec: ModelSpec, text: Text | None) -> Future[array[int]]:
        key = BackendCache.cache_key_for(spec)
        if (broken := self._broken.get(key)) is not None and broken.until > self.clock():
            raise NoTokens("tokenizer_broken", broken.error)
        lane, chars = self._lane(model), text.chars if text is not None else 0
        lane.key = key
        if lane.waiting >= WAITING_MAX:
            raise NoTokens("tokenizer_busy", f"{WAITING_MAX} texts wait for the tokenizer of {model!r}")
        if lane.chars and lane.chars + chars > CHARS_MAX:
            detail = f"texts of {lane.chars:,} characters wait for the tokenizer of {model!r}; with this one too many"
            raise NoTokens("tokenizer_busy", detail)
        lane.waiting += 1
        lane.chars += chars
        work = lane.pool.submit(self._work, model, spec, key, text)
        loop = asyncio.get_running_loop()
        # Called in the pool's thread or, for what never began, right here; the count is the loop's.
        work.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(_one_less, lane, chars))
        return work

    def _lane(self, model: str) -> _Lane:
        if model not in self._lanes:
            idle = [name for name, lane in self._lanes.items() if not lane.waiting]
            for name in idle[: max(len(self._lanes) - LANES_MAX + 1, 0)]:
                self._lanes.pop(name).pool.shutdown(wait=False)
            self._lanes[model] = _Lane(ThreadPoolExecutor(THREADS, thread_name_prefix="tokenizer"))
        return self._lanes[model]

    def _work(self, model: str, spec: ModelSpec, key: object, text: Text | None) -> array[int]:
        """In one of the model's threads: load if need be, and tokenize."""
        try:
            with self.backends.lease(spec) as entry:
                self._broken.pop(key, None)
                if text is None:
                    return array("I")
                if isinstance(text.content, Chat):
                    return array("I", entry.backend.encode_chat(text.content))
                return array("I", entry.backend.encode(text.content, add_special_tokens=text.add_special_tokens))
        except ConfigError as error:
            if len(self._broken) > LANES_MAX:
                self._broken.clear()
            self._broken[key] = _Broken(self.clock() + BROKEN_SECONDS, str(error))
            _logger.error(
                "the tokenizer of %r cannot be loaded, and is tried again in %g s: %s", model, BROKEN_SECONDS, error
            )
            raise

    def _tell(self, message: str) -> None:
        """Warn of something once."""
        if message not in self._told and len(self._told) < 1000:
            self._told.add(message)
            _logger.warning("%s", message)


def _one_less(lane: _Lane, chars: int) -> None:
    lane.waiting -= 1
    lane.chars -= chars


def _bytewise(text: Text) -> array[int]:
    """As simulated engines do."""
    if isinstance(text.content, str):
        return encode(text.content)
    try:
        return render_chat(text.content.messages)
    except ValueError as error:
        raise NoTokens("no_tokens", str(error), refused=True) from error


def _loaded(entry: Any, models: list[str]) -> dict[str, Any]:
    spec = entry.model_spec
    return {
        "models": models,
        "base": spec.base,
        "kind": spec.kind,
        "revision": spec.revision,
        "load_seconds": round(entry.load_seconds, 3),
        **getattr(entry.backend, "stats", dict)(),
    }
