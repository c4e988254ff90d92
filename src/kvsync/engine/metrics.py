"""
What `/metrics` says, under the names that vLLM gives it, so that what reads an engine reads this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kvsync.engine.rank import Rank

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LABELS = ("model_name", "engine")
_SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")


class EngineCollector(Collector):
    """Reads the ranks' counters when asked; nothing is counted twice."""

    def __init__(self, model: str, ranks: Sequence[Rank]) -> None:
        self._model = model
        self._ranks = ranks

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, one sample per rank."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()
        yield self._sleep_state()
        yield self._cache_config()

    def _labels(self, rank: Rank, *more: str) -> list[str]:
        return [self._model, str(rank.number), *more]

    def _gauge(self, name: str, text: str, values: Iterable[float]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        for rank, value in zip(self._ranks, values, strict=True):
            family.add_metric(self._labels(rank), value)
        return family

    def _counter(self, name: str, text: str, values: Iterable[float]) -> Metric:
        family = CounterMetricFamily(name, text, labels=_LABELS)
        for rank, value in zip(self._ranks, values, strict=True):
            family.add_metric(self._labels(rank), value)
        return family

    def _gauges(self) -> Iterator[Metric]:
        schedulers = [rank.scheduler for rank in self._ranks]
        pools = [scheduler.cache.pool for scheduler in schedulers]
        yield self._gauge("vllm:num_requests_running", "Requests being computed.", (len(s.running) for s in schedulers))
        yield self._gauge("vllm:num_requests_waiting", "Requests in the queue.", (len(s.waiting) for s in schedulers))
        yield self._gauge(
            "vllm:kv_cache_usage_perc",
            "Part of the blocks in use, 0 to 1.",
            (p.used_count / p.usable_count for p in pools),
        )

    def _counters(self) -> Iterator[Metric]:
        stats = [rank.scheduler.stats for rank in self._ranks]
        for name, text, values in (
            ("prefix_cache_queries", "Tokens looked up in the prefix cache.", [s.prefix_queries for s in stats]),
            ("prefix_cache_hits", "Tokens found in the prefix cache.", [s.prefix_hits for s in stats]),
            ("prompt_tokens", "Prompt tokens of requests that have been answered.", [s.prompt_tokens for s in stats]),
            ("generation_tokens", "Tokens produced.", [s.generation_tokens for s in stats]),
            ("num_preemptions", "Requests that had to start over.", [s.preemptions for s in stats]),
        ):
            yield self._counter(f"vllm:{name}", text, values)
        ends = CounterMetricFamily("vllm:request_success", "Requests that ended.", labels=(*_LABELS, "finished_reason"))
        for rank in self._ranks:
            for finish, count in rank.scheduler.stats.ends.items():
                ends.add_metric(self._labels(rank, finish), count)
        yield ends

    def _histograms(self) -> Iterator[Metric]:
        first = HistogramMetricFamily("vllm:time_to_first_token_seconds", "Time to the first token.", labels=_LABELS)
        whole = HistogramMetricFamily("vllm:e2e_request_latency_seconds", "Time to the last token.", labels=_LABELS)
        for rank in self._ranks:
            stats = rank.scheduler.stats
            first.add_metric(self._labels(rank), stats.first_token_s.cumulative(), stats.first_token_s.total)
            whole.add_metric(self._labels(rank), stats.whole_request_s.cumulative(), stats.whole_request_s.total)
        yield first
        yield whole

    def _sleep_state(self) -> Metric:
        family = GaugeMetricFamily(
            "vllm:engine_sleep_state", "1 for the state the engine is in.", labels=(*_LABELS, "sleep_state")
        )
        for rank in self._ranks:
            for level, state in enumerate(_SLEEP_STATES):
                family.add_metric(self._labels(rank, state), float(rank.sleep_level == level))
        return family

    def _cache_config(self) -> Metric:
        labels = ("engine", "block_size", "num_gpu_blocks", "enable_prefix_caching")
        family = GaugeMetricFamily("vllm:cache_config_info", "How the cache is set up.", labels=labels)
        for rank in self._ranks:
            cache = rank.scheduler.cache
            blocks = str(cache.pool.usable_count + 1)
            family.add_metric([str(rank.number), str(cache.block_size), blocks, "True"], 1)
        return family


def exposition(model: str, ranks: Sequence[Rank]) -> bytes:
    """Write all metrics in Prometheus' text form."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(model, ranks))
    return generate_latest(registry)
