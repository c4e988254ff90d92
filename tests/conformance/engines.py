"""
Two engines behind one interface: the real one in its own process, the simulated one here, and both together.

`Both` does everything twice and lets no difference pass: hits, what fits, and every event in its order.
"""

from __future__ import annotations

import json
import os
import subprocess
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.unit.engine.load import make_request
from tests.unit.engine.plain_events import Event, numbered, plain

from kvsync.engine.cache import PrefixCache
from kvsync.engine.events import GroupSpec, Lora
from kvsync.engine.hashing import BlockHasher
from kvsync.engine.pool import BlockPool
from kvsync.engine.request import Image, Request

SERVANT = Path(__file__).with_name("vllm_engine.py")

# Without a network, a GPU, or a word about it to anybody.
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for."""

    name: str
    tokens: tuple[int, ...]
    answer: tuple[int, ...]
    lora: tuple[str, int] | None = None
    salt: str | None = None
    images: tuple[tuple[str, int, int], ...] = ()
    report_full: bool = False
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """How engines are built. Hashes go out as integers, or as the bytes they are."""

    blocks: int
    block_size: int = 16
    windows: tuple[int, ...] = ()
    algorithm: str = "sha256"
    integers: bool = True
    ranks: int = 1
    topic: str = "kv-events"
    model_tokens_max: int = 8_192


class VllmProcess:
    """A real vLLM's cache managers, one for each rank, in the environment of `python`."""

    def __init__(self, python: Path, shape: Shape) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
        environment |= QUIET | {"VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES": str(int(shape.integers))}
        self._process = subprocess.Popen(
            [python, SERVANT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.version: str = self._answer()["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def do(self, what: str, rank: int, **order: Any) -> dict[str, Any]:
        """Give an order and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, "rank": rank, **order}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM's process ended with status {self._process.wait()}: its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(slots=True)
class Both:
    """One rank of a real engine, and a simulated one that is told the same."""

    vllm: VllmProcess
    rank: int
    shape: Shape
    events: str
    replay: str
    compared: int = 0
    _ours: PrefixCache = field(init=False)
    _requests: dict[str, Request] = field(default_factory=dict)
    _their_life: list[list[Event]] = field(default_factory=list)
    _our_life: list[list[Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin a life, with an empty cache and at number 0."""
        shape = self.shape
        self.vllm.do(
            "open",
            self.rank,
            events=self.events,
            replay=self.replay,
            topic=shape.topic,
            blocks=shape.blocks,
            block_size=shape.block_size,
            windows=shape.windows,
            algorithm=shape.algorithm,
            model_tokens_max=shape.model_tokens_max,
        )
        self._ours = PrefixCache(
            BlockPool(shape.blocks),
            block_size=shape.block_size,
            hasher=BlockHasher(self.rank),
            groups=(GroupSpec(), *(GroupSpec(window) for window in shape.windows)),
        )
        self._requests, self._their_life, self._our_life = {}, [], []

    def close(self) -> None:
        """End the life: compare all that was announced in it."""
        ours, theirs = numbered(self._our_life), numbered(self._their_life)
        assert len(ours) == len(theirs)
        for number, (our_batch, their_batch) in enumerate(zip(ours, theirs, strict=True)):
            assert [_of_release(mine, its) for mine, its in zip(our_batch, their_batch, strict=True)] == their_batch, (
                f"rank {self.rank}, batch {number}"
            )
        self.compared += len(theirs)
        self.vllm.do("close", self.rank)

    def ask(self, asked: Asked) -> None:
        """Make a request."""
        self.vllm.do(
            "ask",
            self.rank,
            name=asked.name,
            tokens=asked.tokens,
            answer=len(asked.answer),
            lora=asked.lora,
            salt=asked.salt,
            images=asked.images,
            report_full=asked.report_full,
            session=asked.session,
        )
        self._requests[asked.name] = make_request(
            array("I", asked.tokens),
            lora=Lora(*asked.lora) if asked.lora else None,
            cache_salt=asked.salt,
            images=tuple(Image(*image) for image in asked.images),
            report_full=asked.report_full,
            session=asked.session,
        )

    def begin(self, name: str, tokens_max: int) -> int:
        """Look up and take blocks for at most so many missing tokens; gives how many, 0 where they do not fit."""
        request = self._requests[name]
        hit = self._ours.look_up(request)
        wanted = min(len(request.tokens) - hit.tokens, tokens_max)
        fits = self._ours.allocate(request, wanted, hit)
        request.computed += wanted if fits else 0
        theirs = self.vllm.do("begin", self.rank, name=name, tokens_max=tokens_max)
        assert (hit.tokens, wanted if fits else 0) == (theirs["hit"], theirs["count"]), f"{name} begins"
        return int(theirs["count"])

    def go_on(self, name: str, count: int) -> bool:
        """Take blocks for so many more tokens; False where they do not fit."""
        request = self._requests[name]
        fits = self._ours.allocate(request, count)
        request.computed += count if fits else 0
        assert fits == self.vllm.do("go_on", self.rank, name=name, count=count)["done"], f"{name} goes on"
        return fits

    def append(self, name: str, token: int) -> None:
        """A token of the answer."""
        self._requests[name].tokens.append(token)
        self.vllm.do("append", self.rank, name=name, token=token)

    def release(self, name: str, *, again: bool) -> None:
        """Give the request's blocks back; it ends, or begins anew later."""
        self._ours.release(self._requests[name])
        self.vllm.do("release", self.rank, name=name, again=again)
        if not again:
            del self._requests[name]

    def reset(self) -> None:
        """Empty the cache."""
        assert self._ours.pool.reset()
        assert self.vllm.do("reset", self.rank)["done"]

    def publish(self) -> None:
        """End a step; what both announced is compared when the life ends."""
        theirs, ours = self.vllm.do("publish", self.rank)["events"], self._ours.pool.take_events()
        assert [event["type"] for event in theirs] == [type(event).__name__ for event in ours]
        if theirs:
            self._their_life.append(theirs)
            self._our_life.append([plain(event) for event in ours])

    def uncomputed(self, name: str) -> int:
        """Tokens of the request that have no block yet."""
        return self._requests[name].uncomputed

    def truth(self) -> dict[str, Any]:
        """What vLLM's own table holds; the simulated pool holds as many copies of as many blocks."""
        truth = self.vllm.do("truth", self.rank)
        ours = {str(group): sorted(held.values()) for group, held in self._ours.pool.held().items()}
        assert {group: sorted(held.values()) for group, held in truth["groups"].items()} == ours
        return truth


def _of_release(ours: Event, theirs: Event) -> Event:
    """Our event, as far as the release of theirs tells it."""
    return {name: ours[name] for name in theirs}
