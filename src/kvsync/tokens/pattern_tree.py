"""
The tree of a regular expression as `pattern_parser` reads it, and what its classes of characters hold.

Characters are asked about in groups that expressions treat alike: see `CharGroup`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

FOLDED_MAX = 256
"""The longest range of which other cases are looked up one by one."""


class Unprovable(Exception):
    """The expression has something about which nothing can be said."""


class Cover(IntEnum):
    """How many of a group's characters a class holds."""

    NONE = 0
    SOME = 1
    ALL = 2


@dataclass(frozen=True, slots=True)
class CharGroup:
    """
    Characters of one Unicode category, as inclusive ranges of code points.
    """

    ranges: tuple[tuple[int, int], ...]
    category: str
    is_space: bool = False

    def overlap(self, low: int, high: int) -> Cover:
        """How many of the group lie from `low` to `high`."""
        if all(low <= first and last <= high for first, last in self.ranges):
            return Cover.ALL
        return Cover.SOME if any(first <= high and low <= last for first, last in self.ranges) else Cover.NONE


@dataclass(frozen=True, slots=True)
class Range:
    """The code points from `low` to `high`; `folded` where case is ignored."""

    low: int
    high: int
    folded: bool = False

    def cover(self, group: CharGroup) -> Cover:
        met = group.overlap(self.low, self.high)
        if not self.folded or met is Cover.ALL or group.category not in ("Lu", "Ll"):
            return met
        if self.high - self.low > FOLDED_MAX:
            return Cover.SOME
        cases = "".join(map(chr, range(self.low, self.high + 1)))
        others = {ord(char) for char in cases.lower() + cases.upper() + cases.casefold()}
        return Cover.SOME if any(group.overlap(code, code) for code in others) else met


@dataclass(frozen=True, slots=True)
class Named:
    """A class by name: `s`, `d`, `w`, `p{L}` and the like."""

    name: str

    def cover(self, group: CharGroup) -> Cover:
        major = group.category[0]
        match self.name:
            case "s":
                return Cover.ALL if group.is_space else Cover.NONE
            case "d":
                return Cover.ALL if group.category == "Nd" else Cover.NONE
            case "w":
                return Cover.ALL if major in "LN" else Cover.SOME if major == "M" else Cover.NONE
            case "Han":
                return Cover.SOME if group.category == "Lo" else Cover.NONE
            case name if name in _CATEGORIES:
                return Cover.ALL if group.category.startswith(name) else Cover.NONE
        return Cover.SOME  # scripts and other properties


_CATEGORIES = frozenset(
    category[:size] for code in range(0x3000) for category in [unicodedata.category(chr(code))] for size in (1, 2)
)


@dataclass(frozen=True, slots=True)
class Chars:
    """What one position matches: any of the items, or anything but them."""

    items: tuple[Item, ...]
    negated: bool = False

    def cover(self, group: CharGroup) -> Cover:
        met = max((item.cover(group) for item in self.items), default=Cover.NONE)
        return Cover(Cover.ALL - met) if self.negated else met


@dataclass(frozen=True, slots=True)
class Both:
    """What two classes have in common."""

    one: Chars
    other: Chars

    def cover(self, group: CharGroup) -> Cover:
        met = sorted([self.one.cover(group), self.other.cover(group)])
        return met[0] if met[0] is Cover.NONE or met == [Cover.ALL, Cover.ALL] else Cover.SOME


@dataclass(frozen=True, slots=True)
class Look:
    """Something that looks at the next character, or at the end, and consumes nothing."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part and how often it stands: at least `low` times, and more than once if `many`."""

    part: Part
    low: int
    many: bool


@dataclass(frozen=True, slots=True)
class Either:
    """Alternatives, each a sequence."""

    choices: tuple[tuple[Part, ...], ...]


Item: TypeAlias = Range | Named | Chars | Both
Part: TypeAlias = Chars | Look | Repeat | Either
