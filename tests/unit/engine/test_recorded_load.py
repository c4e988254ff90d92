"""Under the load of a recorded vLLM, our cache announces what that vLLM announced: batch by batch, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from tests.unit.engine.plain_events import Batch, Event, numbered, plain
from tests.unit.engine.recorded_load import HYBRID, Recorded, live

from kvsync.engine.wire import Wire

CAPTURES = Path(__file__).parents[2] / "data" / "captures"

S1 = Recorded(seed=11, blocks=420, requests=260, resets=(0.4, 0.8), salt=0.1)
RECORDINGS = {
    "s1_single_int": S1,
    "s1_single_int_v0.23.0": S1,
    "s1_single_int_v0.12.0": S1,
    "s2_lora_dp_bytes": Recorded(
        seed=22, blocks=220, requests=90, ranks=3, lora=0.5, salt=0.15, session=0.4, image=0.15
    ),
    "s3_hybrid_swa": Recorded(seed=33, blocks=700, requests=170, groups=HYBRID),
    "s4_restart": Recorded(seed=44, blocks=300, requests=150, restarts=(0.35, 0.7)),
    "s5_report_full": Recorded(seed=55, blocks=300, requests=120, full_report=0.5),
}

NEWEST = "vllm-0.33.0"
RELEASES = {"s1_single_int_v0.23.0": "vllm-0.23.0", "s1_single_int_v0.12.0": "vllm-0.12.0"}


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_cache_does_what_the_recorded_one_did(name: str) -> None:
    """Stores, removals, resets and re-announcements come in the same order, with the same tokens, parents and keys."""
    recorded = RECORDINGS[name]
    for rank in range(recorded.ranks):
        theirs = recorded_lives(name, rank)
        ours: list[list[Batch]] = [[] for _ in theirs]
        for life, events in live(recorded, rank, empty_first=Wire.named(RELEASES.get(name, NEWEST)).empty_first):
            if events:
                ours[life].append([plain(event) for event in events])
        for our_life, their_life in zip(ours, theirs, strict=True):
            assert len(their_life) > 20
            assert len(our_life) == len(their_life)
            for our_batch, their_batch in zip(numbered(our_life), numbered(their_life), strict=True):
                assert our_batch == comparable(our_batch, their_batch)


def recorded_lives(name: str, rank: int) -> list[list[Batch]]:
    """Read a rank's recorded batches, life by life; a life begins with number 0."""
    with (CAPTURES / f"{name}.msgpack").open("rb") as file:
        records = list(msgpack.Unpacker(file, strict_map_key=False))[1:]
    lives: list[list[Batch]] = []
    for recorded_rank, channel, frames in records:
        if channel != "pub" or recorded_rank != rank:
            continue
        if frames[1] == bytes(8):
            lives.append([])
        lives[-1].append([by_name(event) for event in msgpack.unpackb(frames[2])[1]])
    return lives


def by_name(event: Any) -> Event:
    """Name the fields of a recorded event, whichever form it has."""
    if isinstance(event, dict):
        return event
    names = POSITIONS[event[0]]
    return dict(zip(names, event, strict=False))


POSITIONS = {
    "AllBlocksCleared": ("type",),
    "BlockRemoved": ("type", "block_hashes", "medium", "group_idx"),
    "BlockStored": (
        *("type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name"),
        *("extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window"),
    ),
}


def comparable(ours: Batch, theirs: Batch) -> Batch:
    """Give their batch with what their release did not write taken from ours, and what ours does not know left out."""
    assert [event["type"] for event in ours] == [event["type"] for event in theirs]
    return [
        {name: their_event.get(name, our_event[name] if missing(name, their_event) else None) for name in our_event}
        for our_event, their_event in zip(ours, theirs, strict=True)
    ]


def missing(name: str, event: Event) -> bool:
    """Whether a release did not write a field at all, so that its absence says nothing."""
    return name not in event and not (name in OPTIONAL and "kv_cache_spec_kind" in event and "extra_keys" in event)


OPTIONAL = ("kv_cache_spec_sliding_window", "session_id")
