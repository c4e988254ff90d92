"""
Read msgpack values out of bytes that may be junk, one value at a time, in the plainest way there is.

The msgpack library answers for a whole value or raises; the index must know where an event ends even when
nothing in it makes sense, and what its bytes were. So the bytes are walked here, by the format's own table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias


class Kind(Enum):
    """What a msgpack value is."""

    NIL = auto()
    BOOL = auto()
    INT = auto()
    FLOAT = auto()
    TEXT = auto()
    BYTES = auto()
    ARRAY = auto()
    MAP = auto()
    EXT = auto()


class TruncatedValue(Exception):
    """The bytes end before the value does."""


class NotAValue(Exception):
    """A byte 0xc1, which begins no value: how long what follows is, nobody can say."""


@dataclass(frozen=True, slots=True)
class Head:
    """
    The first bytes of a value.

    `number` is the value of an integer, else the bytes of content (text, bytes, ext, float), the items of
    an array or the pairs of a map. `body` is where the content or the first item begins.
    """

    kind: Kind
    number: int
    body: int


@dataclass(frozen=True, slots=True)
class Value:
    """
    One whole value; `raw` are its bytes as sent, `deep` says that it nests deeper than was looked into.

    `content` by kind: an integer; text decoded with surrogateescape, so that bytes which are not UTF-8 stay
    told apart; bytes; a tuple of values; a tuple of pairs of values. None for every other kind, and for a
    container that lies too deep.
    """

    kind: Kind
    content: Content
    raw: bytes
    deep: bool = False


Content: TypeAlias = "int | str | bytes | tuple[Value, ...] | tuple[tuple[Value, Value], ...] | None"

# first byte -> (kind, how many bytes the big-endian length takes, how many bytes lie before the content)
_SIZED = {
    0xC4: (Kind.BYTES, 1, 0),
    0xC5: (Kind.BYTES, 2, 0),
    0xC6: (Kind.BYTES, 4, 0),
    0xC7: (Kind.EXT, 1, 1),
    0xC8: (Kind.EXT, 2, 1),
    0xC9: (Kind.EXT, 4, 1),
    0xD9: (Kind.TEXT, 1, 0),
    0xDA: (Kind.TEXT, 2, 0),
    0xDB: (Kind.TEXT, 4, 0),
    0xDC: (Kind.ARRAY, 2, 0),
    0xDD: (Kind.ARRAY, 4, 0),
    0xDE: (Kind.MAP, 2, 0),
    0xDF: (Kind.MAP, 4, 0),
}
# first byte -> (kind, bytes of content)
_FIXED = {
    0xC0: (Kind.NIL, 0),
    0xC2: (Kind.BOOL, 0),
    0xC3: (Kind.BOOL, 0),
    0xCA: (Kind.FLOAT, 4),
    0xCB: (Kind.FLOAT, 8),
    0xD4: (Kind.EXT, 2),
    0xD5: (Kind.EXT, 3),
    0xD6: (Kind.EXT, 5),
    0xD7: (Kind.EXT, 9),
    0xD8: (Kind.EXT, 17),
}
# first byte -> (bytes, signed)
_INTEGER = {
    0xCC: (1, False),
    0xCD: (2, False),
    0xCE: (4, False),
    0xCF: (8, False),
    0xD0: (1, True),
    0xD1: (2, True),
    0xD2: (4, True),
    0xD3: (8, True),
}


def read_head(data: bytes, at: int) -> Head:
    """
    Read the first bytes of the value at `at`.

    TruncatedValue when they are not all there; whether the content is there is not looked at. NotAValue
    for the reserved byte.
    """
    first = _take(data, at, 1)[0]
    at += 1
    if first <= 0x7F:
        return Head(Kind.INT, first, at)
    if first <= 0x8F:
        return Head(Kind.MAP, first - 0x80, at)
    if first <= 0x9F:
        return Head(Kind.ARRAY, first - 0x90, at)
    if first <= 0xBF:
        return Head(Kind.TEXT, first - 0xA0, at)
    if first >= 0xE0:
        return Head(Kind.INT, first - 0x100, at)
    if first in _FIXED:
        kind, size = _FIXED[first]
        return Head(kind, size, at)
    if first in _INTEGER:
        size, signed = _INTEGER[first]
        return Head(Kind.INT, int.from_bytes(_take(data, at, size), "big", signed=signed), at + size)
    if first not in _SIZED:
        raise NotAValue
    kind, width, extra = _SIZED[first]
    return Head(kind, int.from_bytes(_take(data, at, width), "big") + extra, at + width)


def find_end(data: bytes, at: int) -> int:
    """
    Find where the value at `at` ends, however deep it nests.

    TruncatedValue when the data end first, NotAValue where no value begins, whichever comes first. Needs no
    stack: only how many values are still owed matters.
    """
    owed = 1
    while owed:
        head = read_head(data, at)
        at = head.body
        owed -= 1
        if head.kind in (Kind.ARRAY, Kind.MAP):
            items = head.number * (2 if head.kind is Kind.MAP else 1)
            _take(data, at, items)  # an item takes a byte at least
            owed += items
        elif head.kind is not Kind.INT:
            _take(data, at, head.number)
            at += head.number
    return at


def read_value(data: bytes, at: int, depth_left: int) -> tuple[Value, int]:
    """
    Read the whole value at `at`, which find_end has walked, and say where the next one begins.

    `depth_left` is how many containers in one another are looked into.
    """
    head = read_head(data, at)
    end = head.body
    content: Content = None
    deep = False
    if head.kind in (Kind.ARRAY, Kind.MAP):
        if depth_left == 0:
            end = find_end(data, at)
            deep = True
        else:
            items: list[Value] = []
            for _ in range(head.number * (2 if head.kind is Kind.MAP else 1)):
                item, end = read_value(data, end, depth_left - 1)
                items.append(item)
            deep = any(item.deep for item in items)
            content = tuple(items) if head.kind is Kind.ARRAY else tuple(zip(items[::2], items[1::2], strict=True))
    elif head.kind is Kind.INT:
        content = head.number
    else:
        body = _take(data, end, head.number)
        end += head.number
        if head.kind is Kind.TEXT:
            content = body.decode("utf-8", "surrogateescape")
        elif head.kind is Kind.BYTES:
            content = body
    return Value(head.kind, content, data[at:end], deep), end


def _take(data: bytes, at: int, size: int) -> bytes:
    if size > len(data) - at:
        raise TruncatedValue
    return data[at : at + size]
