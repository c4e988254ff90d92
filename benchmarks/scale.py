"""
A thousand engines on one subscriber and one index, over real sockets: what it costs, how late events are, what is lost.

    python -m benchmarks.scale [--engines 1000] [--rates 50] [--seconds 60] [--json]

The engines are in two processes beside, which take processors from us on a small machine; our CPU time is our own. Lag
is from an engine's word to send (the batch's time) until its batch is in the index, as the index measures it; both are
this machine's clock. Several rates are run one after the other, to find the largest that is held without loss.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from kvsync.index import LAG_BOUNDS_S, Index
from kvsync.stream.endpoints import Source
from kvsync.stream.options import SubscriberOptions
from kvsync.stream.subscriber import Subscriber
from kvsync.types import Engine

ROOT: Final = Path(__file__).parents[1]
PROCESSES: Final = 1
CONNECT_S: Final = 60.0
SETTLE_S: Final = 20.0


def run(engines: int, rate: float, seconds: float) -> dict[str, Any]:
    """One load; the figures."""
    with ExitStack() as stack:
        share = engines // PROCESSES
        senders = [stack.enter_context(_sender(share, rate, seconds)) for _ in range(PROCESSES)]
        endpoints = [endpoint for sender in senders for endpoint in json.loads(_line(sender))]
        index = stack.enter_context(Index(seed=1))
        rss_before = _rss()
        streams = stack.enter_context(Subscriber(index, SubscriberOptions(engines_max=engines)))
        for number, endpoint in enumerate(endpoints):
            streams.add(Source(Engine(f"e{number}"), "m", endpoint))
        _wait(lambda: all(status.connected for status in streams.status().values()), CONNECT_S)
        cpu, wall = time.process_time(), time.perf_counter()
        for sender in senders:
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
        sent = [json.loads(_line(sender)) for sender in senders]
        expected = sum(one["batches"] for one in sent) * share
        wall = time.perf_counter() - wall
        _wait(lambda: sum(s.applied_frames for s in streams.status().values()) >= expected, SETTLE_S, must=False)
        cpu = time.process_time() - cpu
        figures = _figures(index, streams, expected)
        rss = _rss() - rss_before
    return {
        "engines": engines,
        "batches_per_s_each": rate,
        "seconds": round(wall, 1),
        **figures,
        "cpu_cores": round(cpu / wall, 3),
        "cpu_us_per_batch": round(cpu / max(1, figures["applied"]) * 1e6, 2),
        "rss_mib": round(rss / 2**20, 1),
        "rss_kib_per_engine": round(rss / 1024 / engines, 1),
        "senders_late_s_max": round(max(one["late_s_max"] for one in sent), 3),
    }


def _figures(index: Index, streams: Subscriber, expected: int) -> dict[str, Any]:
    statuses = list(streams.status().values())
    counts = [sum(column) for column in zip(*(index.record(e).lag.counts for e in index.engines()), strict=True)]
    return {
        "sent": expected,
        "received": sum(status.received for status in statuses),
        "applied": sum(status.applied_frames for status in statuses),
        "gaps": sum(status.gaps for status in statuses),
        "lag_p50_s_max": _quantile(counts, 0.5),
        "lag_p99_s_max": _quantile(counts, 0.99),
    }


def _quantile(counts: list[int], share: float) -> float:
    """The upper bound of the bucket that the quantile is in."""
    wanted, seen = share * sum(counts), 0
    for bound, count in zip((*LAG_BOUNDS_S, float("inf")), counts, strict=True):
        seen += count
        if seen >= wanted:
            return float(bound)
    return float("inf")


def _sender(engines: int, rate: float, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.scale_publish", str(engines), str(rate), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(sender: subprocess.Popen[str]) -> str:
    assert sender.stdout is not None
    return sender.stdout.readline()


def _wait(true: Any, within_s: float, *, must: bool = True) -> None:
    end = time.monotonic() + within_s
    while not true():
        if time.monotonic() > end:
            if must:
                raise TimeoutError(f"not within {within_s} s; are there enough descriptors? `ulimit -n`")
            return
        time.sleep(0.2)


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Run the loads that are asked for, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("--engines", type=int, default=1000)
    parser.add_argument("--rates", default="50", help="batches a second of each engine, joined by commas")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for rate in map(float, asked.rates.split(",")):
        figures = run(asked.engines, rate, asked.seconds)
        print(json.dumps(figures) if asked.json else "  ".join(f"{k}={v}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
