"""
What an answer says it cost, read from its bytes while they pass: never held back, never changed.

Both forms are known: one JSON document, and server-sent events, of which only a line that speaks of usage is parsed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

LINE_BYTES_MAX = 256 * 1024
DOCUMENT_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt, and how many of them the engine had cached (None: it does not say)."""

    prompt_tokens: int
    cached_tokens: int | None


class UsageWatch:
    """
    Reads along; `usage` is the last one said. What is too long to be looked at is skipped.
    """

    def __init__(self, *, is_stream: bool) -> None:
        self._is_stream = is_stream
        self._rest = bytearray()
        self._skipping = False
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> None:
        """The next bytes of the answer."""
        if not self._is_stream:
            self._keep(data, DOCUMENT_BYTES_MAX)
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line, LINE_BYTES_MAX)
            self._end_line()
        self._keep(rest, LINE_BYTES_MAX)

    def end(self) -> Usage | None:
        """The answer is complete: give what it said."""
        if self._is_stream:
            self._end_line()
        elif not self._skipping:
            self._parse(bytes(self._rest))
        return self.usage

    def _keep(self, data: bytes, most: int) -> None:
        if self._skipping or len(self._rest) + len(data) > most:
            self._skipping = True
            self._rest.clear()
        else:
            self._rest += data

    def _end_line(self) -> None:
        if self._rest.startswith(b"data:") and b'"usage"' in self._rest:
            self._parse(bytes(self._rest).removeprefix(b"data:"))
        self._rest.clear()
        self._skipping = False

    def _parse(self, document: bytes) -> None:
        try:
            value = json.loads(document)
        except (ValueError, RecursionError):
            return
        usage = read_usage(value.get("usage")) if isinstance(value, dict) else None
        self.usage = usage or self.usage


def read_usage(value: Any) -> Usage | None:
    """Read OpenAI's `usage` object, None where there is none."""
    if not isinstance(value, dict) or not isinstance(value.get("prompt_tokens"), int):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(value["prompt_tokens"], cached if isinstance(cached, int) else None)
