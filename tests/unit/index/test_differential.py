"""
The C index against the plain model, over made-up histories, after every operation.

KVSYNC_DIFFERENTIAL_SEEDS=500 plays 500 histories instead of a few, KVSYNC_DIFFERENTIAL_FIRST says from which seed on.
A failure names the seed and the step.
"""

from __future__ import annotations

import os

import pytest

from kvsync.index import Index
from kvsync.testing.compare import compare_history
from kvsync.testing.history import History
from kvsync.testing.model import ModelIndex

FIRST = int(os.environ.get("KVSYNC_DIFFERENTIAL_FIRST", "0"))
SEEDS = int(os.environ.get("KVSYNC_DIFFERENTIAL_SEEDS", "20"))
STEPS = 100
LONG_SEEDS = (1001, 1002)
LONG_STEPS = 700


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
