"""LoRA adapters that engines' events named, as the core notes them."""

from __future__ import annotations

from typing import Any

from kvsync._core import check, ffi, lib
from kvsync.index.texts import utf8

NAME_BYTES_MAX: int = lib.KVS_ADAPTER_BYTES_MAX


def adapters_of(core: Any, number: int) -> dict[str, int]:
    """Every adapter of one engine, the latest first, with the number of the last event that named it."""
    name, count, at = ffi.new("char[]", NAME_BYTES_MAX), ffi.new("size_t *"), ffi.new("uint64_t *")
    found: dict[str, int] = {}
    for nth in range(lib.KVS_ADAPTERS_MAX):
        status = lib.kvs_index_adapter(core, number, nth, name, count, at)
        if status in (lib.KVS_ERR_ARGUMENT, lib.KVS_ERR_ENGINE):  # all told, or the engine went away meanwhile
            break
        check(status)
        found.setdefault(ffi.unpack(name, count[0]).decode("utf-8", "backslashreplace"), int(at[0]))
    return found


def engines_with(core: Any, adapter: str, capacity: int) -> dict[int, int]:
    """The numbers of the engines that have an adapter, with that of the last event that named it."""
    name = utf8("lora", adapter)
    engines, at = ffi.new("uint32_t[]", capacity), ffi.new("uint64_t[]", capacity)
    count = lib.kvs_index_adapter_engines(core, ffi.from_buffer("char[]", name), len(name), engines, at, capacity)
    return dict(zip(ffi.unpack(engines, count), ffi.unpack(at, count), strict=True)) if count else {}
