"""
Captured frames to an index, without sockets: what `kvsync replay` and `kvsync match --capture` do.

A capture may hold any number of engines, and answers whose questions it does not show: after a gap, at the end
of a life, or none at all. So a hole waits for whatever comes later in the file, within the bounds of
`SequenceOptions`, and is passed over when they are reached or the file ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kvsync.stream.capture import CaptureRecord
from kvsync.stream.options import MIB, SequenceOptions
from kvsync.stream.sequence import Replay, Sequence, feed
from kvsync.stream.target import Target, carry_out_all
from kvsync.types import Engine

CAPTURE_POD = "capture"
"""The pod of an engine that a capture knows by its rank only."""

OFFLINE_OPTIONS = SequenceOptions(waiting_frames_max=65_536, waiting_bytes_max=256 * MIB, digests_max=65_536)

RANK_DIGITS_MAX = 9

NO_CLOCK = 0.0
"""No decision about a capture depends on time."""


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """
    Where the frames of a capture went: received = applied + duplicate + all dropped + waiting.
    """

    received: int = 0
    applied: int = 0
    duplicate: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0

    @property
    def is_balanced(self) -> bool:
        """Whether no frame is missing and none is counted twice."""
        return self.received == self.applied + self.duplicate + sum(self.dropped.values()) + self.waiting


class Replayer:
    """
    Applies the records of a capture to an index, engine by engine in the order of their numbers.

    `model` names what all engines of the capture serve. `finish()` must follow the last record. `names` says what
    the capture called each engine.
    """

    def __init__(self, index: Target, *, model: str, options: SequenceOptions = OFFLINE_OPTIONS) -> None:
        self.names: dict[Engine, str] = {}
        self._index = index
        self._model = model
        self._options = options
        self._engines: dict[str | int, Engine] = {}
        self._sequences: dict[Engine, Sequence] = {}

    def __repr__(self) -> str:
        counts = self.frames
        return f"<Replayer engines={len(self.names)} received={counts.received} waiting={counts.waiting}>"

    @property
    def frames(self) -> FrameCounts:
        """Where the frames went so far, over all engines."""
        counters = [sequence.counters for sequence in self._sequences.values()]
        dropped: Counter[str] = Counter()
        for counted in counters:
            dropped.update(counted.dropped)
        return FrameCounts(
            received=sum(counted.received for counted in counters),
            applied=sum(counted.applied for counted in counters),
            duplicate=sum(counted.duplicate for counted in counters),
            dropped=dict(sorted(dropped.items())),
            waiting=sum(sequence.waiting for sequence in self._sequences.values()),
        )

    def sequence(self, engine: Engine) -> Sequence:
        """The order of one engine's frames, to look at; KeyError for one that has sent none."""
        return self._sequences[engine]

    def feed(self, record: CaptureRecord) -> Engine:
        """Apply one record, as far as its number's turn has come, and say whose it is."""
        engine = self._engine(record.engine)
        instructions = feed(self._sequences[engine], record.channel, record.frames, NO_CLOCK)
        carry_out_all(instructions, self._index, engine, self._model)
        return engine

    def finish(self) -> FrameCounts:
        """The capture has ended: whatever waits is applied over its holes."""
        for engine, sequence in self._sequences.items():
            carry_out_all(sequence.give_up(), self._index, engine, self._model)
        return self.frames

    def _engine(self, name: str | int) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            engine = _free(engine_of(name), self.names)
            self._engines[name] = engine
            self.names[engine] = str(name)
            self._sequences[engine] = Sequence(self._options, replay=Replay.GIVEN)
        return engine


def replay_capture(records: Iterable[CaptureRecord], index: Target, *, model: str) -> Replayer:
    """
    Apply a whole capture and give the replayer for its counts.

    If the records end in an error, what came before it is applied and the error goes on.
    """
    replayer = Replayer(index, model=model)
    try:
        for record in records:
            replayer.feed(record)
    finally:
        replayer.finish()
    return replayer


def engine_of(name: str | int) -> Engine:
    """
    The engine that a capture's name stands for: `pod/rank` where it has that form, else a pod of that name.
    """
    if isinstance(name, int):
        return Engine(CAPTURE_POD, name)
    pod, slash, rank = name.rpartition("/")
    if slash and pod and len(rank) <= RANK_DIGITS_MAX and rank.isdecimal() and rank == str(int(rank)):
        return Engine(pod, int(rank))
    return Engine(name)


def _free(engine: Engine, taken: Mapping[Engine, str]) -> Engine:
    # "a" and "a/0" are two names in a capture and would be one engine.
    while engine in taken:
        engine = Engine(engine.pod + "'", engine.rank)
    return engine
