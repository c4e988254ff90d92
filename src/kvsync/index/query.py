"""A question as the core reads it: a `kvs_query` and all that its pointers point to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from kvsync._core import ffi
from kvsync.index.texts import utf8
from kvsync.index.tokens import Tokens, lend_tokens
from kvsync.types import ExtraKeys

OFFSET_MAX = 2**63 - 1

_TEXT = ffi.typeof("char[]")
_NONE = (ffi.NULL, 0)

Lent = tuple[Any, int]


def lend_query(
    tokens: Tokens,
    model: Any,
    lora: str | None,
    cache_salt: str | None,
    extra_keys: ExtraKeys | None,
    engines: Sequence[int] | None,
) -> tuple[list[tuple[Any, ...]], object]:
    """
    A `kvs_query` as cffi takes it for an argument, and what must live as long as it is used.

    cffi lays it out on the C stack: to allocate one would be an eighth of what a question costs that nobody matches.

    Raises ValueError for a text over the core's limit and for extra keys that are not (text, offset, length).
    """
    plain = (*lend_tokens(tokens), *(_lend_name("model", model) if type(model) is str else _lend("model", model)))
    if engines is None and not (lora or cache_salt or extra_keys):
        return [plain], None
    kept: list[Any] = []
    more = (
        *(_lend("lora", lora) if lora else _NONE),
        # An empty salt is none, as engines have it.
        *(_lend("cache_salt", cache_salt) if cache_salt else _NONE),
        *(_lend_extra_keys(kept, extra_keys) if extra_keys else _NONE),
        *(_NONE if engines is None else (ffi.new("uint32_t[]", engines), len(engines))),
    )
    return [plain + more], kept


def _lend(what: str, text: str) -> Lent:
    data = utf8(what, text)
    return ffi.from_buffer(_TEXT, data), len(data)


# The names of models are few, and asked for again and again.
_lend_name = lru_cache(maxsize=256)(_lend)


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
