"""
Readers beside a writer: a question while nothing else happens, and the same while frames are applied without a pause.

Twice. `Threads` is what a Python program gets: two threads of one process, each of which gives the GIL away for the
length of its calls, and has to get it back behind them. `Core` is the same in C (driver/readers.c): what is left when
there is no GIL to wait for. Both need two processors; on one, a reader also waits for its turn to run.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from array import array
from functools import partial
from pathlib import Path

from benchmarks.bench_fleet import percentile
from benchmarks.bench_instructions import Step, compiled, need_compiler, write_script
from benchmarks.checks import expect
from benchmarks.frames import (
    MODEL,
    Prompt,
    batches,
    engine,
    generator,
    hashes_of,
    prompt,
    remove_events,
    store_events,
    tokens_of,
)
from benchmarks.peers.side import Tokens
from benchmarks.sizes import PROMPT_BLOCKS, SIZES
from kvsync.index import Index

LAPS = SIZES.reader_laps
WRITER = SIZES.walk_engines
"""The number of the engine whose frames are applied meanwhile: none of those that hold the prompt."""

Laps = dict[str, float]


def held() -> list[tuple[int, bytes]]:
    """(engine, frame): `walk_engines` engines store the prompt that is asked for."""
    tokens = asked()
    return [
        (number, frame)
        for number in range(SIZES.walk_engines)
        for frame in batches(
            store_events([Prompt(tokens, hashes_of(generator(31, number), SIZES.fleet_blocks))], 32), 32
        )
    ]


def asked() -> Tokens:
    """The prompt's tokens."""
    return tokens_of(generator(30), SIZES.fleet_blocks)


def written() -> list[bytes]:
    """What the writer applies again and again: prompts come, and go again."""
    random = generator(32)
    prompts = [prompt(random, PROMPT_BLOCKS) for _ in range(max(1, SIZES.ingest_blocks // PROMPT_BLOCKS // 4))]
    return [*batches(store_events(prompts, 32), 32), *batches(remove_events(prompts, 32), 32)]


def questions(index: Index, tokens: array[int]) -> list[float]:
    """Microseconds of each of many questions."""
    laps = []
    for _ in range(LAPS):
        began = time.perf_counter()
        answer = index.match(tokens, model=MODEL)
        laps.append(1e6 * (time.perf_counter() - began))
        expect("engines that match", len(answer), SIZES.walk_engines)
    return laps


class Threads:
    """
    Microseconds of `match` in one Python thread, without and beside another that applies frames.
    """

    params = (["idle", "under ingest"],)
    param_names = ("writer",)
    unit = "us"
    timeout = 300.0

    def setup_cache(self) -> dict[str, Laps]:
        """Both in one process, one after the other."""
        with Index(seed=1) as index:
            for number, frame in held():
                index.apply(engine(number), frame, model=MODEL)
            tokens = array("I", asked().tobytes())
            idle = questions(index, tokens)
            stop, frames = threading.Event(), written()
            writer = threading.Thread(target=partial(self._write, index, frames, stop))
            writer.start()
            try:
                beside = questions(index, tokens)
            finally:
                stop.set()
                writer.join()
        return {
            name: {"p50": percentile(laps, 50), "p99": percentile(laps, 99)}
            for name, laps in (("idle", idle), ("under ingest", beside))
        }

    @staticmethod
    def _write(index: Index, frames: list[bytes], stop: threading.Event) -> None:
        while not stop.is_set():
            for frame in frames:
                index.apply(engine(WRITER), frame, model=MODEL)
                if stop.is_set():
                    return

    def track_p50(self, laps: dict[str, Laps], writer: str) -> float:
        """The median."""
        return laps[writer]["p50"]

    def track_p99(self, laps: dict[str, Laps], writer: str) -> float:
        """The slowest but one of a hundred."""
        return laps[writer]["p99"]


class Core(Threads):
    """
    The same in C, with the writer's rate beside it.
    """

    def setup_cache(self) -> dict[str, Laps]:
        """One run of the driver."""
        need_compiler()
        steps: list[Step] = [(b"p", number, frame) for number, frame in held()]
        steps += [(b"w", WRITER, frame) for frame in written()]
        steps.append((b"q", 0, asked().tobytes()))
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "script")
            write_script(script, steps)
            ran = subprocess.run([compiled("readers.c"), script, str(LAPS)], check=True, stdout=subprocess.PIPE)
        told = json.loads(ran.stdout)
        expect("engines that match", told["matched"], SIZES.walk_engines)
        return {"idle": told["idle"], "under ingest": told["ingest"]}

    setup_cache.timeout = 300.0  # type: ignore[attr-defined]

    def track_written(self, laps: dict[str, Laps], writer: str) -> float:
        """Millions of blocks a second that the writer stored and removed meanwhile."""
        return laps[writer]["written"]

    track_written.unit = "M blocks/s"  # type: ignore[attr-defined]
