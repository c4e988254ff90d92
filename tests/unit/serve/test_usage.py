"""Reading along what an answer cost."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.serve.usage import DOCUMENT_BYTES_MAX, LINE_BYTES_MAX, Usage, UsageWatch, read_usage

USAGE = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}


def event(document: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


STREAM = event({"choices": [{"text": "\u00e4 usage"}], "usage": None}) + event({"usage": USAGE}) + b"data: [DONE]\n\n"


def watched(data: list[bytes], *, is_stream: bool) -> Usage | None:
    """What is read from these pieces."""
    watch = UsageWatch(is_stream=is_stream)
    for piece in data:
        watch.feed(piece)
    return watch.end()


@given(st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    """Pieces end where the network wants."""
    bounds = [0, *cuts, len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert watched(pieces, is_stream=True) == Usage(9, 4)


def test_carriage_returns_are_no_matter() -> None:
    """Lines may end in CR LF."""
    assert watched([STREAM.replace(b"\n", b"\r\n")], is_stream=True) == Usage(9, 4)


def test_a_last_line_without_end_counts() -> None:
    """Some servers leave the newline out."""
    assert watched([event({"usage": USAGE}).rstrip()], is_stream=True) == Usage(9, 4)


def test_the_last_usage_counts() -> None:
    """Engines may say it with every piece."""
    later = event({"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 5}}})
    assert watched([STREAM, later], is_stream=True) == Usage(9, 5)


def test_a_document_is_read_at_its_end() -> None:
    """However many pieces it comes in."""
    data = json.dumps({"usage": USAGE, "choices": []}).encode()
    assert watched([data[:7], data[7:]], is_stream=False) == Usage(9, 4)


def test_what_is_too_long_is_skipped() -> None:
    """A long line costs nothing, and those after it count."""
    assert watched([b"data: " + b"x" * LINE_BYTES_MAX + b"\n", STREAM], is_stream=True) == Usage(9, 4)
    assert watched([b" " * DOCUMENT_BYTES_MAX, json.dumps({"usage": USAGE}).encode()], is_stream=False) is None


@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_any_bytes_are_read_without_harm(pieces: list[bytes], is_stream: bool) -> None:
    """The answer is the pod's and the client's; we only look."""
    watched([b'data: {"usage"', *pieces], is_stream=is_stream)


@pytest.mark.parametrize("value", [None, 3, [], {}, {"prompt_tokens": "9"}])
def test_no_usage(value: object) -> None:
    """What is not shaped like usage is none."""
    assert read_usage(value) is None


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, 3])
def test_usage_that_does_not_say_what_was_cached(details: object) -> None:
    """Told apart from zero."""
    assert read_usage({"prompt_tokens": 9, "prompt_tokens_details": details}) == Usage(9, None)
