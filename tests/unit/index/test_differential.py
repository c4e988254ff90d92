"""
The C index against the plain model, over made-up histories, after every operation.

KVSYNC_DIFFERENTIAL_SEEDS=500 plays 500 histories instead of a few, KVSYNC_DIFFERENTIAL_FIRST says from which seed on.
A failure names the seed and the step.
"""

from __future__ import annotations

import os
from itertools import groupby

import pytest

from kvsync.index import Index
from kvsync.testing.compare import compare_history, compare_lower, compare_records, play
from kvsync.testing.history import CALM, Apply, History
from kvsync.testing.model import ModelIndex
from kvsync.types import Trust

FIRST = int(os.environ.get("KVSYNC_DIFFERENTIAL_FIRST", "0"))
SEEDS = int(os.environ.get("KVSYNC_DIFFERENTIAL_SEEDS", "12"))
STEPS = 100
LONG_SEEDS = (1001, 1002)
LONG_STEPS = 700
CEILINGS = (75_000, 110_000)  # bytes; without one these histories take up to 160,000


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_both_say_the_same_after_every_operation(seed: int) -> None:
    """Whatever engines send, the C index and the model agree on what it did, what is held, trusted and matched."""
    with Index(seed=seed) as index, ModelIndex() as model:
        compare_history(index, model, History(seed, steps=STEPS))


@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_both_say_the_same_in_the_long_run(seed: int) -> None:
    """They still agree after many frames, lives and limits reached."""
    with Index(seed=seed) as index, ModelIndex() as model:
        compare_history(index, model, History(seed, steps=LONG_STEPS, engines_max=2), questions=1, every=50)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 4))
def test_many_frames_at_once_are_as_one_by_one(seed: int) -> None:
    """Frames handed over together leave what they leave one after the other, whatever lies between two such turns."""
    with Index(seed=seed) as index, ModelIndex() as model:
        for frames, operations in groupby(
            History(seed, steps=STEPS), key=lambda operation: isinstance(operation, Apply)
        ):
            turn = list(operations)
            expected = [play(model, operation) for operation in turn]
            if frames:
                items = [(one.engine, one.payload, one.model, one.sequence) for one in turn if isinstance(one, Apply)]
                assert index.apply_many(items) == expected
            else:
                assert [play(index, operation) for operation in turn] == expected
        compare_records(index, model, f"seed {seed}")


@pytest.mark.parametrize("ceiling", CEILINGS)
def test_under_a_ceiling_the_index_is_a_lower_bound(ceiling: int) -> None:
    """What an index gave up to keep within its memory is missing, counted and said; nothing else is wrong."""
    evicted = 0
    for seed in range(FIRST, FIRST + 4):
        with Index(seed=seed, max_bytes=ceiling) as index, ModelIndex() as model:
            for _ in compare_lower(index, model, History(seed, steps=STEPS, tempers=(CALM,))):
                assert index.stats()["bytes"] <= ceiling
                for engine in index.engines():
                    if index.trust(engine) is Trust.EXACT:
                        assert index.engine_hashes(engine) == model.engine_hashes(engine)
            evicted += index.stats()["evicted"]
    assert evicted > 0
