"""What a regular expression lets stand side by side."""

from __future__ import annotations

import unicodedata

import pytest

from kvsync.tokens.cuts import CJK, CJK_STOPS, DIGITS, LOWER, NEWLINE, PAIRS, SPACE, UPPER
from kvsync.tokens.pattern import Pattern
from kvsync.tokens.pattern_parser import DEPTH_MAX, SOURCE_MAX
from kvsync.tokens.pattern_tree import CharGroup, Unprovable
from kvsync.tokens.vocabulary import PATTERNS

GROUPS = (LOWER, UPPER, DIGITS, CJK, SPACE, NEWLINE, CJK_STOPS)

KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group.category} {group.ranges[0][0]:#x}")
def test_a_group_is_of_one_kind(group: CharGroup) -> None:
    """Every character of a group has its category, is white space as it says, and composes with nothing before it."""
    for low, high in group.ranges:
        for code in range(low, high + 1):
            char = chr(code)
            assert unicodedata.category(char) == group.category
            assert char.isspace() == group.is_space
            assert unicodedata.combining(char) == 0
            assert unicodedata.is_normalized("NFC", char)
            assert len(unicodedata.normalize("NFC", "\uac00" + char)) == 2


@pytest.mark.parametrize("source", [*PATTERNS.values(), KIMI], ids=[*PATTERNS, "kimi"])
def test_words_end_before_white_space_in_known_expressions(source: str) -> None:
    """All expressions of known vocabularies part words from spaces, ends of lines and CJK stops behind them."""
    pattern = Pattern(source)
    assert all(pattern.parts(left, right) for left, right in PAIRS)
    assert all(pattern.begins(right) for right in (SPACE, NEWLINE, CJK_STOPS))


@pytest.mark.parametrize(
    ("source", "left", "right", "expected"),
    [
        (r"[a-z]+|\s", LOWER, SPACE, True),
        (r"[a-z]+ ?|\s", LOWER, SPACE, False),
        (r"[a-z]+ *?|\s", LOWER, SPACE, False),
        (r"[a-z ]+", LOWER, SPACE, False),
        (r"(?:[a-z]| )+", LOWER, SPACE, False),
        (r"(?:[a-z]|\n)++|\s", LOWER, SPACE, True),
        (r"[^\n]+", LOWER, SPACE, False),
        (r"[^\n]+", LOWER, NEWLINE, True),
        (r".+", LOWER, SPACE, False),
        (r".+", LOWER, NEWLINE, True),
        (r"[A-Z]+ |x", LOWER, SPACE, True),
        (r"(?i:[A-Z]+ )|x", LOWER, SPACE, False),
        (r"(?i)[A-Z] |x", LOWER, SPACE, False),
        (r"(?i:x)[A-Z] |y", LOWER, SPACE, True),
        (r"(?i:ſ )|y", LOWER, SPACE, False),
        (r"\w+\s", LOWER, SPACE, False),
        (r"\W+\s|\w", LOWER, SPACE, True),
        (r"\d+ |\D", LOWER, SPACE, True),
        (r"\p{L} |x", CJK, SPACE, False),
        (r"\p{Lu} |x", LOWER, SPACE, True),
        (r"\P{Lu} |x", LOWER, SPACE, False),
        (r"\p{^Lu} |x", LOWER, SPACE, False),
        (r"\p{Cyrillic} |x", LOWER, SPACE, False),
        (r"[\u4e00-\u4e10] |x", CJK, SPACE, False),
        (r"[^\x{4e00}-\x{9fff}] |x", LOWER, SPACE, False),
        (r"a{0} |b", LOWER, SPACE, False),
        (r"x{2,}y|\s", LOWER, SPACE, True),
        (r"(a|b(?:c|d) )e|\s", LOWER, SPACE, False),
        (r"a(?= )|\s", LOWER, SPACE, False),
        (r"\s+(?!\S)|\s+|a", LOWER, SPACE, True),
        (r"[a-z]+$|\s", LOWER, SPACE, False),
        (r"\s+$|\s|a", LOWER, SPACE, True),
        (r"[\]\- a]+", LOWER, SPACE, False),
        (r"[]a]+ |b", LOWER, SPACE, False),
        (r"[a-z&&[^a]]+ |b", LOWER, SPACE, False),
        (r"[a-z&&[A-Z]]+ |b", LOWER, SPACE, True),
        (r"[[a-z][0-9]]+ |b", DIGITS, SPACE, False),
    ],
)
def test_parts(source: str, left: CharGroup, right: CharGroup, expected: bool) -> None:
    """A pair is apart where no path through the expression has both, and none looks on from the first."""
    assert Pattern(source).parts(left, right) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"a|\s", True),
        (r"a|\s+", True),
        (r"a|\s+b", False),
        (r"a|\s+(?!\S)", False),
        (r"a| ?[^\sa]+", False),
        (r"\s*[\r\n]+", False),
        (r"x?\s[a-z]*", True),
        (r"x\s", False),
        (r"\s{2}", False),
        (r"(?:\s)", False),
    ],
)
def test_begins(source: str, expected: bool) -> None:
    """A match is sure to begin at a space only where some alternative needs no more than it."""
    assert Pattern(source).begins(SPACE) is expected


@pytest.mark.parametrize(
    "source",
    [
        r"(?<=a)b", r"(?<!a)b", r"\ba", r"\Aa", r"^a", r"a\Z", r"(a)\1", r"(?P<n>a)", r"(?(1)a|b)", r"a(?=bc)",
        r"a(?=b+)",
        r"(?m)a", r"[[:alpha:]]", r"[a--b]", r"[a", r"(a", r"a)", r"\X", r"[z-a]", r"", r"a*", r"a|", r"(?=a)*b", "\\",
        "(" * (DEPTH_MAX + 2) + "a" + ")" * (DEPTH_MAX + 2), "[" * 99, "a" * (SOURCE_MAX + 1),
    ],
)  # fmt: skip
def test_what_is_not_understood_proves_nothing(source: str) -> None:
    """Looking elsewhere, matching nothing, and what is no expression are refused."""
    with pytest.raises(Unprovable):
        Pattern(source)
