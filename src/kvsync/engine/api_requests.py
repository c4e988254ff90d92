"""
Request bodies of the OpenAI-compatible interface, checked and turned into what the engine is asked.

Pure: a parsed JSON document in, a `Generation` or a `RequestError` out. Fields that change nothing here
(temperature and the like) are accepted and ignored; those that would change the shape of the answer and
are not offered are refused, not ignored.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from kvsync.engine.events import Lora
from kvsync.engine.request import Asked, Image
from kvsync.errors import KvsyncError
from kvsync.tokens.bytelevel import END_OF_MESSAGE, END_OF_TEXT, IMAGE_PLACEHOLDER, encode, render_chat

_COMPLETION_TOKENS = 16
_STOPS_MAX = 4
_MEDIA_TYPES = ("image_url", "input_image", "image")


class RequestError(KvsyncError):
    """A client asked for something that is not to be had; `status` and `kind` go into the answer."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param


@dataclass(frozen=True, slots=True)
class Served:
    """What the interface serves: a model, its adapters, and its lengths in tokens."""

    model: str
    adapters: Mapping[str, Lora]
    model_tokens_max: int
    image_tokens: int

    def lora(self, body: Mapping[str, Any]) -> Lora | None:
        """Resolve the request's model, which may be an adapter's name; no model means the base model."""
        name = body.get("model")
        if name is None or name == self.model:
            return None
        if isinstance(name, str) and name in self.adapters:
            return self.adapters[name]
        raise RequestError(
            f"The model {name!r} does not exist; this engine serves {', '.join([self.model, *self.adapters])}.",
            status=404,
            kind="NotFoundError",
            param="model",
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """A request for an answer: what the engine is asked, and how the answer is to look."""

    asked: Asked
    model: str
    chat: bool
    stream: bool
    include_usage: bool
    return_token_ids: bool
    end: int | None
    salt: str
    """What the answer depends on beside the prompt: adapter and sampling seed."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as tokens, and where its images lie."""

    tokens: array[int]
    images: tuple[Image, ...] = ()


def parse_completion(body: object, served: Served) -> Generation:
    """Read the body of `/v1/completions`."""
    fields = _mapping(body)
    prompt = Rendered(_prompt(fields))
    return _generation(fields, served, prompt, chat=False, max_tokens=_integer(fields, "max_tokens", 1))


def parse_chat(body: object, served: Served) -> Generation:
    """Read the body of `/v1/chat/completions`."""
    fields = _mapping(body)
    prompt = _render(fields, served)
    asked = _integer(fields, "max_completion_tokens", 1)
    if asked is None:
        asked = _integer(fields, "max_tokens", 1)
    return _generation(fields, served, prompt, chat=True, max_tokens=asked)


def parse_tokenize(body: object, served: Served) -> array[int]:
    """Read the body of `/tokenize`: a prompt or messages, as tokens."""
    fields = _mapping(body)
    served.lora(fields)
    if "messages" not in fields:
        return _prompt(fields)
    tokens = _render(fields, served).tokens
    if not _boolean(fields, "add_generation_prompt", True):
        return tokens[: len(tokens) - len(render_chat([]))]
    return tokens


def parse_detokenize(body: object, served: Served) -> array[int]:
    """Read the body of `/detokenize`: a list of token ids."""
    fields = _mapping(body)
    served.lora(fields)
    return _token_ids(fields.get("tokens"), "tokens")


def _generation(
    fields: Mapping[str, Any], served: Served, prompt: Rendered, *, chat: bool, max_tokens: int | None
) -> Generation:
    _refuse_unsupported(fields)
    lora = served.lora(fields)
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        raise RequestError('stream_options is not an object; give {"include_usage": true}', param="stream_options")
    stream = _boolean(fields, "stream", False)
    if options and not stream:
        raise RequestError("stream_options needs stream: true.", param="stream_options")
    end = None if _boolean(fields, "ignore_eos", False) else END_OF_MESSAGE if chat else END_OF_TEXT
    return Generation(
        asked=Asked(
            prompt=prompt.tokens,
            max_tokens=_answer_tokens(len(prompt.tokens), max_tokens, served, chat),
            lora=lora,
            cache_salt=_text(fields, "cache_salt"),
            images=prompt.images,
            stops=_stops(fields),
            report_full=_report_full(fields),
            session=_text(fields, "session_id"),
        ),
        model=lora.name if lora else served.model,
        chat=chat,
        stream=stream,
        include_usage=bool(options) and _boolean(options or {}, "include_usage", False),
        return_token_ids=_boolean(fields, "return_token_ids", False),
        end=end,
        salt=f"{lora.name if lora else ''}\0{_integer(fields, 'seed', None)}",
    )


def _answer_tokens(prompt_tokens: int, max_tokens: int | None, served: Served, chat: bool) -> int:
    room = served.model_tokens_max - prompt_tokens
    if max_tokens is None:
        max_tokens = room if chat else min(_COMPLETION_TOKENS, room)
    if prompt_tokens == 0:
        raise RequestError("The prompt is empty; give at least one token.", param="prompt")
    if room < 1 or max_tokens > room:
        raise RequestError(
            f"This model's maximum context length is {served.model_tokens_max} tokens. However, you requested "
            f"{max(max_tokens, 1)} output tokens and your prompt has {prompt_tokens} tokens; shorten one of them.",
            param="max_tokens" if room >= 1 else "prompt",
        )
    return max_tokens


def _render(fields: Mapping[str, Any], served: Served) -> Rendered:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages is not a list with at least one message.", param="messages")
    images: list[Image] = []

    def place(part: Mapping[str, object], offset: int) -> array[int]:
        images.append(Image(_image_identifier(part), offset, served.image_tokens))
        return array("I", [IMAGE_PLACEHOLDER]) * served.image_tokens

    try:
        tokens = render_chat(messages, part_tokens=place)
    except ValueError as error:
        raise RequestError(str(error), param="messages") from error
    return Rendered(tokens, tuple(images))


def _image_identifier(part: Mapping[str, object]) -> str:
    """Name an image by its address or its data, whichever the part has; the same image, the same name."""
    kind = part.get("type")
    if kind not in _MEDIA_TYPES:
        raise RequestError(
            f"messages has a part of type {kind!r}; this engine takes text and image_url", param="messages"
        )
    source = part.get("image_url", part.get("image"))
    if isinstance(source, Mapping):
        source = source.get("url")
    if not isinstance(source, str) or not source:
        raise RequestError("messages has an image without an address; give image_url: {url: ...}", param="messages")
    return sha256(source.encode("utf-8", "replace")).hexdigest()


def _prompt(fields: Mapping[str, Any]) -> array[int]:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return encode(prompt)
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)):
        raise RequestError("prompt holds several prompts; send one request for each.", param="prompt")
    return _token_ids(prompt, "prompt")


def _token_ids(value: object, param: str) -> array[int]:
    if not isinstance(value, list):
        raise RequestError(f"{param} is {type(value).__name__}; give a text or a list of token ids.", param=param)
    try:
        return array("I", value)
    except (TypeError, OverflowError) as error:
        raise RequestError(
            f"{param} holds something that is no token id; ids are 0 to 2**32 - 1.", param=param
        ) from error


def _stops(fields: Mapping[str, Any]) -> tuple[bytes, ...]:
    stop = fields.get("stop")
    if stop is None:
        return ()
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > _STOPS_MAX:
        raise RequestError(f"stop is not a text or a list of up to {_STOPS_MAX} texts.", param="stop")
    if not all(isinstance(one, str) and one for one in stops):
        raise RequestError("stop holds something that is not a text, or an empty one.", param="stop")
    return tuple(one.encode("utf-8", "replace") for one in stops)


def _report_full(fields: Mapping[str, Any]) -> bool:
    extra = fields.get("vllm_xargs")
    if extra is None:
        return False
    if not isinstance(extra, Mapping):
        raise RequestError("vllm_xargs is not an object.", param="vllm_xargs")
    mode = extra.get("kv_cache_report_mode", "incremental")
    if mode not in ("incremental", "full"):
        raise RequestError(
            f"vllm_xargs.kv_cache_report_mode is {mode!r}; give incremental or full.", param="vllm_xargs"
        )
    return bool(mode == "full")


def _refuse_unsupported(fields: Mapping[str, Any]) -> None:
    for name in ("n", "best_of"):
        if _integer(fields, name, 1) not in (None, 1):
            raise RequestError(f"{name} is {fields[name]}; this engine gives one answer a request.", param=name)
    for name in ("logprobs", "prompt_logprobs", "top_logprobs", "echo", "suffix"):
        if fields.get(name):
            raise RequestError(f"{name} is not offered by this engine; leave it out.", param=name)


def _mapping(body: object) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise RequestError(f"The body is {type(body).__name__}; give a JSON object.")
    return body


def _integer(fields: Mapping[str, Any], name: str, least: int | None) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise RequestError(f"{name} is {value!r}; give an integer{bound}.", param=name)
    return value


def _boolean(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"{name} is {value!r}; give true or false.", param=name)
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} is {value!r}; give a text that is not empty.", param=name)
    return value


def check_rank(header: str | None, ranks: int) -> int | None:
    """Read the rank that a request asks for by header; None lets the engine choose."""
    if header is None:
        return None
    if not header.isascii() or not header.isdecimal() or len(header) > 6 or int(header) >= ranks:
        raise RequestError(f"X-data-parallel-rank is {header!r}; this engine has ranks 0 to {ranks - 1}.")
    return int(header)


def describe(error: RequestError) -> dict[str, Any]:
    """Write an error in OpenAI's shape."""
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.status}}
