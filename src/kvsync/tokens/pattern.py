"""
A regular expression read as far as it takes to say which characters can stand side by side in one of its matches.

Tokenizers cut text into pieces by a regular expression before anything else. If no match can hold the character x
directly before the character y, every text can be cut between an x and a y and tokenized in two halves: the halves'
pieces are the whole's. `Pattern` answers that from the expression itself: it builds the position automaton (Glushkov:
which character position may follow which), which admits every path that any matcher can take, and more. Lazy,
possessive and atomic parts only take paths away, so they need no care there.

What looks around is admitted as far as it looks at one character to the right; all else that looks elsewhere (behind,
at word boundaries, at the text's beginning, at earlier groups) is `Unprovable`, and so is what is not understood.

Characters are asked about in groups that expressions treat alike: see `CharGroup`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
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
_Position: TypeAlias = tuple[int, Chars | Look]


@dataclass(slots=True)
class _Fragment:
    """What the automaton needs to know of a part: whether it may be empty, where it begins and where it ends."""

    nullable: bool
    first: set[_Position] = field(default_factory=set)
    last: set[_Position] = field(default_factory=set)


class Pattern:
    """
    A regular expression, read. Raises `Unprovable` for one that holds what is not understood, or that matches nothing.
    """

    def __init__(self, source: str) -> None:
        from kvsync.tokens.pattern_parser import parse

        self._tree = parse(source)
        self._follow: set[tuple[_Position, _Position]] = set()
        self._count = 0
        if self._fragment(self._tree).nullable:
            raise Unprovable("it matches the empty text")

    def parts(self, left: CharGroup, right: CharGroup) -> bool:
        """
        Whether every text can be cut between a `left` and a `right`: no match holds both side by side, and nothing
        that stands behind a `left` looks on.
        """
        for (_, one), (_, other) in self._follow:
            if isinstance(one, Look) or not one.cover(left):
                continue
            if isinstance(other, Look) or other.cover(right):
                return False
        return True

    def begins(self, group: CharGroup) -> bool:
        """Whether a match is sure to begin at any character of the group that no earlier match holds."""
        return any(_begins(choice, group) for choice in self._tree.choices)

    def _fragment(self, part: Part) -> _Fragment:
        match part:
            case Chars() | Look():
                self._count += 1
                here = {(self._count, part)}
                return _Fragment(isinstance(part, Look), here, here)
            case Repeat():
                inner = self._fragment(part.part)
                if part.many:
                    self._join(inner.last, inner.first)
                return _Fragment(inner.nullable or part.low == 0, inner.first, inner.last)
            case Either():
                choices = [self._sequence(choice) for choice in part.choices]
                return _Fragment(
                    any(choice.nullable for choice in choices),
                    set().union(*(choice.first for choice in choices)),
                    set().union(*(choice.last for choice in choices)),
                )

    def _sequence(self, parts: Iterable[Part]) -> _Fragment:
        whole = _Fragment(True)
        for part in parts:
            inner = self._fragment(part)
            self._join(whole.last, inner.first)
            whole.first |= inner.first if whole.nullable else set()
            whole.last = inner.last | (whole.last if inner.nullable else set())
            whole.nullable &= inner.nullable
        return whole

    def _join(self, ends: set[_Position], begins: set[_Position]) -> None:
        self._follow |= {(end, begin) for end in ends for begin in begins}


def _begins(choice: tuple[Part, ...], group: CharGroup) -> bool:
    """Whether the sequence matches at any character of the group, whatever stands behind it."""
    for number, part in enumerate(choice):
        chars, low = (part.part, part.low) if isinstance(part, Repeat) else (part, 1)
        if not isinstance(chars, Chars):
            return False
        cover = chars.cover(group)
        if cover is Cover.ALL and low <= 1:
            return all(isinstance(rest, Repeat) and rest.low == 0 for rest in choice[number + 1 :])
        if cover is not Cover.NONE or low != 0:
            return False
    return False
