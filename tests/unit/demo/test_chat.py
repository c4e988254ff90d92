"""Reading a streamed answer."""

from __future__ import annotations

import pytest

from kvsync.demo.chat import Answer, outcome_of, read_chunk
from kvsync.errors import KvsyncError
from kvsync.tokens.bytelevel import encode, render_chat

MESSAGES = [{"role": "user", "content": "hello"}]
PROMPT = render_chat(MESSAGES)
USAGE = {"prompt_tokens": len(PROMPT), "prompt_tokens_details": {"cached_tokens": 16}}


def test_only_data_lines_are_chunks() -> None:
    """Blank lines, comments and the closing mark are nothing."""
    assert read_chunk(b'data: {"choices": []}\n') == {"choices": []}
    assert [read_chunk(line) for line in (b"\n", b": ping\n", b"data: [DONE]\n", b"event: x\n")] == [None] * 4


def test_an_error_in_the_stream_is_an_error() -> None:
    """An engine that gives up in the middle of an answer does not go unnoticed."""
    with pytest.raises(KvsyncError, match="in place of an answer"):
        read_chunk(b'data: {"error": {"message": "gone"}}\n')


def test_the_first_token_is_the_first_text() -> None:
    """A chunk that only says who speaks is no token; text is put together; the usage comes last."""
    answer = Answer()
    answer.take({"choices": [{"delta": {"role": "assistant"}}], "usage": None})
    firsts = [answer.first_at]
    for piece in ("ab", "c"):
        answer.take({"choices": [{"delta": {"content": piece}}]})
        firsts.append(answer.first_at)
    answer.take({"choices": [], "usage": USAGE})
    before, first_at, later = firsts
    assert before is None
    assert first_at is not None
    assert later == first_at
    outcome = outcome_of("pod-1", MESSAGES, answer, first_at - 0.5)
    assert (outcome.pod, outcome.prompt, outcome.answer) == ("pod-1", PROMPT, encode("abc"))
    assert (outcome.cached_tokens, outcome.ttft_s) == (16, 0.5)


@pytest.mark.parametrize(
    ("pod", "text", "usage", "said"),
    [
        ("pod-1", "x", {"prompt_tokens": 3}, "counted 3 prompt tokens"),
        ("pod-1", "x", {}, "counted None"),
        ("", "x", USAGE, "x-kvsync-pod"),
        ("pod-1", "", USAGE, "without text"),
    ],
)
def test_an_answer_that_cannot_be_counted_is_an_error(pod: str, text: str, usage: dict[str, object], said: str) -> None:
    """Another count of tokens, no usage, no pod or no text would each make the comparison wrong."""
    answer = Answer(text, 1.0 if text else None, usage)
    with pytest.raises(KvsyncError, match=said):
        outcome_of(pod, MESSAGES, answer, 0.0)
