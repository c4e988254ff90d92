"""
Who receives in `benchmarks.scale`: the library in this process, or the whole daemon in a process of its own.

Both are told of engines, begin, and say afterwards what came, how late, and what it cost.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final, Protocol, Self

from benchmarks.scale_pods import MODEL
from kvsync.index import LAG_BOUNDS_S, Index
from kvsync.stream.endpoints import Source
from kvsync.stream.options import SubscriberOptions
from kvsync.stream.subscriber import Subscriber
from kvsync.types import Engine

ROOT: Final = Path(__file__).parents[1]
SCRAPE_S: Final = 15.0
"""How often the daemon's metrics are asked for while it is measured, as a Prometheus would."""

ASK_S: Final = 120.0
LINE: Final = re.compile(rb"^kvsync_(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


class Receiver(Protocol):
    """What is measured."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def connected(self) -> int:
        """How many engines are connected."""
        ...

    def begin(self) -> None:
        """What costs from here on is measured."""
        ...

    def cost(self) -> dict[str, float]:
        """Processor seconds since `begin`, and memory now, in bytes."""
        ...

    def figures(self) -> dict[str, Any]:
        """What came of it."""
        ...


class Library:
    """A subscriber and an index in this process."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._endpoints = endpoints
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._index = self._stack.enter_context(Index(seed=1))
        self._rss = memory(os.getpid())
        options = SubscriberOptions(engines_max=len(self._endpoints))
        self._streams = self._stack.enter_context(Subscriber(self._index, options))
        for number, endpoint in enumerate(self._endpoints):
            self._streams.add(Source(Engine(f"e{number}"), MODEL, endpoint))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def connected(self) -> int:
        """How many engines are connected."""
        return sum(status.connected for status in self._streams.status().values())

    def begin(self) -> None:
        """What costs from here on is measured."""
        self._cpu = processor(os.getpid())

    def cost(self) -> dict[str, float]:
        """Processor seconds since `begin`, and bytes of memory."""
        return {"cpu_s": processor(os.getpid()) - self._cpu, "bytes": memory(os.getpid()) - self._rss}

    def figures(self) -> dict[str, Any]:
        """What came of it."""
        statuses = list(self._streams.status().values())
        lags = [self._index.record(engine).lag.counts for engine in self._index.engines()]
        return {
            "received": sum(status.received for status in statuses),
            "applied": sum(status.applied_frames for status in statuses),
            "gaps": sum(status.gaps for status in statuses),
            **lag([sum(column) for column in zip(*lags, strict=True)]),
        }


class Daemon:
    """`kvsync serve` as users run it: pods from a file, their HTTP pages looked at, its own metrics scraped."""

    def __init__(self, endpoints: Sequence[str], folder: Path) -> None:
        self._endpoints = endpoints
        self._folder = folder
        self._stack = ExitStack()
        self._scrapes: list[float] = []
        self._over = Event()

    def __enter__(self) -> Self:
        pods = self._stack.enter_context(child("benchmarks.scale_pods", str(len(self._endpoints))))
        addresses = json.loads(line_of(pods))
        file = self._folder / "pods.yaml"
        entries = [
            {"name": f"e{number}", "http": http, "events": events, "model": MODEL}
            for number, (http, events) in enumerate(zip(addresses, self._endpoints, strict=True))
        ]
        file.write_text(json.dumps({"pods": entries}))  # JSON is YAML
        flags = ["serve", "--pods-file", str(file), "--listen", "127.0.0.1:0", "--log-level", "error"]
        self._process = self._stack.enter_context(child("kvsync", *flags))
        self._url = json.loads(line_of(self._process))["http"]
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._stack.close()

    def connected(self) -> int:
        """How many engines are connected."""
        stats = json.loads(self._ask("/v1/stats"))
        return int(stats["engines"]["connected"])

    def begin(self) -> None:
        """What costs from here on is measured."""
        self._cpu = processor(self._process.pid)
        Thread(target=self._scrape, daemon=True).start()

    def cost(self) -> dict[str, float]:
        """Processor seconds since `begin`, and bytes of memory."""
        self._over.set()
        return {"cpu_s": processor(self._process.pid) - self._cpu, "bytes": memory(self._process.pid)}

    def figures(self) -> dict[str, Any]:
        """What came of it."""
        samples = [
            (name.decode(), dict(label.split("=") for label in labels.decode().replace('"', "").split(",") if label), n)
            for name, labels, n in LINE.findall(self._ask("/metrics"))
        ]

        def total(name: str, **labels: str) -> int:
            return sum(int(float(n)) for had, has, n in samples if had == name and labels.items() <= has.items())

        bounds = [*map(str, LAG_BOUNDS_S), "+Inf"]
        below = [total("event_lag_seconds_bucket", le=bound) for bound in bounds]
        return {
            "received": total("frames_received_total"),
            "applied": total("frames_total", outcome="applied"),
            "gaps": total("stream_total", kind="gaps"),
            **lag([count - before for before, count in zip([0, *below], below, strict=False)]),
            "scrapes": len(self._scrapes),
            "scrape_s_max": round(max(self._scrapes, default=0.0), 3),
        }

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_S):
            began = time.perf_counter()
            self._ask("/metrics")
            self._scrapes.append(time.perf_counter() - began)

    def _ask(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self._url}{path}", timeout=ASK_S) as answer:
            return bytes(answer.read())


def lag(counts: Sequence[int]) -> dict[str, float]:
    """The upper bounds of the buckets that the quantiles are in."""
    return {"lag_p50_s_max": _quantile(counts, 0.5), "lag_p99_s_max": _quantile(counts, 0.99)}


def _quantile(counts: Sequence[int], share: float) -> float:
    wanted, seen = share * sum(counts), 0
    for bound, count in zip((*LAG_BOUNDS_S, float("inf")), counts, strict=True):
        seen += count
        if seen >= wanted:
            return float(bound)
    return float("inf")


@contextmanager
def child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the context."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that it prints; raises if there is none."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ChildProcessError(f"{process.args!r} ended without a word")
    return line


def processor(pid: int) -> float:
    """Seconds of processor time that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes of a process's resident set."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
