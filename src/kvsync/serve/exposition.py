"""
Prometheus' text form, line by line, for what is looked up at a scrape: some seventy series an engine.

`prometheus_client` writes what is counted as things happen. For the fleet's series its objects are too dear: 8 us a
line, with the interpreter held meanwhile, and a thousand engines are 72,000 lines. These functions take a tenth of
that; the library's own parser reads them in the tests.

A series is a pair of its labels, as `labels` writes them, and its value; a row is several that have labels in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

Series = tuple[str, float]
Row = tuple[str, Sequence[float]]
"""Labels, which must not be empty, and the values of several series that share them."""

Spread = tuple[str, Sequence[int], float]
"""Labels, how many were found in each bucket, the last without a bound, and the sum of all."""

_KNOWN = "\0"
"""Stands for a row's labels."""

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def labels(**values: str) -> str:
    """What stands between the braces of a series; names as they are, values escaped."""
    return ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in values.items())


def gauge(name: str, text: str, series: Iterable[Series]) -> Iterator[str]:
    """A family of values that go up and down; has its headers also without a series."""
    yield _header(name, "gauge", text)
    yield from _lines(name, series)


def counter(name: str, text: str, series: Iterable[Series]) -> Iterator[str]:
    """A family of values that only rise; `_total` is added to its name."""
    yield _header(f"{name}_total", "counter", text)
    yield from _lines(f"{name}_total", series)


def counters(name: str, text: str, label: str, kinds: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A family of rising values, of which each row has one for each of the `kinds` that `label` names."""
    yield _header(f"{name}_total", "counter", text)
    yield from _rows([f'{name}_total{{{_KNOWN},{label}="{kind}"}}' for kind in kinds], rows)


def gauges(name: str, text: str, label: str, kinds: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """The same of values that go up and down."""
    yield _header(name, "gauge", text)
    yield from _rows([f'{name}{{{_KNOWN},{label}="{kind}"}}' for kind in kinds], rows)


def histogram(name: str, text: str, bounds: Sequence[float], spreads: Iterable[Spread]) -> Iterator[str]:
    """A family of distributions over buckets with these upper bounds, and one beyond the last."""
    yield _header(name, "histogram", text)
    heads = [f'{name}_bucket{{{_KNOWN},le="{bound}"}}' for bound in (*bounds, "+Inf")]
    heads += [f"{name}_count{{{_KNOWN}}}", f"{name}_sum{{{_KNOWN}}}"]
    yield from _rows(heads, ((known, (*accumulate(counts), sum(counts), total)) for known, counts, total in spreads))


def _rows(heads: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    # One formatting and one replacement a row, whatever the number of its lines.
    lines = "".join(f"{head} %s\n" for head in heads)
    for known, values in rows:
        yield (lines % tuple(values)).replace(_KNOWN, known)


def _header(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _lines(name: str, series: Iterable[Series]) -> Iterator[str]:
    for known, value in series:
        yield f"{name}{{{known}}} {value}\n" if known else f"{name} {value}\n"
