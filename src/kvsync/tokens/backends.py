"""
What a backend is, and which one a spec asks for.

The libraries behind backends are extras: each is imported when a spec first needs it.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from kvsync.tokens.chat import Chat
from kvsync.tokens.dummy import DummyBackend
from kvsync.tokens.model import ModelSpec


class Backend(Protocol):
    """
    A loaded tokenizer; any thread may call it.

    What cannot be turned into tokens is a `TokenizeError`: the engine would refuse it too, or could not be asked.
    """

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        """A prompt's ids, an `array('I')`."""

    def encode_chat(self, chat: Chat) -> array[int]:
        """A chat's ids, as the engine lays it out."""

    def decode(self, ids: array[int]) -> str:
        """The text of some ids, for people to read."""

    def stats(self) -> Mapping[str, float]:
        """What it did so far, as named figures."""

    def close(self) -> None:
        """Give back what it holds; nothing is asked of it afterwards."""


def open_backend(spec: ModelSpec, *, adapter: Path | None = None) -> Backend:
    """
    Load the backend that a spec asks for; `adapter` is where the adapter's files are.

    Raises `ConfigError` for a file or a library that is missing or of no use.
    """
    match spec.kind:
        case "dummy":
            return DummyBackend()
        case "hf":
            from kvsync.tokens.hf import HfBackend

            return HfBackend(spec, adapter)
        case "tiktoken":
            from kvsync.tokens.vocabulary import VocabularyBackend

            return VocabularyBackend(spec, adapter)
        case "mistral":
            from kvsync.tokens.mistral import MistralBackend

            return MistralBackend(spec, adapter)
        case "remote":
            from kvsync.tokens.remote import RemoteBackend

            return RemoteBackend(spec)
