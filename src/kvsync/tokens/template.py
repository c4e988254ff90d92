"""
A chat template: messages in, the prompt's text out, as the engine renders it.

The rules are those of the transformers library and of vLLM: which names a template sees, how a final message is
continued, and whether it wants a message's content as one text or as parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError

from kvsync.errors import ConfigError, TokenizeError, TokenizerUnavailable
from kvsync.tokens.chat import Chat
from kvsync.tokens.messages import ContentFormat, conversation, tools_of
from kvsync.tokens.sandbox import SECONDS_MAX, Budget, Environment, LimitExceeded
from kvsync.tokens.stops import Stops

SOURCE_CHARS_MAX = 1024 * 1024
SHOWN = 200

_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
"""Marks where the final message ends, to cut there. The space tells whether the template trims messages."""


def _local_now() -> datetime:
    return datetime.now().astimezone()


class ChatTemplate:
    """
    A compiled chat template; any thread may render.

    `variables` are the names a template sees beside the chat, such as `bos_token`. Raises `ConfigError` for a text that
    is no template; `where` says which in messages.
    """

    def __init__(
        self,
        source: str,
        *,
        where: str,
        variables: Mapping[str, str] | None = None,
        content_format: ContentFormat | None = None,
        seconds: float = SECONDS_MAX,
        now: Callable[[], datetime] = _local_now,
        stops: Stops | None = None,
    ) -> None:
        if len(source) > SOURCE_CHARS_MAX:
            raise ConfigError(
                f"the chat template of {where} has {len(source):,} characters; {SOURCE_CHARS_MAX:,} at most"
            )
        environment = Environment(now)
        try:
            self._template = environment.guarded(source)
            self.content_format = content_format or content_format_of(environment.parse(source))
        except (TemplateError, SyntaxError, RecursionError, ValueError, OverflowError) as error:
            raise ConfigError(f"the chat template of {where} cannot be compiled: {_said(error)}") from error
        self._source = source
        self._where = where
        self._variables = dict(variables or {})
        self._seconds = seconds
        # The interpreter runs one thread at a time: several renderings would take turns with the event loop, and end
        # no sooner than one behind the other.
        self._turn = threading.Lock()
        self._stops = stops or Stops()

    def render(self, chat: Chat) -> str:
        """The prompt's text; `TokenizeError` where the template refuses the chat, fails, or uses up what it may."""
        if chat.continue_final_message and chat.add_generation_prompt:
            raise TokenizeError("add_generation_prompt and continue_final_message exclude each other; drop one")
        messages = conversation(chat.messages, self.content_format)
        last = _tag_last(messages) if chat.continue_final_message else None
        text = self._render(
            chat,
            {
                **self._variables,
                **chat.template_kwargs,
                "messages": messages,
                "tools": tools_of(chat.tools),
                "documents": list(chat.documents) if chat.documents else None,
                "add_generation_prompt": chat.add_generation_prompt,
                "continue_final_message": chat.continue_final_message,
            },
        )
        return text if last is None else _cut(text, last)

    def _render(self, chat: Chat, names: dict[str, Any]) -> str:
        with self._turn:
            self._stops.check(chat)
            try:
                return self._stopped_in_time(names)
            except TokenizerUnavailable as error:
                self._stops.add(chat, str(error))
                raise

    def _stopped_in_time(self, names: dict[str, Any]) -> str:
        try:
            with Budget(seconds=self._seconds):
                return "".join(self._template.generate(**names))
        except LimitExceeded as error:
            raise TokenizerUnavailable(f"the chat template of {self._where} was stopped: {_said(error)}") from error
        except SecurityError as error:
            raise TokenizeError(f"the chat template of {self._where} may not do that: {_said(error)}") from error
        except RecursionError as error:
            raise TokenizeError(f"the chat template of {self._where} calls itself without end") from error
        except TemplateError as error:
            raise TokenizeError(f"the chat template of {self._where} refuses the chat: {_said(error)}") from error
        except Exception as error:  # it runs a program of strangers, which may raise anything
            raise TokenizeError(
                f"the chat template of {self._where} failed ({type(error).__name__}: {_said(error)})"
            ) from error


def content_format_of(tree: nodes.Template) -> ContentFormat:
    """
    Whether a template goes through a message's content as through a list.

    It does if some loop runs over `content` of a loop variable that itself runs over `messages`, or over a name that
    was set to it. This is what engines look at: also where a template would handle both, they go by it, and where
    messages are put into a namespace they give up and take them as texts.
    """
    names, grown = {"messages"}, True
    while grown:
        taken = [one for one in tree.find_all(nodes.Assign) if any(_is_of(one.node, name) for name in names)]
        if not all(isinstance(one.target, nodes.Name) for one in taken):
            return "string"
        new = {one.target.name for one in taken if isinstance(one.target, nodes.Name)}
        grown = not new <= names
        names |= new
    loops = list(tree.find_all(nodes.For))
    messages = {
        loop.target.name
        for loop in loops
        if isinstance(loop.target, nodes.Name) and any(_is_of(loop.iter, name) for name in names)
    }
    return "openai" if any(_is_of(loop.iter, name, "content") for loop in loops for name in messages) else "string"


def _is_of(node: nodes.Node | None, name: str, key: str | None = None) -> bool:
    """Whether an expression is the name, or its `key`, perhaps filtered or sliced."""
    while isinstance(node, (nodes.Filter, nodes.Test)) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    if key is None:
        return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name
    if isinstance(node, nodes.Getattr):
        return node.attr == key and _is_of(node.node, name)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return bool(node.arg.value == key) and _is_of(node.node, name)
    return False


def _tag_last(messages: list[dict[str, Any]]) -> str:
    """Put the tag behind the final message's text; gives the text."""
    content = messages[-1].get("content") if messages else None
    if isinstance(content, str):
        messages[-1]["content"] = content + _TAG
        return content
    if not content:
        raise TokenizeError("continue_final_message is set, but the final message has no text to continue")
    text = content[-1]["text"]
    content[-1]["text"] = text + _TAG
    return str(text)


def _cut(text: str, last: str) -> str:
    """The rendered text up to the end of the final message, whose text is `last`."""
    place = text.rfind(_TAG.strip())
    if place < 0 or last.strip() not in text:
        raise TokenizeError(
            "continue_final_message is set, but the final message does not appear in the rendered chat; the chat"
            " template drops or changes it"
        )
    return text[:place] if text[place:].startswith(_TAG) else text[:place].rstrip()


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
