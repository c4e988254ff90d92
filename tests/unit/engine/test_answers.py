"""Answers: printable, seeded, and ended by a mark, a stop string or the length asked for."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine.load import make_request

from kvsync.engine.answers import Answer
from kvsync.engine.request import Finish
from kvsync.tokens.bytelevel import END_OF_TEXT

PROMPT = array("I", [1, 2, 3])


def text(answer: Answer, count: int) -> bytes:
    """Give the first tokens of an answer that has no end."""
    return bytes(answer.token(position) for position in range(count))


def make_answer(prompt: array[int] = PROMPT, *, seed: int = 1, salt: str = "", end: int | None = None) -> Answer:
    """Make an answer of about 40 tokens."""
    return Answer(prompt, seed=seed, salt=salt, length_mean=40, end=end)


def test_equal_prompts_get_equal_answers() -> None:
    """Seed and prompt decide every token, in whatever order they are asked for."""
    forward, backward = make_answer(), make_answer()
    last = backward.token(199)
    assert text(forward, 200) == text(backward, 200)
    assert forward.token(199) == last


def test_seed_prompt_and_salt_each_change_the_answer() -> None:
    """Nothing that should matter is left out."""
    answers = {
        text(make_answer(), 50),
        text(make_answer(seed=2), 50),
        text(make_answer(array("I", [1, 2, 4])), 50),
        text(make_answer(salt="adapter"), 50),
    }
    assert len(answers) == 4


@given(st.integers(0, 2**32))
def test_answers_are_printable_and_end_within_bounds(seed: int) -> None:
    """Between half and one and a half times the mean, letters and spaces, then the mark."""
    answer = make_answer(seed=seed, end=END_OF_TEXT)
    assert answer.length is not None
    assert 20 <= answer.length <= 60
    shown = text(answer, answer.length - 1).decode("ascii")
    assert shown.isprintable()
    assert answer.token(answer.length - 1) == END_OF_TEXT


def test_an_answer_without_a_mark_never_ends() -> None:
    """A client that ignores the end gets text for as long as it asks."""
    answer = make_answer()
    assert all(answer.token(position) != END_OF_TEXT for position in range(500))


def test_a_request_ends_at_the_mark() -> None:
    """Left enough room, the answer stops by itself, its mark counted."""
    request = make_request(PROMPT, max_tokens=1_000)
    produced = request.append_answer()
    while produced.finish is None:
        produced = request.append_answer()
    assert (produced.token, produced.finish) == (END_OF_TEXT, Finish.STOP)
    assert request.answered == request.answer.length


def test_a_request_ends_at_a_stop_string() -> None:
    """The token that completes the stop string is the last."""
    answer = make_answer()
    stop = text(answer, 12)[8:12]
    request = make_request(PROMPT, max_tokens=1_000, stops=(b"never", stop))
    request.answer = answer
    while request.append_answer().finish is None:
        pass
    assert request.tokens[len(PROMPT) :].tolist() == list(text(answer, text(answer, 12).index(stop) + 4))
