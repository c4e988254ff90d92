"""
Worlds broken on purpose, each in one way: the checker must catch every one of them.

A simulation that finds nothing shows nothing unless it is known to find what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from kvsync.stream import answers, life, waiting
from kvsync.stream.bookmark import Bookmark
from kvsync.stream.instructions import Apply, Confirm, Doubt, Instruction, RequestReplay, Reset
from kvsync.stream.sequence import Sequence
from kvsync.testing.faults.engine import Batch
from kvsync.testing.faults.followed import Followed
from kvsync.testing.faults.wires import Item, News
from kvsync.testing.faults.world import MODEL, World


class ReplaysIgnored(World):
    """Batches of an answer are not told to the sequence; its end is."""

    def read_item(self, followed: Followed, item: Item) -> None:
        if not isinstance(item, Batch):
            super().read_item(followed, item)


class RepliesUnasked(World):
    """Nobody sends the questions."""

    def obey(self, followed: Followed, instructions: tuple[Instruction, ...]) -> None:
        super().obey(followed, tuple(each for each in instructions if not isinstance(each, RequestReplay)))


class GapsNotDoubted(World):
    """The index is not told the numbers, so that it cannot see a hole."""

    def change_index(self, followed: Followed, instruction: Instruction) -> None:
        if isinstance(instruction, Apply):
            known = followed.engine in self.index.engines()
            before = self.index.record(followed.engine).sequence if known else None
            number = instruction.sequence if before is None else before + 1
            self.index.apply(followed.engine, instruction.payload, model=MODEL, sequence=number)
        else:
            super().change_index(followed, instruction)


class _Deaf(World):
    """One kind of instruction never reaches the index."""

    deaf_to: type[Instruction]

    def change_index(self, followed: Followed, instruction: Instruction) -> None:
        if not isinstance(instruction, self.deaf_to):
            super().change_index(followed, instruction)


class RestartsIgnored(_Deaf):
    """A new life is found and the record is kept."""

    deaf_to = Reset


class DoubtsIgnored(_Deaf):
    """What is doubted is believed."""

    deaf_to = Doubt


class ConfirmationsForged(World):
    """What a snapshot held is believed as it was, before anything is verified."""

    def load(self) -> None:
        super().load()
        for engine in self.index.engines():
            self.index.confirm(engine)

    def change_index(self, followed: Followed, instruction: Instruction) -> None:
        if not isinstance(instruction, Doubt | Confirm):
            super().change_index(followed, instruction)


class ReconnectionsUnnoticed(World):
    """Only the first connection of a line is told."""

    def hear_news(self, followed: Followed, news: News, *, unread: int) -> None:
        if news.up and followed.sequence.counters.received:
            followed.connected_to = news.life
            followed.sequence.connected = True
        else:
            super().hear_news(followed, news, unread=unread)


class LeftoversTrusted(World):
    """Messages read along with the news of a connection are taken for that connection's."""

    def hear_news(self, followed: Followed, news: News, *, unread: int) -> None:
        super().hear_news(followed, news, unread=0)


class ProbesWithheld(World):
    """A silent stream is left alone."""

    def tick(self, sequence: Sequence) -> tuple[Instruction, ...]:
        return sequence.tick(self.now, may_probe=False)


class BookmarksShifted(World):
    """A stream goes on one batch behind the one its record ends with."""

    def resume(self, followed: Followed) -> Bookmark | None:
        mark = super().resume(followed)
        return None if mark is None else Bookmark(mark.number + 1, mark.digest)


class DebtsForgotten(World):
    """What was owed when a snapshot was made is owed no more."""

    def is_whole(self, followed: Followed) -> bool:
        return True


class BadEventsForgiven(World):
    """Batches that cannot be decoded are skipped in silence."""

    EMPTY: Final = b"\x93\xcb\x00\x00\x00\x00\x00\x00\x00\x00\x90\x00"

    def change_index(self, followed: Followed, instruction: Instruction) -> None:
        if isinstance(instruction, Apply) and followed.published[bytes(instruction.payload)].damaged:
            instruction = Apply(instruction.sequence, self.EMPTY)
        super().change_index(followed, instruction)


class FramesUncounted(World):
    """A frame that is dropped is counted nowhere."""

    def obey(self, followed: Followed, instructions: tuple[Instruction, ...]) -> None:
        followed.sequence.counters.dropped.pop("end_marker", None)
        super().obey(followed, instructions)


SABOTAGES: Final[dict[str, type[World]]] = {
    each.__name__: each
    for each in (
        ReplaysIgnored,
        RepliesUnasked,
        GapsNotDoubted,
        RestartsIgnored,
        DoubtsIgnored,
        ConfirmationsForged,
        ReconnectionsUnnoticed,
        LeftoversTrusted,
        ProbesWithheld,
        BadEventsForgiven,
        FramesUncounted,
        BookmarksShifted,
        DebtsForgotten,
    )
}


@contextmanager
def bytes_not_compared() -> Iterator[None]:
    """Every batch under a known number is taken for the known one."""
    with (
        patch.object(answers, "is_same", lambda last, payload: True),
        patch.object(life.Life, "differs", lambda self, number, payload: False),
    ):
        yield


@contextmanager
def waiting_unbounded() -> Iterator[None]:
    """What waits is never too much."""
    with patch.object(waiting.Waiting, "is_overfull", False):
        yield


@contextmanager
def nothing_owed() -> Iterator[None]:
    """What was given up for want of an answer is never tried again."""
    with patch.object(answers.Answers, "owes", property(lambda self: False, lambda self, value: None), create=True):
        yield


PATCHES: Final = {each.__name__: each for each in (bytes_not_compared, waiting_unbounded, nothing_owed)}
