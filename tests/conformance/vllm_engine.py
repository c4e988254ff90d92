"""
vLLM's own cache manager and event publisher, without a GPU, as a servant: it does what it is told and tells what came.

Runs in an environment of its own that has vLLM and nothing of kvsync. Orders come as lines of JSON on standard input,
one answer to each goes out on standard output; who decides what is computed when is on the other side (`schedule.py`).
Nothing here imitates vLLM: hits, allocation, eviction, hashes, events and frames are its own.
"""

from __future__ import annotations

import inspect
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import vllm
from vllm.distributed.kv_events import KVEventBatch, ZmqEventPublisher
from vllm.lora.request import LoRARequest
from vllm.multimodal.inputs import MultiModalFeatureSpec, MultiModalKwargsItem, PlaceholderRange
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core import kv_cache_utils
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec, SlidingWindowSpec
from vllm.v1.request import Request

TOLD = (
    *("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_name", "extra_keys", "group_idx"),
    *("kv_cache_spec_kind", "kv_cache_spec_sliding_window", "session_id"),
)
"""Fields of an event that are compared; one that the release does not have is not told."""

END_TOKEN = 2


def fitting(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call with those of the arguments that this release takes."""
    known = inspect.signature(call).parameters
    return call(**{name: value for name, value in arguments.items() if name in known})


class Rank:
    """One engine: a cache manager, a publisher, and the requests it knows by name."""

    def __init__(self, order: dict[str, Any]) -> None:
        size = order["block_size"]
        hash_function = get_hash_fn_by_name(order["algorithm"])
        kv_cache_utils.init_none_hash(hash_function)
        self._hasher = kv_cache_utils.get_request_block_hasher(size, hash_function)
        specs = [self._spec(FullAttentionSpec, size)]
        specs += [self._spec(SlidingWindowSpec, size, sliding_window=window) for window in order["windows"]]
        groups = [KVCacheGroupSpec([f"layer.{number}"], spec) for number, spec in enumerate(specs)]
        self._manager = fitting(
            KVCacheManager,
            kv_cache_config=KVCacheConfig(num_blocks=order["blocks"], kv_cache_tensors=[], kv_cache_groups=groups),
            max_model_len=order["model_tokens_max"],
            scheduler_block_size=size,
            hash_block_size=size,
            enable_caching=True,
            enable_kv_cache_events=True,
        )
        self._publisher = ZmqEventPublisher(
            order["rank"], endpoint=order["events"], replay_endpoint=order["replay"], topic=order["topic"]
        )
        self._replay_port = int(order["replay"].rpartition(":")[2]) + order["rank"]
        self._requests: dict[str, Any] = {}
        self._published = 0

    @staticmethod
    def _spec(kind: Any, size: int, **more: Any) -> Any:
        return fitting(kind, block_size=size, num_kv_heads=1, head_size=1, dtype=torch.float32, use_mla=False, **more)

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Make a request; nothing is computed yet."""
        extra = {"kv_cache_report_mode": "full"} if order["report_full"] else None
        sampling = SamplingParams(max_tokens=max(1, order["answer"]), extra_args=extra)
        lora = order["lora"] and LoRARequest(order["lora"][0], order["lora"][1], f"adapters/{order['lora'][0]}")
        images = [
            MultiModalFeatureSpec(
                data=MultiModalKwargsItem.dummy(),
                modality="image",
                identifier=identifier,
                mm_position=PlaceholderRange(offset=offset, length=length),
            )
            for identifier, offset, length in order["images"]
        ]
        self._requests[order["name"]] = fitting(
            Request,
            request_id=order["name"],
            prompt_token_ids=order["tokens"],
            sampling_params=sampling,
            pooling_params=None,
            eos_token_id=END_TOKEN,
            arrival_time=0.0,
            mm_features=images or None,
            lora_request=lora or None,
            cache_salt=order["salt"],
            session_id=order["session"],
            block_hasher=self._hasher,
        )
        return {}

    def begin(self, order: dict[str, Any]) -> dict[str, Any]:
        """Look the request up and give it blocks for what is missing, at most `tokens_max` tokens."""
        request = self._requests[order["name"]]
        blocks, hit, *_ = self._manager.get_computed_blocks(request)
        count = min(request.num_tokens - hit, order["tokens_max"])
        if self._manager.allocate_slots(request, count, hit, blocks) is None:
            return {"hit": hit, "count": 0}
        request.num_computed_tokens = hit + count
        return {"hit": hit, "count": count}

    def go_on(self, order: dict[str, Any]) -> dict[str, Any]:
        """Give a running request blocks for `count` more tokens."""
        request = self._requests[order["name"]]
        if self._manager.allocate_slots(request, order["count"]) is None:
            return {"done": False}
        request.num_computed_tokens += order["count"]
        return {"done": True}

    def append(self, order: dict[str, Any]) -> dict[str, Any]:
        """A token of the answer."""
        self._requests[order["name"]].append_output_token_ids(order["token"])
        return {}

    def release(self, order: dict[str, Any]) -> dict[str, Any]:
        """Take the request's blocks; it ends, or with `again` begins anew later."""
        request = self._requests[order["name"]]
        self._manager.free(request)
        request.num_computed_tokens = 0
        if not order["again"]:
            del self._requests[order["name"]]
        return {}

    def reset(self, _order: dict[str, Any]) -> dict[str, Any]:
        """Empty the cache; no request holds a block."""
        return {"done": self._manager.reset_prefix_cache()}

    def publish(self, _order: dict[str, Any]) -> dict[str, Any]:
        """End a step: publish its events, and tell them."""
        events = self._manager.take_events()
        if events:
            self._publisher.publish(KVEventBatch(ts=time.time(), events=events))
            self._published += 1
        return {"events": [told(event) for event in events]}

    def truth(self, _order: dict[str, Any]) -> dict[str, Any]:
        """What the block pool's own table holds, as of the last batch published."""
        table = self._manager.block_pool.cached_block_hash_to_block
        held: dict[str, dict[str, int]] = {}
        for key, blocks in getattr(table, "_cache", table).items():
            group = str(kv_cache_utils.get_group_id(key))
            name = shown(kv_cache_utils.maybe_convert_block_hash(kv_cache_utils.get_block_hash(key)))
            held.setdefault(group, {})[name] = len(blocks) if isinstance(blocks, dict) else 1
        return {"sequence": self._published - 1, "groups": held}

    def close(self, _order: dict[str, Any]) -> dict[str, Any]:
        """End the publisher, as the end of the process does: its port is free afterwards."""
        self._publisher.shutdown()
        wait_until_free(self._replay_port)
        return {}


def wait_until_free(port: int, timeout_s: float = 30.0) -> None:
    """Return once the port can be bound: libzmq closes sockets in a thread of its own, a while later."""
    end = time.monotonic() + timeout_s
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                if time.monotonic() > end:
                    raise
            else:
                return
        time.sleep(0.01)


def told(event: Any) -> dict[str, Any]:
    """An event by the names of its fields, hashes as texts."""
    fields = {name: getattr(event, name) for name in TOLD if hasattr(event, name)}
    if "block_hashes" in fields:
        fields["block_hashes"] = [shown(one) for one in fields["block_hashes"]]
    if fields.get("parent_block_hash") is not None:
        fields["parent_block_hash"] = shown(fields["parent_block_hash"])
    if fields.get("kv_cache_spec_kind") is not None:
        fields["kv_cache_spec_kind"] = str(getattr(fields["kv_cache_spec_kind"], "value", fields["kv_cache_spec_kind"]))
    return {"type": type(event).__name__, **fields}


def shown(block_hash: Any) -> str:
    """A block hash as kvsync shows it."""
    return block_hash.hex() if isinstance(block_hash, bytes) else str(block_hash)


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints is no answer
    ranks: dict[int, Rank] = {}
    print(json.dumps({"version": vllm.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "open":
            ranks[order["rank"]] = Rank(order)
            answer: dict[str, Any] = {}
        else:
            answer = getattr(ranks[order["rank"]], order["do"])(order)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
