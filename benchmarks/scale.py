"""
A thousand engines, over real sockets: what following them costs, how late events are, what is lost.

    python -m benchmarks.scale [--daemon] [--engines 1000] [--rates 50] [--seconds 60] [--json]

With `--daemon` the one who follows is `kvsync serve` as users run it, with a page of metrics scraped every 15 s and the
pods' HTTP pages answered; without it, a subscriber and an index in this process. The engines are in one process beside,
which takes a part of a processor from us on a small machine; our CPU time is our own. Lag is from an engine's word to
send (the batch's time) until its batch is in the index, as the index measures it; both are this machine's clock.
Several rates are run one after the other, to find the largest that is held without loss.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.scale_receivers import Daemon, Library, Receiver, child, line_of

CONNECT_S: Final = 120.0
BEGUN_S: Final = 20.0
"""A daemon that has just begun asks every pod who it is and how it is; what it costs then is not measured."""

SETTLE_S: Final = 120.0
QUIET_S: Final = 1.0
"""After the last batch was sent: what is on its way arrives, and only then is the cost read."""


def run(engines: int, rate: float, seconds: float, *, daemon: bool) -> dict[str, Any]:
    """One load; the figures."""
    with ExitStack() as stack:
        sender = stack.enter_context(child("benchmarks.scale_publish", str(engines), str(rate), str(seconds)))
        endpoints = json.loads(line_of(sender))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kvsync-scale-")))
        following: Receiver = Daemon(endpoints, folder) if daemon else Library(endpoints)
        receiver = stack.enter_context(following)
        if not wait(lambda: receiver.connected() == engines, CONNECT_S):
            raise TimeoutError(f"not connected within {CONNECT_S} s; are there enough descriptors? `ulimit -Hn`")
        time.sleep(BEGUN_S if daemon else 0.0)
        receiver.begin()
        wall = time.perf_counter()
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
        sent = json.loads(line_of(sender))
        took = time.perf_counter() - wall
        time.sleep(QUIET_S)
        cost, wall = receiver.cost(), time.perf_counter() - wall
        expected = sent["batches"] * engines
        wait(lambda: receiver.figures()["applied"] >= expected, SETTLE_S)
        figures = receiver.figures()
    return {
        "who": "daemon" if daemon else "library",
        "engines": engines,
        "batches_per_s_each": rate,
        "seconds": round(took, 1),
        "sent": expected,
        **figures,
        "cpu_cores": round(cost["cpu_s"] / wall, 3),
        "cpu_us_per_batch": round(cost["cpu_s"] / max(1, expected) * 1e6, 2),
        "rss_mib": round(cost["bytes"] / 2**20, 1),
        "rss_kib_per_engine": round(cost["bytes"] / 1024 / engines, 1),
        "sender_cpu_s": sent["cpu_s"],
        "sender_late_s_max": round(sent["late_s_max"], 3),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def wait(true: Callable[[], bool], within_s: float) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def main() -> None:
    """Run the loads that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("--daemon", action="store_true", help="follow with `kvsync serve`, not with the library")
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--rates", default="50", help="batches a second of each engine, joined by commas")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for rate in map(float, asked.rates.split(",")):
        figures = run(asked.engines, rate, asked.seconds, daemon=asked.daemon)
        print(json.dumps(figures) if asked.json else "  ".join(f"{k}={v}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
