"""What may be given as tokens and as block hashes, without a copy where it is a buffer already."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvsync._core import ffi
from kvsync.index.tokens import lend_hashes, lend_tokens, read_json_tokens

TOKENS = [0, 1, 151_643, 2**32 - 1]
HASHES = [0, 1, 2**63, 2**64 - 1]


def address_of(lent: Any) -> int:
    """Where what was lent begins."""
    return int(ffi.cast("uintptr_t", lent))


BUFFERS: dict[str, Callable[[list[int]], Any]] = {
    "array('I')": lambda tokens: array("I", tokens),
    "memoryview of array": lambda tokens: memoryview(array("I", tokens)),
    "memoryview cast": lambda tokens: memoryview(array("I", tokens).tobytes()).cast("I"),
    "numpy.uint32": lambda tokens: np.array(tokens, dtype=np.uint32),
    "numpy.uint32, a slice": lambda tokens: np.array([9, *tokens, 9], dtype=np.uint32)[1:-1],
    "numpy.uint32, read-only": lambda tokens: np.frombuffer(
        np.array(tokens, dtype=np.uint32).tobytes(), dtype=np.uint32
    ),
    "numpy.dtype('<u4')": lambda tokens: np.array(tokens, dtype="<u4"),
    "ctypes": lambda tokens: (ctypes.c_uint32 * len(tokens))(*tokens),
}
ITERABLES: dict[str, Callable[[list[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda tokens: (token for token in tokens),
    "range": lambda tokens: range(len(tokens)),
    "numpy scalars": lambda tokens: [np.uint32(token) for token in tokens],
}


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_buffer_is_lent_not_copied(kind: str) -> None:
    """C reads the caller's own memory, and all of it."""
    tokens = BUFFERS[kind](TOKENS)
    lent, count = lend_tokens(tokens)
    assert (list(lent), count) == (TOKENS, len(TOKENS))
    assert address_of(lent) == address_of(ffi.from_buffer(tokens))


@pytest.mark.parametrize("kind", ITERABLES)
def test_anything_else_is_copied_once(kind: str) -> None:
    """Whatever yields integers will do."""
    lent, count = lend_tokens(ITERABLES[kind](TOKENS))
    assert list(lent) == (list(range(4)) if kind == "range" else TOKENS)
    assert count == 4


@pytest.mark.parametrize("empty", [[], (), array("I"), np.array([], dtype=np.uint32), memoryview(array("I"))])
def test_no_tokens_are_tokens_too(empty: Any) -> None:
    """An empty prompt is none to complain about."""
    assert lend_tokens(empty)[1] == 0


def test_what_is_lent_stays_alive() -> None:
    """The owner may forget its buffer while C still reads it."""
    tokens = array("I", TOKENS)
    lent, _ = lend_tokens(tokens)
    with pytest.raises(BufferError):
        tokens.append(1)  # a buffer that is lent cannot move
    del tokens
    assert list(lent) == TOKENS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"tokens", r"format 'B'.*array\('I'\)"),
        (bytearray(8), "format 'B'"),
        (array("i", [1]), "format 'i'"),
        (array("Q", [1]), "format 'Q'"),
        (array("d", [1.0]), "format 'd'"),
        (np.array([1, 2]), "format 'l'"),
        (np.array([1], dtype=np.uint64), "format 'L'"),
        (np.array([1.0], dtype=np.float32), "format 'f'"),
        (np.array([1], dtype=">u4"), "format '>I'"),
        (np.zeros((2, 2), dtype=np.uint32), "2-dimensional"),
        (np.uint32(5), "0-dimensional"),
        (np.arange(8, dtype=np.uint32)[::2], "gaps.*ascontiguousarray"),
        (np.arange(8, dtype=np.uint32)[::-1], "gaps"),
        ("text", "str.*list of ints"),
        (None, "NoneType"),
        (7, "int"),
        ([1, "2"], None),
        ([1.5], None),
        ([None], None),
    ],
)
def test_wrong_tokens_are_refused(wrong: Any, message: str | None) -> None:
    """The error names what was given and what would do."""
    with pytest.raises(TypeError, match=message):
        lend_tokens(wrong)


@pytest.mark.parametrize("token", [-1, 2**32, 2**64])
def test_a_token_must_fit(token: int) -> None:
    """A token id that is no uint32 is named as such."""
    with pytest.raises(ValueError, match=r"0 \.\. 4294967295"):
        lend_tokens([1, token])


@pytest.mark.parametrize(
    "hashes", [array("Q", HASHES), np.array(HASHES, dtype=np.uint64), memoryview(array("Q", HASHES))]
)
def test_block_hashes_are_lent_alike(hashes: Any) -> None:
    """A buffer of uint64 is not copied either."""
    lent, count = lend_hashes(hashes)
    assert (list(lent), count) == (HASHES, 4)
    assert address_of(lent) == address_of(ffi.from_buffer(hashes))
    assert list(lend_hashes(HASHES)[0]) == HASHES


@pytest.mark.parametrize(
    "wrong",
    [
        array("I", [1]),
        array("q", [1]),
        array("d", [1.0]),
        b"12345678",
        np.array([1.0]),
        np.array([1], dtype=">u8"),
        np.arange(8, dtype=np.uint64)[::2],
        [1.5],
        None,
    ],
)
def test_wrong_block_hashes_are_refused(wrong: Any) -> None:
    """Signed, floating, byte-swapped, scattered: not hashes."""
    with pytest.raises(TypeError):
        lend_hashes(wrong)


@pytest.mark.parametrize("block_hash", [-1, 2**64])
def test_a_block_hash_must_fit(block_hash: int) -> None:
    """A block hash that is no uint64 is named as such."""
    with pytest.raises(ValueError, match=r"2\*\*64-1"):
        lend_hashes([block_hash])


def test_token_ids_out_of_a_json_text() -> None:
    """The array's numbers and the place behind it; None for what is no array of token ids."""
    text = b'{"token_ids": [1, 22,4294967295], "n": [1,2,3]}'
    read = read_json_tokens(text, text.index(b"[") + 1)
    assert read is not None
    assert (list(read[0]), text[read[1] :]) == ([1, 22, 4294967295], b', "n": [1,2,3]}')
    assert read_json_tokens(b"[]", 1) == (array("I"), 2)
    assert read_json_tokens(b"[1,4294967296]", 1) is None
    assert read_json_tokens(b"[", 1) is None
