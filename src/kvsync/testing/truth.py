"""
Captures of real engines and what their caches truly held, for holding an index against.

A capture NAME.msgpack stands beside its NAME.truth.json. The truth lists, for each rank and life, the numbers at
which the engine's own table was read, with the SHA-256 of its sorted lines `group hash copies`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgpack

from kvsync.types import Applied, Engine, EngineHash

Table: TypeAlias = Mapping[int, Mapping[EngineHash, int]]
"""group -> hash -> copies, of one medium."""


class Moment(NamedTuple):
    """Just after one frame of one life of one rank; lives count from 0, as in the truth files."""

    rank: int
    life: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a rank held at a moment; `blocks` in full (group -> hash text -> copies) only at the end of a life."""

    distinct: int
    copies: int
    sha256: str
    blocks: Mapping[str, Mapping[str, int]] | None


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """One frame of the live stream of a capture."""

    rank: int
    topic: bytes
    sequence: int
    payload: bytes


class Followed(Protocol):
    """What of an index is needed to follow a capture."""

    def apply(self, engine: Engine, payload: bytes, *, model: str, sequence: int | None = None) -> Applied: ...
    def restart(self, engine: Engine) -> None: ...


def truth_path(capture: Path) -> Path:
    """Where the truth of a capture lies."""
    return capture.with_name(capture.name.removesuffix(".msgpack") + ".truth.json")


def load_truth(capture: Path) -> dict[Moment, Checkpoint]:
    """Read the checkpoints of a capture."""
    document = json.loads(truth_path(capture).read_text())
    return {
        Moment(engine["rank"], point["life"], point["seq"]): Checkpoint(
            point["distinct"], point["copies"], point["sha256"], point.get("blocks")
        )
        for engine in document["engines"]
        for point in engine["points"]
    }


def read_header(capture: Path) -> dict[str, Any]:
    """The header map of a capture."""
    return dict(next(_objects(capture)))


def live_frames(capture: Path) -> Iterator[LiveFrame]:
    """Read the frames of a capture's live stream in arrival order."""
    objects = _objects(capture)
    next(objects)
    for rank, channel, frames, *_ in objects:
        if channel == "pub":
            topic, number, payload = frames
            yield LiveFrame(rank, topic, int.from_bytes(number, "big"), payload)


def follow(index: Followed, capture: Path, *, model: str = "m", pod: str = "pod") -> Iterator[Moment]:
    """
    Apply a capture's live frames in order and stop after each.

    Recordings have no losses, so a number that is not above the one before means a new life.
    """
    last: dict[int, int] = {}
    life: dict[int, int] = {}
    for frame in live_frames(capture):
        engine = Engine(pod, frame.rank)
        if frame.rank in last and frame.sequence <= last[frame.rank]:
            life[frame.rank] += 1
            index.restart(engine)
        last[frame.rank] = frame.sequence
        index.apply(engine, frame.payload, model=model, sequence=frame.sequence)
        yield Moment(frame.rank, life.setdefault(frame.rank, 0), frame.sequence)


def hash_text(engine_hash: EngineHash) -> str:
    """An engine hash as it is written everywhere: decimal, or lower-case hex of its bytes."""
    return engine_hash.hex() if isinstance(engine_hash, bytes) else str(engine_hash)


def table_lines(table: Table) -> list[str]:
    """The sorted lines `group hash copies` of a table."""
    rows = [
        (str(group), hash_text(engine_hash), copies)
        for group, hashes in table.items()
        for engine_hash, copies in hashes.items()
    ]
    return [f"{group} {text} {copies}" for group, text, copies in sorted(rows)]


def digest(table: Table) -> str:
    """What a truth file writes down of a table."""
    return hashlib.sha256("\n".join(table_lines(table)).encode()).hexdigest()


def _objects(capture: Path) -> Iterator[Any]:
    with capture.open("rb") as file:
        yield from msgpack.Unpacker(file, raw=False, strict_map_key=False, max_buffer_size=0)
