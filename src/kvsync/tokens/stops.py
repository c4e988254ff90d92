"""
What is known of a chat template that was stopped: chats that would only be stopped again are refused at once.

A template that loops costs a third of a second of Python's time a chat, which all other models wait for. One stop says
little of the template: the chat may have been too much for it. So it counts for chats that are no smaller, which have
as many messages and characters, and for a while. What a request's own arguments or documents may have brought about
counts for nothing, nor does what was stopped cheaply, or late only because others had the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, thread_time
from typing import Any

from kvsync.errors import TokenizerUnavailable
from kvsync.tokens.chat import Chat

AGAIN_SECONDS = 10.0
"""How long a stop counts."""

COSTLY_SECONDS = 0.1
"""Processor time of a stop worth remembering; to lay out a chat of 100,000 characters takes a hundredth of it."""


@dataclass(slots=True)
class Stops:
    """
    Stops of one template. One rendering at a time: `check` before it, and `add` after it if it was stopped.
    """

    clock: Callable[[], float] = monotonic
    processor: Callable[[], float] = thread_time
    _until: float = field(default=float("-inf"), init=False)
    _messages: int = field(default=0, init=False)
    _chars: int = field(default=0, init=False)
    _why: str = field(default="", init=False)
    _began: float = field(default=0.0, init=False)

    def check(self, chat: Chat) -> None:
        """Begin a rendering; `TokenizerUnavailable` for a chat that is no smaller than a stopped one."""
        left = self._until - self.clock()
        if left > 0 and len(chat.messages) >= self._messages and _chars(chat) >= self._chars:
            raise TokenizerUnavailable(
                f"{self._why}; chats of {self._messages} or more messages and {self._chars:,} characters are not"
                f" tried for {left:.0f} s: mend the template, or give another by chat_template"
            )
        self._began = self.processor()

    def add(self, chat: Chat, why: str) -> None:
        """Remember that the rendering was stopped."""
        if chat.template_kwargs or chat.documents or self.processor() - self._began < COSTLY_SECONDS:
            return
        messages, chars, now = len(chat.messages), _chars(chat), self.clock()
        if now < self._until:
            messages, chars = min(messages, self._messages), min(chars, self._chars)
        self._messages, self._chars, self._why, self._until = messages, chars, why, now + AGAIN_SECONDS


def _chars(chat: Chat) -> int:
    """The characters of all texts in a chat's messages and tools, however deep a stranger put them."""
    waiting: list[Any] = [*chat.messages, *(chat.tools or ())]
    count = 0
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            count += len(one)
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
    return count
