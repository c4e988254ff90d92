"""What a snapshot costs and whom it keeps waiting: `memory_entries` entries, 64-bit hashes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.sizes import SIZES

ROOT: Final = Path(__file__).parents[1]

Figures = dict[str, float]


class Snapshot:
    """
    An index saved and loaded; half of each engine's blocks are held by all.

    A pause is the longest that one call took while a snapshot was made: a match of 512 blocks, or a frame of as many.
    The quiet ones are the same without a snapshot: what the machine does by itself.
    """

    timeout = 1800.0

    def setup_cache(self) -> Figures:
        """One run of `benchmarks.snapshot_probe`."""
        command = [sys.executable, "-m", "benchmarks.snapshot_probe", str(SIZES.memory_entries)]
        answer = subprocess.run([*command, str(SIZES.memory_engines)], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        figures: Figures = json.loads(answer.stdout)
        return figures

    setup_cache.timeout = 1800.0  # type: ignore[attr-defined]

    def track_reader_pause(self, figures: Figures) -> float:
        """The longest match while a snapshot is made."""
        return figures["reader_ms"]

    def track_reader_pause_quiet(self, figures: Figures) -> float:
        """The longest match without one."""
        return figures["reader_quiet_ms"]

    def track_writer_pause(self, figures: Figures) -> float:
        """The longest frame while a snapshot is made: it waits for one engine's record."""
        return figures["writer_ms"]

    def track_writer_pause_quiet(self, figures: Figures) -> float:
        """The longest frame without one."""
        return figures["writer_quiet_ms"]

    def track_save(self, figures: Figures) -> float:
        """From call to a file that is on disk."""
        return figures["save_s"]

    def track_load(self, figures: Figures) -> float:
        """From file to an index that answers."""
        return figures["load_s"]

    def track_file(self, figures: Figures) -> float:
        """What an entry takes in the file."""
        return figures["bytes_entry"]

    def track_peak(self, figures: Figures) -> float:
        """What an entry of the whole index takes in memory beyond it, while a snapshot is made."""
        return figures["peak_entry"]


for _name, _unit in {
    "track_reader_pause": "ms",
    "track_reader_pause_quiet": "ms",
    "track_writer_pause": "ms",
    "track_writer_pause_quiet": "ms",
    "track_save": "s",
    "track_load": "s",
    "track_file": "bytes/entry",
    "track_peak": "bytes/entry",
}.items():
    getattr(Snapshot, _name).unit = _unit
