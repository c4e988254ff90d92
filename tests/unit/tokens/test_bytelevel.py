"""The byte-level tokenizer."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.tokens.bytelevel import (
    END_OF_MESSAGE,
    END_OF_TEXT,
    IMAGE_PLACEHOLDER,
    START_OF_MESSAGE,
    VOCABULARY_SIZE,
    decode,
    encode,
    render_chat,
)

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why is the sky blue?"}
ANSWER = "Rayleigh scattering – \u00e9t\u00e9."
FOLLOW_UP = {"role": "user", "content": "And red at dusk?"}


def test_encode_gives_utf8_bytes_as_uint32() -> None:
    """A token is a UTF-8 byte, in a buffer of 32-bit unsigned integers."""
    tokens = encode("a\u00e9\u20ac")
    assert tokens == array("I", [0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC])
    assert (tokens.typecode, tokens.itemsize) == ("I", 4)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decode_undoes_encode(text: str) -> None:
    """Any text comes back unchanged."""
    assert decode(encode(text)) == text


@given(st.text(st.characters()))
def test_text_never_yields_a_mark(text: str) -> None:
    """No text, not even broken Unicode, can forge an id above 255."""
    assert all(token < END_OF_TEXT for token in encode(text))


def test_decode_skips_special_ids_and_replaces_broken_bytes() -> None:
    """Marks vanish and half a character shows as U+FFFD."""
    assert decode([START_OF_MESSAGE, 0x68, 0x69, END_OF_MESSAGE, VOCABULARY_SIZE - 1, 0xC3]) == "hi\ufffd"


def test_render_chat_lays_out_messages_and_the_generation_prompt() -> None:
    """Each message is start, role, newline, content, end, newline; the end asks the assistant to go on."""
    tokens = render_chat([{"role": "user", "content": "hi"}])
    assert tokens == array(
        "I", [START_OF_MESSAGE, *b"user", 10, *b"hi", END_OF_MESSAGE, 10, START_OF_MESSAGE, *b"assistant", 10]
    )


def test_render_chat_is_prefix_stable() -> None:
    """The next turn begins with this turn's prompt followed by the answer's bytes."""
    first = render_chat([SYSTEM, USER])
    second = render_chat([SYSTEM, USER, {"role": "assistant", "content": ANSWER}, FOLLOW_UP])
    so_far = first + encode(ANSWER)
    assert second[: len(so_far)] == so_far


def test_text_parts_are_joined() -> None:
    """Content parts of text equal the joined text; parts of other kinds are left out."""
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "b"},
    ]
    assert render_chat([{"role": "user", "content": parts}]) == render_chat([{"role": "user", "content": "ab"}])


def test_other_parts_become_what_the_caller_says() -> None:
    """A caller can give an image its tokens and learns where they begin."""
    seen: list[int] = []

    def image(part: Mapping[str, object], position: int) -> Iterable[int]:
        seen.append(position)
        return [IMAGE_PLACEHOLDER] * 3

    tokens = render_chat([{"role": "user", "content": [{"type": "image_url"}]}], part_tokens=image)
    assert list(tokens[seen[0] : seen[0] + 3]) == [IMAGE_PLACEHOLDER] * 3
    assert tokens.count(IMAGE_PLACEHOLDER) == 3


def test_no_content_is_empty_content() -> None:
    """A message without content, as one that calls a tool, renders as an empty one."""
    assert render_chat([{"role": "assistant"}]) == render_chat([{"role": "assistant", "content": ""}])


@pytest.mark.parametrize(
    "messages",
    [
        ["hi"],
        [{"content": "hi"}],
        [{"role": 3, "content": "hi"}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": b"hi"}],
        [{"role": "user", "content": ["hi"]}],
        [{"role": "user", "content": [{"type": "text", "text": 3}]}],
    ],
)
def test_a_malformed_message_is_named(messages: list[Mapping[str, object]]) -> None:
    """The error says which message and what was met."""
    with pytest.raises(ValueError, match=r"messages\[0\]"):
        render_chat(messages)
