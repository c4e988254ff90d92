"""
Answers in OpenAI's shapes: whole ones, and the chunks of a stream.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvsync.engine.api_requests import Generation, Served
from kvsync.engine.request import Finish

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost, in tokens; `cached` is the part of the prompt that the cache spared."""

    prompt: int
    completion: int
    cached: int

    def shape(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(frozen=True, slots=True)
class Shapes:
    """How one request's answer is written."""

    identifier: str
    created: int
    generation: Generation

    def whole(self, text: str, finish: Finish, usage: Usage, tokens: array[int]) -> dict[str, Any]:
        """Write the complete answer."""
        choice: dict[str, Any] = {"index": 0}
        if self.generation.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        choice |= {"logprobs": None, "finish_reason": finish, "stop_reason": None}
        answer = self._envelope("chat.completion", [choice])
        if self.generation.return_token_ids:
            choice["token_ids"] = tokens.tolist()
            answer["prompt_token_ids"] = self.generation.asked.prompt.tolist()
        answer["usage"] = usage.shape()
        return answer

    def chunk(self, text: str, finish: Finish | None, tokens: Sequence[int], *, first: bool) -> bytes:
        """Write one chunk of a stream; the first of a chat names the role."""
        choice: dict[str, Any] = {"index": 0}
        if self.generation.chat:
            choice["delta"] = {"role": "assistant", "content": text} if first else {"content": text}
        else:
            choice["text"] = text
        choice |= {"logprobs": None, "finish_reason": finish}
        if self.generation.return_token_ids:
            choice["token_ids"] = list(tokens)
        return _sse(self._envelope("chat.completion.chunk", [choice]))

    def usage_chunk(self, usage: Usage) -> bytes:
        """Write the chunk that ends a stream with what it cost."""
        return _sse(self._envelope("chat.completion.chunk", []) | {"usage": usage.shape()})

    def _envelope(self, chat_object: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.identifier,
            "object": chat_object if self.generation.chat else "text_completion",
            "created": self.created,
            "model": self.generation.model,
            "choices": choices,
        }


def models(served: Served, created: int) -> dict[str, Any]:
    """List the base model and its adapters."""

    def card(name: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "kvsync",
            "root": name,
            "parent": parent,
            "max_model_len": served.model_tokens_max,
        }

    adapters = [card(name, served.model) for name in served.adapters]
    return {"object": "list", "data": [card(served.model, None), *adapters]}


def _sse(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
