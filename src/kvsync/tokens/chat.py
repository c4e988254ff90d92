"""
A chat as an engine is asked to lay it out: the messages, and all else in a request that changes the prompt's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Chat:
    """
    Messages as OpenAI's API has them, and what engines take beside them; the defaults are the engines'.

    A prompt gets special tokens at its ends unless told otherwise, a chat does not: its template writes its own, and
    a second one at the beginning would make another prompt.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
