"""Whatever an engine and a network do, the order holds, and what claims to be exact is."""

from __future__ import annotations

import pytest
from tests.unit.stream.adversary import Faults, World

from kvsync.stream.options import SequenceOptions
from kvsync.stream.sequence import Replay

STEPS = 600
SEEDS = range(40)

# Never gives up, so nothing may be missing in the end.
PATIENT = SequenceOptions(replay_timeout_s=2.0, replay_attempts=10_000, probe_idle_s=10.0, waiting_frames_max=12)
HASTY = SequenceOptions(replay_timeout_s=2.0, replay_attempts=2, probe_idle_s=10.0, waiting_frames_max=6, digests_max=8)


def run(world: World) -> World:
    """
    Let a world go its way, and then to rest.
    """
    for _ in range(STEPS):
        world.step()
    world.settle()
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_a_patient_stream_becomes_complete(seed: int) -> None:
    """While the engine keeps everything and answers sooner or later, every batch of its life is applied once."""
    world = run(World(seed, PATIENT, faults=Faults()))
    assert [payload for _, payload in world.applied] == world.life
    assert world.sequence.waiting == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_buffer_and_little_patience_keep_the_order(seed: int) -> None:
    """With holes that nothing fills the stream ends at the engine's last batch and claims no more than it has."""
    world = run(World(seed, HASTY, faults=Faults(request_lost=0.4), buffer_steps=5))
    assert (len(world.life) - 1 == world.sequence.applied) if world.life else world.sequence.applied is None
    if len(world.applied) != len(world.life):
        assert not world.claims_to_be_exact()


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_replay_port_the_order_holds(seed: int) -> None:
    """Without a replay port nothing waits, and a record with a hole does not claim to be exact."""
    world = run(World(seed, HASTY, faults=Faults(), replay=Replay.NONE))
    assert world.sequence.waiting == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_without_faults_nothing_is_dropped(seed: int) -> None:
    """On a network without faults every batch is applied, and duplicates come from replays only."""
    world = run(World(seed, PATIENT, faults=Faults(0, 0, 0, 0, 0)))
    assert [payload for _, payload in world.applied] == world.life
    assert set(world.sequence.counters.dropped) <= {"end_marker", "overflow", "reconnect"}
    assert world.sequence.counters.restarts == 0
