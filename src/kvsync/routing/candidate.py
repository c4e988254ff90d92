"""
The values a pick is made of: what is asked, what every candidate holds and has to do, and what was chosen.

Seconds are expected, not measured; tokens of load are prefill tokens not yet computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from kvsync.types import Engine, Match

NO_MATCH = Match(0, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """
    What an engine has to do for requests that we sent it: those that wait for their first token, those that run.
    """

    queued_tokens: float = 0.0
    waiting: int = 0
    running: int = 0

    @property
    def requests(self) -> int:
        return self.waiting + self.running


IDLE = Load()


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One engine that could take the request.

    `match` is what its record says, `own_tokens` how many leading tokens our own recent picks will have put there
    (a multiple of `block_size`), and `prefill_rate` is in tokens a second. Without events, `match` is a guess.
    """

    engine: Engine
    match: Match = NO_MATCH
    own_tokens: int = 0
    block_size: int = 16
    load: Load = IDLE
    prefill_rate: float = 20_000.0
    has_events: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    How one candidate's first token comes about: the parts of `seconds`, and the leading tokens it need not compute.
    """

    candidate: Candidate
    seconds: float
    queue_seconds: float
    prefill_seconds: float
    transfer_seconds: float
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class CostOptions:
    """
    What the estimate believes.

    `belief` in a stale or unknown record is the share of its match that is counted. `transfer` says what a token on a
    slower medium costs, as a share of computing it; `transfer_default` is for media with other names. A request in
    decode slows the next prefill down like `decode_tokens` more tokens. Estimates closer to the least than
    `tie_share` of it, `tie_seconds` and the prefill of one block together are equal: no estimate is better than that.
    """

    stale_belief: float = 0.5
    unknown_belief: float = 0.75
    uncertain_belief: float = 0.9
    transfer_cpu: float = 0.1
    transfer_default: float = 0.3
    decode_tokens: float = 16.0
    tie_share: float = 0.02
    tie_seconds: float = 0.000_5


@dataclass(frozen=True, slots=True)
class Question:
    """
    What a policy is asked: where shall this prompt go?

    `candidates` is never empty and is in order of engine. `turn` counts the questions asked before about this model,
    `affinity` is equal for prompts that begin alike, and `random` is the only source of chance.
    """

    prompt_tokens: int
    candidates: tuple[Candidate, ...]
    turn: int = 0
    affinity: int = 0
    random: Random = field(default_factory=lambda: Random(0))
    options: CostOptions = CostOptions()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy answers: one of the candidates, and one sentence that says why."""

    candidate: Candidate
    reason: str
