"""What an engine's signals prove against its record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvsync.serve.engine_metrics import Reading, Sleep
from kvsync.serve.reconcile import Cause, Doubt, Known, Look, is_serving, judge
from kvsync.types import GPU

KNOWN = Known(entries=1_000, certain=1_000, block_size=16, sequence=7, lives=1)
QUIET = Look(Reading(Sleep.AWAKE, usage=0.0, blocks_total=1_001, lookups=50.0), KNOWN)


def look(reading: Reading, **known: int) -> Look:
    """A look at what we know, or something else."""
    return Look(reading, replace(KNOWN, **known))


def test_an_idle_engine_with_a_full_cache_is_believed() -> None:
    """It uses no block at all: cached blocks that are free are not in use."""
    assert judge(None, QUIET) is None
    assert judge(QUIET, QUIET) is None
    assert judge(None, Look(Reading(), KNOWN)) is None


def test_one_that_sleeps_holds_nothing() -> None:
    """Every medium is doubted, once: where nothing certain is left there is nothing to say."""
    asleep = Reading(Sleep.ASLEEP)
    assert judge(None, Look(asleep, KNOWN)) == Doubt(Cause.ASLEEP, None)
    assert judge(None, look(asleep, certain=0)) is None


def test_one_that_is_paused_keeps_its_cache() -> None:
    """It gets no requests, and is believed."""
    paused = Reading(Sleep.PAUSED)
    assert judge(QUIET, Look(paused, KNOWN)) is None
    assert not is_serving([QUIET.reading, paused])
    assert not is_serving([Reading(Sleep.ASLEEP)])
    assert is_serving([QUIET.reading, Reading()])


def test_a_counter_that_goes_back_is_a_new_process() -> None:
    """Unless the stream has seen the restart, or one of the looks had no counter."""
    again = replace(QUIET.reading, lookups=49.0)
    assert judge(QUIET, Look(again, KNOWN)) == Doubt(Cause.ANEW, None)
    assert judge(QUIET, look(again, lives=2)) is None
    assert judge(None, Look(again, KNOWN)) is None
    assert judge(QUIET, Look(replace(again, lookups=None), KNOWN)) is None
    assert judge(QUIET, Look(replace(again, lookups=51.0), KNOWN)) is None


def test_more_blocks_than_there_are_cannot_be_held() -> None:
    """Twice as many as the pool has are allowed for: a block may have a second hash."""
    assert judge(None, look(QUIET.reading, entries=2_002)) is None
    assert judge(None, look(QUIET.reading, entries=2_003)) == Doubt(Cause.TOO_MANY, GPU)


@pytest.mark.parametrize(
    ("before", "now", "sequence", "verdict"),
    [
        (0, 0, 7, Doubt(Cause.TOO_FEW, GPU)),
        (3_000, 3_000, 7, Doubt(Cause.TOO_FEW, GPU)),
        (16_000, 0, 7, None),  # seen once only: a gauge may be a step behind
        (0, 0, 8, None),  # something happened between
        (4_000, 4_000, 7, None),
        (16_000, 16_000, 7, None),
    ],
)
def test_an_engine_that_counts_what_it_holds(before: int, now: int, sequence: int, verdict: Doubt | None) -> None:
    """SGLang's used and evictable tokens against 16,000 of the record: far fewer, twice, and no event between."""
    first = Look(Reading(cached_tokens=before), KNOWN)
    assert judge(first, look(Reading(cached_tokens=now), sequence=sequence)) == verdict
