"""What the index says it weighs, against what the system says its process weighs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENTRIES = 1_000_000  # beside 24 MB, what Python itself takes or gives back meanwhile is little
ENGINES = 32


@pytest.mark.weighs
def test_bytes_are_true_to_the_system() -> None:
    """A filled index's own account is within a tenth of the resident memory that it took."""
    command = [sys.executable, "-m", "benchmarks.memory_probe", str(ENTRIES), str(ENGINES), "8", "random"]
    weighed = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    assert abs(weighed["rss_entry"] - weighed["stats_entry"]) < weighed["rss_entry"] / 10, weighed
    assert weighed["stats_left"] < 30, weighed
