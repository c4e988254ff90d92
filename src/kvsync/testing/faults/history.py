"""
What happens in a simulation, as plain values: who is there, and one thing after the other.

An operation makes sense in any state, and draws what it needs from dice of its own, so that leaving one out
changes nothing about the others: this is what lets a failing history be made short.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kvsync.engine.hashing import HashForm
from kvsync.stream.options import SequenceOptions


class Kind(StrEnum):
    """What may happen. An operation that finds nothing to do does nothing."""

    PUBLISH = "publish"
    """The engine serves a request and publishes what that did to its cache."""
    CLEAR = "clear"
    """It empties its cache and publishes that."""
    LOSE = "lose"
    """A batch that is kept for replay and lost on its way."""
    HOLE = "hole"
    """A number used up by a batch that could not be encoded: in neither stream nor buffer."""
    GARBLE = "garble"
    """A batch with an event that cannot be decoded."""
    TRUNCATE = "truncate"
    """A batch whose payload ends early."""
    OVERSIZE = "oversize"
    """A batch too large to be received: libzmq drops the connection for good."""
    NOISE = "noise"
    """A message that has no number."""
    PUMP = "pump"
    """The daemon reads some of what has arrived on the live socket."""
    SERVE = "serve"
    """The engine looks at its replay socket."""
    ANSWER = "answer"
    """The daemon reads some of an answer."""
    CUT = "cut"
    """The rest of the answer under way is lost, its end marker too."""
    RIDDLE = "riddle"
    """Some frames of the answer under way are lost, or come twice."""
    MISLAY = "mislay"
    """A request is lost."""
    PASS = "pass"
    """Time goes by."""
    DROP = "drop"
    """The connection ends."""
    CONNECT = "connect"
    """A connection that is down comes up."""
    RESTART = "restart"
    """The engine dies and is born again."""
    WEDGE = "wedge"
    """The engine neither publishes nor answers for a while."""
    SNAPSHOT = "snapshot"
    """The daemon writes a snapshot and its bookmarks."""
    CRASH = "crash"
    """The daemon is killed, and the next one begins with the last snapshot."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that happens, mostly to one engine."""

    kind: Kind
    engine: int
    dice: int


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """
    What an engine is like.

    `blocks` is the size of its pool, `window` that of a second, sliding-window group in tokens, `tier` how many
    evicted blocks lie on the CPU. It keeps `buffer_steps` batches for replay, if it has a port for that.
    """

    wire: str
    hash_form: HashForm | None = None
    blocks: int = 10
    block_size: int = 2
    window: int | None = None
    tier: int = 0
    extras: bool = True
    replay: bool = True
    buffer_steps: int = 1_000


@dataclass(frozen=True, slots=True)
class Setup:
    """Who is there. In the end `flows` says whether engines go on publishing or are silent."""

    engines: tuple[EngineSetup, ...]
    options: SequenceOptions
    flows: bool


@dataclass(frozen=True, slots=True)
class History:
    """A whole simulation; the seed is where it came from, and has been used up."""

    seed: int
    setup: Setup
    operations: tuple[Operation, ...]
