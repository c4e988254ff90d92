"""
What a caller calls tokens, as the core wants it: a run of uint32 in host byte order.

A buffer is lent, not copied; anything else is copied once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, TypeAlias

from kvsync._core import ffi, lib

Tokens: TypeAlias = Any
"""A list or other iterable of ints, or a C-contiguous one-dimensional buffer of uint32."""

UINT32_FORMATS = frozenset({"I", "@I", "=I", "<I", "L", "@L", "=L", "<L"})
UINT64_FORMATS = frozenset({"Q", "@Q", "=Q", "<Q", "L", "@L", "=L", "<L"})

_UINT32, _UINT64 = ffi.typeof("uint32_t[]"), ffi.typeof("uint64_t[]")


def lend_tokens(tokens: Tokens) -> tuple[Any, int]:
    """
    Make tokens readable by C: (cdata that keeps its owner alive, count).

    Raises TypeError for a buffer that is not uint32 and for what is no tokens at all, ValueError for a token that
    is no uint32.
    """
    if type(tokens) is array and tokens.typecode == "I":
        return ffi.from_buffer(_UINT32, tokens), len(tokens)
    if not isinstance(tokens, list | tuple):
        try:
            view = memoryview(tokens)
        except TypeError:
            if not isinstance(tokens, Iterable) or isinstance(tokens, str):
                raise TypeError(
                    f"tokens are {type(tokens).__name__}: give a list of ints or a buffer of uint32"
                ) from None
        else:
            return _lend_view(view), view.shape[0] if view.shape else 0
    try:
        copied = array("I", tokens)
    except OverflowError as error:
        raise ValueError(f"a token is outside 0 .. 4294967295: {error}") from None
    return ffi.from_buffer(_UINT32, copied), len(copied)


def _lend_view(view: memoryview) -> Any:
    if view.ndim != 1 or view.itemsize != 4 or view.format not in UINT32_FORMATS:
        raise TypeError(
            f"tokens are a {view.ndim}-dimensional buffer of format {view.format!r}: give one dimension of uint32 "
            "(array('I'), numpy.uint32, memoryview.cast('I'))"
        )
    if not view.c_contiguous:
        raise TypeError("tokens are a buffer with gaps: give a contiguous one (numpy.ascontiguousarray)")
    return ffi.from_buffer(_UINT32, view)


def lend_hashes(block_hashes: Any) -> tuple[Any, int]:
    """
    Make block hashes readable by C, as `lend_tokens` does tokens, but of uint64.

    Raises TypeError and ValueError as there.
    """
    if type(block_hashes) is array and block_hashes.typecode == "Q":
        return ffi.from_buffer(_UINT64, block_hashes), len(block_hashes)
    try:
        view = memoryview(block_hashes)
    except TypeError:
        try:
            copied = array("Q", block_hashes)
        except OverflowError as error:
            raise ValueError(f"a block hash is outside 0 .. 2**64-1: {error}") from None
        return ffi.from_buffer(_UINT64, copied), len(copied)
    if view.ndim != 1 or view.itemsize != 8 or not view.c_contiguous or view.format not in UINT64_FORMATS:
        raise TypeError(f"block hashes are a buffer of format {view.format!r}: give contiguous uint64")
    return ffi.from_buffer(_UINT64, view), len(view)


def read_json_tokens(text: bytes, at: int) -> tuple[array[int], int] | None:
    """
    The token ids of the JSON array behind whose "[" `at` is, and where the text goes on; None if it is anything else.

    No Python object is made for a token: of 100,000 that would be most of what a question over HTTP costs.
    """
    tokens = array("I", bytes(4 * (text.count(b",", at) + 1)))
    count = ffi.new("size_t *")
    room = ffi.from_buffer(_UINT32, tokens)
    used = lib.kvs_tokens_read(ffi.from_buffer(text) + at, len(text) - at, room, len(tokens), count)
    ffi.release(room)
    del tokens[count[0] :]
    return (tokens, at + used) if used else None
