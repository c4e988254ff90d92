"""A question as the core reads it: a `kvs_query` and all that its pointers point to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kvsync._core import ffi
from kvsync.index.texts import utf8
from kvsync.types import ExtraKeys

OFFSET_MAX = 2**63 - 1

_TEXT = ffi.typeof("char[]")
_NONE = (ffi.NULL, 0)

Lent = tuple[Any, int]


def lend_query(
    model: Any,
    lora: str | None,
    cache_salt: str | None,
    extra_keys: ExtraKeys | None,
    engines: Sequence[int] | None,
) -> tuple[Any, object]:
    """
    A `kvs_query` for any tokens, and what must live as long as it is used.

    The plain one of a model is made once: to make one costs as much as a question that nobody matches.

    Raises ValueError for a text over the core's limit and for extra keys that are not (text, offset, length).
    """
    if engines is None and type(model) is str and not (lora or cache_salt or extra_keys):
        return _plain_query(model)
    return _make_query(model, lora, cache_salt, extra_keys, engines)


def _make_query(
    model: Any,
    lora: str | None,
    cache_salt: str | None,
    extra_keys: ExtraKeys | None,
    engines: Sequence[int] | None,
) -> tuple[Any, object]:
    kept: list[Any] = []
    fields = (
        *_NONE,
        *_lend("model", model),
        *(_lend("lora", lora) if lora else _NONE),
        # An empty salt is none, as engines have it.
        *(_lend("cache_salt", cache_salt) if cache_salt else _NONE),
        *(_lend_extra_keys(kept, extra_keys) if extra_keys else _NONE),
        *(_NONE if engines is None else (ffi.new("uint32_t[]", engines), len(engines))),
    )
    return ffi.new("kvs_query *", fields), (kept, fields)


@lru_cache(maxsize=256)
def _plain_query(model: str) -> tuple[Any, object]:
    return _make_query(model, None, None, None, None)


def _lend(what: str, text: str) -> Lent:
    data = utf8(what, text)
    return ffi.from_buffer(_TEXT, data), len(data)


def _lend_extra_keys(kept: list[Any], extra_keys: ExtraKeys) -> Lent:
    rows = ffi.new("kvs_extra_key[]", len(extra_keys))
    for row, extra_key in zip(rows, extra_keys, strict=True):
        try:
            identifier, offset, length = extra_key
            lent = _lend("an extra key's identifier", identifier)
            kept.append(lent)
            row.identifier, row.identifier_bytes = lent
            if not 0 <= offset <= OFFSET_MAX:
                raise ValueError(f"the first token is outside 0 .. {OFFSET_MAX}")
            row.offset, row.length = offset, length
        except (TypeError, AttributeError, OverflowError, ValueError) as error:
            raise ValueError(
                f"extra key {extra_key!r}: give (identifier, first token, number of tokens) ({error})"
            ) from None
    return rows, len(extra_keys)
