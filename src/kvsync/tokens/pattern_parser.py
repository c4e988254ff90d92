"""
The notation of regular expressions in tokenizers' files: the common part of Oniguruma, Rust's and PCRE's.
"""

from __future__ import annotations

import re

from kvsync.tokens.pattern_tree import Both, Chars, Either, Item, Look, Named, Part, Range, Repeat, Unprovable

DEPTH_MAX = 32
SOURCE_MAX = 4_000

_ESCAPED = {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b", "0": "\0"}
_CODE = re.compile(r"x\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})")
_PROPERTY = re.compile(r"([pP])(?:\{(\^?)([A-Za-z_]+)\}|([A-Z]))")
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_FLAGS = re.compile(r"\?(i?)(?:-[a-z]+)?([:)])")
_LAST = 0x10FFFF


def parse(source: str) -> Either:
    """Read an expression; `Unprovable` where it holds what this does not know."""
    if len(source) > SOURCE_MAX:
        raise Unprovable(f"it has more than {SOURCE_MAX} characters")
    reader = _Reader(source)
    tree = reader.choices(depth=0)
    if reader.place != len(source):
        raise Unprovable(f"it goes on behind its end at {reader.place}")
    return tree


class _Reader:
    """A place in an expression, and whether case counts there."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._folded = False
        self.place = 0

    def choices(self, depth: int) -> Either:
        if depth > DEPTH_MAX:
            raise Unprovable("it is nested too deeply")
        folded, choices = self._folded, [self._sequence(depth)]
        while self._take("|"):
            choices.append(self._sequence(depth))
        self._folded = folded
        return Either(tuple(choices))

    def _sequence(self, depth: int) -> tuple[Part, ...]:
        parts: list[Part] = []
        while self.place < len(self._source) and self._peek() not in "|)":
            part = self._part(depth)
            if part is not None:
                parts.append(self._repeated(part))
        return tuple(parts)

    def _repeated(self, part: Part) -> Part:
        while (times := self._times()) is not None:
            if isinstance(part, Look):
                raise Unprovable("something that only looks is repeated")
            low, many = times
            # Lazy and possessive ones take fewer paths; in some dialects `{2}+` repeats the repeated, which takes more.
            many = self._take("+") or many
            self._take("?")
            part = Repeat(part, low, many)
        return part

    def _times(self) -> tuple[int, bool] | None:
        if self._take("*"):
            return 0, True
        if self._take("+"):
            return 1, True
        if self._take("?"):
            return 0, False
        found = _COUNT.match(self._source, self.place)
        if found is None or found.group(0) in ("{}", "{,}"):
            return None
        self.place = found.end()
        low = int(found.group(1) or 0)
        high = int(found.group(3)) if found.group(3) else (None if found.group(2) else low)
        return low, high is None or high > 1

    def _part(self, depth: int) -> Part | None:
        char = self._next()
        match char:
            case "(":
                return self._group(depth)
            case "[":
                return self._class(depth)
            case ".":
                return Chars((Range(10, 10),), negated=True)
            case "$":
                return Look()
            case "^":
                raise Unprovable("it looks at the beginning")
            case "\\":
                return self._escape()
        return Chars((self._one(ord(char)),))

    def _group(self, depth: int) -> Part | None:
        if self._peek() != "?":
            return self._closed(depth)
        if self._take("?="):
            return self._look(depth)
        if self._take("?!"):
            return self._look(depth)
        if self._take("?>"):
            return self._closed(depth)
        found = _FLAGS.match(self._source, self.place)
        if found is None:
            raise Unprovable(f"it has a group {self._source[self.place - 1 : self.place + 3]!r}")
        self.place = found.end()
        before, self._folded = self._folded, self._folded or bool(found.group(1))
        if found.group(2) == ")":
            return None  # flags for the rest of the enclosing group
        inner = self._closed(depth)
        self._folded = before
        return inner

    def _closed(self, depth: int) -> Either:
        inner = self.choices(depth + 1)
        if not self._take(")"):
            raise Unprovable("a group has no end")
        return inner

    def _look(self, depth: int) -> Look:
        """A look to the right is admitted where it sees one character at most."""
        for choice in self._closed(depth).choices:
            if len(choice) > 1 or not all(isinstance(part, (Chars, Look)) for part in choice):
                raise Unprovable("it looks further than at the next character")
        return Look()

    def _escape(self) -> Part:
        item = self._escaped()
        if item is None:
            if self._take("z"):
                return Look()
            raise Unprovable(f"it has \\{self._source[self.place : self.place + 1]}")
        return item if isinstance(item, Chars) else Chars((item,))

    def _escaped(self) -> Item | None:
        """One escaped character or class; None for what is neither."""
        char = self._peek()
        if char in "sdwhSDWH":
            self.place += 1
            named = Named(char.lower())
            return Chars((named,), negated=True) if char.isupper() else named
        if (found := _PROPERTY.match(self._source, self.place)) is not None:
            self.place = found.end()
            named = Named(found.group(3) or found.group(4))
            return Chars((named,), negated=True) if (found.group(1) == "P") != bool(found.group(2)) else named
        if (found := _CODE.match(self._source, self.place)) is not None:
            self.place = found.end()
            return self._one(int(next(filter(None, found.groups())), 16))
        if char in _ESCAPED:
            self.place += 1
            return self._one(ord(_ESCAPED[char]))
        if char and not char.isalnum():
            self.place += 1
            return self._one(ord(char))
        return None

    def _class(self, depth: int) -> Chars:
        if depth > DEPTH_MAX:
            raise Unprovable("it is nested too deeply")
        negated, items = self._take("^"), list[Item]()
        while not (self._peek() == "]" and items):
            if self._take("&&") and self._peek() != "^":
                return Chars((Both(Chars(tuple(items)), self._class(depth + 1)),), negated=negated)
            if not self._peek() or self._source.startswith(("^", "--", "~~", "[:"), self.place):
                raise Unprovable("it has a class that is computed from others")
            items.append(self._class_item(depth))
        self.place += 1
        return Chars(tuple(items), negated=negated)

    def _class_item(self, depth: int) -> Item:
        item = self._class_atom(depth)
        if not isinstance(item, Range) or self._peek() != "-" or self._source[self.place + 1 : self.place + 2] == "]":
            return item
        self.place += 1
        end = self._class_atom(depth)
        if not isinstance(end, Range) or end.low < item.low:
            raise Unprovable("it has a range without an end")
        return Range(item.low, end.low, self._folded)

    def _class_atom(self, depth: int) -> Item:
        char = self._next()
        if char == "[":
            return self._class(depth + 1)
        if char != "\\":
            return self._one(ord(char))
        item = self._escaped()
        if item is None:
            raise Unprovable(f"it has \\{self._peek()} in a class")
        return item

    def _one(self, code: int) -> Range:
        return Range(min(code, _LAST), min(code, _LAST), self._folded)

    def _peek(self) -> str:
        return self._source[self.place : self.place + 1]

    def _next(self) -> str:
        if self.place >= len(self._source):
            raise Unprovable("it ends too early")
        self.place += 1
        return self._source[self.place - 1]

    def _take(self, text: str) -> bool:
        if not self._source.startswith(text, self.place):
            return False
        self.place += len(text)
        return True
