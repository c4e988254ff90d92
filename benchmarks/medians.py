"""
Several runs of asv as one: every value becomes the median of the runs, its interval their lowest and highest.

    python -m benchmarks.medians RESULTS RUN [RUN ...]

RESULTS is a results directory of asv whose newest file is changed; each RUN is a copy of that file as one run left it.
A value that any run could not measure is none: the others would hide that it fails at times.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.table import newest

LOWEST: Final = "stats_ci_99_a"
HIGHEST: Final = "stats_ci_99_b"
OF_ONE_RUN: Final = ("stats_q_25", "stats_q_75", "samples")


def cells(document: dict[str, Any], benchmark: str) -> dict[str, Any]:
    """A benchmark's columns by name; asv leaves out trailing ones that are empty."""
    return dict(zip(document["result_columns"], document["results"][benchmark], strict=False))


def measured(values: Sequence[float | None]) -> list[float] | None:
    """The values, if all runs have one."""
    found = [value for value in values if isinstance(value, int | float) and not math.isnan(value)]
    return found if len(found) == len(values) else None


def merged(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last run's document with the medians of all; raises ValueError if the runs had not the same benchmarks."""
    last = runs[-1]
    if any(run["results"].keys() != last["results"].keys() for run in runs):
        raise ValueError("the runs are not of the same benchmarks: give each the same options")
    return {**last, "results": {name: _merged(name, runs) for name in last["results"]}}


def _merged(benchmark: str, runs: Sequence[dict[str, Any]]) -> list[Any]:
    columns = cells(runs[-1], benchmark)
    laps = [cells(run, benchmark)["result"] for run in runs]
    if any(lap is None for lap in laps):
        columns["result"] = None
        return list(columns.values())
    found = [measured(values) for values in zip(*laps, strict=True)]
    columns["result"] = [median(values) if values else None for values in found]
    if columns.get(LOWEST):
        columns[LOWEST] = [min(values) if values else None for values in found]
        columns[HIGHEST] = [max(values) if values else None for values in found]
        columns |= {name: [None] * len(found) for name in OF_ONE_RUN if columns.get(name)}
    return list(columns.values())


def main(arguments: list[str]) -> None:
    """Change the newest file of a results directory."""
    results, *runs = map(Path, arguments)
    document = merged([json.loads(run.read_text()) for run in runs])
    newest(results).write_text(json.dumps(document, sort_keys=False))


if __name__ == "__main__":
    main(sys.argv[1:])
