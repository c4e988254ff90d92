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
        failures = [] if failure is None else [failure]
    else:
        failures = _play_many(asked, make_world)
    if failures:
        report(failures[0], make_world=make_world, say=_say)
    return 1 if failures else 0


def _play_many(asked: argparse.Namespace, make_world: type[World]) -> list[Failure]:
    said_s, last, failures = 0.0, Tally(0, 0.0), list[Failure]()
    _say(f"seeds {asked.first} to {asked.first + asked.seeds - 1} on {asked.jobs} cores")
    for last in campaign(asked.first, asked.seeds, jobs=asked.jobs, make_world=make_world, keep_going=asked.keep_going):
        failures += last.failures
        for failure in last.failures:
            _say(f"seed {failure.history.seed} fails: {failure.trouble}")
        if last.seconds >= said_s + SAY_EVERY_S:
            said_s = last.seconds
            _say(f"{last.seeds} of {asked.seeds} seeds, {last.seeds / last.seconds:.0f} a second")
    if failures:
        _say(f"{len(failures)} of {last.seeds} seeds fail")
    else:
        _say(f"{last.seeds} seeds in {last.seconds:.0f} s: all was true at every step, and all were well again in time")
    return sorted(failures, key=lambda failure: failure.history.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s simulate-faults --", description="Faults, by seed.")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cores (default: all)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--log", action="store_true", help="with --seed: tell everything that happens")
    parser.add_argument("--keep-going", action="store_true", help="name every seed that fails, not only the first")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), help="break something on purpose; it must be found")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
