"""Multipart messages are read strictly on the live stream, and from their end in a replay."""

from __future__ import annotations

import pytest

from kvsync.stream.frames import Batch, EndMarker, Unreadable, number_frame, read_live, read_replay

NUMBER = number_frame(7)
BATCH = Batch(7, b"payload")
END = b"\xff" * 8


def test_a_live_message_has_three_frames() -> None:
    """Topic, number and payload."""
    assert read_live([b"topic", NUMBER, b"payload"]) == BATCH


@pytest.mark.parametrize("frames", [[], [b"t"], [b"t", NUMBER], [b"t", NUMBER, b"p", b""], [b""] * 9])
def test_any_other_count_is_unreadable_live(frames: list[bytes]) -> None:
    """Nothing is guessed about a message of another shape."""
    assert read_live(frames) == Unreadable("frame_count")


@pytest.mark.parametrize("number", [b"", b"\1", bytes(7), bytes(9), END, b"\x80" + bytes(7)])
def test_a_number_has_eight_bytes_and_a_bound(number: bytes) -> None:
    """Other lengths, and numbers no engine reaches, are unreadable on both channels."""
    assert read_live([b"t", number, b"payload"]) == Unreadable("number")
    assert read_replay([b"", number, b"payload"]) == Unreadable("number")


@pytest.mark.parametrize("before", [[], [b""], [b"", b""], [b"", b"topic"]])
def test_both_forms_of_a_replay_are_read(before: list[bytes]) -> None:
    """With a topic or without, with the delimiter or without."""
    assert read_replay([*before, NUMBER, b"payload"]) == BATCH
    assert read_replay([*before, END, b""]) == EndMarker()


@pytest.mark.parametrize("frames", [[], [b""], [b"", b"", b"", NUMBER, b"payload"]])
def test_any_other_count_is_unreadable_in_a_replay(frames: list[bytes]) -> None:
    """No release sends it."""
    assert read_replay(frames) == Unreadable("frame_count")


def test_views_are_read_like_bytes() -> None:
    """Large payloads come as views into their message."""
    assert read_live([b"t", NUMBER, memoryview(b"payload")]) == BATCH
