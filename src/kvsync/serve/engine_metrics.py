"""
What an engine's own `/metrics` says about its cache, rank by rank: text in, `Reading` out.

Only the few lines that matter are looked for; everything else of the page, most of it histograms, is passed over
unparsed. Names are vLLM's (two generations of them) and SGLang's (with a colon or an underscore).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Sleep(StrEnum):
    """Whether an engine computes."""

    AWAKE = "awake"

    PAUSED = "paused"
    """It takes no steps; its cache stays."""

    ASLEEP = "asleep"
    """It gave the memory of its cache away."""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What one rank says; None where it does not.

    `usage` is the share of blocks that running requests hold: what is cached and free is not in it. `blocks_total` is
    the pool's size; `cached_tokens` (SGLang only) is all that the GPU holds, in use or not; `lookups` only ever grows
    while the process lives.
    """

    sleep: Sleep | None = None
    usage: float | None = None
    blocks_total: int | None = None
    cached_tokens: int | None = None
    lookups: float | None = None
    running: int | None = None
    waiting: int | None = None


_NAMES = (
    r"vllm:(?:engine_sleep_state|cache_config_info|num_requests_(?:running|waiting))",
    r"vllm:(?:kv|gpu)_cache_usage_perc",
    r"vllm:(?:gpu_)?prefix_cache_queries_total",
    r"sglang[:_](?:token_usage|kv_used_tokens|kv_evictable_tokens|num_running_reqs|num_queue_reqs|prompt_tokens_total)",
)
_LABELS = r'(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?'
_LINE = re.compile(f"^({'|'.join(_NAMES)}){_LABELS}[ \\t]+(\\S+)".encode(), re.MULTILINE)
_LABEL = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')

_RANK_LABELS = ("engine", "dp_rank")
_ONLY = "0"

_PLAIN = {
    "kv_cache_usage_perc": "usage",
    "gpu_cache_usage_perc": "usage",
    "token_usage": "usage",
    "prefix_cache_queries_total": "lookups",
    "gpu_prefix_cache_queries_total": "lookups",
    "prompt_tokens_total": "lookups",
}
_COUNTS = {
    "num_requests_running": "running",
    "num_requests_waiting": "waiting",
    "num_running_reqs": "running",
    "num_queue_reqs": "waiting",
}
_HELD = ("kv_used_tokens", "kv_evictable_tokens")


def read_metrics(page: bytes) -> dict[str, Reading]:
    """
    Read a page in Prometheus' text form: rank, as the engine labels it, to what it says.

    Ranks that say nothing of use are absent. Lines that cannot be read are passed over.
    """
    values: dict[str, dict[str, float]] = {}
    for rank, name, labels, value in _samples(page):
        of_rank = values.setdefault(rank, {})
        if name == "engine_sleep_state":
            of_rank[f"sleep {labels.get('sleep_state', '')}"] = value
        elif name == "cache_config_info":
            blocks = labels.get("num_gpu_blocks", "")
            of_rank["blocks"] = float(blocks) if blocks.isascii() and blocks.isdecimal() else 0.0
        else:
            # Several samples of one rank are its tensor-parallel parts, which say the same but for their age.
            of_rank[name] = max(value, of_rank.get(name, value))
    return {rank: _reading(of_rank) for rank, of_rank in values.items()}


def of_rank(readings: Mapping[str, Reading], rank: int, *, ranks: int) -> Reading | None:
    """
    One rank's reading. A pod of one rank may label it with its place in a larger group: then the only one is it.
    """
    if ranks == 1 and len(readings) == 1:
        return next(iter(readings.values()))
    return readings.get(str(rank))


def with_sleep(reading: Reading, is_sleeping: bool) -> Reading:
    """The reading of an engine that tells by `/is_sleeping` alone, which older releases say only of lost memory."""
    return replace(reading, sleep=Sleep.ASLEEP if is_sleeping else Sleep.AWAKE)


def _samples(page: bytes) -> Iterator[tuple[str, str, dict[str, str], float]]:
    for found in _LINE.finditer(page):
        try:
            value = float(found[3])
        except ValueError:
            continue
        if not 0 <= value < float("inf"):
            continue
        labels = {key.decode(): text.decode("utf-8", "replace") for key, text in _LABEL.findall(found[2] or b"")}
        name = found[1].decode().removeprefix("vllm:").removeprefix("sglang:").removeprefix("sglang_")
        rank = next((labels[label] for label in _RANK_LABELS if labels.get(label)), _ONLY)
        yield rank, name, labels, value


def _reading(values: Mapping[str, float]) -> Reading:
    plain = {field: values[name] for name, field in _PLAIN.items() if name in values}
    counts = {field: int(values[name]) for name, field in _COUNTS.items() if name in values}
    held = sum(values[name] for name in _HELD) if all(name in values for name in _HELD) else None
    return Reading(
        sleep=_sleep(values),
        blocks_total=int(values["blocks"]) if values.get("blocks") else None,
        cached_tokens=None if held is None else int(held),
        usage=plain.get("usage"),
        lookups=plain.get("lookups"),
        running=counts.get("running"),
        waiting=counts.get("waiting"),
    )


def _sleep(values: Mapping[str, float]) -> Sleep | None:
    if values.get("sleep weights_offloaded") or values.get("sleep discard_all"):
        return Sleep.ASLEEP
    awake = values.get("sleep awake")
    return None if awake is None else Sleep.AWAKE if awake else Sleep.PAUSED
