"""Prometheus' text form, read back by the library's own parser."""

from __future__ import annotations

import math
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kvsync.serve.exposition import counter, counters, gauge, gauges, histogram, labels

ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
"""The parser splits lines at a carriage return too."""

NUMBERS = st.integers(0, 2**53) | st.floats(allow_nan=False)
BOUNDS = (0.1, 1.0)


def read(text: str) -> Metric:
    """The one family in a text."""
    (family,) = text_string_to_metric_families(text)
    return family


@given(st.dictionaries(st.tuples(ANY, ANY), NUMBERS, max_size=5))
def test_what_is_written_is_read(values: dict[tuple[str, str], float]) -> None:
    """Whatever stands in a label, and whatever the number is."""
    series = [(labels(pod=pod, reason=reason), value) for (pod, reason), value in values.items()]
    for write, kind, suffix in ((gauge, "gauge", ""), (counter, "counter", "_total")):
        family = read("".join(write("kvsync_x", "What it is.", series)))
        assert (family.name, family.type, family.documentation) == ("kvsync_x", kind, "What it is.")
        assert {(s.labels["pod"], s.labels["reason"]): s.value for s in family.samples} == values
        assert {sample.name for sample in family.samples} <= {f"kvsync_x{suffix}"}


@given(st.lists(st.tuples(ANY, st.tuples(*[st.integers(0, 2**40)] * 3)), unique_by=lambda one: one[0], max_size=4))
def test_buckets_add_up(found: list[tuple[str, tuple[int, ...]]]) -> None:
    """Each bucket counts what the ones before it do, and the last all there is."""
    spreads = [(labels(pod=pod), counts, 1.5) for pod, counts in found]
    family = read("".join(histogram("kvsync_x_seconds", "How late.", BOUNDS, spreads)))
    assert family.type == "histogram"
    for pod, counts in found:
        mine = [sample for sample in family.samples if sample.labels["pod"] == pod]
        buckets = {float(s.labels["le"]): s.value for s in mine if s.name == "kvsync_x_seconds_bucket"}
        assert buckets == dict(zip((*BOUNDS, math.inf), accumulate(counts), strict=True))
        assert {s.name: s.value for s in mine if s.name[-6:] != "bucket"} == {
            "kvsync_x_seconds_count": sum(counts),
            "kvsync_x_seconds_sum": 1.5,
        }


def test_a_series_may_have_no_labels() -> None:
    """Then it has no braces either."""
    assert [*gauge("kvsync_x", "It.", [("", 2)])][1:] == ["kvsync_x 2\n"]


@given(st.dictionaries(ANY, st.tuples(NUMBERS, NUMBERS), max_size=4))
def test_a_row_is_several_series(rows: dict[str, tuple[float, float]]) -> None:
    """One for each kind, in order, with the labels of the row."""
    written = [(labels(pod=pod), values) for pod, values in rows.items()]
    for write in (counters, gauges):
        family = read("".join(write("kvsync_x", "It.", "kind", ("a", "b"), written)))
        seen = {(s.labels["pod"], s.labels["kind"]): s.value for s in family.samples}
        assert seen == {(pod, kind): values["ab".index(kind)] for pod, values in rows.items() for kind in "ab"}


def test_a_family_without_a_series_has_its_headers() -> None:
    """So that whoever looks for it learns that there is nothing."""
    for write in (gauge, counter):
        family = read("".join(write("kvsync_x", "It.", [])))
        assert (family.name, family.samples) == ("kvsync_x", [])
