"""
What lies between an engine and the daemon: a live line, and one question with its answer.

The line is as libzmq has it. Messages and news of connections come on two ways: what is on one says nothing of
what is still on the other, but news of a connection is there before its first message. A connection that ends takes
some of its last messages with it. After an over-size message libzmq gives the line up, and says so by silence.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from kvsync.testing.faults.engine import Batch


@dataclass(frozen=True, slots=True)
class Noise:
    """A message without a number."""


@dataclass(frozen=True, slots=True)
class End:
    """The end marker of an answer that a life gave."""

    life: int


@dataclass(frozen=True, slots=True)
class News:
    """A connection of the line: up, to a life of the engine, or down."""

    up: bool
    life: int = 0


@dataclass(slots=True)
class Line:
    """The live stream of one engine."""

    messages: deque[Batch | Noise] = field(default_factory=deque)
    news: deque[News] = field(default_factory=deque)
    up: bool = False
    given_up: bool = False

    def connect(self, life: int) -> None:
        """The connection comes up, unless it is, or nobody tries any more."""
        if not self.up and not self.given_up:
            self.up = True
            self.news.append(News(True, life))

    def drop(self, random: Random) -> None:
        """The connection ends, if there is one."""
        if self.up:
            self.up = False
            self.news.append(News(False))
            for _ in range(random.choice((0, 0, 1, 3))):
                if self.messages:
                    self.messages.pop()

    def send(self, message: Batch | Noise) -> None:
        """Send a message; without a connection it reaches nobody."""
        if not self.up:
            return
        if isinstance(message, Batch) and message.oversize:
            self.up, self.given_up = False, True
            self.news.append(News(False))
        else:
            self.messages.append(message)

    def read(self, count: int) -> tuple[list[Batch | Noise], list[News]]:
        """
        Read a burst of messages and then all news: to the last message there is, if the news is of a connection.
        """
        news = list(self.news)
        self.news.clear()
        if any(item.up for item in news):
            count = len(self.messages)
        return [self.messages.popleft() for _ in range(min(count, len(self.messages)))], news

    def abandon(self) -> None:
        """The daemon is gone, and its socket with it."""
        self.messages.clear()
        self.news.clear()
        self.up = self.given_up = False


Item: TypeAlias = Batch | End


@dataclass(slots=True)
class Asking:
    """A question that is on its way, or an answer."""

    request: int | None = None
    answer: deque[Item] = field(default_factory=deque)

    def ask(self, start: int) -> None:
        """Put a question, on a new socket."""
        self.request = start
        self.answer.clear()

    def close(self) -> None:
        """Wait for nothing any longer."""
        self.request = None
        self.answer.clear()

    def serve(self, kept: deque[Batch], life: int) -> None:
        """The engine answers, if it was asked."""
        if self.request is not None:
            self.answer.extend(batch for batch in kept if batch.number >= self.request)
            self.answer.append(End(life))
            self.request = None

    def cut(self, random: Random) -> None:
        """Lose the rest of the answer from somewhere on."""
        for _ in range(random.randint(1, max(1, len(self.answer)))):
            if self.answer:
                self.answer.pop()

    def riddle(self, random: Random) -> None:
        """Lose some of the answer, or have it twice; the first two always find room."""
        items = list(self.answer)
        for item in list(items[2:]):
            dice = random.random()
            if dice < 0.2:
                items.remove(item)
            elif dice < 0.3:
                items.insert(items.index(item), item)
        self.answer = deque(items)
