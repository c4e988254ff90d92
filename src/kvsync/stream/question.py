"""
What is asked of an engine's replay port: whether, why, and what was known when it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kvsync.stream.bookmark import Last


class Replay(Enum):
    """How missing numbers may come back."""

    NONE = "none"
    """The engine has no replay port: a hole is passed over at once."""

    ASKED = "asked"
    """By request."""

    GIVEN = "given"
    """Unasked, at any time: in a capture the questions are not recorded, only the answers."""


class Purpose(Enum):
    """Why a replay was asked for."""

    BEGINNING = "beginning"
    GAP = "gap"
    VERIFY = "verify"
    PROBE = "probe"
    REBUILD = "rebuild"


@dataclass(slots=True)
class Question:
    """
    A replay under way.

    `last` is the batch whose bytes must come first, until they have. `heard` is the last number of the
    answer so far, `met` says that one of its batches had come live and was waiting, `from_last` that the question
    began at the last batch. `applied` and `live_last` are those of the moment of asking.
    """

    start: int
    purpose: Purpose
    deadline: float
    last: Last | None
    applied: int | None
    live_last: int | None
    heard: int | None = None
    met: bool = False
    from_last: bool = False

    def __post_init__(self) -> None:
        self.from_last = self.last is not None

    @property
    def is_unverified(self) -> bool:
        """Whether it is not yet certain whom live frames follow, so that they wait although they follow."""
        return self.purpose is Purpose.VERIFY and self.last is not None

    @property
    def stands_at_beginning(self) -> bool:
        """Whether the answer has had nothing but the batch that it must begin with: all that follows found room."""
        return self.heard is None or (self.from_last and self.heard == self.start)

    @property
    def is_idle(self) -> bool:
        """Whether nothing was known to be missing."""
        return self.purpose in (Purpose.PROBE, Purpose.REBUILD)

    def is_contradicted(self, live_last: int | None) -> bool:
        """
        Whether a complete answer lacks what its engine had surely published: batches heard live before the question.

        Only of an answer that stands at its beginning: further on a batch may have been lost on its way.
        """
        if not self.stands_at_beginning:
            return False
        if self.heard is None and self.is_unverified:
            return False
        if self.heard is None and self.is_idle and (self.from_last or self.purpose is Purpose.REBUILD):
            return live_last != self.live_last
        lacking = self.start if self.heard is None else self.start + 1
        return self.live_last is not None and self.live_last >= lacking
