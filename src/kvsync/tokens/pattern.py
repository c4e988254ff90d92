"""
A regular expression read as far as it takes to say which characters can stand side by side in one of its matches.

Tokenizers cut text into pieces by a regular expression before anything else. If no match can hold the character x
directly before the character y, every text can be cut between an x and a y and tokenized in two halves: the halves'
pieces are the whole's. `Pattern` answers that from the expression itself: it builds the position automaton (Glushkov:
which character position may follow which), which admits every path that any matcher can take, and more. Lazy,
possessive and atomic parts only take paths away, so they need no care there.

What looks around is admitted as far as it looks at one character to the right; all else that looks elsewhere (behind,
at word boundaries, at the text's beginning, at earlier groups) is `Unprovable`, and so is what is not understood.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from kvsync.tokens.pattern_parser import parse
from kvsync.tokens.pattern_tree import CharGroup, Chars, Cover, Either, Look, Part, Repeat, Unprovable

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
