"""Text to token ids."""

from __future__ import annotations

from kvsync.tokens.bytelevel import decode, encode, render_chat

__all__ = ["decode", "encode", "render_chat"]
