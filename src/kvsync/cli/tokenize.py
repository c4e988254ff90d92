"""`kvsync tokenize`: a prompt or a chat as token ids, and whether an engine makes the same of it."""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsync.cli.texts import check_text
from kvsync.errors import ConfigError, TokenizeError
from kvsync.files import read_file, read_open

if TYPE_CHECKING:
    from kvsync.serve.tokenizing import Text
    from kvsync.tokens.backends import Backend
    from kvsync.tokens.model import ModelSpec

COMPARE_SECONDS = 30.0
CONTEXT_TOKENS = 12
INPUT_BYTES_MAX = 64 * 1024 * 1024

_TEXT = "What becomes tokens"
_WHICH = "By which tokenizer"
_ENGINE = "Beside an engine"
_BLOCKS = "How blocks are hashed"


def command(
    model: Annotated[str, typer.Option(metavar="NAME", help="The model's name, as engines serve it.")],
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="A prompt.", rich_help_panel=_TEXT)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A prompt in a file, every byte of it; - for standard input.", rich_help_panel=_TEXT
        ),
    ] = None,
    chat: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A chat: a JSON array of messages, or the whole body of a request, with tools and the like; - for"
            " standard input.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The daemon's TOML file, for its [tokenizers.NAME].", rich_help_panel=_WHICH),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="hf, tiktoken, mistral, remote or dummy; in place of the file's.",
            metavar="KIND",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="A folder, a file, or OWNER/NAME on the hub (the model's name).",
            metavar="BASE",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="The hub's revision.", metavar="NAME", rich_help_panel=_WHICH)
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Of a tiktoken vocabulary: cl100k_base and the like, or an expression.", rich_help_panel=_WHICH
        ),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            help="A Jinja file in place of the model's chat template.", metavar="FILE", rich_help_panel=_WHICH
        ),
    ] = None,
    special_tokens: Annotated[
        bool | None,
        typer.Option(
            help="Special tokens at the ends; by default a prompt gets them and a chat does not.", rich_help_panel=_TEXT
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask this engine's /tokenize for the same, and show the first difference.",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A file with the bearer token that the engine asks for.", rich_help_panel=_ENGINE
        ),
    ] = None,
    block_size: Annotated[int, typer.Option(min=1, max=2**20, help="Tokens in a block.", rich_help_panel=_BLOCKS)] = 16,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**64 - 1,
            help="Of the block hashes; an index draws its own unless given one.",
            rich_help_panel=_BLOCKS,
        ),
    ] = 0,
    lora: Annotated[
        str | None, typer.Option(metavar="NAME", help="The adapter the prompt is for.", rich_help_panel=_BLOCKS)
    ] = None,
    salt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The prompt's cache salt.", rich_help_panel=_BLOCKS)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with all ids and hashes.")] = False,
) -> None:
    """
    Turn a prompt or a chat into token ids and block hashes, as the daemon does.

    With --compare the same is asked of an engine: exit status 1 and the first difference, with its position and text,
    where the two are not equal. A wrong template or tokenizer shows nowhere else but as matches that never come.

    Example: kvsync tokenize --model org/model --base ./model --chat chat.json --compare http://127.0.0.1:8000
    """
    from kvsync.cli.output import print_json, writing
    from kvsync.cli.tokenize_view import show
    from kvsync.index import Index
    from kvsync.tokens.cache import BackendCache

    for flag, text in (("--model", model), ("--lora", lora), ("--salt", salt), ("--compare", compare)):
        check_text(flag, text)
    asked = read_input(model, prompt, file, chat, special_tokens)
    spec = spec_for(
        model,
        config,
        {"kind": kind, "base": base, "revision": revision, "pattern": pattern, "chat_template": chat_template},
    )
    cache = BackendCache(1)
    with cache.lease(spec) as entry, Index(seed=seed) as index:
        ids = encoded(entry.backend, asked, name_of(file, chat))
        hashes = index.block_hashes(ids, model=model, lora=lora, cache_salt=salt, block_size=block_size)
        document: dict[str, Any] = {
            "model": model,
            "kind": spec.kind,
            "base": spec.base,
            "load_seconds": round(entry.load_seconds, 3),
            "count": len(ids),
            "tokens": ids.tolist(),
            "block_size": block_size,
            "block_hashes": hashes.tolist(),
        }
        if compare is not None:
            document["compare"] = compared(entry.backend, ids, asked, model, compare, token_file)
    cache.evict_all()
    if as_json:
        print_json(document)
    else:
        with writing():
            show(document)
    if compare is not None and not document["compare"]["equal"]:
        raise typer.Exit(1)


def read_input(
    model: str, prompt: str | None, file: Path | None, chat: Path | None, special_tokens: bool | None
) -> Text:
    """What is to be tokenized; `ConfigError` unless it is given once and can be read."""
    from kvsync.serve.requests import read_openai

    given = [flag for flag, value in (("--prompt", prompt), ("--file", file), ("--chat", chat)) if value is not None]
    if len(given) != 1:
        raise ConfigError(f"{' and '.join(given) or 'nothing'} is given; give one of --prompt, --file and --chat")
    if chat is None:
        document: Any = {"prompt": _read(file, "--file") if file is not None else prompt}
    else:
        try:
            document = json.loads(_read(chat, "--chat"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"--chat {chat} is no JSON: {error}; give an array of messages, or a body") from error
        document = {"messages": document} if isinstance(document, list) else document
        if not isinstance(document, dict) or not isinstance(document.get("messages"), list):
            raise ConfigError(f"--chat {chat} has no messages; give an array of them, or a body that has one")
        _check_fields(document, chat)
    if special_tokens is not None:
        document["add_special_tokens"] = special_tokens
    try:
        text = read_openai({**document, "model": model, "cache_salt": None}, tokens_max=2**32).text
    except ValueError as error:
        raise ConfigError(f"{name_of(file, chat)}: {error}; leave it out") from error
    assert text is not None  # a text or a chat, as was seen to above
    return text


def _check_fields(document: dict[str, Any], chat: Path) -> None:
    """Refuse what the daemon would leave to the engine to refuse: here it would only be missing in the ids."""
    for name in ("tools", "documents"):
        value = document.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
            raise ConfigError(f"--chat {chat}: {name} is {repr(value)[:60]}; give an array of objects")
    kwargs = document.get("chat_template_kwargs")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise ConfigError(f"--chat {chat}: chat_template_kwargs is {repr(kwargs)[:60]}; give an object")


def spec_for(model: str, config: Path | None, given: dict[str, Any]) -> ModelSpec:
    """The tokenizer that the file names, with what the flags say in place of it."""
    from kvsync.tokens.written import spec_of_table

    table: dict[str, Any] = {}
    if config is not None:
        from kvsync.serve.settings import load_settings

        settings = load_settings({}, config=config)
        known = settings.tokenizers
        if model not in known and not any(given.values()):
            names = ", ".join(known) or "none"
            raise ConfigError(f"--config {config} has no [tokenizers.{model!r}]; it has {names}; or give --base")
        # Engines that are asked are by default the model's own, as in the daemon.
        table = {"endpoints": tuple(sorted(pod.http for pod in settings.pods if pod.model == model))}
        table |= known[model].model_dump(exclude_unset=True) if model in known else {}
    elif not any(given.values()):
        raise ConfigError("no tokenizer is named; give --config FILE, or --kind and --base (--kind dummy: bytes)")
    return spec_of_table(table | {name: value for name, value in given.items() if value is not None}, model)


def encode(backend: Backend, asked: Text) -> array[int]:
    """The ids of a text or a chat."""
    if isinstance(asked.content, str):
        return backend.encode(asked.content, add_special_tokens=asked.add_special_tokens)
    return backend.encode_chat(asked.content)


def name_of(file: Path | None, chat: Path | None) -> str:
    """What gave the text, as it was written: the flag, and the file if there is one."""
    return f"--chat {chat}" if chat is not None else f"--file {file}" if file is not None else "--prompt"


def encoded(backend: Backend, asked: Text, name: str) -> array[int]:
    """The ids of a text or a chat; `ConfigError` where its shape is not one that becomes tokens."""
    try:
        return encode(backend, asked)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def compared(
    backend: Backend, ids: array[int], asked: Text, model: str, url: str, token_file: Path | None
) -> dict[str, Any]:
    """What the engine makes of the same, and where the two part."""
    from kvsync.tokens.remote import RemoteBackend
    from kvsync.tokens.written import spec_of_table

    table = {"kind": "remote", "endpoints": (url,), "timeout_seconds": COMPARE_SECONDS, "token_file": token_file}
    engine = RemoteBackend(spec_of_table(table, model))
    try:
        theirs = encode(engine, asked)
    finally:
        engine.close()
    found: dict[str, Any] = {"url": url, "equal": ids == theirs, "count": len(theirs)}
    if ids != theirs:
        found["first_difference"] = first_difference(backend, ids, theirs)
    return found


def first_difference(backend: Backend, ours: array[int], theirs: array[int]) -> dict[str, Any]:
    """The position of the first ids that differ, those ids with their texts, and the text before them."""
    shorter = min(len(ours), len(theirs))
    position = next((n for n in range(shorter) if ours[n] != theirs[n]), shorter)
    return {
        "position": position,
        "before": _decoded(backend, ours[max(position - CONTEXT_TOKENS, 0) : position]),
        "ours": _side(backend, ours, position),
        "theirs": _side(backend, theirs, position),
    }


def _side(backend: Backend, ids: array[int], position: int) -> dict[str, Any] | None:
    if position >= len(ids):
        return None
    then = ids[position + 1 : position + 1 + CONTEXT_TOKENS]
    return {
        "id": ids[position],
        "text": _decoded(backend, ids[position : position + 1]),
        "then": _decoded(backend, then),
    }


def _decoded(backend: Backend, ids: array[int]) -> str | None:
    """Their text; None where the tokenizer has none, as for an id that is another model's."""
    try:
        return backend.decode(ids)
    except (TokenizeError, ValueError, KeyError, IndexError, OverflowError):
        return None


def _read(path: Path, flag: str) -> str:
    name, remedy = f"{flag} {path}", "give a file with one prompt or chat"
    if str(path) == "-":
        data = read_open(sys.stdin.buffer, name, INPUT_BYTES_MAX, remedy)
    else:
        data = read_file(path, name, INPUT_BYTES_MAX, remedy)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{flag} {path} is no UTF-8 text ({error.reason} at byte {error.start}); convert it"
        ) from error
