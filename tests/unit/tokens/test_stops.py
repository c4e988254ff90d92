"""A chat template that was stopped is not run again for chats that are no smaller, for a while."""

from __future__ import annotations

from typing import Any

import pytest

from kvsync.errors import TokenizerUnavailable
from kvsync.tokens.chat import Chat
from kvsync.tokens.stops import AGAIN_SECONDS, COSTLY_SECONDS, Stops
from kvsync.tokens.template import ChatTemplate

USER = [{"role": "user", "content": "hi"}]
LOOPING = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


class Clocks:
    """The time of day, and what a rendering took of the processor."""

    def __init__(self) -> None:
        self.now, self.spent = 100.0, 0.0
        self.stops = Stops(clock=lambda: self.now, processor=lambda: self.spent)

    def stopped(self, chat: Chat, seconds: float = COSTLY_SECONDS) -> None:
        """A rendering that is stopped after so much time of the processor."""
        self.stops.check(chat)
        self.spent += seconds
        self.stops.add(chat, "it was stopped")

    def is_refused(self, chat: Chat) -> bool:
        """Whether a chat is refused before it is rendered."""
        try:
            self.stops.check(chat)
        except TokenizerUnavailable:
            return True
        return False


def make_chat(messages: int, chars: int, **more: Any) -> Chat:
    """A chat of so many messages and characters, roles not counted."""
    texts = ["x" * (chars if number == 0 else 0) for number in range(messages)]
    return Chat([{"role": "", "content": text} for text in texts], **more)


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (make_chat(3, 500), True),
        (make_chat(3, 501), True),
        (make_chat(4, 500), True),
        (make_chat(2, 9_000), False),
        (make_chat(99, 499), False),
        (make_chat(3, 400, tools=[{"function": {"name": "y" * 100}}]), True),
        (make_chat(3, 500, template_kwargs={"a": 1}), True),
    ],
    ids=["the same", "longer", "more", "fewer", "shorter", "with tools", "with arguments"],
)
def test_a_stop_counts_for_chats_that_are_no_smaller(asked: Chat, refused: bool) -> None:
    """As many messages and as many characters, those of tools among them."""
    clocks = Clocks()
    clocks.stopped(make_chat(3, 500))
    assert clocks.is_refused(asked) == refused


def test_a_stop_counts_for_a_while() -> None:
    """Then the template is tried again; the message says when, and what to do."""
    clocks = Clocks()
    clocks.stopped(make_chat(1, 5))
    clocks.now += AGAIN_SECONDS / 2
    with pytest.raises(TokenizerUnavailable, match=r"it was stopped; chats of 1 or more .* for 5 s: mend the template"):
        clocks.stops.check(make_chat(1, 5))
    clocks.now += AGAIN_SECONDS / 2
    assert not clocks.is_refused(make_chat(1, 5))


def test_a_deep_chat_is_measured_too() -> None:
    """However deep a stranger nests a message."""
    deep: Any = "xxx"
    for _ in range(100_000):
        deep = [deep]
    clocks = Clocks()
    clocks.stopped(Chat([{"role": deep, "content": ""}]))
    assert (clocks.is_refused(make_chat(1, 2)), clocks.is_refused(make_chat(1, 3))) == (False, True)


def test_stops_add_up_while_they_count() -> None:
    """Of two stopped chats the fewer messages and the fewer characters count, until the second's time is over."""
    clocks = Clocks()
    clocks.stopped(make_chat(3, 500))
    clocks.now += 1
    clocks.stopped(make_chat(9, 100))
    assert clocks.is_refused(make_chat(3, 100))
    clocks.now += AGAIN_SECONDS
    clocks.stopped(make_chat(9, 900))
    assert not clocks.is_refused(make_chat(3, 500))


@pytest.mark.parametrize(
    ("chat", "seconds"),
    [
        (make_chat(1, 5, template_kwargs={"times": 10**9}), 1.0),
        (make_chat(1, 5, documents=[{"text": "x"}]), 1.0),
        (make_chat(1, 5), COSTLY_SECONDS / 2),
    ],
    ids=["arguments", "documents", "cheap"],
)
def test_what_may_not_be_the_templates_doing_counts_for_nothing(chat: Chat, seconds: float) -> None:
    """A request's own arguments and documents, and stops that cost little, take nothing from others."""
    clocks = Clocks()
    clocks.stopped(chat, seconds)
    assert not clocks.is_refused(make_chat(9, 900))


def test_a_looping_template_runs_once() -> None:
    """The second chat is told at once what stopped the first."""
    clocks, runs = Clocks(), []

    def processor() -> float:
        runs.append(1)
        return len(runs) * COSTLY_SECONDS

    clocks.stops.processor = processor
    template = ChatTemplate(LOOPING, where="'m'", seconds=60, stops=clocks.stops)
    with pytest.raises(TokenizerUnavailable, match=r"more than 2,000,000 steps$"):
        template.render(Chat(USER))
    assert len(runs) == 2
    with pytest.raises(TokenizerUnavailable, match=r"more than 2,000,000 steps; chats of 1 or more messages"):
        template.render(Chat([*USER, *USER]))
    assert len(runs) == 2
