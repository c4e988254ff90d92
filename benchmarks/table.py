"""
The rows of `benchmarks/targets.py` with what asv measured last, as a table or with --json as one document.

    python -m benchmarks.table RESULTS [--json]

RESULTS is a results directory of asv. Rows whose benchmark was not run are left out. Ends with 1 if a row has no value:
its benchmark failed. A target missed is no failure here; on a shared machine it may be nobody's fault.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.targets import TARGETS, Target

NOT_RESULTS: Final = {"machine.json", "benchmarks.json"}

Values = dict[tuple[str, tuple[str, ...]], float]


@dataclass(frozen=True, slots=True)
class Line:
    """
    One row as measured; ratios say how many times as good, None where there is nothing to compare with.
    """

    row: str
    unit: str
    target: float | None
    measured: float | None
    ratio_target: float | None
    ratio_dynamo: float | None
    others: str


def newest(results: Path) -> Path:
    """The result file written last; raises FileNotFoundError if there is none."""
    files = [path for path in results.glob("*/*.json") if path.name not in NOT_RESULTS]
    if not files:
        raise FileNotFoundError(f"no results of asv in {results}: run `nox -s bench -- --quick` first")
    return max(files, key=lambda path: path.stat().st_mtime)


def values_of(document: dict[str, Any]) -> Values:
    """asv's values by benchmark and parameters, in seconds or whatever is tracked; failures are left out."""
    values: Values = {}
    for benchmark, cells in document["results"].items():
        # asv leaves out trailing columns that are empty.
        named = dict(zip(document["result_columns"], cells, strict=False))
        params = itertools.product(*([text.strip("'") for text in choices] for choices in named.get("params") or []))
        for chosen, value in zip(params, named.get("result") or [], strict=False):
            if isinstance(value, int | float):
                values[benchmark, tuple(chosen)] = float(value)
    return values


def line(target: Target, values: Values) -> Line:
    """One row."""
    found = values.get((target.benchmark, target.params))
    measured = None if found is None or found != found else target.convert(found)

    def against(figure: float | None) -> float | None:
        return None if measured is None or figure is None else target.times_as_good(measured, figure)

    return Line(
        target.row,
        target.unit,
        target.target,
        measured,
        against(target.target),
        against(target.dynamo),
        target.others,
    )


def number(value: float | None, absent: str = "") -> str:
    """Three digits that mean something."""
    if value is None:
        return absent
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rendered(lines: Iterable[Line]) -> str:
    """A table for people."""
    head = ("", "unit", "target", "measured", "x target", "x Dynamo", "published elsewhere")
    rows = [
        (
            one.row,
            one.unit,
            number(one.target),
            number(one.measured, "failed"),
            number(one.ratio_target),
            number(one.ratio_dynamo),
            one.others,
        )
        for one in lines
    ]
    return columns(head, rows, right=range(2, 6))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Container[int]) -> str:
    """Cells in columns as wide as they must be; those in `right` end at one edge, as numbers do."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    formed = (
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    )
    return "\n".join(formed)


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a value is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description="Targets beside what asv measured.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    asked = parser.parse_args(arguments)
    document = json.loads(newest(asked.results).read_text())
    values = values_of(document)
    lines = [line(target, values) for target in TARGETS if target.benchmark in document["results"]]
    if asked.json:
        names = Line.__slots__
        print(
            json.dumps({"commit": document["commit_hash"], "rows": [{n: getattr(r, n) for n in names} for r in lines]})
        )
    else:
        print(rendered(lines))
    return int(any(one.measured is None for one in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
