"""Batches are remembered by number, and never more of them than allowed."""

from __future__ import annotations

import pytest

from kvsync.stream.waiting import Digests, Waiting


@pytest.mark.parametrize(
    ("sizes", "is_overfull"), [((5, 5), False), ((5, 5, 0), True), ((5, 6), True), ((11,), True), ((), False)]
)
def test_frames_and_bytes_are_bounded_apart(sizes: tuple[int, ...], is_overfull: bool) -> None:
    """More frames than allowed are too many, and so are more bytes; what was taken does not count."""
    waiting = Waiting(frames_max=2, bytes_max=10)
    waiting.keep(99, bytes(7))
    waiting.take(99)
    for number, size in enumerate(sizes):
        waiting.keep(number, bytes(size))
    assert waiting.is_overfull is is_overfull


def test_what_waits_is_known_by_number() -> None:
    """In rising order, whatever came first, and gone once taken."""
    waiting = Waiting(frames_max=9, bytes_max=99)
    for number in (7, 4, 5):
        waiting.keep(number, str(number).encode())
    assert (waiting.lowest, waiting.numbers()) == (4, [4, 5, 7])
    assert waiting.take(4) == b"4"
    assert (4 in waiting, waiting.get(4), waiting.get(5)) == (False, None, b"5")


def test_clearing_gives_back_the_room() -> None:
    """After it as much may wait as before."""
    waiting = Waiting(frames_max=1, bytes_max=4)
    waiting.keep(1, bytes(4))
    waiting.clear()
    assert len(waiting) == 0
    waiting.keep(2, bytes(4))
    assert not waiting.is_overfull


def test_digests_tell_other_bytes_and_forget_the_oldest() -> None:
    """A number that was forgotten differs from nothing."""
    digests = Digests(count_max=2)
    for number in (1, 2, 3):
        digests.note(number, bytes([number]))
    assert (1 in digests, 2 in digests) == (False, True)
    assert (digests.differs(1, b"?"), digests.differs(2, b"?"), digests.differs(2, b"\x02")) == (False, True, False)
