"""
Random histories played to the C index and to the plain model, as many as one likes; `nox -s differential` runs it.

Every operation's answer is compared and a question asked after it, records after every tenth and at the end of each
history. The first difference is told with the seed that plays it again.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from kvsync.index import Index
from kvsync.testing.compare import Differs, compare_history
from kvsync.testing.history import History
from kvsync.testing.model import ModelIndex

STEPS = 400
"""Of one history: a step is a frame, or now and then a call or a fault."""


def play(seed: int) -> int:
    """Play one history to both; how many operations it had. Raises Differs."""
    history = History(seed, steps=STEPS, engines_max=2 + seed % 5)
    with Index(seed=seed) as index, ModelIndex() as model:
        compare_history(index, model, history, questions=1, every=10)
    return sum(1 for _ in history)


def main() -> int:
    """Play until enough operations agreed: 0, or 1 with the difference told."""
    parser = argparse.ArgumentParser(prog="nox -s differential --", description=__doc__)
    parser.add_argument("--operations", type=int, default=50_000, help="how many at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first history (default: random)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    asked = parser.parse_args()
    first = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {first}", flush=True)
    done, seed, began, told = 0, first, time.monotonic(), 0.0
    with ProcessPoolExecutor(asked.jobs) as pool:
        while done < asked.operations:
            turn = max(1, min(64, (asked.operations - done) // STEPS))
            try:
                done += sum(pool.map(play, range(seed, seed + turn)))
            except Differs as difference:
                print(f"\n{difference}\nagain: nox -s differential -- --operations 1 --seed N, with the seed it names")
                return 1
            seed += turn
            if time.monotonic() - told > 5 or done >= asked.operations:
                told = time.monotonic()
                print(f"{done:,} of {asked.operations:,} operations agree after {told - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
