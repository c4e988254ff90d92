"""
Fill an index in a process of its own, save it beside a reader and beside a writer, load it, and print as JSON how long
each of them waited and what it cost.

    python -m benchmarks.snapshot_probe ENTRIES ENGINES

Entries lie as in `memory_probe`: half of each engine's blocks are held by all the others too. A pause is the longest
that one call took, while a snapshot was made and while none was: what both have in common is the machine's doing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from benchmarks.checks import expect, expect_entries
from benchmarks.frames import MODEL, batches, engine, store_events
from benchmarks.memory_probe import fill, prompt_of, rss
from benchmarks.sizes import PROMPT_BLOCKS, SIZES
from kvsync.index import Index

HASH_BYTES: Final = 8


class Beside:
    """One call made again and again in a thread, and the longest it took."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest_s = 0.0
        self.calls = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            self._call()
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            self.calls += 1


def quiet(call: Callable[[], object]) -> float:
    """The longest call while nothing is saved."""
    with Beside(call) as beside:
        time.sleep(SIZES.asked_s)
    return beside.longest_s


def saving(index: Index, path: Path, call: Callable[[], object]) -> float:
    """The longest call while a snapshot is made."""
    with Beside(call) as beside:
        index.save(path)
    return beside.longest_s


def peak_of(work: Callable[[], object]) -> float:
    """How many bytes more than before the process had at the worst moment of some work."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = rss()
    work()
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    return max(0, peak_kib * 1024 - before)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(entries: int, engines: int) -> dict[str, float]:
    """Everything about one index."""
    prompts = max(1, entries // engines // PROMPT_BLOCKS)
    full = engines * prompts * PROMPT_BLOCKS
    prompt = prompt_of(0, 0, HASH_BYTES)
    tokens = array("I", prompt.tokens.tobytes())
    frame = next(iter(batches(store_events([prompt], 32), 32)))
    with Index(seed=1) as index, tempfile.TemporaryDirectory(prefix="kvsync-bench-") as folder:
        path = Path(folder) / "index.snapshot"
        fill(index, engines, prompts, HASH_BYTES, "tail")
        expect_entries(index, full)

        def read() -> None:
            index.match(tokens, model=MODEL)

        def write() -> None:
            index.apply(engine(0), frame, model=MODEL)  # told again: the work of a store, and nothing changes

        figures = {
            "entries": full,
            "save_s": timed(lambda: index.save(path)),
            "bytes_entry": path.stat().st_size / full,
            "peak_entry": peak_of(lambda: index.save(path)) / full,
            "reader_ms": 1e3 * saving(index, path, read),
            "reader_quiet_ms": 1e3 * quiet(read),
            "writer_ms": 1e3 * saving(index, path, write),
            "writer_quiet_ms": 1e3 * quiet(write),
            "index_bytes_entry": index.stats()["bytes"] / full,
        }
        index.close()
        loaded: list[Index] = []
        figures["load_s"] = timed(lambda: loaded.append(Index.load(path)))
        with loaded[0] as again:
            expect_entries(again, full)
            expect("match", len(again.match(tokens, model=MODEL)), engines)
            figures["loaded_bytes_entry"] = again.stats()["bytes"] / full
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
