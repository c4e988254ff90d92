"""A figure is worth nothing if the answer was wrong: what every benchmark asks of its result."""

from __future__ import annotations

from kvsync.index import Index


class WrongAnswerError(Exception):
    """A benchmark's result is not what it must be; its time means nothing."""


def expect(what: str, actual: object, expected: object) -> None:
    """Raise WrongAnswerError unless they are equal; an `assert` would vanish under -O."""
    if actual != expected:
        raise WrongAnswerError(f"{what} is {actual!r}, expected {expected!r}")


def expect_entries(index: Index, expected: int) -> None:
    """The index holds so many (engine, block) entries."""
    expect("entries", index.stats()["entries"], expected)
