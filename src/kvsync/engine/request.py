"""
One request inside the engine: what was asked, how far it is, which blocks it holds.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from kvsync.engine.answers import Answer
from kvsync.engine.events import Lora
from kvsync.engine.hashing import BlockExtras, Digest, MediaKey
from kvsync.engine.pool import Block


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Image:
    """Something in the prompt that is not text: what it is, its first token, and how many it takes."""

    identifier: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a client asked for, checked and resolved.

    `prompt` is shared, not copied: nobody changes it. `stops` end the answer when its text ends with one.
    `report_full` asks that cached blocks are announced again, `session` names the conversation in events.
    """

    prompt: array[int]
    max_tokens: int
    lora: Lora | None = None
    cache_salt: str | None = None
    images: tuple[Image, ...] = ()
    stops: tuple[bytes, ...] = ()
    report_full: bool = False
    session: str | None = None

    def extras(self, start: int, end: int) -> BlockExtras | None:
        """What the name of the block from `start` to `end` depends on beside its tokens; None if nothing."""
        if self.lora is None and not self.images and (start or self.cache_salt is None):
            return None
        keys: list[str | MediaKey] = [] if self.lora is None else [self.lora.name]
        keys += [
            (image.identifier, image.offset - start)
            for image in self.images
            if image.offset < end and image.offset + image.length > start
        ]
        if start == 0 and self.cache_salt is not None:
            keys.append(self.cache_salt)
        return tuple(keys) or None


@dataclass(frozen=True, slots=True)
class Produced:
    """What a step gave to one request: its next token, and why it was the last, if it was."""

    token: int | None
    finish: Finish | None = None


Sink = Callable[[Produced], None]


@dataclass(slots=True, eq=False)
class Request:
    """
    A request on its way through the scheduler.

    State: `tokens` (prompt and answer so far) and `computed` (how many of them have their KV in blocks);
    per group `blocks` (those held, in order) and `stored` (how many of them are named in the cache), both
    empty until it is admitted; `hashes` and `extras` of its full blocks so far. `cached_tokens` is what the
    cache spared it the first time it was scheduled, None until then. A request that loses its blocks keeps
    its tokens, their names and that number.
    """

    identifier: str
    asked: Asked
    answer: Answer
    sink: Sink
    arrived_s: float
    tokens: array[int] = field(init=False)
    computed: int = 0
    cached_tokens: int | None = None
    preemptions: int = 0
    first_token_s: float | None = None
    blocks: list[list[Block]] = field(init=False)
    stored: list[int] = field(init=False)
    hashes: list[Digest] = field(default_factory=list)
    extras: list[BlockExtras | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = array("I", self.asked.prompt)
        self.forget_blocks()

    def __repr__(self) -> str:
        return f"<Request {self.identifier} {self.computed} of {len(self.tokens)} computed, {self.answered} answered>"

    @property
    def answered(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - len(self.asked.prompt)

    @property
    def uncomputed(self) -> int:
        return len(self.tokens) - self.computed

    def forget_blocks(self) -> None:
        self.computed = 0
        self.blocks = []
        self.stored = []

    def append_answer(self) -> Produced:
        """Add the next token of the answer, and decide whether it is the last."""
        position = self.answered
        token = self.answer.token(position)
        self.tokens.append(token)
        if self.answer.ends_at(position):
            return Produced(token, Finish.STOP)
        if self.asked.stops and self._ends_with_a_stop():
            return Produced(token, Finish.STOP)
        if self.answered >= self.asked.max_tokens:
            return Produced(token, Finish.LENGTH)
        return Produced(token)

    def _ends_with_a_stop(self) -> bool:
        longest = max(map(len, self.asked.stops))
        tail = bytes(token for token in self.tokens[-min(longest, self.answered) :] if token < 256)
        return tail.endswith(self.asked.stops)
