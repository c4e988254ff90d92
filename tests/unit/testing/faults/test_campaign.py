"""Whatever an engine, a network and a daemon's death do: trust does not lie, books balance, all are well again."""

from __future__ import annotations

from multiprocessing import active_children

import pytest

from kvsync.testing.faults.adversary import draw
from kvsync.testing.faults.campaign import campaign, first_failure, play_seed, report
from kvsync.testing.faults.run import run, scratch
from kvsync.testing.faults.sabotage import SABOTAGES
from kvsync.testing.faults.world import World

SEEDS = 2_000
RUN = 125


@pytest.mark.parametrize("first", range(0, SEEDS, RUN))
def test_seeds_find_nothing(first: int) -> None:
    """Every seed's history keeps every invariant at every step, and ends with every engine well again."""
    failure = first_failure(first, first + RUN)
    if failure is not None:
        lines: list[str] = []
        report(failure, say=lines.append)
        pytest.fail("\n".join(lines))


def test_a_seed_is_always_the_same_history() -> None:
    """A seed says all there is to say: what happens is the same in every run."""
    logs: list[list[str]] = [[], []]
    for log in logs:
        play_seed(7, log=log)
    assert logs[0] == logs[1] != []
    assert draw(7) == draw(7) != draw(8)


def test_a_failure_is_told_short_and_with_its_seed() -> None:
    """What fails is shrunk to a history that fails still, and told with the way to have it again."""
    broken = SABOTAGES["RestartsIgnored"]
    failure = first_failure(0, 300, make_world=broken)
    assert failure is not None
    lines: list[str] = []
    report(failure, make_world=broken, say=lines.append)
    assert f"--seed {failure.history.seed}" in lines[1]
    shrunk = int(lines[2].split()[2])
    assert shrunk < min(25, len(failure.history.operations))


def test_what_is_raised_on_the_way_is_a_failure() -> None:
    """Nothing that an engine or a network does may raise, so whatever is raised is told like an untruth."""

    class Raises(World):
        def pump(self, followed: object, count: int) -> str:
            raise KeyError("never")

    with scratch() as folder:
        failure = run(draw(0), folder, make_world=Raises)
    assert failure is not None
    assert "KeyError" in failure.trouble


def test_a_campaign_ends_with_its_first_failure() -> None:
    """Nobody goes on playing what is not wanted any more."""
    tallies = list(campaign(0, 100_000, jobs=1, make_world=SABOTAGES["FramesUncounted"]))
    assert active_children() == []
    assert len(tallies) == 1
    assert tallies[0].failures


def test_a_campaign_that_keeps_going_names_every_failure() -> None:
    """Each seed is played, and each that fails is told."""
    tallies = list(campaign(0, 210, jobs=1, make_world=SABOTAGES["FramesUncounted"], keep_going=True))
    assert tallies[-1].seeds == 210
    failing = [failure.history.seed for tally in tallies for failure in tally.failures]
    assert len(failing) == len(set(failing)) > 100
