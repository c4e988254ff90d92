"""
Where a text may be cut so that tokenizing the halves one by one gives the ids of the whole, for certain.

A cut lies between a character of `LEFT` and one of `RIGHT`: between a word and the space, the end of line or the CJK
punctuation behind it. Which pairs hold for a tokenizer is proved once, when it is loaded:

- its pre-tokenizer never has both in one piece, and sees nothing of the one side from the other (`pattern`);
- no special or added token holds the pair, so none lies across a cut, nor does one beside it look across;
- its normalizer changes neither, nor what stands beside them because of them.

What cannot be proved is left out, and a tokenizer without any pair is run over every text anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from kvsync.tokens.pattern import Pattern
from kvsync.tokens.pattern_tree import CharGroup, Unprovable

LOWER = CharGroup(((0x61, 0x7A),), "Ll")
UPPER = CharGroup(((0x41, 0x5A),), "Lu")
DIGITS = CharGroup(((0x30, 0x39),), "Nd")
# Ideographs, hiragana, katakana and Hangul syllables, without those that Unicode added late.
CJK = CharGroup(((0x4E00, 0x9FA5), (0x3041, 0x3096), (0x30A1, 0x30FA), (0xAC00, 0xD7A3)), "Lo")
SPACE = CharGroup(((0x20, 0x20),), "Zs", is_space=True)
NEWLINE = CharGroup(((0x0A, 0x0A),), "Cc", is_space=True)
# 、。！，：；？
CJK_STOPS = CharGroup(((0x3001, 0x3002), (0xFF01, 0xFF01), (0xFF0C, 0xFF0C), (0xFF1A, 0xFF1B), (0xFF1F, 0xFF1F)), "Po")

Pair: TypeAlias = tuple[CharGroup, CharGroup]

PAIRS: tuple[Pair, ...] = tuple(
    (left, right) for left in (LOWER, UPPER, DIGITS, CJK) for right in (SPACE, NEWLINE, CJK_STOPS)
)


@dataclass(frozen=True, slots=True)
class Cuts:
    """The pairs that are proved, as an expression that finds the next one."""

    pairs: tuple[Pair, ...]
    finder: re.Pattern[str] | None

    def next(self, text: str, start: int) -> int | None:
        """The first place from `start` on where the text may be cut."""
        found = self.finder.search(text, start + 1) if self.finder is not None else None
        return found.start() if found is not None else None


def cuts(pairs: Iterable[Pair]) -> Cuts:
    """
    Make the finder for some pairs.

    It looks for what stands behind a cut, and then back: there are fewer spaces in a text than letters.
    """
    kept = tuple(pairs)
    lefts = {right: "".join(_ranges(left) for left, other in kept if other == right) for _, right in kept}
    parts = []
    for before in dict.fromkeys(lefts.values()):
        behind = "".join(_ranges(right) for right, its in lefts.items() if its == before)
        parts.append(f"[{behind}](?<=[{before}][{behind}])")
    return Cuts(kept, re.compile("|".join(parts)) if parts else None)


NO_CUTS = cuts(())


def parted_by(source: str, pairs: Iterable[Pair]) -> list[Pair]:
    """Of the pairs those that an expression keeps apart, where all that it does not match is dropped."""
    try:
        pattern = Pattern(source)
    except Unprovable:
        return []
    return [pair for pair in pairs if pattern.parts(*pair)]


def without_those_in(tokens: Iterable[str], pairs: Iterable[Pair]) -> list[Pair]:
    """Of the pairs those that stand in none of the tokens."""
    kept = list(pairs)
    for token in tokens:
        kept = [pair for pair in kept if cuts([pair]).next(token, 0) is None]
    return kept


def _ranges(group: CharGroup) -> str:
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in group.ranges)
