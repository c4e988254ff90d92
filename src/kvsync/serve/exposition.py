"""
Prometheus' text form, line by line, for what is looked up at a scrape: some seventy series an engine.

`prometheus_client` writes what is counted as things happen. For the fleet's series its objects are too dear: 8 us a
line, with the interpreter held meanwhile, and a thousand engines are 72,000 lines. These functions take a seventh of
that; the library's own parser reads them in the tests.

A series is a pair of its labels, as `labels` writes them, and its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

Series = tuple[str, float]
Spread = tuple[str, Sequence[int], float]
"""Labels, how many were found in each bucket, the last without a bound, and the sum of all."""

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


def histogram(name: str, text: str, bounds: Sequence[float], spreads: Iterable[Spread]) -> Iterator[str]:
    """A family of distributions over buckets with these upper bounds, and one beyond the last."""
    yield _header(name, "histogram", text)
    les = [f'le="{bound}"' for bound in (*bounds, "+Inf")]
    for known, counts, total in spreads:
        count = 0
        for le, count in zip(les, accumulate(counts), strict=True):
            yield f"{name}_bucket{{{known},{le}}} {count}\n" if known else f"{name}_bucket{{{le}}} {count}\n"
        yield from _lines(f"{name}_count", [(known, count)])
        yield from _lines(f"{name}_sum", [(known, total)])


def _header(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _lines(name: str, series: Iterable[Series]) -> Iterator[str]:
    for known, value in series:
        yield f"{name}{{{known}}} {value}\n" if known else f"{name} {value}\n"
