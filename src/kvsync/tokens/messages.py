"""
Messages as a chat template gets them: what engines do to a request's messages before they render them.

The rules are vLLM's. Whether a template takes a message's content as one text ("string") or as a list of parts
("openai") is read from the template, or set where an engine is told so (`--chat-template-content-format`). As one text,
parts are joined by newlines. The arguments of tool calls become objects. What only the engine can turn into tokens,
such as an image, is a `TokenizeError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from kvsync.errors import TokenizeError

ContentFormat: TypeAlias = Literal["string", "openai"]

_TEXT_KINDS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_ROLE = 'give an object with a role such as "user"'


def conversation(messages: Sequence[Mapping[str, Any]], content_format: ContentFormat) -> list[dict[str, Any]]:
    """The messages as new objects, in the shape that templates expect."""
    return [_message(message, position, content_format) for position, message in enumerate(messages)]


def tools_of(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """
    The tools as new objects, their keys in the order that engines bring them into: templates print them as JSON.
    """
    if tools is None:
        return None
    return [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]


def _tool(tool: object, where: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise TokenizeError(f"{where} is no function with a name; give an object with type and function")
    ordered = {"name": function["name"], "description": None, "parameters": None, **function}
    return {"type": "function", "function": ordered, **{k: v for k, v in tool.items() if k not in ("type", "function")}}


def _message(message: object, position: int, content_format: ContentFormat) -> dict[str, Any]:
    where = f"messages[{position}]"
    if not isinstance(message, Mapping):
        raise TokenizeError(f"{where} is {type(message).__name__}; {_ROLE}")
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise TokenizeError(f"{where}.role is {role!r}; {_ROLE}")
    made: dict[str, Any] = {"role": role, "content": _content(message.get("content"), where, content_format)}
    if role == "assistant":
        made |= _assistant(message, where)
    elif role == "tool":
        if "tool_call_id" in message:
            made["tool_call_id"] = message["tool_call_id"]
        made["content"] = _as_text(made["content"])
    elif role == "developer":
        made["tools"] = message.get("tools")
    return made | {key: message[key] for key in ("name", "task") if isinstance(message.get(key), str)}


def _content(content: object, where: str, content_format: ContentFormat) -> Any:
    if content is None:
        texts = []
    elif isinstance(content, str):
        texts = [content]
    elif isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)):
        parts = [_part(part, f"{where}.content[{number}]") for number, part in enumerate(content)]
        texts = [text for text in parts if text is not None]
    else:
        raise TokenizeError(f"{where}.content is {type(content).__name__}; give a text or a list of content parts")
    if content_format == "string":
        return "\n".join(texts)
    return [{"type": "text", "text": text} for text in texts]


def _part(part: object, where: str) -> str | None:
    """The text of a content part; None for one that engines leave out."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise TokenizeError(f"{where} is {type(part).__name__}; every part is a text or an object with a type")
    kind = part.get("type")
    field = _TEXT_KINDS.get(kind) if isinstance(kind, str) else None
    if field is None:
        raise TokenizeError(f"{where} has the type {kind!r}, which only the engine can turn into tokens")
    text = part.get(field)
    if text is None and kind in ("text", "refusal"):
        return None
    if not isinstance(text, str):
        raise TokenizeError(f"{where}.{field} is {type(text).__name__}; give a text")
    return text


def _as_text(content: Any) -> str:
    """A tool's answer, which is one text in either format."""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _assistant(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    calls = message.get("tool_calls")
    if calls:
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise TokenizeError(f"{where}.tool_calls is {type(calls).__name__}; give a list of tool calls")
        made["tool_calls"] = [_call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    if (reasoning := message.get("reasoning", message.get("reasoning_content"))) is not None:
        made["reasoning"] = made["reasoning_content"] = reasoning
    return made


def _call(call: object, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise TokenizeError(f"{where} has no function; give an object with type, id and function")
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(arguments: object) -> Any:
    """Templates expect an object where OpenAI's API has its JSON; what is no JSON becomes an empty one."""
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, (dict, list)) else {}
