"""
What the stream tests share: batches that form one chain of blocks, quick options, and waiting for a condition.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.patience import PATIENCE_S

from kvsync.index import Index
from kvsync.stream.endpoints import Source
from kvsync.stream.options import SequenceOptions, SubscriberOptions
from kvsync.stream.status import StreamStatus
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import GPU, Engine

MODEL = "m"
ENGINE = Engine("pod", 0)
BLOCK = 4

# What docs/recovery.md promises: how long it takes from a fault's first sign until the record is the truth.
FLOWING_S = 1.0
IDLE_S = 10.0

# However slow the machine, no answer is late and no engine is probed for its silence, unless a test wants that. So what
# comes right has come right by what the test is about: nothing that is tried later has mended it.
NEVER_S = 10_000.0
QUICK_SEQUENCE = SequenceOptions(replay_timeout_s=NEVER_S, probe_idle_s=NEVER_S)
QUICK = SubscriberOptions(sequence=QUICK_SEQUENCE, reconnect_first_s=0.05, tick_s=0.02, replay_spread_s=0.0, seed=1)


@dataclass(slots=True)
class Clock:
    """
    Time that stands still until a test lets some of it pass.
    """

    now: float = 1_000.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


def batch(number: int, life: int = 0) -> bytes:
    """
    One block: the child of the batch before, so that any n batches from 0 on hold a match of n blocks.
    """
    return encode_batch(
        [
            Stored(
                hashes=(number + 1,),
                parent=number or None,
                tokens=tuple(range(number * BLOCK, (number + 1) * BLOCK)),
                block_size=BLOCK,
            )
        ],
        ts=1000.0 * life + number,
    )


def batches(count: int, life: int = 0) -> list[bytes]:
    """
    The first batches of a life.
    """
    return [batch(number, life) for number in range(count)]


def source(publisher: ScriptedPublisher, engine: Engine = ENGINE, *, replay: bool = True) -> Source:
    """
    Where a publisher publishes.
    """
    return Source(engine, MODEL, publisher.events, publisher.replay if replay else None)


def held(index: Index, engine: Engine = ENGINE) -> list[int]:
    """
    The hashes an engine holds, as the index has it.
    """
    return sorted(int(hash_) for hash_ in index.engine_hashes(engine).get(GPU, {}).get(0, {}) if isinstance(hash_, int))


def holds(count: int) -> list[int]:
    """
    The hashes of the first batches of a life.
    """
    return list(range(1, count + 1))


def wait_for(condition: Callable[[], object], what: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """
    Return once the condition is true; fail with what is there instead.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s: {what()}"
        time.sleep(0.005)


def wait_until(subscriber: Subscriber, condition: Callable[[StreamStatus], object], engine: Engine = ENGINE) -> None:
    """
    Return once an engine's status fulfils the condition.
    """
    wait_for(lambda: condition(subscriber.status()[engine]), lambda: subscriber.status()[engine])


def in_time(what: str, since: float, limit_s: float = FLOWING_S) -> None:
    """
    Print how long it has taken until now, beside the promise; fail beyond it if `KVSYNC_STRICT_TIMES` is set.

    Else a test is no stopwatch: a machine may have other things to do.
    """
    took_s = time.monotonic() - since
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    told = f"{what}: {took_s:.3f} s (promised {limit_s:g}, load {load:.1f} on {cores} cores)"
    print(told)  # noqa: T201  (a figure for whoever runs the test with -s)
    assert took_s <= limit_s or not os.environ.get("KVSYNC_STRICT_TIMES"), told


def is_balanced(status: StreamStatus) -> bool:
    """
    Whether every frame is accounted for.
    """
    return status.received == status.applied_frames + status.duplicate + sum(status.dropped.values()) + status.waiting
