"""The plain reader against the msgpack library, and on what no library reads."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest

from kvsync.testing.plain_msgpack import Kind, NotAValue, TruncatedValue, Value, find_end, read_value

DEPTH = 32


def plain(value: Value) -> Any:
    """A value as the library would give it; maps as tuples of pairs."""
    content: Any = value.content
    match value.kind:
        case Kind.ARRAY:
            return [plain(item) for item in content]
        case Kind.MAP:
            return [(plain(key), plain(item)) for key, item in content]
        case Kind.INT | Kind.TEXT | Kind.BYTES:
            return content
        case _:
            return value.kind


def made_up(rng: random.Random, depth: int) -> Any:
    """A random value of the kinds that have content."""
    match rng.randrange(7 if depth else 4):
        case 0:
            return rng.choice((1, -1)) * rng.getrandbits(rng.choice((3, 7, 8, 15, 16, 31, 32, 63)))
        case 1:
            return "ä" * rng.choice((0, 1, 15, 16, 130, 40_000))
        case 2:
            return rng.randbytes(rng.choice((0, 1, 255, 256, 70_000)))
        case 3:
            return (1 << 64) - 1
        case 4 | 5:
            return [made_up(rng, depth - 1) for _ in range(rng.choice((0, 1, 3, 16)))]
        case _:
            return [[made_up(rng, 0), made_up(rng, depth - 1)] for _ in range(rng.choice((0, 1, 17)))]


@pytest.mark.parametrize("seed", range(40))
def test_it_reads_what_the_library_writes(seed: int) -> None:
    """Every kind and width of value reads as what was written, and ends where the next begins."""
    value = made_up(random.Random(seed), 3)
    raw = msgpack.packb(value, use_bin_type=True)
    read, end = read_value(raw + b"rest", 0, DEPTH)
    assert plain(read) == value
    assert end == len(raw) == find_end(raw + b"rest", 0)
    assert read.raw == raw


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\xc0", Kind.NIL),
        (b"\xc2", Kind.BOOL),
        (b"\xc3", Kind.BOOL),
        (b"\xca" + bytes(4), Kind.FLOAT),
        (b"\xcb" + bytes(8), Kind.FLOAT),
        (b"\xd4\x01" + bytes(1), Kind.EXT),
        (b"\xd5\x01" + bytes(2), Kind.EXT),
        (b"\xd6\x01" + bytes(4), Kind.EXT),
        (b"\xd7\xff" + bytes(8), Kind.EXT),
        (b"\xd8\x01" + bytes(16), Kind.EXT),
        (b"\xc7\x03\x01abc", Kind.EXT),
        (b"\xc8\x00\x03\x01abc", Kind.EXT),
        (b"\xc9\x00\x00\x00\x03\x01abc", Kind.EXT),
        (b"\xdc\x00\x00", Kind.ARRAY),
        (b"\xdd\x00\x00\x00\x00", Kind.ARRAY),
        (b"\xde\x00\x00", Kind.MAP),
        (b"\xdf\x00\x00\x00\x00", Kind.MAP),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else "",
)
def test_kinds_without_use_to_us_have_their_length(raw: bytes, kind: Kind) -> None:
    """Nil, booleans, floats, extensions and the long forms of empty containers end where they should."""
    value, end = read_value(raw + b"\x00", 0, DEPTH)
    assert (value.kind, end) == (kind, len(raw))
    for cut in range(len(raw)):
        with pytest.raises(TruncatedValue):
            find_end(raw[:cut], 0)


def test_maps_keep_pairs_in_order_and_twice() -> None:
    """A map is its pairs as sent: a key may come twice, and need not be one that Python could hash."""
    raw = b"\x83\xa1a\x01\xa1a\x02\x91\x05\x03"
    assert plain(read_value(raw, 0, DEPTH)[0]) == [("a", 1), ("a", 2), ([5], 3)]


def test_text_that_is_not_utf8_stays_told_apart() -> None:
    """Different bad bytes read as different text."""
    first, _ = read_value(b"\xa1\xff", 0, DEPTH)
    second, _ = read_value(b"\xa1\xfe", 0, DEPTH)
    assert first.content != second.content


def test_the_reserved_byte_is_no_value() -> None:
    """Where 0xc1 stands nothing can be read, wherever that is."""
    for raw in (b"\xc1", b"\x91\xc1", b"\x82\x01\xc1\x02\x03"):
        with pytest.raises(NotAValue):
            find_end(raw, 0)


def test_what_lies_too_deep_is_passed_over() -> None:
    """A container beyond the depth is not looked into; where it ends is still known."""
    value, end = read_value(b"\x91\x91\x92\x01\x02\x07", 0, 2)
    assert value.deep
    assert end == 5
    assert not read_value(b"\x91\x91\x92\x01\x02\x07", 0, 3)[0].deep


def test_finding_the_end_needs_no_stack() -> None:
    """A hundred thousand containers in one another are no trouble."""
    assert find_end(b"\x91" * 100_000 + b"\xc0", 0) == 100_001


def test_a_promise_that_cannot_be_kept_is_seen_at_once() -> None:
    """An array of four thousand million items in five bytes is cut short, without looking for them."""
    with pytest.raises(TruncatedValue):
        find_end(b"\xdd\xff\xff\xff\xff", 0)
