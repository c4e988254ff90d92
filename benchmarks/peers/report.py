"""Rows of several sides as one table, or as one JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from benchmarks.peers.inside import Figure
from benchmarks.table import columns, number

RATES: Final = ("store", "remove", "zmq")
UNITS: Final = {"memory": "bytes/entry", "clear": "ms", "HTTP": "us p50"}


@dataclass(frozen=True, slots=True)
class Cell:
    """
    The median of one side's figures for a row; None where it has none.
    """

    value: float | None = None
    cpu_us: float | None = None


NOTHING: Final = Cell()


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row of all sides; `ratio` says how many times as good ours is as Dynamo's, by time or by size.

    `cpu_ratio` compares the CPU time a block, which does not move with the number of cores or with the sender.
    """

    row: str
    unit: str
    ours: float | None
    dynamo: float | None
    ratio: float | None
    plain: float | None
    ours_cpu_us: float | None
    dynamo_cpu_us: float | None
    cpu_ratio: float | None


Medians = Mapping[str, Mapping[str, Cell]]


def medians(rounds: Mapping[str, Sequence[Iterable[Figure]]]) -> Medians:
    """Side -> row -> the median over its rounds."""
    return {side: _medians(laps) for side, laps in rounds.items()}


def _medians(laps: Sequence[Iterable[Figure]]) -> dict[str, Cell]:
    by_row: dict[str, list[Figure]] = {}
    for figure in (figure for lap in laps for figure in lap):
        by_row.setdefault(figure.row, []).append(figure)
    return {row: Cell(median(f.value for f in found), _cpu(found)) for row, found in by_row.items()}


def _cpu(figures: Iterable[Figure]) -> float | None:
    times = [figure.cpu_us for figure in figures if figure.cpu_us is not None]
    return median(times) if times else None


def rows(found: Medians) -> list[Row]:
    """Every row that any side has, in the order in which ours come."""
    names = list(dict.fromkeys(row for figures in found.values() for row in figures))
    return [_row(name, found) for name in names]


def _row(name: str, found: Medians) -> Row:
    kind = name.split(maxsplit=1)[0].rstrip(",")
    is_rate = kind in RATES
    ours, dynamo, plain = (found.get(side, {}).get(name, NOTHING) for side in ("ours", "dynamo", "plain"))
    return Row(
        row=name,
        unit="M blocks/s" if is_rate else UNITS.get(kind, "us"),
        ours=ours.value,
        dynamo=dynamo.value,
        ratio=_ratio(ours.value, dynamo.value, more_is_better=is_rate),
        plain=plain.value,
        ours_cpu_us=ours.cpu_us,
        dynamo_cpu_us=dynamo.cpu_us,
        cpu_ratio=_ratio(ours.cpu_us, dynamo.cpu_us, more_is_better=False),
    )


def _ratio(ours: float | None, theirs: float | None, *, more_is_better: bool) -> float | None:
    if not ours or not theirs:
        return None
    return ours / theirs if more_is_better else theirs / ours


def rendered(lines: Iterable[Row]) -> str:
    """A table for people."""
    head = ("", "unit", "ours", "Dynamo", "x Dynamo", "plain dict", "CPU us/block", "Dynamo", "x Dynamo")
    cells = [
        (
            line.row,
            line.unit,
            *map(number, (line.ours, line.dynamo, line.ratio, line.plain)),
            *map(number, (line.ours_cpu_us, line.dynamo_cpu_us, line.cpu_ratio)),
        )
        for line in lines
    ]
    return columns(head, cells, right=range(2, len(head)))


def document(lines: Iterable[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """The same for programs."""
    return {**about, "rows": [asdict(line) for line in lines]}
