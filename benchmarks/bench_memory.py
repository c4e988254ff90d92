"""What an (engine, block) entry weighs, and what remains when nine of ten are gone; each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.sizes import SIZES
from kvsync.index import Index

ROOT: Final = Path(__file__).parents[1]
SHAPES: Final = {
    "64 bits": (8, "tail"),
    "16 bytes": (16, "tail"),
    "32 bytes": (32, "tail"),
    "64 bits, two copies": (8, "twice"),
    "64 bits, on CPU too": (8, "media"),
}
"""Name of what is weighed -> bytes of an engine hash, and what `memory_probe` does with them."""
ORDERS: Final = {"tail": "64 bits", "random": "random"}
"""What is removed -> what was weighed."""

Weights = dict[str, dict[str, float]]


def probe(entries: int, hash_bytes: int, order: str) -> dict[str, float]:
    """Run `benchmarks.memory_probe` and read what it found."""
    command = [sys.executable, "-m", "benchmarks.memory_probe"]
    asked = [str(entries), str(SIZES.memory_engines), str(hash_bytes), order]
    answer = subprocess.run([*command, *asked], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    weights: dict[str, float] = json.loads(answer.stdout)
    return weights


class _Weighed:
    """
    What is weighed once for both: asv keeps one cache for one function.
    """

    timeout = 1800.0

    def setup_cache(self) -> Weights:
        """A process each; what is reported beside 64-bit hashes is weighed at a quarter of the size."""
        entries = SIZES.memory_entries
        return {
            **{name: probe(entries if name == "64 bits" else entries // 4, *shape) for name, shape in SHAPES.items()},
            "random": probe(entries, 8, "random"),
        }

    setup_cache.timeout = 3600.0  # type: ignore[attr-defined]


class Entry(_Weighed):
    """
    Bytes an entry: `memory_entries` over `memory_engines` engines, half of each engine's blocks held by all.
    """

    params = (list(SHAPES),)
    param_names = ("engine hash",)
    unit = "bytes/entry"

    def track_rss(self, weights: Weights, kind: str) -> float:
        """By the system's account: everything counted, also what the index does not know of."""
        return weights[kind]["rss_entry"]

    def track_stats(self, weights: Weights, kind: str) -> float:
        """By the index's own account, which must be true to RSS within a tenth."""
        return weights[kind]["stats_entry"]

    def track_stats_peak(self, weights: Weights, kind: str) -> float:
        """The most it ever had while growing."""
        return weights[kind]["stats_peak_entry"]


class Remains(_Weighed):
    """
    Percent of the memory that is left with a tenth of the entries, 64-bit hashes; `tail`: prompts lost their tails.
    """

    params = (list(ORDERS),)
    param_names = ("removed",)
    unit = "%"

    def track_rss(self, weights: Weights, order: str) -> float:
        """By the system's account."""
        return weights[ORDERS[order]]["rss_left"]

    def track_stats(self, weights: Weights, order: str) -> float:
        """By the index's own account."""
        return weights[ORDERS[order]]["stats_left"]


class Empty:
    """
    The reference: what a process weighs that has all imported and an index of nothing.
    """

    def peakmem_empty(self) -> None:
        """An index made and closed."""
        with Index(seed=1) as index:
            index.stats()
