"""
The daemon's figures: counted where things happen, in a registry of their own, and looked up when they are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from itertools import chain, islice
from time import perf_counter
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PIECE_LINES = 50
SLICE_S = 0.002
REST = 19.0
"""How long a rest is, in times of the slice before it."""

_FAST = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


_Metric = TypeVar("_Metric", Counter, Histogram)


class OfPods(Generic[_Metric]):
    """A metric with the label `pod`, which knows its series."""

    def __init__(self, metric: _Metric, at: int) -> None:
        self._metric: _Metric = metric
        self._at = at
        self._series: set[tuple[str, ...]] = set()

    def labels(self, *values: str) -> _Metric:
        """The series with these values, begun with the first call."""
        self._series.add(values)
        return self._metric.labels(*values)

    def keep_only(self, pods: Container[str]) -> None:
        """End the series of every other pod."""
        for values in [values for values in self._series if values[self._at] not in pods]:
            self._series.discard(values)
            self._metric.remove(*values)


class Metrics:
    """
    The counters of one daemon. Those by pod end with it: pods come and go, and nobody would look at what is gone.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_pods: list[OfPods[Counter] | OfPods[Histogram]] = []
        self.requests = self._counter("requests", "Requests answered.", "path", "status")
        self.picks = self._pod_counter("picks", "Picks made.", "policy", "pod", "rank")
        self.degraded = self._counter("degraded", "Requests routed by load alone, by reason.", "reason")
        self.prompt_tokens = self._pod_counter("prompt_tokens", "Prompt tokens of proxied requests.", "pod")
        self.matched_tokens = self._pod_counter(
            "matched_tokens", "Of those, tokens the index said the pod held.", "pod"
        )
        self.predicted_tokens = self._pod_counter(
            "predicted_cached_tokens", "Tokens predicted to be cached, of requests whose engine then said.", "pod"
        )
        self.actual_tokens = self._pod_counter("actual_cached_tokens", "Tokens the engine said were cached.", "pod")
        self.mispredicted = self._pod_counter(
            "mispredicted", "Requests whose cached tokens were more or fewer than predicted.", "pod", "direction"
        )
        self.upstream_failures = self._pod_counter("upstream_failures", "Requests a pod did not take.", "pod", "reason")
        self.retries = self._counter("retries", "Requests sent on to another pod.")
        self.cancelled = self._pod_counter("cancelled", "Requests whose client went away.", "pod")
        self.snapshots_given = self._counter("snapshots_given", "Snapshots given to siblings.")
        self.repairs = self._pod_counter(
            "repairs", "Requests that asked for their prefix to be told again.", "pod", "rank"
        )
        self.signals = self._pod_counter("signals", "Looks at what engines say over HTTP.", "pod", "outcome")
        self.signal_doubts = self._pod_counter(
            "signal_doubts", "Records doubted for what engines said.", "pod", "rank", "cause"
        )
        self.pick_seconds = self._histogram("pick_seconds", "From tokens to pick.", _FAST)
        self.tokenize_seconds = self._histogram("tokenize_seconds", "From text to tokens.", (*_FAST, 0.25, 0.5, 1.0))
        self.first_byte_seconds = self._pod_histogram(
            "first_byte_seconds", "From request to first streamed byte.", _SLOW, "pod"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"kvsync_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"kvsync_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _pod_counter(self, name: str, text: str, *labels: str) -> OfPods[Counter]:
        metric = OfPods(self._counter(name, text, *labels), labels.index("pod"))
        self._of_pods.append(metric)
        return metric

    def _pod_histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> OfPods[Histogram]:
        metric = OfPods(self._histogram(name, text, buckets, *labels), labels.index("pod"))
        self._of_pods.append(metric)
        return metric

    def keep_only(self, pods: Container[str]) -> None:
        """End the series of every other pod; what its last requests count after that ends with the next pod."""
        for metric in self._of_pods:
            metric.keep_only(pods)

    async def page(self, looked_up: Iterator[str]) -> bytes:
        """
        Everything in Prometheus' text form, written in slices with rests between.

        A thousand engines are nearly a hundred thousand lines. Written in one go they would keep requests waiting, and
        events for longer: the thread that follows them gets the interpreter for an instant at a time then.
        """
        lines = chain(looked_up, self._counted())
        pieces: list[str] = []
        began = perf_counter()
        while piece := list(islice(lines, PIECE_LINES)):
            pieces.extend(piece)
            worked_s = perf_counter() - began
            if worked_s > SLICE_S:
                await asyncio.sleep(REST * worked_s)
                began = perf_counter()
        return "".join(pieces).encode()

    def _counted(self) -> Iterator[str]:
        for metric in self.registry.collect():
            # When a series began is not told: it would be twice as many, and split a family that comes in parts.
            samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            for at in range(0, max(1, len(samples)), PIECE_LINES):
                part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                part.samples = samples[at : at + PIECE_LINES]
                lines = generate_latest(_One(part)).decode().splitlines(keepends=True)
                yield from lines if at == 0 else (line for line in lines if line[0] != "#")

    def compare(self, pod: str, predicted: int, actual: int) -> None:
        """What was predicted to be cached, and what was."""
        self.predicted_tokens.labels(pod).inc(predicted)
        self.actual_tokens.labels(pod).inc(actual)
        if predicted != actual:
            self.mispredicted.labels(pod, "more" if actual > predicted else "fewer").inc()


class _One(CollectorRegistry):
    """A registry of what has been collected already."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric
