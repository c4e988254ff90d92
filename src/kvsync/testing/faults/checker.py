"""
Holds the daemon's half against the truth: what must be true at every moment, whatever went wrong before.

    balance      received = applied + duplicate + dropped + waiting, and received is what was told
    bounds       what waits and what is remembered is within the options
    exact        on a medium that claims it, the record is what the engine held at the last number applied
    partial      there it is a lower bound of that, copy by copy
    unknown      there is nothing
    alarm        a new life is found only where there is one
    life         a stream that says it is live and exact follows the life it is connected to, or a later one

A stale medium may hold anything. While frames are on their way the engine has gone on, and nobody can know: so the
truth is that of the number and life applied last, and `life` says that this life is not an old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvsync.index import Index
from kvsync.stream.instructions import Reset
from kvsync.stream.life import WITHIN_A_LIFE
from kvsync.stream.options import SequenceOptions
from kvsync.testing.faults.engine import NOTHING, Held
from kvsync.testing.faults.followed import Followed
from kvsync.types import Trust


class Violation(AssertionError):
    """Something that must be true is not."""


def check(followed: Followed, index: Index, options: SequenceOptions) -> None:
    """
    Hold one engine's half against its truth; Violation tells the first thing that is not as it must be.
    """
    for trouble in troubles(followed, index, options):
        raise Violation(f"{followed.engine}: {trouble}; {followed.sequence!r}")


def check_reset(followed: Followed, reset: Reset) -> None:
    """
    Hold a record that is dropped against the truth; Violation if its engine is still what it was.

    An over-size batch right behind the last one known, in a buffer that has lost that, looks like another life.
    """
    truth = followed.truth
    if reset.reason not in WITHIN_A_LIFE and followed.met == {truth.number} and not truth.life.oversize:
        raise Violation(f"{followed.engine}: alarm: {reset.reason}, but this is life {truth.number} still")


def troubles(followed: Followed, index: Index, options: SequenceOptions) -> Iterator[str]:
    """
    Everything that is not as it must be.
    """
    yield from _books(followed)
    yield from _bounds(followed, options)
    yield from _record(followed, index)
    yield from _life(followed, index)


def _books(followed: Followed) -> Iterator[str]:
    counters, waiting = followed.sequence.counters, followed.sequence.waiting
    known = counters.applied + counters.duplicate + sum(counters.dropped.values()) + waiting
    if counters.received != known:
        yield f"balance: received {counters.received}, accounted for {known}: {counters}"
    if counters.received != followed.told:
        yield f"balance: received {counters.received}, was told {followed.told}"


def _bounds(followed: Followed, options: SequenceOptions) -> Iterator[str]:
    sequence = followed.sequence
    if sequence.waiting > options.waiting_frames_max:
        yield f"bounds: {sequence.waiting} frames wait, {options.waiting_frames_max} may"
    if sequence.waiting_bytes > options.waiting_bytes_max:
        yield f"bounds: {sequence.waiting_bytes} bytes wait, {options.waiting_bytes_max} may"
    if sequence.remembered > options.digests_max:
        yield f"bounds: {sequence.remembered} digests are remembered, {options.digests_max} may"


def _record(followed: Followed, index: Index) -> Iterator[str]:
    if followed.engine not in index.engines():
        return
    record, held = index.record(followed.engine), index.engine_hashes(followed.engine)
    truth = NOTHING
    if followed.recorded is not None:
        truth = followed.truth.lives[followed.recorded].truth(record.sequence)
    applied = followed.sequence.applied
    if record.trust is Trust.EXACT and applied is not None and (record.sequence is None or record.sequence < applied):
        yield f"exact: the record ends at number {record.sequence}, {applied} was passed over"
    when = f"at number {record.sequence} of life {followed.recorded}"
    for medium in {*record.media, *held}:  # of a medium that was never named nothing is claimed
        trust = record.media[medium].trust if medium in record.media else Trust.UNKNOWN
        mine, its = _flat(held, medium), _flat(truth, medium)
        if trust is Trust.EXACT and mine != its:
            yield f"exact: {medium} {when}: {_difference(mine, its)}"
        elif trust is Trust.PARTIAL and (more := {key: n for key, n in mine.items() if n > its.get(key, 0)}):
            yield f"partial: {medium} {when}: {_difference(more, its)}"
        elif trust is Trust.UNKNOWN and mine:
            yield f"unknown: {medium} holds {len(mine)} blocks"


def _life(followed: Followed, index: Index) -> Iterator[str]:
    sequence = followed.sequence
    follows = sequence.connected and sequence.state == "live" and followed.recorded is not None
    if follows and followed.recorded < followed.connected_to and index.trust(followed.engine) is Trust.EXACT:  # type: ignore[operator]
        yield f"life: follows life {followed.recorded}, is connected to life {followed.connected_to}"


def _flat(held: Held, medium: str) -> Mapping[tuple[int, object], int]:
    return {
        (group, engine_hash): copies
        for group, hashes in held.get(medium, {}).items()
        for engine_hash, copies in hashes.items()
    }


def _difference(mine: Mapping[tuple[int, object], int], its: Mapping[tuple[int, object], int]) -> str:
    keys = [key for key in {**mine, **its} if mine.get(key, 0) != its.get(key, 0)]
    some = ", ".join(
        f"{group}:{_short(name)} is {mine.get((group, name), 0)}, truly {its.get((group, name), 0)}"
        for group, name in keys[:3]
    )
    return f"{len(keys)} differ: {some}"


def _short(engine_hash: object) -> str:
    text = engine_hash.hex() if isinstance(engine_hash, bytes) else str(engine_hash)
    return f"{text[:6]}.."
