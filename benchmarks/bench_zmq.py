"""
From an engine in another process, over a socket, until a query sees it.

The clock starts with the word to send and stops when a query sees the last block. Our CPU time is beside it:
the wall clock also has the sender in it, which on a small machine takes a processor from us.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.checks import WrongAnswerError, expect, expect_entries
from benchmarks.frames import MODEL, engine
from benchmarks.publish import prompts
from benchmarks.sizes import PROMPT_BLOCKS, SIZES
from kvsync.index import Index
from kvsync.stream.endpoints import Source
from kvsync.stream.subscriber import Subscriber

ROOT: Final = Path(__file__).parents[1]
ENGINE: Final = engine(0)
PATIENCE_S: Final = 120.0
POLL_S: Final = 0.001

SHAPES: Final = {
    "8 blocks, 32 a batch": (SIZES.zmq_blocks, 8, 32),
    "1 block, 64 a batch": (SIZES.zmq_single_blocks, 1, 64),
}

Laps = dict[str, dict[str, float]]


def lap(blocks: int, an_event: int, a_batch: int) -> dict[str, float]:
    """One engine's life over a socket: seconds until visible, and seconds of our CPU."""
    last = prompts(blocks)[-1].tokens
    with tempfile.TemporaryDirectory() as folder, Index(seed=1) as index, Subscriber(index) as subscriber:
        endpoint = f"ipc://{folder}/events"
        command = [sys.executable, "-m", "benchmarks.publish", endpoint, *map(str, (blocks, an_event, a_batch))]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdin is not None
            assert sender.stdout is not None
            try:
                subscriber.add(Source(ENGINE, MODEL, endpoint))
                expect("the sender", sender.stdout.readline(), "ready\n")
                cpu, wall = time.process_time(), time.perf_counter()
                sender.stdin.write("go\n")
                sender.stdin.flush()
                while not (seen := index.match(last, model=MODEL)) or seen[ENGINE].blocks < PROMPT_BLOCKS:
                    if time.perf_counter() - wall > PATIENCE_S:
                        raise WrongAnswerError(f"{subscriber.status()[ENGINE]} after {PATIENCE_S} s")
                    time.sleep(POLL_S)
                laps = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
                expect_entries(index, blocks)
            finally:
                sender.terminate()
    return laps


class Visible:
    """
    Events of one engine over a socket, by how many blocks an event carries.
    """

    params = (list(SHAPES),)
    param_names = ("event",)
    timeout = 600.0

    def setup_cache(self) -> Laps:
        """The better of two laps each: the first meets a cold machine."""
        return {
            name: min((lap(*shape) for _ in range(2)), key=lambda laps: laps["wall"]) for name, shape in SHAPES.items()
        }

    setup_cache.timeout = 600.0  # type: ignore[attr-defined]

    def track_rate(self, laps: Laps, event: str) -> float:
        """Blocks a second by the wall clock."""
        return SHAPES[event][0] / laps[event]["wall"]

    track_rate.unit = "blocks/s"  # type: ignore[attr-defined]

    def track_cpu(self, laps: Laps, event: str) -> float:
        """Microseconds of the receiving process's CPU a block, its query's polling included."""
        return 1e6 * laps[event]["cpu"] / SHAPES[event][0]

    track_cpu.unit = "us/block"  # type: ignore[attr-defined]
