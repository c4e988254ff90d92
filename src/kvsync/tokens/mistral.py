"""
Mistral's own tokenizers: tekken files and the older sentencepiece models, with the chats that mistral-common lays out.

There is no template: the library turns messages into ids itself, and checks them on the way. What it is given is text
only, for it would fetch an image from the address in a message.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from kvsync.errors import ConfigError, TokenizeError
from kvsync.tokens import files
from kvsync.tokens.chat import Chat
from kvsync.tokens.cuts import NO_CUTS, PAIRS, Cuts, cuts, parted_by
from kvsync.tokens.extras import need
from kvsync.tokens.model import ModelSpec
from kvsync.tokens.segments import SegmentCache
from kvsync.tokens.vocabulary import guarded

FILES = ("tekken.json", "tekken*.json", "tokenizer.model.v*", "*.model.v*", "tokenizer.model")

STANDIN_ABOVE = 64
"""Ids of a text above which one number stands for all of them while a chat is laid out. The library puts its list
together, copies and checks it id by id, which for a long chat would take longer than all else."""

PROBE = "Wo ist 東京? print(42)\n\n  naïve 👍"
"""A text by which two ways to its ids are told apart."""

MESSAGES_BYTES_MAX = 16 * 1024 * 1024
MESSAGE_CHARS_MAX = 64 * 1024
"""How much of messages is kept whole, beside their segments: one look-up each, where 4,000 characters have six."""

CALL_ID_CHARS = 9
"""How many characters of a tool call's id count; engines keep the last ones of a longer id."""

_TEXTS: ContextVar[list[array[int]] | None] = ContextVar("texts", default=None)
"""The texts of the chat that is being laid out; text number n is stood for by -n."""


class MistralBackend:
    """A loaded tokenizer of Mistral's."""

    def __init__(self, spec: ModelSpec, adapter: Path | None = None) -> None:
        library = need("mistral_common.tokens.tokenizers.mistral", "mistral")
        self._requests = need("mistral_common.protocol.instruct.request", "mistral")
        path = files.find(spec, FILES, adapter=adapter)
        self._chats = _load(library, path)
        self._text = self._chats.instruct_tokenizer.tokenizer
        self._encode = _encoder(self._text)
        self._segments = SegmentCache(self._call, _cuts(path))
        self._messages = SegmentCache(
            self._segments.encode, NO_CUTS, bytes_max=MESSAGES_BYTES_MAX, last_max=MESSAGE_CHARS_MAX
        )
        # What lays out chats asks the tokenizer for the ids of each text: it is to ask through the cache.
        self._text.encode = self._cached_encode
        # And it turns all ids back into one text at the end, which nobody here reads.
        self._chats.instruct_tokenizer.decode = lambda *_, **__: ""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> array[int]:
        ids = self._segments.encode(text)
        return array("I", [self._text.bos_id]) + ids if add_special_tokens else ids

    def encode_chat(self, chat: Chat) -> array[int]:
        _check(chat)
        request = {
            "messages": [_message(message, position) for position, message in enumerate(chat.messages)],
            "tools": list(chat.tools) if chat.tools else None,
            "continue_final_message": chat.continue_final_message,
        }
        if (effort := chat.template_kwargs.get("reasoning_effort")) is not None and _version(self._text) >= 15:
            request["reasoning_effort"] = effort
        texts: list[array[int]] = []
        set_before = _TEXTS.set(texts)
        try:
            asked = self._requests.ChatCompletionRequest.from_openai(**request)
            layout = self._chats.encode_chat_completion(asked).tokens
        except TokenizeError:
            raise
        except Exception as error:  # the library's, pydantic's, and of messages in another shape
            raise TokenizeError(f"mistral-common refuses the chat: {_said(error)}") from error
        finally:
            _TEXTS.reset(set_before)
        return _filled_in(layout, texts)

    def decode(self, ids: array[int]) -> str:
        policy = need("mistral_common.tokens.tokenizers.base", "mistral").SpecialTokenPolicy.KEEP
        return str(self._text.decode(list(ids), policy))

    def stats(self) -> Mapping[str, float]:
        """Of the segments; a message that was known as a whole counts as one."""
        messages, segments = self._messages.stats(), self._segments.stats()
        both = ("segment_hits", "segment_bytes", "segment_bytes_max", "chars_reused")
        return segments | {name: segments[name] + messages[name] for name in both}

    def close(self) -> None:
        self._messages.clear()
        self._segments.clear()

    def _call(self, text: str) -> array[int]:
        return guarded(lambda: self._encode(text))

    def _cached_encode(self, s: str, bos: bool, eos: bool) -> list[int]:
        """In place of the library's own: ids, or in a chat, for a longer text, what stands for them."""
        ids, texts = self._messages.encode(s), _TEXTS.get()
        if texts is not None and len(ids) > STANDIN_ABOVE:
            texts.append(ids)
            inner = [-len(texts)]
        else:
            inner = ids.tolist()
        return [self._text.bos_id] * bos + inner + [self._text.eos_id] * eos


def _filled_in(layout: list[int], texts: list[array[int]]) -> array[int]:
    """A chat's ids, with those of its texts where they stand."""
    ids = array("I")
    for one in layout:
        if one < 0:
            ids.extend(texts[-one - 1])
        else:
            ids.append(one)
    return ids


def _encoder(tokenizer: Any) -> Callable[[str], array[int]]:
    """
    From text to ids as the library does it; where it can be had, without what the library does to every id and letter.

    A tekken file's ids are those of a tiktoken vocabulary without special tokens, moved behind the special ones. For
    a vocabulary without them tiktoken's `encode`, unlike `encode_ordinary`, looks for none at every letter.
    """
    own = tokenizer.encode

    def slowly(text: str) -> array[int]:
        return array("I", own(text, bos=False, eos=False))

    def quickly(text: str) -> array[int]:
        return array("I", [one + moved for one in ordinary(text)])

    try:
        ordinary, moved = tokenizer._model.encode_ordinary, tokenizer.num_special_tokens
        is_plain = not tokenizer._model.special_tokens_set
        return quickly if is_plain and quickly(PROBE) == slowly(PROBE) else slowly
    except (AttributeError, TypeError):  # of another kind, or of another version of the library
        return slowly


def _load(library: Any, path: Path) -> Any:
    try:
        return library.MistralTokenizer.from_file(str(path))
    except ImportError as error:
        raise ConfigError(
            f"{path} needs the library {error.name or 'sentencepiece'}; run: python -m pip install 'kvsync[mistral]'"
            " sentencepiece"
        ) from error
    except Exception as error:  # whatever a file that is none makes the library stumble over
        raise ConfigError(f"{path} is no tokenizer of mistral-common ({_said(error)}); fetch the file anew") from error


def _cuts(path: Path) -> Cuts:
    """A tekken file names its expression; of sentencepiece models nothing is proved."""
    if path.suffix != ".json":
        return NO_CUTS
    document = files.read_json(path)
    return cuts(parted_by(document["config"]["pattern"], PAIRS))


def _check(chat: Chat) -> None:
    """What engines refuse for such models before the library sees it."""
    if not chat.messages:
        raise TokenizeError("messages is empty; give at least one message")
    others = [name for name in chat.template_kwargs if name != "reasoning_effort"]
    if others:
        raise TokenizeError(f"chat_template_kwargs has {others[0]!r}; models of this kind have no chat template")
    last: object = chat.messages[-1]
    is_assistant = isinstance(last, Mapping) and last.get("role") == "assistant"
    if chat.add_generation_prompt and chat.continue_final_message:
        raise TokenizeError("add_generation_prompt and continue_final_message exclude each other; drop one")
    if chat.add_generation_prompt and is_assistant:
        raise TokenizeError("the last message is the assistant's; set continue_final_message to go on from it")
    if chat.continue_final_message and not is_assistant:
        raise TokenizeError("continue_final_message is set, but the last message is not the assistant's")


def _message(message: Any, position: int) -> dict[str, Any]:
    where = f"messages[{position}]"
    if not isinstance(message, Mapping):
        raise TokenizeError(f"{where} is {type(message).__name__}; give an object with a role")
    made = dict(message)
    content = made.get("content")
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "thinking"):
            raise TokenizeError(
                f"{where} has a content part of type {kind!r}, which only the engine can make tokens of"
            )
    if isinstance(made.get("tool_call_id"), str):
        made["tool_call_id"] = made["tool_call_id"][-CALL_ID_CHARS:]
    if isinstance(calls := made.get("tool_calls"), list):
        made["tool_calls"] = [_call(call) for call in calls]
    return made


def _call(call: Any) -> Any:
    if isinstance(call, Mapping) and isinstance(call.get("id"), str):
        return {**call, "id": call["id"][-CALL_ID_CHARS:]}
    return call


def _version(tokenizer: Any) -> int:
    digits = str(tokenizer.version.value).partition("v")[2].partition("m")[0]
    return int(digits) if digits.isdecimal() else 0


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
