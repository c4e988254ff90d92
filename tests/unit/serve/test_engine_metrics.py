"""What is read from an engine's own metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.serve.engine_metrics import Reading, Sleep, of_rank, read_metrics, with_sleep

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a {\\"b\\"} c"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a"} 0.0
vllm:engine_sleep_state{engine="0",model_name="a",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="a",sleep_state="weights_offloaded"} 0.0
vllm:engine_sleep_state{engine="0",model_name="a",sleep_state="discard_all"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="a"} 4096.0
vllm:prefix_cache_queries_created{engine="0",model_name="a"} 1.7e+09
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="a"} 0.0
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="7200",num_cpu_blocks="None"} 1.0
vllm:num_requests_running{engine="1",model_name="a"} 3.0
"""

SGLANG = b"""\
sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="1"} 1.0
sglang:token_usage{model_name="m",tp_rank="0",dp_rank="1"} 0.5
sglang:kv_used_tokens{model_name="m",tp_rank="0",dp_rank="1"} 500
sglang:kv_used_tokens{model_name="m",tp_rank="1",dp_rank="1"} 480
sglang:kv_evictable_tokens{model_name="m",tp_rank="0",dp_rank="1"} 300
sglang:prompt_tokens_total{model_name="m"} 77
"""


def test_vllm_says_it_by_rank() -> None:
    """Sleep, use, pool size and counters; labels may hold anything."""
    assert read_metrics(VLLM) == {
        "0": Reading(Sleep.AWAKE, usage=0.25, blocks_total=7200, lookups=4096.0, running=2, waiting=0),
        "1": Reading(running=3),
    }


@pytest.mark.parametrize(
    ("awake", "offloaded", "discarded", "sleep"),
    [(1, 0, 0, Sleep.AWAKE), (0, 1, 0, Sleep.ASLEEP), (0, 0, 1, Sleep.ASLEEP), (0, 0, 0, Sleep.PAUSED)],
)
def test_levels_of_sleep(awake: int, offloaded: int, discarded: int, sleep: Sleep) -> None:
    """Level 0 pauses and keeps the cache; 1 and 2 give its memory away."""
    states = {"awake": awake, "weights_offloaded": offloaded, "discard_all": discarded}
    page = "".join(f'vllm:engine_sleep_state{{engine="0",sleep_state="{name}"}} {on}\n' for name, on in states.items())
    assert read_metrics(page.encode())["0"].sleep is sleep


def test_earlier_vllm_has_other_names() -> None:
    """Of use and of lookups; without a label it is rank 0, and a size of None says nothing."""
    page = (
        b"vllm:gpu_cache_usage_perc 0.5\n"
        b"vllm:gpu_prefix_cache_queries_total 9\n"
        b'vllm:cache_config_info{num_gpu_blocks="None"} 1\n'
    )
    assert read_metrics(page) == {"0": Reading(usage=0.5, lookups=9.0)}


def test_sglang_says_what_lies_there_and_is_free() -> None:
    """Used and evictable together, the largest of the tensor-parallel ranks, by data-parallel rank."""
    readings = read_metrics(SGLANG)
    assert readings["1"] == Reading(usage=0.5, cached_tokens=800, running=1)
    assert readings["0"].lookups == 77
    assert read_metrics(SGLANG.replace(b"sglang:", b"sglang_")) == readings


def test_a_rank_is_found_by_its_label() -> None:
    """The only rank of a pod may be labelled by its place in a larger group."""
    readings = read_metrics(VLLM)
    assert of_rank(readings, 1, ranks=2) is readings["1"]
    assert of_rank(readings, 2, ranks=3) is None
    assert of_rank({"7": readings["1"]}, 0, ranks=1) is readings["1"]
    assert of_rank({}, 0, ranks=1) is None


def test_sleep_may_be_told_apart() -> None:
    """By the answer of `/is_sleeping`."""
    assert with_sleep(Reading(running=1), True) == Reading(Sleep.ASLEEP, running=1)
    assert with_sleep(Reading(), False).sleep is Sleep.AWAKE


@given(st.binary(max_size=200), st.integers(0, len(VLLM)))
def test_any_bytes_can_be_read(junk: bytes, cut: int) -> None:
    """A page that is cut, or is none, says less; it never fails."""
    read_metrics(junk)
    read_metrics(VLLM[:cut] + junk)


def test_nonsense_numbers_say_nothing() -> None:
    """Infinite, negative, or no number at all."""
    values = ("+Inf", "-1", "NaN", "x")
    page = "".join(f"vllm:num_requests_waiting {value}\n" for value in values)
    assert read_metrics(page.encode()) == {}
