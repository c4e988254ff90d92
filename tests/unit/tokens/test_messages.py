"""What is done to messages before a template sees them."""

from __future__ import annotations

from typing import Any

import pytest

from kvsync.errors import TokenizeError
from kvsync.tokens.messages import conversation, tools_of

PARTS = [{"type": "text", "text": "a"}, "b", {"type": "refusal", "refusal": "c"}, {"type": "text", "text": None}]


def test_parts_become_one_text_or_a_list_of_texts() -> None:
    """As one text, parts are joined by newlines; as parts, each is a text; one without a text is left out."""
    messages = [{"role": "user", "content": PARTS}]
    assert conversation(messages, "string")[0]["content"] == "a\nb\nc"
    assert conversation(messages, "openai")[0]["content"] == [{"type": "text", "text": text} for text in "abc"]


@pytest.mark.parametrize(("content_format", "expected"), [("string", ""), ("openai", [])])
def test_no_content_is_an_empty_one(content_format: Any, expected: object) -> None:
    """A message without content, as that of a tool call often is, has an empty one."""
    assert conversation([{"role": "assistant"}], content_format)[0]["content"] == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": [1]}', {"a": [1]}), ({"a": 1}, {"a": 1}), ("", {}), ("{", {}), (None, {}), (7, {}), ("[1]", [1])],
)
def test_arguments_of_tool_calls_become_objects(arguments: object, expected: object) -> None:
    """JSON is read; what is none becomes an empty object, and the request's own message stays as it was."""
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    made = conversation([message], "string")[0]
    assert made["tool_calls"] == [{**call, "function": {"name": "f", "arguments": expected}}]
    assert call["function"] == {"name": "f", "arguments": arguments}


def test_what_belongs_to_a_role_is_kept_and_the_rest_is_not() -> None:
    """Names stay; a tool's answer is one text with its call; no tool calls are no field; reasoning has two names."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "x", "name": "Ann", "custom": 1},
        {"role": "assistant", "content": "x", "tool_calls": [], "reasoning": "hm"},
        {
            "role": "tool",
            "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}],
            "tool_call_id": "i",
        },
    ]
    assert conversation(messages, "openai") == [
        {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "Ann"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}],
            "reasoning": "hm",
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "1\n2", "tool_call_id": "i"},
    ]


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        (["hi"], r"messages\[0\] is str"),
        ([{"content": "x"}], r"messages\[0\]\.role is None"),
        ([{"role": "user", "content": 7}], r"messages\[0\]\.content is int"),
        ([{"role": "user", "content": [7]}], r"messages\[0\]\.content\[0\] is int"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
            "'image_url'.*only the engine",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": 7}]}], r"content\[0\]\.text is int"),
        ([{"role": "assistant", "tool_calls": "f"}], r"tool_calls is str"),
        ([{"role": "assistant", "tool_calls": [{"id": "x"}]}], r"tool_calls\[0\] has no function"),
    ],
)
def test_what_cannot_be_laid_out_is_named(messages: Any, named: str) -> None:
    """A message of another shape, and content that only the engine understands, name the place."""
    with pytest.raises(TokenizeError, match=named):
        conversation(messages, "string")


def test_tools_have_their_keys_in_the_engines_order() -> None:
    """Templates print tools as JSON, and engines order and fill in the keys first."""
    tools = [{"function": {"parameters": {"b": 1, "a": 2}, "name": "f", "strict": True}, "type": "function"}]
    assert tools_of(None) is None
    made = tools_of(tools)
    assert made is not None
    assert [list(tool) for tool in made] == [["type", "function"]]
    assert list(made[0]["function"].items()) == [
        ("name", "f"), ("description", None), ("parameters", {"b": 1, "a": 2}), ("strict", True)
    ]  # fmt: skip
    with pytest.raises(TokenizeError, match=r"tools\[1\] is no function"):
        tools_of([*tools, {"type": "function"}])
