"""
The chat template of a model's folder; and what stands for it where there is none, or no library to render one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from kvsync.errors import TokenizeError
from kvsync.tokens import files
from kvsync.tokens.chat import Chat
from kvsync.tokens.extras import need
from kvsync.tokens.model import ModelSpec


class Template(Protocol):
    """What lays a chat out as text."""

    def render(self, chat: Chat) -> str: ...


class NoTemplate:
    """A model without a chat template: engines refuse chats for it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def render(self, chat: Chat) -> str:
        raise TokenizeError(f"{self._where} has no chat template; give one with chat_template, or send a prompt")


def template_for(spec: ModelSpec, folder: Path) -> Template:
    """The template that engines would use; `ConfigError` where it cannot be read or compiled."""
    settings = files.settings_of(folder)
    source = files.template_of(spec, folder, settings)
    if source is None:
        return NoTemplate(repr(spec.base))
    need("jinja2", spec.kind)
    from kvsync.tokens.template import ChatTemplate

    return ChatTemplate(
        source,
        where=repr(spec.base),
        variables=files.special_tokens(settings),
        content_format=spec.content_format,
    )
