"""
The parts of a running daemon: made once by `app`, handed to whoever answers requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from kvsync.fleet import Pod
from kvsync.routing import Router
from kvsync.serve.health import Health
from kvsync.serve.inflight import InFlight
from kvsync.serve.metrics import Metrics
from kvsync.serve.picker import Picker, Target
from kvsync.serve.ports import PrefixIndex, Streams
from kvsync.serve.requests import Prompt, check_length
from kvsync.serve.roster import Roster
from kvsync.serve.settings import Settings
from kvsync.serve.snapshots.inherited import Inherited
from kvsync.serve.snapshots.keeper import Keeper
from kvsync.serve.tokenizing import Tokenizing
from kvsync.tokens.cache import BackendCache
from kvsync.types import Engine


@dataclass(slots=True)
class Parts:
    """
    Everything that lives as long as the daemon. `pods` is changed by `fleet` alone, as the roster changes.
    """

    settings: Settings
    index: PrefixIndex
    streams: Streams
    router: Router
    token: bytes | None = field(default=None, repr=False)
    clock: Callable[[], float] = monotonic
    pods: dict[str, Pod] = field(default_factory=dict)
    roster: Roster = field(default_factory=Roster)
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)
    picker: Picker = field(init=False)
    inherited: Inherited = field(default_factory=Inherited)
    keeper: Keeper | None = None
    tokenizing: Tokenizing = field(init=False)
    signals: Callable[[Pod], dict[str, Any] | None] = lambda pod: None
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.streams.interest = self.interest
        self.picker = Picker(self.index, self.router, self.health, self.pods, self.roster.listed_at)
        self.tokenizing = Tokenizing(
            self.settings.tokenizers,
            BackendCache(self.settings.tokenizer_backends),
            self.settings.tokenize_seconds,
            self.clock,
        )

    def interest(self, engine: Engine) -> float:
        """How much an engine is asked for, by which streams order their replays; called in their thread."""
        pod = self.pods.get(engine.pod)
        return 0.0 if pod is None else self.router.interest.weight(engine, pod.model, self.clock())


async def with_tokens(parts: Parts, prompt: Prompt, target: Target) -> Prompt:
    """The prompt as token ids; `NoTokens` where they cannot be had in time, `Problem` where they are too many."""
    if prompt.text is None:
        return prompt
    with parts.metrics.tokenize_seconds.time():
        tokens = await parts.tokenizing.tokens(target.model, target.pods, prompt.text)
    return check_length(replace(prompt, tokens=tokens, text=None), tokens_max=parts.settings.prompt_tokens_max)
