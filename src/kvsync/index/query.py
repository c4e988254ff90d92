"""A question as the core reads it: a `kvs_query` and all that its pointers point to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvsync._core import ffi
from kvsync.index.texts import utf8
from kvsync.index.tokens import Tokens, lend_tokens
from kvsync.types import ExtraKeys

OFFSET_MAX = 2**63 - 1


class Query:
    """
    `pointer` is valid as long as this object lives.

    Raises ValueError for a text over the core's limit and for extra keys that are not (text, offset, length).
    """

    __slots__ = ("_kept", "pointer")

    def __init__(
        self,
        tokens: Tokens,
        *,
        model: str,
        lora: str | None,
        cache_salt: str | None,
        extra_keys: ExtraKeys | None,
        engines: Sequence[int] | None,
    ) -> None:
        self.pointer = query = ffi.new("kvs_query *")
        self._kept: list[Any] = []
        query.tokens, query.tokens_count = self._keep(lend_tokens(tokens))
        query.model, query.model_bytes = self._text("model", model)
        if lora:
            query.lora, query.lora_bytes = self._text("lora", lora)
        if cache_salt:
            # An empty salt is none, as engines have it.
            query.cache_salt, query.cache_salt_bytes = self._text("cache_salt", cache_salt)
        if extra_keys:
            query.extra_keys, query.extra_keys_count = self._keep(self._extra_keys(extra_keys))
        if engines is not None:
            query.engines, query.engines_count = self._keep((ffi.new("uint32_t[]", engines), len(engines)))

    def _keep(self, lent: tuple[Any, int]) -> tuple[Any, int]:
        self._kept.append(lent[0])
        return lent

    def _text(self, what: str, text: str) -> tuple[Any, int]:
        data = utf8(what, text)
        return self._keep((ffi.from_buffer("char[]", data), len(data)))

    def _extra_keys(self, extra_keys: ExtraKeys) -> tuple[Any, int]:
        rows = ffi.new("kvs_extra_key[]", len(extra_keys))
        for row, extra_key in zip(rows, extra_keys, strict=True):
            try:
                identifier, offset, length = extra_key
                row.identifier, row.identifier_bytes = self._text("an extra key's identifier", identifier)
                if not 0 <= offset <= OFFSET_MAX:
                    raise ValueError(f"the first token is outside 0 .. {OFFSET_MAX}")
                row.offset, row.length = offset, length
            except (TypeError, AttributeError, OverflowError, ValueError) as error:
                raise ValueError(
                    f"extra key {extra_key!r}: give (identifier, first token, number of tokens) ({error})"
                ) from None
        return rows, len(extra_keys)
