"""
Real vLLM, live: its cache manager's events through its own publisher, into a daemon, which then holds what vLLM holds.

Beside it the simulated engine is told the same requests and the same schedule, and announces the same.
`nox -s conformance-vllm` builds the environments and names them in KVSYNC_VLLM: `0.33.0=/path/to/python`, with white
space between.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.engines import Both, Shape, VllmProcess
from tests.conformance.schedule import Mix, Scheduler, live

ENVIRONMENTS = dict(pair.split("=", 1) for pair in os.environ.get("KVSYNC_VLLM", "").split())
SEEDS = [int(seed) for seed in os.environ.get("KVSYNC_VLLM_SEEDS", "1 2 3").split()]
CAUGHT_UP_S = 20.0
CHECK_EVERY = 15
"""Steps between two comparisons of the daemon's dump with vLLM's table."""

pytestmark = [
    pytest.mark.skipif(
        not ENVIRONMENTS, reason="KVSYNC_VLLM names no environment with vLLM; see nox -s conformance-vllm"
    ),
    pytest.mark.timeout(600),
]


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the engines are built, what they are asked, and how often they are restarted."""

    shape: Shape
    mix: Mix
    restarts: int = 0


SCENARIOS = {
    "full-attention": Scenario(Shape(180), Mix(resets=2, salt=0.1)),
    "bytes": Scenario(Shape(400, block_size=4, algorithm="sha256_cbor", integers=False, topic=""), Mix(requests=40)),
    "hybrid": Scenario(Shape(450, windows=(96, 160)), Mix(requests=80)),
    "lora-ranks": Scenario(
        Shape(200, ranks=2, algorithm="sha256_cbor", integers=False, topic="kv@pod@m"),
        Mix(requests=50, lora=0.5, salt=0.2, images=0.3, sessions=0.3),
    ),
    "restarts": Scenario(Shape(180), Mix(requests=40), restarts=2),
    "report-full": Scenario(Shape(200), Mix(requests=60, report_full=0.5)),
}


@dataclass(slots=True)
class Daemon:
    """`kvsync serve` in a process of its own, which the engines connect to."""

    url: str

    def get(self, path: str) -> Any:
        """GET JSON."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:
            return json.load(response)

    def blocks(self, rank: int, sequence: int) -> Any:
        """The dump of one rank's record as of a number, which it is waited for."""
        end = time.monotonic() + CAUGHT_UP_S
        while True:
            dump = self.get(f"/v1/blocks?pod=real&rank={rank}")
            if dump["sequence"] == sequence or time.monotonic() > end:
                return dump
            time.sleep(0.01)


@contextmanager
def serving(shape: Shape, events: str, replay: str) -> Iterator[Daemon]:
    """A daemon that waits for the engines to connect."""
    pod = f"name=real,http=http://127.0.0.1:9,model=m,events={events},replay={replay},bind=1,ranks={shape.ranks}"
    topic = f",topic={shape.topic}" if shape.topic else ""
    flags = ("--listen", "127.0.0.1:0", "--pod", pod + topic, "--log-level", "error")
    process = subprocess.Popen([sys.executable, "-m", "kvsync", "serve", *flags], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Daemon(json.loads(process.stdout.readline())["http"])
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for base in range(21_000, 32_000, count):
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError(f"no {count} free ports in a row")


def check(daemon: Daemon, engine: Both) -> int:
    """The daemon's dump is the table of vLLM's block pool, copy by copy; gives how many blocks that are."""
    truth = engine.truth()
    dump = daemon.blocks(engine.rank, truth["sequence"])
    assert dump["sequence"] == truth["sequence"]
    assert dump["media"].get("GPU", {}) == truth["groups"]
    assert dump["trust"] == "exact"
    return sum(map(len, truth["groups"].values()))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("version", ENVIRONMENTS)
def test_the_daemon_holds_what_vllm_holds(version: str, name: str, seed: int) -> None:
    """At every checkpoint of every life, exactly; and the simulated engine announces what vLLM announces."""
    scenario = SCENARIOS[name]
    shape = scenario.shape
    base = free_ports(2 * shape.ranks)
    events, replay = f"tcp://127.0.0.1:{base}", f"tcp://127.0.0.1:{base + shape.ranks}"
    checks = blocks = preemptions = 0
    with serving(shape, events, replay) as daemon, VllmProcess(Path(ENVIRONMENTS[version]), shape) as vllm:
        assert vllm.version == version
        # vLLM's rank r connects to, and answers replays at, the port plus r by itself.
        engines = [Both(vllm, rank, shape, events, replay) for rank in range(shape.ranks)]
        for life in range(scenario.restarts + 1):
            for engine in engines:
                if life:
                    engine.open()
                scheduler = Scheduler(engine)
                for step in live(scheduler, scenario.mix, seed + 1_000 * life):
                    if step % CHECK_EVERY == 0:
                        blocks, checks = max(blocks, check(daemon, engine)), checks + 1
                preemptions += scheduler.preemptions
                blocks, checks = max(blocks, check(daemon, engine)), checks + 1
                engine.close()
        told = {view["rank"]: view for view in daemon.get("/v1/engines")["engines"]}
    compared = sum(engine.compared for engine in engines)
    for engine in engines:
        view, stream = told[engine.rank], told[engine.rank]["stream"]
        outcomes = stream["applied_frames"] + stream["duplicate"] + sum(stream["dropped"].values())
        assert stream["received"] == outcomes + stream["waiting"]
        assert view["lives"] == scenario.restarts + 1
        assert (view["counters"]["reannounced"] > 0) == bool(scenario.mix.report_full)
        assert engine.compared > 50
        assert view["counters"]["removed"] > 50
    figures = f"{checks} checks, up to {blocks} blocks, {preemptions} preemptions, {compared} batches compared"
    sys.stdout.write(f"{version} {name} seed {seed}: equal; {figures}\n")
