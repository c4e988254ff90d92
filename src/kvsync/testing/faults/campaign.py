"""
Many seeds on many cores: the first that fails is made short, and told.

A worker takes a run of seeds at a time. Up to the first failure, or through all of them: then every failing seed is
named, which shows at once whether one cause or several are behind them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial

from kvsync.testing.faults.adversary import draw
from kvsync.testing.faults.run import Failure, MakeWorld, run, scratch
from kvsync.testing.faults.shrink import shrink
from kvsync.testing.faults.world import World

RUN_SEEDS = 200


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a campaign has come."""

    seeds: int
    seconds: float
    failures: tuple[Failure, ...] = ()


def play_seed(seed: int, *, make_world: MakeWorld = World, log: list[str] | None = None) -> Failure | None:
    """
    Play the history of one seed.
    """
    with scratch() as folder:
        return run(draw(seed), folder, make_world=make_world, log=log)


def first_failure(first: int, end: int, *, make_world: MakeWorld = World) -> Failure | None:
    """
    Play the seeds from `first` up to `end`, until one fails.
    """
    return next(iter(failures(first, end, make_world=make_world)), None)


def failures(first: int, end: int, *, make_world: MakeWorld = World, keep_going: bool = False) -> tuple[Failure, ...]:
    """
    Play the seeds from `first` up to `end`, until one fails or to the last.
    """
    found: list[Failure] = []
    with scratch() as folder:
        for seed in range(first, end):
            failure = run(draw(seed), folder, make_world=make_world)
            if failure is not None:
                found.append(failure)
                if not keep_going:
                    break
    return tuple(found)


def campaign(
    first: int, count: int, *, jobs: int, make_world: MakeWorld = World, keep_going: bool = False
) -> Iterator[Tally]:
    """
    Play so many seeds on so many cores; says how far it is after each run of seeds, with the failures of that run.

    Ends with the first run that has one, unless it is to keep going.
    """
    started, done, end = time.monotonic(), 0, first + count
    play = partial(failures, make_world=make_world, keep_going=keep_going)
    pool = ProcessPoolExecutor(jobs)
    try:
        runs = {pool.submit(play, at, min(at + RUN_SEEDS, end)): at for at in range(first, end, RUN_SEEDS)}
        for future in as_completed(runs):
            found = future.result()
            done += min(RUN_SEEDS, end - runs[future])
            yield Tally(done, time.monotonic() - started, found)
            if found and not keep_going:
                return
    finally:
        # Once, and not by `with`: a second shutdown, told nothing of futures, would let those that wait run after all.
        pool.shutdown(cancel_futures=True)


def report(failure: Failure, *, make_world: MakeWorld = World, say: Callable[[str], object]) -> None:
    """
    Tell a failure: what, where, how to have it again, and the shortest history found that fails.
    """
    seed = failure.history.seed
    at = "after faults had ceased" if failure.step is None else f"at step {failure.step + 1}"
    say(f"seed {seed} fails {at} of {len(failure.history.operations)}: {failure.trouble}")
    say(f"to have it again: nox -s simulate-faults -- --seed {seed}")
    with scratch() as folder:
        shorter = shrink(failure.history, lambda each: run(each, folder, make_world=make_world) is not None)
        log: list[str] = []
        again = run(shorter, folder, make_world=make_world, log=log)
    say(f"shrunk to {len(shorter.operations)} operations of {shorter.setup}:")
    for line in log:
        say(f"  {line}")
    say(f"  {again.trouble if again else 'and does not fail alone'}")
