"""
The byte-level tokenizer: every UTF-8 byte is its own token, and a few ids above them mark a chat's shape.

Vocabulary of 512 ids: 0..255 the bytes, 256 end of text, 257 start of a message, 258 end of a message,
259 the placeholder that an image is made of; the rest is unused. Text never yields an id above 255, so
no prompt can forge a mark.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

VOCABULARY_SIZE = 512
END_OF_TEXT = 256
START_OF_MESSAGE = 257
END_OF_MESSAGE = 258
IMAGE_PLACEHOLDER = 259

_NEWLINE = 10
_BYTES = 256
_UTF_32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"

PartTokens = Callable[[Mapping[str, object], int], Iterable[int]]
"""Given a content part that is not text and the position it starts at, the token ids it becomes."""


def encode(text: str) -> array[int]:
    """
    Turn text into its UTF-8 bytes as token ids, an `array('I')`.

    A lone surrogate, which JSON can carry and UTF-8 cannot, becomes a question mark.
    """
    tokens = array("I")
    # Latin-1 gives each byte a character of its own and UTF-32 four bytes to each: no loop in Python.
    tokens.frombytes(text.encode("utf-8", "replace").decode("latin-1").encode(_UTF_32))
    return tokens


def decode(ids: Iterable[int]) -> str:
    """
    Turn token ids back into text: ids above 255 are skipped, broken UTF-8 shows as U+FFFD.
    """
    return bytes([token for token in ids if 0 <= token < _BYTES]).decode("utf-8", "replace")


def render_chat(messages: Sequence[Mapping[str, object]], *, part_tokens: PartTokens | None = None) -> array[int]:
    """
    Lay a conversation out as token ids, ending where the assistant is to go on.

    Rendering a longer conversation starts with the tokens of the shorter one followed by the bytes of
    the answer. Content is text, nothing, or a list of content parts: text parts are joined, others
    are left out unless `part_tokens` says what they become. Raises `ValueError` for any other shape.
    """
    tokens = array("I")
    for position, message in enumerate(messages):
        role, content = _role_and_content(message, position)
        _open_message(tokens, role)
        _append_content(tokens, content, position, part_tokens)
        tokens.append(END_OF_MESSAGE)
        tokens.append(_NEWLINE)
    _open_message(tokens, "assistant")
    return tokens


def _open_message(tokens: array[int], role: str) -> None:
    tokens.append(START_OF_MESSAGE)
    tokens.extend(encode(role))
    tokens.append(_NEWLINE)


def _role_and_content(message: object, position: int) -> tuple[str, object]:
    if not isinstance(message, Mapping):
        raise ValueError(f"messages[{position}] is {type(message).__name__}; give an object with role and content")
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise ValueError(f"messages[{position}].role is {role!r}; give a text such as 'user'")
    return role, message.get("content")


def _append_content(tokens: array[int], content: object, position: int, part_tokens: PartTokens | None) -> None:
    if content is None:
        return
    if isinstance(content, str):
        tokens.extend(encode(content))
        return
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise ValueError(
            f"messages[{position}].content is {type(content).__name__}; give a text or a list of content parts"
        )
    for part in content:
        if not isinstance(part, Mapping):
            raise ValueError(
                f"messages[{position}].content holds {type(part).__name__}; every part is an object with a type"
            )
        text = part.get("text") if part.get("type") in ("text", "input_text") else None
        if isinstance(text, str):
            tokens.extend(encode(text))
        elif part.get("type") in ("text", "input_text"):
            raise ValueError(f"messages[{position}].content has a text part whose text is {text!r}; give a text")
        elif part_tokens is not None:
            tokens.extend(part_tokens(part, len(tokens)))
