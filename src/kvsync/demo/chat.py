"""
People at their keyboards: the planned traffic, sent through the daemon's proxy and timed.

One task per person. A person sends a question with the whole conversation so far, reads the streamed answer, and goes
on from what was really answered. Any request that is not answered properly ends the demo: on one machine, with nothing
broken on purpose, there is no good reason for it.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

from kvsync.demo.measure import Outcome
from kvsync.demo.tasks import together
from kvsync.demo.traffic import READING_S, Conversation, Person
from kvsync.errors import KvsyncError
from kvsync.tokens.bytelevel import encode, render_chat

ANSWER_WITHIN_S = 60.0

Message = dict[str, str]


@dataclass(slots=True)
class Answer:
    """An answer as it comes in."""

    text: str = ""
    first_at: float | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)

    def take(self, chunk: Mapping[str, Any]) -> None:
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or []:
            piece = choice.get("delta", {}).get("content")
            if piece:
                if self.first_at is None:
                    self.first_at = perf_counter()
                self.text += piece


@dataclass(frozen=True, slots=True)
class Chat:
    """
    Where people chat: one model behind one URL, under one policy.

    `done` is called with every outcome as soon as it is known.
    """

    session: aiohttp.ClientSession
    url: str
    model: str
    done: Callable[[Outcome], None]

    async def run(self, people: Sequence[Person]) -> list[Outcome]:
        """
        Let all people chat to the end of their plans; the outcomes come in the order their requests were sent.
        """
        begin = perf_counter()
        sent: list[tuple[float, Outcome]] = []
        await together(self._person(person, begin, sent) for person in people)
        return [outcome for _, outcome in sorted(sent, key=lambda pair: pair[0])]

    async def _person(self, person: Person, begin: float, sent: list[tuple[float, Outcome]]) -> None:
        for conversation in person:
            await self._conversation(conversation, begin, sent)

    async def _conversation(self, conversation: Conversation, begin: float, sent: list[tuple[float, Outcome]]) -> None:
        messages: list[Message] = [{"role": "system", "content": conversation.system}]
        for turn in conversation.turns:
            await asyncio.sleep(max(READING_S if len(messages) > 1 else 0.0, begin + turn.at_s - perf_counter()))
            messages.append({"role": "user", "content": turn.question})
            at = perf_counter()
            outcome, text = await self._ask(messages, turn.answer_tokens)
            sent.append((at, outcome))
            self.done(outcome)
            messages.append({"role": "assistant", "content": text})

    async def _ask(self, messages: list[Message], answer_tokens: int) -> tuple[Outcome, str]:
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        answer = Answer()
        begin = perf_counter()
        try:
            async with (
                asyncio.timeout(ANSWER_WITHIN_S),
                self.session.post(f"{self.url}/v1/chat/completions", json=body) as response,
            ):
                if response.status != 200:
                    raise KvsyncError(f"the daemon answered {response.status}: {(await response.text())[:500]}")
                pod = response.headers.get("x-kvsync-pod", "")
                async for line in response.content:
                    if (chunk := read_chunk(line)) is not None:
                        answer.take(chunk)
        except (aiohttp.ClientError, OSError) as error:
            raise KvsyncError(f"the daemon at {self.url} broke off an answer: {error!r}") from error
        return outcome_of(pod, messages, answer, begin), answer.text


def read_chunk(line: bytes) -> Mapping[str, Any] | None:
    """One server-sent event's JSON; nothing for blank lines, comments and the closing mark."""
    data = line.strip().removeprefix(b"data:").strip()
    if not line.startswith(b"data:") or data == b"[DONE]":
        return None
    value = json.loads(data)
    if isinstance(value, dict) and not value.get("error"):
        return value
    raise KvsyncError(f"the daemon streamed {data[:500]!r} in place of an answer")


def outcome_of(pod: str, messages: Sequence[Mapping[str, str]], answer: Answer, begin: float) -> Outcome:
    """What an answer came to; raises `KvsyncError` where it cannot be compared with others."""
    prompt = render_chat(messages)
    counted = answer.usage.get("prompt_tokens")
    if counted != len(prompt):
        raise KvsyncError(f"the engine counted {counted} prompt tokens where we count {len(prompt)}")
    if answer.first_at is None or not pod:
        raise KvsyncError(f"an answer came back without {'text' if pod else 'the header x-kvsync-pod'}")
    cached = (answer.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Outcome(pod, prompt, array("I", encode(answer.text)), cached, answer.first_at - begin)
