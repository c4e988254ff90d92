"""What has to be well again after faults have ceased."""

from __future__ import annotations

from kvsync.stream.options import SequenceOptions
from kvsync.testing.faults.history import EngineSetup, History, Kind, Operation, Setup
from kvsync.testing.faults.run import scratch
from kvsync.testing.faults.settle import settle
from kvsync.testing.faults.world import World


def test_an_engine_is_not_well_before_its_present_life_is_followed() -> None:
    """A new life that stands where the old one did has the same number, and an old record that is exact still."""
    setup = Setup((EngineSetup("vllm-0.33.0"),), SequenceOptions(replay_timeout_s=1.0), flows=False)
    work = (Kind.CONNECT, Kind.PUBLISH, Kind.PUMP, Kind.SERVE, Kind.ANSWER)
    again = (Kind.RESTART, Kind.PUBLISH, Kind.CONNECT, Kind.PUMP, Kind.MISLAY)
    operations = tuple(Operation(kind, 0, dice) for dice, kind in enumerate(work + again))
    with scratch() as folder, World(History(0, setup, operations), folder) as world:
        for operation in operations:
            world.play(operation)
        followed = world.followed[0]
        assert (followed.sequence.applied, followed.truth.life.last, followed.recorded) == (0, 0, 0)
        settle(world)
        assert (followed.sequence.applied, followed.recorded, followed.truth.number) == (0, 1, 1)
