"""Recorded streams of real engines, applied frame by frame, give exactly the caches those engines held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsync.index import Index
from kvsync.testing.model import ModelIndex
from kvsync.testing.truth import Moment, digest, follow, hash_text, load_truth
from kvsync.types import GPU, Engine, Trust

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
NAMES = [
    "s1_single_int",
    "s1_single_int_v0.12.0",
    "s1_single_int_v0.23.0",
    "s2_lora_dp_bytes",
    "s3_hybrid_swa",
    "s4_restart",
    "s5_report_full",
]

INDEXES = [ModelIndex, Index]


@pytest.mark.parametrize("make", INDEXES)
@pytest.mark.parametrize("name", NAMES)
def test_every_checkpoint_is_exact(name: str, make: Any) -> None:
    """At every checkpoint the index equals the engine's own table, hash by hash, copies included."""
    capture = CAPTURES / f"{name}.msgpack"
    truth = load_truth(capture)
    met: list[Moment] = []
    with make() as index:
        for moment in follow(index, capture):
            if moment in truth:
                met.append(moment)
                table = index.engine_hashes(Engine("pod", moment.rank)).get(GPU, {})
                assert digest(table) == truth[moment].sha256, moment
                if truth[moment].blocks is not None:
                    assert {
                        str(group): {hash_text(key): copies for key, copies in hashes.items()}
                        for group, hashes in table.items()
                    } == truth[moment].blocks
    assert sorted(met) == sorted(truth)


@pytest.mark.parametrize("make", INDEXES)
@pytest.mark.parametrize("name", NAMES)
def test_complete_streams_stay_exact(name: str, make: Any) -> None:
    """A stream heard whole leaves exact trust, no orphan, and nothing skipped or unknown."""
    with make() as index:
        ranks = {moment.rank for moment in follow(index, CAPTURES / f"{name}.msgpack")}
        for rank in ranks:
            record = index.record(Engine("pod", rank))
            assert record.trust is Trust.EXACT
            assert record.orphans == 0
            assert {
                name: count
                for name, count in record.counters.items()
                if count and (name.startswith(("skipped", "unknown")) or name.endswith(("unknown", "missing")))
            } == {}
