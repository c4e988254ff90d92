"""What a rank says of its cache is what it holds, at every batch, whatever happens."""

from __future__ import annotations

from random import Random

import pytest
from tests.unit.engine.load import RandomLife

from kvsync.engine.hashing import HashForm
from kvsync.engine.pool import BlockPool
from kvsync.engine.wire import Wire
from kvsync.testing.model import ModelIndex
from kvsync.types import GPU, Engine, EngineHash, Trust

MODEL = "simulated"
STEPS = 300
# Releases that tell groups apart, and those that do not.
GROUPED = ("vllm-0.20.0", "vllm-0.23.0", "vllm-0.24.0", "vllm-0.26.0", "vllm-0.33.0")
UNGROUPED = ("vllm-0.9.0", "vllm-0.9.2", "vllm-0.12.0", "vllm-0.14.1", "vllm-0.17.0", "sglang-0.5.10", "sglang-0.5.22")


def held_as_told(pool: BlockPool, form: HashForm) -> dict[str, dict[int, dict[EngineHash, int]]]:
    """Give what the pool holds in the words of the index: unsigned integers, or bytes."""

    def told(digest: bytes) -> EngineHash:
        written = form.write(digest)
        return written if isinstance(written, bytes) else written & (2**64 - 1)

    groups = {
        group: {told(digest): copies for digest, copies in held.items()} for group, held in pool.held().items() if held
    }
    return {GPU: groups} if groups else {}


def follow(life: RandomLife, wire: Wire, index: ModelIndex, engine: Engine) -> tuple[int, int]:
    """Feed the index every batch of a life, comparing after each; give the number of batches and of copies seen."""
    sequence = copies = 0
    for events in life.steps(STEPS):
        if not events:
            continue
        applied = index.apply(engine, wire.encode(float(sequence), events, engine.rank), model=MODEL, sequence=sequence)
        assert applied.skipped == 0
        told = {
            medium: {group: dict(held) for group, held in groups.items() if held}
            for medium, groups in index.engine_hashes(engine).items()
        }
        truth = held_as_told(life.scheduler.cache.pool, wire.hash_form)
        assert {medium: groups for medium, groups in told.items() if groups} == truth
        assert index.trust(engine) is Trust.EXACT
        copies += sum(count > 1 for held in truth.get(GPU, {}).values() for count in held.values())
        sequence += 1
    return sequence, copies


@pytest.mark.parametrize("seed", range(15))
def test_the_stream_equals_the_cache_at_every_batch(seed: int) -> None:
    """The plain index, fed the stream, equals the pool after every batch, copy by copy, and stays exact."""
    wire = Wire.named(GROUPED[seed % len(GROUPED)], (None, HashForm.BYTES32, HashForm.BYTES16)[seed % 3])
    batches, _ = follow(RandomLife(seed), wire, ModelIndex(), Engine("pod"))
    assert batches > STEPS // 10


@pytest.mark.parametrize("seed", range(7))
def test_older_releases_tell_a_single_group_exactly(seed: int) -> None:
    """Releases without a group index are exact where there is one group, signed hashes included."""
    wire = Wire.named(UNGROUPED[seed % len(UNGROUPED)])
    batches, _ = follow(RandomLife(100 + seed, windows=()), wire, ModelIndex(), Engine("pod"))
    assert batches > STEPS // 10


def test_ranks_share_an_index_and_nothing_else() -> None:
    """Three ranks of one pod are followed side by side; each equals its own pool."""
    index, wire = ModelIndex(), Wire.named("vllm-0.33.0")
    for rank in range(3):
        follow(RandomLife(200 + rank, resets=False), wire, index, Engine("pod", rank))
    assert [engine.rank for engine in index.engines()] == [0, 1, 2]


def test_random_lives_reach_what_matters() -> None:
    """The lives above hold duplicate copies, re-announcements, evictions and preemptions; else they prove little."""
    copies = reannounced = removed = preemptions = 0
    for seed in range(6):
        index, life = ModelIndex(), RandomLife(300 + seed, windows=(), block_size=4)
        copies += follow(life, Wire.named("vllm-0.33.0"), index, Engine("pod"))[1]
        counters = index.record(Engine("pod")).counters
        reannounced += counters["reannounced"]
        removed += counters["removed"]
        preemptions += life.scheduler.stats.preemptions
    assert min(copies, reannounced, removed, preemptions) > 20


def test_equal_seeds_and_requests_give_equal_batches() -> None:
    """Two engines with one seed and the same requests publish the same bytes, time stamps given."""
    wire = Wire.named("vllm-0.33.0")
    lives = [[wire.encode(1.0, events, 0) for events in RandomLife(7).steps(STEPS)] for _ in range(2)]
    assert lives[0] == lives[1]


def test_another_seed_gives_other_hashes_for_the_same_tokens() -> None:
    """Without a common seed two engines name equal blocks differently, as real engines do."""
    names = []
    for engine_seed in (1, 2):
        life = RandomLife(8, seed=engine_seed)
        for _ in life.steps(20):
            pass
        names.append(set(life.scheduler.cache.pool.held()[0]))
    assert names[0].isdisjoint(names[1])


def test_the_seed_chooses_the_engine() -> None:
    """Different seeds lead different lives, so that many seeds are many cases."""
    assert Random(1).random() != Random(2).random()
    assert RandomLife(1).options != RandomLife(2).options
