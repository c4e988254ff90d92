"""
Draws a history from a seed.

Each seed allows itself only some of the faults, and each as often as it likes: a history in which everything goes
wrong at once never gets into the states that one fault after a long quiet reaches.
"""

from __future__ import annotations

from random import Random

from kvsync.engine.hashing import HashForm
from kvsync.stream.options import SequenceOptions
from kvsync.testing.faults.history import EngineSetup, History, Kind, Operation, Setup

OPERATIONS_MAX = 90

WIRES = (
    ("vllm-0.33.0", None, True),
    ("vllm-0.24.0", HashForm.BYTES32, True),
    ("vllm-0.20.0", None, True),
    ("vllm-0.12.0", None, False),
    ("sglang-0.5.22", None, True),
)
"""Releases, the form of their hashes, and whether their events tell adapters and salts apart."""

GROUPS = ("vllm-0.33.0", "vllm-0.24.0", "vllm-0.20.0")
TIERS = ("vllm-0.33.0", "vllm-0.24.0")
"""Releases that name groups, and such that write events as maps, which the tier's are written after."""

WORK = {
    Kind.PUBLISH: 30,
    Kind.PUMP: 30,
    Kind.SERVE: 12,
    Kind.ANSWER: 24,
    Kind.PASS: 5,
    Kind.CONNECT: 8,
}

FAULTS = {
    Kind.CLEAR: 2,
    Kind.LOSE: 8,
    Kind.HOLE: 2,
    Kind.GARBLE: 2,
    Kind.TRUNCATE: 2,
    Kind.OVERSIZE: 2,
    Kind.NOISE: 2,
    Kind.CUT: 4,
    Kind.RIDDLE: 4,
    Kind.MISLAY: 4,
    Kind.DROP: 3,
    Kind.RESTART: 4,
    Kind.WEDGE: 1,
    Kind.SNAPSHOT: 4,
    Kind.CRASH: 2,
}


RESTLESS_EVERY = 4
RESTLESS = {
    **WORK,
    Kind.PASS: 12,
    Kind.CONNECT: 40,
    Kind.LOSE: 8,
    Kind.MISLAY: 12,
    Kind.SNAPSHOT: 14,
    Kind.CRASH: 6,
    Kind.RESTART: 1,
}
"""
Every fourth seed is of a daemon that is killed again and again, beside engines that are mostly well. A snapshot is of
use only where there was something to save and a crash comes after it: drawn one by one they hardly ever meet.
"""


def draw(seed: int, operations_max: int = OPERATIONS_MAX) -> History:
    """
    The history of a seed: always the same.
    """
    random = Random(seed)
    setup = _setup(random)
    weights = dict(WORK)
    for kind, weight in FAULTS.items():
        if random.random() < 0.4:
            weights[kind] = weight * random.choice((1, 2, 4))
    if seed % RESTLESS_EVERY == RESTLESS_EVERY - 1:
        weights, operations_max = RESTLESS, 2 * operations_max
    kinds = random.choices(list(weights), list(weights.values()), k=random.randint(10, operations_max))
    operations = tuple(Operation(kind, random.randrange(len(setup.engines)), random.getrandbits(32)) for kind in kinds)
    return History(seed, setup, operations)


def _setup(random: Random) -> Setup:
    engines = tuple(_engine(random) for _ in range(random.choice((1, 1, 2))))
    options = SequenceOptions(
        waiting_frames_max=random.choice((3, 8, 64)),
        waiting_bytes_max=random.choice((600, 1 << 20)),
        replay_timeout_s=random.choice((1.0, 3.0)),
        replay_attempts=random.choice((1, 2, 3)),
        digests_max=random.choice((2, 8, 64)),
    )
    return Setup(engines, options, flows=random.random() < 0.5)


def _engine(random: Random) -> EngineSetup:
    wire, hash_form, extras = random.choice(WIRES)
    return EngineSetup(
        wire=wire,
        hash_form=hash_form,
        blocks=random.randint(6, 14),
        block_size=random.choice((1, 2, 4)),
        window=random.choice((3, 6)) if wire in GROUPS and random.random() < 0.3 else None,
        tier=random.choice((2, 5)) if wire in TIERS and random.random() < 0.4 else 0,
        extras=extras,
        replay=random.random() < 0.85,
        buffer_steps=random.choice((2, 5, 12, 1_000, 1_000, 1_000)),
    )
