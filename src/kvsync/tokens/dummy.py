"""
The backend of the simulated engine, which needs no library and no file: every byte is a token.
"""

from __future__ import annotations

from array import array

from kvsync.tokens import bytelevel
from kvsync.tokens.chat import Chat


class DummyBackend:
    """Byte-level tokens, as the simulated engine makes them."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        return bytelevel.encode(text)

    def encode_chat(self, chat: Chat) -> array[int]:
        tokens = bytelevel.render_chat(chat.messages)
        # As the simulated engine's /tokenize does it.
        return tokens if chat.add_generation_prompt else tokens[: len(tokens) - len(bytelevel.render_chat([]))]

    def decode(self, ids: array[int]) -> str:
        return bytelevel.decode(ids)

    def stats(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass
