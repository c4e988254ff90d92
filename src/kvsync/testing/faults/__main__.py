"""
Plays many seeds, or one: `python -m kvsync.testing.faults --seeds 200000`, `--seed 17`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kvsync.testing.faults.campaign import Tally, campaign, play_seed, report
from kvsync.testing.faults.run import Failure
from kvsync.testing.faults.sabotage import SABOTAGES
from kvsync.testing.faults.world import World

SAY_EVERY_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Play what is asked for; 1 if something untrue was found.
    """
    asked = _parser().parse_args(arguments)
    make_world = SABOTAGES[asked.sabotage] if asked.sabotage else World
    if asked.seed is not None:
        log: list[str] = []
        failure = play_seed(asked.seed, make_world=make_world, log=log)
        _say("\n".join(log) if asked.log else f"seed {asked.seed}: {len(log)} things happened")
    else:
        failure = _play_many(asked, make_world)
    if failure is not None:
        report(failure, make_world=make_world, say=_say)
    return 0 if failure is None else 1


def _play_many(asked: argparse.Namespace, make_world: type[World]) -> Failure | None:
    said_s, last = 0.0, Tally(0, 0.0, None)
    _say(f"seeds {asked.first} to {asked.first + asked.seeds - 1} on {asked.jobs} cores")
    for last in campaign(asked.first, asked.seeds, jobs=asked.jobs, make_world=make_world):
        if last.seconds >= said_s + SAY_EVERY_S:
            said_s = last.seconds
            _say(f"{last.seeds} of {asked.seeds} seeds, {last.seeds / last.seconds:.0f} a second")
    if last.failure is not None:
        return last.failure
    _say(f"{last.seeds} seeds in {last.seconds:.0f} s: all was true at every step, and all were well again in time")
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s simulate-faults --", description="Faults, by seed.")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cores (default: all)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--log", action="store_true", help="with --seed: tell everything that happens")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), help="break something on purpose; it must be found")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
