"""
What `/v1/score` and `/v1/route` are asked, and what an OpenAI body says about its prompt: bytes in, `Prompt` out.

Every refusal is a `Problem` that names the field, the value met and the remedy.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kvsync.index.tokens import read_json_tokens
from kvsync.serve.problems import Problem
from kvsync.serve.tokenizing import Text
from kvsync.tokens.chat import Chat
from kvsync.types import ExtraKey

Tokens: TypeAlias = "array[int] | memoryview"

TOKEN_BYTES = 4
UINT32_MAX = 2**32 - 1
QUERY_KEYS = ("model", "lora", "cache_salt", "extra_keys", "policy")

_TOKEN_IDS = re.compile(rb'"token_ids"\s*:\s*\[')

TEXT_BYTES_MAX = 4096
"""What the index takes of a salt or an identifier; to look at more would only cost."""

NO_TOKENS: Tokens = memoryview(b"").cast("I")

SHOWN = 40
"""Characters of a wrong value that a message repeats."""

_Name = Annotated[str, Field(min_length=1, max_length=1024)]
_Uint32 = Annotated[int, Field(ge=0, le=UINT32_MAX)]
_ExtraKey = tuple[str, _Uint32, Annotated[int, Field(ge=1, le=UINT32_MAX)]]
_EXTRA_KEYS = TypeAdapter(list[_ExtraKey])


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    A prompt as token ids, with what makes its blocks differ from others' of the same ids.

    `model` is as asked for: a base model or an adapter. `policy` None is the daemon's own. `text` is what is still to
    be tokenized: there are no tokens as long as it is there.
    """

    model: str
    tokens: Tokens
    text: Text | None = None
    lora: str | None = None
    cache_salt: str | None = None
    extra_keys: Sequence[ExtraKey] | None = None
    policy: str | None = None


class Body(BaseModel):
    """The JSON body of `/v1/score` and `/v1/route`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: _Name
    token_ids: list[_Uint32] | None = None
    prompt: str | list[_Uint32] | None = None
    messages: list[dict[str, Any]] | None = None
    lora: _Name | None = None
    cache_salt: str | None = None
    # Strict JSON knows no tuples, so these are checked on their own.
    extra_keys: Any = None
    policy: _Name | None = None
    # What changes the tokens of a text, as OpenAI's API and engines have it.
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: list[dict[str, Any]] | None = None
    documents: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None


def read_json(body: bytes, *, tokens_max: int) -> Prompt:
    """Read a JSON body."""
    asked, tokens = _read_body(body)
    text = None
    if tokens is None:
        tokens, text = _tokens(asked)
    prompt = Prompt(
        model=asked.model,
        tokens=tokens,
        text=text,
        lora=asked.lora,
        cache_salt=_salt(asked.cache_salt),
        extra_keys=_extra_keys(asked.extra_keys),
        policy=asked.policy,
    )
    return prompt if text is not None else check_length(prompt, tokens_max=tokens_max)


def read_octets(body: bytes, query: Mapping[str, str], *, tokens_max: int) -> Prompt:
    """Read a body of little-endian uint32 token ids, with everything else in the query string."""
    unknown = [key for key in query if key not in QUERY_KEYS]
    if unknown:
        raise Problem(
            400,
            f"query {unknown[0]!r} is not known; keys are {', '.join(QUERY_KEYS)}",
            code="unknown_field",
            param=unknown[0],
        )
    if not query.get("model"):
        raise Problem(400, "the query string names no model; add ?model=NAME", code="missing_field", param="model")
    extra_keys = query.get("extra_keys")
    _check_text(query.get("lora", ""), "lora", "lora")
    prompt = Prompt(
        model=query["model"],
        tokens=_uint32(body),
        lora=query.get("lora") or None,
        cache_salt=_salt(query.get("cache_salt")),
        extra_keys=_extra_keys(_parse(extra_keys.encode(), "extra_keys")) if extra_keys is not None else None,
        policy=query.get("policy") or None,
    )
    return check_length(prompt, tokens_max=tokens_max)


def read_openai(document: Mapping[str, Any], *, tokens_max: int) -> Prompt:
    """
    Read what an OpenAI body says about its prompt.

    Of several prompts in one request the first is matched. Raises `ValueError` where the prompt cannot be turned into
    tokens: that is the engine's to refuse, and the request can still be routed by load.
    """
    salt = document.get("cache_salt")
    tokens, text = _openai_tokens(document)
    prompt = Prompt(
        model=model_of(document),
        tokens=tokens,
        text=text,
        cache_salt=_salt(salt) if isinstance(salt, str) and salt else None,
    )
    return prompt if text is not None else check_length(prompt, tokens_max=tokens_max)


def read_document(body: bytes) -> dict[str, Any]:
    """Read an OpenAI body as far as JSON goes: an object."""
    document = _parse(body, None)
    if not isinstance(document, dict):
        raise Problem(400, f"the body is {_json_kind(document)}; send a JSON object", code="invalid_json")
    return document


def model_of(document: Mapping[str, Any]) -> str:
    """The model that an OpenAI body asks for."""
    if "model" not in document:
        raise Problem(400, "model is missing; name the model", code="missing_field", param="model")
    model = document["model"]
    if not isinstance(model, str) or not model:
        met = '""' if model == "" else _json_kind(model)
        raise Problem(400, f"model is {met}; name the model", code="missing_field", param="model")
    return model


def check_length(prompt: Prompt, *, tokens_max: int) -> Prompt:
    """Refuse a prompt of no token, or of more than we are set to look at."""
    if not len(prompt.tokens):
        raise Problem(400, "the prompt has no token; send at least one", code="empty_prompt")
    if len(prompt.tokens) > tokens_max:
        raise Problem(
            400,
            f"the prompt has {len(prompt.tokens)} tokens, more than the {tokens_max} of the setting prompt_tokens_max",
            code="prompt_too_long",
        )
    return prompt


def _read_body(body: bytes) -> tuple[Body, Tokens | None]:
    """The body, and its token ids if they were read apart: many numbers are what takes the time in a JSON text."""
    found = _TOKEN_IDS.search(body) if body.count(b'"token_ids"') == 1 else None
    read = None if found is None else read_json_tokens(body, found.end())
    if found is not None and read is not None:
        tokens, end = read
        try:
            asked = Body.model_validate_json(b"%b]%b" % (body[: found.end()], body[end:]))
        except ValidationError:
            pass  # what is said of it must be said of the whole
        else:
            if asked.token_ids == [] and asked.prompt is None and asked.messages is None:
                return asked, tokens
    try:
        return Body.model_validate_json(body), None
    except ValidationError as error:
        raise _refusal(error) from error


def _tokens(asked: Body) -> tuple[Tokens, Text | None]:
    given = [name for name in ("token_ids", "prompt", "messages") if getattr(asked, name) is not None]
    if len(given) != 1:
        met = " and ".join(given) or "none of them"
        raise Problem(400, f"the body holds {met}; give one of token_ids, prompt and messages", code="prompt_fields")
    if asked.token_ids is not None:
        return array("I", asked.token_ids), None
    if isinstance(asked.prompt, list):  # OpenAI's completions take token ids there
        return array("I", asked.prompt), None
    if asked.prompt is not None:
        return NO_TOKENS, Text(asked.prompt, asked.add_special_tokens is not False)
    if not asked.messages:
        raise Problem(400, "messages is []; give at least one message", code="empty_prompt", param="messages")
    return NO_TOKENS, Text(_chat(asked.messages, vars(asked)))


def _openai_tokens(document: Mapping[str, Any]) -> tuple[Tokens, Text | None]:
    messages, prompt = document.get("messages"), document.get("prompt")
    for name in ("chat_template", "truncate_prompt_tokens"):
        if document.get(name) is not None:
            raise ValueError(f"the request has {name}, which only the engine can follow")
    if isinstance(messages, list):
        return NO_TOKENS, Text(_chat(messages, document))
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], (list, str)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return NO_TOKENS, Text(prompt, document.get("add_special_tokens") is not False)
    if isinstance(prompt, list):
        try:
            return array("I", prompt), None
        except (TypeError, OverflowError) as error:
            raise ValueError(f"prompt is no list of token ids: {error}") from error
    raise ValueError("the body has neither messages nor a prompt")


def _chat(messages: list[Any], fields: Mapping[str, Any]) -> Chat:
    """The chat with all that changes its tokens; a field of another type is left to the engine to refuse."""
    kwargs, effort = fields.get("chat_template_kwargs"), fields.get("reasoning_effort")
    return Chat(
        messages,
        tools=_objects(fields.get("tools")),
        documents=_objects(fields.get("documents")),
        template_kwargs=(kwargs if isinstance(kwargs, dict) else {})
        | ({"reasoning_effort": effort} if effort is not None else {}),
        add_generation_prompt=fields.get("add_generation_prompt") is not False,
        continue_final_message=fields.get("continue_final_message") is True,
        add_special_tokens=fields.get("add_special_tokens") is True,
    )


def _objects(value: object) -> list[dict[str, Any]] | None:
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else None


def _uint32(body: bytes) -> Tokens:
    if len(body) % TOKEN_BYTES:
        raise Problem(
            400,
            f"the body's length in bytes is {len(body)}; token ids are little-endian uint32, 4 bytes each",
            code="invalid_tokens",
        )
    if sys.byteorder == "little":
        return memoryview(body).cast("I")
    tokens = array("I", body)
    tokens.byteswap()
    return tokens


def _extra_keys(value: object) -> list[ExtraKey] | None:
    if value is None:
        return None
    try:
        keys = _EXTRA_KEYS.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = "".join(f"[{part}]" for part in problem["loc"])
        raise Problem(
            400,
            f"extra_keys{where} is {_shown(problem['input'])}: {problem['msg']};"
            f" give a list of [identifier, first token, number of tokens], numbers up to {UINT32_MAX}",
            code="invalid_field",
            param="extra_keys",
        ) from error
    for number, (identifier, _, _) in enumerate(keys):
        _check_text(identifier, f"extra_keys[{number}][0]", "extra_keys")
    return list(keys)


def _salt(text: str | None) -> str | None:
    if text is not None:
        _check_text(text, "cache_salt", "cache_salt")
    return text


def _check_text(text: str, where: str, param: str) -> None:
    """Refuse what the index would: a text that has no UTF-8 form, or too much of it."""
    try:
        count = len(text.encode())
    except UnicodeEncodeError as error:
        raise Problem(
            400,
            f"{where} is {_shown(text)}, which has no UTF-8 form ({error.reason}); send whole characters",
            code="invalid_field",
            param=param,
        ) from error
    if count > TEXT_BYTES_MAX:
        raise Problem(
            400,
            f"{where} is {_shown(text)}, {count} bytes; send at most {TEXT_BYTES_MAX}",
            code="invalid_field",
            param=param,
        )


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _json_kind(value: object) -> str:
    """What JSON calls it, as in 'is a number'."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = ((str, "a string"), (int, "a number"), (float, "a number"), (list, "an array"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "an object")


def _parse(body: bytes, param: str | None) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(
            400, f"{param or 'the body'} is no JSON: {_why_no_json(error)}", code="invalid_json", param=param
        ) from error


def _why_no_json(error: Exception) -> str:
    """Python's words where they are of JSON or of bytes; its other two are advice to whoever runs the interpreter."""
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"it holds an integer of more than {sys.get_int_max_str_digits()} digits"


def _refusal(error: ValidationError) -> Problem:
    problem = error.errors(include_url=False)[0]
    if problem["type"] == "json_invalid":
        return Problem(400, f"the body is no JSON: {problem['ctx']['error']}", code="invalid_json")
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(Body.model_fields)
        return Problem(400, f"field {field!r} is not known; fields are {known}", code="unknown_field", param=field)
    if problem["type"] == "missing":
        return Problem(400, f"{field} is missing; give it", code="missing_field", param=field)
    if field.startswith("prompt."):
        # The union's own name of the branch is of no use to who asks.
        field = "prompt"
        return Problem(
            400,
            f"prompt is {_shown(problem['input'])}; send a text, or a list of token ids from 0 to {UINT32_MAX}",
            code="invalid_field",
            param=field,
        )
    if not field:
        return Problem(400, f"the body is {_json_kind(problem['input'])}; send a JSON object", code="invalid_field")
    met = repr(problem["input"])[:80]
    return Problem(400, f"{field} is {met}: {problem['msg']}", code="invalid_field", param=field)
