"""
What can be seen of one engine's stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kvsync.stream.sequence import Sequence
from kvsync.types import Engine


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """
    One engine's stream at one moment.

    `state` is `connecting`, `disconnected`, `replaying`, `live` or `failed` (a fault of ours; the engine is not
    followed any more). `applied` is the last number applied or passed over, `live_last` the highest heard live in
    this life. Frames balance: received = applied_frames + duplicate + all of `dropped` + waiting. `error` is
    the present trouble, if there is one. `replay_available` is None until a replay was asked for, and False
    where there is no port or it does not answer. `rebuilds` counts records
    built anew within a life.
    """

    engine: Engine
    connected: bool
    state: str
    applied: int | None
    live_last: int | None
    received: int
    applied_frames: int
    duplicate: int
    dropped: Mapping[str, int]
    waiting: int
    gaps: int
    unfilled: int
    replays: int
    restarts: int
    oversize: int
    reconnects: int
    index_errors: int
    last_event_age_s: float | None
    error: str | None
    replay_available: bool | None
    rebuilds: int = 0


class Pulse(NamedTuple):
    """The little of it that is looked at often: whether the engine is connected, and how often it began anew."""

    connected: bool
    restarts: int


def status_of(
    engine: Engine, sequence: Sequence, now: float, *, has_failed: bool, error: str | None, index_errors: int
) -> StreamStatus:
    """What is to be seen of a stream at this moment."""
    counters, last_at = sequence.counters, sequence.last_event_at
    return StreamStatus(
        engine=engine,
        connected=sequence.connected,
        state="failed" if has_failed else sequence.state,
        applied=sequence.applied,
        live_last=sequence.live_last,
        received=counters.received,
        applied_frames=counters.applied,
        duplicate=counters.duplicate,
        dropped=dict(counters.dropped),
        waiting=sequence.waiting,
        gaps=counters.gaps,
        unfilled=counters.unfilled,
        replays=counters.replays,
        restarts=counters.restarts,
        oversize=counters.oversize,
        reconnects=counters.reconnects,
        index_errors=index_errors,
        last_event_age_s=None if last_at is None else max(0.0, now - last_at),
        error=error,
        replay_available=sequence.replay_available,
        rebuilds=counters.rebuilds,
    )
