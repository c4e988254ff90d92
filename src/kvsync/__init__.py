"""
Follow the KV caches of a fleet of LLM engines, exactly, and send each request where its prefix lies.

    from kvsync import Engine, Index

    with Index() as index:
        index.apply(Engine("pod-7"), payload, model="llama", sequence=0)
        index.match(token_ids, model="llama")

Everything public is named here. `Index` brings the C library with it, so it is loaded when first asked for:
errors and plain values are to be had without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.errors import (
    CapacityError,
    ClosedError,
    ConfigError,
    DiscoveryError,
    FrameError,
    KvsyncError,
    TokenizeError,
)
from kvsync.types import Applied, Engine, EngineHash, ExtraKey, ExtraKeys, Match, Trust

if TYPE_CHECKING:
    from kvsync.index import Index

    __version__: str

__all__ = [
    "Applied",
    "CapacityError",
    "ClosedError",
    "ConfigError",
    "DiscoveryError",
    "Engine",
    "EngineHash",
    "ExtraKey",
    "ExtraKeys",
    "FrameError",
    "Index",
    "KvsyncError",
    "Match",
    "TokenizeError",
    "TokenizerUnavailable",
    "Trust",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Both cost more than the rest of the package together: a shared library, and reading the metadata.
    match name:
        case "Index":
            from kvsync import index

            value: Any = index.Index
        case "__version__":
            from importlib import metadata

            value = metadata.version("kvsync")
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
