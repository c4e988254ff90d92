"""
Events of the simulated cache in a form that can be held against another engine's: by name, and without its hashes.
"""

from __future__ import annotations

from typing import Any

from kvsync.engine.events import BlockRemoved, BlockStored, CacheEvent

Event = dict[str, Any]
Batch = list[Event]


def plain(event: CacheEvent) -> Event:
    """Give our event by the names that maps have."""
    if isinstance(event, BlockRemoved):
        return {"type": "BlockRemoved", "block_hashes": list(event.hashes), "group_idx": event.group}
    if not isinstance(event, BlockStored):
        return {"type": "AllBlocksCleared"}
    return {
        "type": "BlockStored",
        "block_hashes": list(event.hashes),
        "parent_block_hash": event.parent,
        "token_ids": event.tokens.tolist(),
        "block_size": event.block_size,
        "lora_name": event.lora.name if event.lora else None,
        "extra_keys": [None if keys is None else [listed(key) for key in keys] for keys in event.extras],
        "group_idx": event.group,
        "kv_cache_spec_kind": event.spec.kind,
        "kv_cache_spec_sliding_window": event.spec.window,
        "session_id": event.session,
    }


def listed(key: Any) -> Any:
    """Give an extra key as it is written."""
    return list(key) if isinstance(key, tuple) else key


def numbered(life: list[Batch]) -> list[Batch]:
    """Replace every hash by its place in the order of first mentions, so that engines with other hashes compare."""
    places: dict[Any, int] = {None: -1}

    def place(value: Any) -> int:
        return places.setdefault(value, len(places))

    for batch in life:
        for event in batch:
            event["block_hashes"] = [place(one) for one in event.get("block_hashes", ())]
            if "parent_block_hash" in event:
                event["parent_block_hash"] = place(event["parent_block_hash"])
    return life
